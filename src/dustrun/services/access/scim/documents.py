"""Users and groups as a directory sends them: documents, patches and filters, in the shapes of Okta and Entra too."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from dustrun.core.validate import suggest
from dustrun.errors import Invalid
from dustrun.records import dataclass

Json = dict[str, Any]
USER: Final = "urn:ietf:params:scim:schemas:core:2.0:User"
GROUP: Final = "urn:ietf:params:scim:schemas:core:2.0:Group"
ENTERPRISE: Final = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"
PATCH: Final = "urn:ietf:params:scim:api:messages:2.0:PatchOp"
_READ_ONLY: Final = ("id", "meta", "schemas", "groups")
_KEPT: Final = ("userName", "externalId", "active", "displayName", "name", "emails")
_NOT_KEPT: Final = (
    *("nickName", "profileUrl", "title", "userType", "preferredLanguage", "locale", "timezone", "password", "ims"),
    *("phoneNumbers", "photos", "addresses", "entitlements", "roles", "x509Certificates"),
)
"""Attributes that a directory may send, and that this server has no use for."""
_OF_USERS: Final = {name.lower(): name for name in (*_READ_ONLY, *_KEPT, *_NOT_KEPT)}
_OF_GROUPS: Final = {name.lower(): name for name in ("id", "meta", "schemas", "externalId", "displayName", "members")}
_OF_NAMES: Final = ("formatted", "givenName", "familyName")
_PARTS: Final = {
    name.lower(): name for name in (*_OF_NAMES, "middleName", "honorificPrefix", "honorificSuffix", "value", "type")
} | {"primary": "primary", "display": "display"}
_PATH: Final = re.compile(
    r"(?:(?P<urn>urn:[\w:.\-]+):)?(?P<name>[A-Za-z][\w\-]*)(?:\[(?P<filter>[^\]]*)\])?(?:\.(?P<part>[A-Za-z][\w\-]*))?"
)
_TERM: Final = re.compile(
    r'\s*(?P<path>[\w:.\-]+(?:\[[^\]]*\])?(?:\.\w+)?)\s+eq\s+(?P<value>"(?:[^"\\]|\\.)*"|true|false)\s*', re.IGNORECASE
)
_ADDRESS: Final = re.compile(r"[!-?A-~]{1,200}@[0-9A-Za-z.-]{1,253}")
_MOST_OPERATIONS: Final = 1_000
_LONGEST: Final = 254


class ScimInvalid(Invalid):
    """The directory's request is wrong; `scim_type` says how, in the words of RFC 7644."""

    def __init__(self, message: str, scim_type: str = "invalidValue") -> None:
        super().__init__(message)
        self.scim_type = scim_type


@dataclass(frozen=True, slots=True)
class ScimUser:
    """The kept attributes of a user. `active`: None if nothing was said."""

    user_name: str
    external_id: str | None
    email: str
    display: str
    names: Json
    active: bool | None


@dataclass(frozen=True, slots=True)
class ScimGroup:
    """A group. `members`: None if nothing was said."""

    name: str
    external_id: str | None
    members: Sequence[str] | None


@dataclass(frozen=True, slots=True)
class Members:
    """One change of a group's members: these are added, taken out, or all that there are."""

    how: str
    ids: Sequence[str]


def read_user(sent: Any) -> ScimUser:
    """The kept attributes of a user's document; raises `ScimInvalid` for those that are unknown or cannot be."""
    given = _known(sent, _OF_USERS, USER)
    user_name = _text(given, "userName", needed=True)
    names = given.get("name") or {}
    if not isinstance(names, dict):
        raise ScimInvalid('"name" must be an object, like {"givenName": "Ada"}.')
    parts = {_part(name): value for name, value in names.items()}
    kept = {name: _text(parts, name) for name in _OF_NAMES if parts.get(name)}
    display = _text(given, "displayName")
    both = " ".join(str(kept[name]) for name in ("givenName", "familyName") if name in kept)
    email = _email(given.get("emails"), user_name or "")
    shown = display or kept.get("formatted") or both or user_name or ""
    return ScimUser(
        user_name or "",
        _text(given, "externalId"),
        email,
        "".join(one for one in shown if one.isprintable()).strip()[:255] or email,
        {**({"displayName": display} if display else {}), **({"name": kept} if kept else {})},
        _flag(given.get("active")),
    )


def read_group(sent: Any) -> ScimGroup:
    """A group's document."""
    given = _known(sent, _OF_GROUPS, GROUP)
    members = given.get("members")
    found = None if members is None else _ids(members)
    return ScimGroup(_text(given, "displayName", needed=True) or "", _text(given, "externalId"), found)


def patch_user(document: Json, sent: Any) -> Json:
    """A user's document after a patch."""
    patched = dict(document)
    for how, path, value in _operations(sent):
        for name, part, one in _targets(how, path, value, _OF_USERS, USER):
            if name in _READ_ONLY:
                raise ScimInvalid(f'"{name}" is read-only.', "mutability")
            if name == "emails":
                patched["emails"] = _emails(how, patched.get("emails") or [], part, one)
            elif part is not None or (isinstance(one, dict) and name == "name" and how != "remove"):
                inner = dict(patched.get(name) or {})
                inner |= {part: one} if part is not None else one
                patched[name] = {key: value for key, value in inner.items() if how != "remove" or key != part}
            else:
                patched[name] = None if how == "remove" else one
    return {name: value for name, value in patched.items() if value is not None}


def patch_group(group: ScimGroup, sent: Any) -> tuple[ScimGroup, list[Members]]:
    """A group's name after a patch, and the changes of its members, in order."""
    fields, changes = {"displayName": group.name, "externalId": group.external_id}, list[Members]()
    for how, path, value in _operations(sent):
        for name, _, one in _targets(how, path, value, _OF_GROUPS, GROUP):
            if name == "members":
                changes.append(_members(how, path, one))
            elif name in fields:
                fields[name] = None if how == "remove" else one
            elif name != "id":  # which Okta sends along
                raise ScimInvalid(f'"{name}" is read-only.', "mutability")
    read = read_group({name: value for name, value in fields.items() if value is not None})
    return read, changes


def read_filter(text: str, known: Mapping[str, str]) -> dict[str, str]:
    """The values that a filter asks for, by the name of `known` in lower case; raises `ScimInvalid` for any filter
    that is not a few comparisons by `eq`."""
    found, at = dict[str, str](), 0
    if len(text) > _LONGEST * 4:
        raise ScimInvalid("The filter is too long.", "invalidFilter")
    while at < len(text):
        term = _TERM.match(text, at)
        path = _PATH.fullmatch(term["path"]) if term else None
        if term is None or path is None:
            raise ScimInvalid(f'The filter must be of the form: {next(iter(known.values()))} eq "…".', "invalidFilter")
        name = f"{path['name']}.{path['part']}" if path["part"] else path["name"]
        name = {"emails": "emails.value", "members": "members.value"}.get(name.lower(), name.lower())
        if name not in known:
            raise ScimInvalid(
                f'Nothing is found by "{term["path"]}", but by {", ".join(known.values())}.', "invalidFilter"
            )
        value = json.loads(term["value"]) if term["value"].startswith('"') else term["value"].lower()
        if not str(value).isprintable():
            raise ScimInvalid("The filter has characters that nothing has.", "invalidFilter")
        found[name] = str(value)
        at = term.end()
        if at < len(text):
            if text[at : at + 4].lower() != "and ":
                raise ScimInvalid("A filter may join comparisons by `and` alone.", "invalidFilter")
            at += 4
    return found


def _known(sent: Any, names: Mapping[str, str], schema: str) -> Json:
    if not isinstance(sent, dict):
        raise ScimInvalid("The body must be a JSON object.", "invalidSyntax")
    found: Json = {}
    for name, value in sent.items():
        if name.lower() in (ENTERPRISE.lower(), schema.lower()):
            found |= _known(value, names, schema) if name.lower() == schema.lower() else {}
        elif name.lower() not in names:
            raise ScimInvalid(
                f'There is no attribute "{name[:80]}".{suggest(name, list(names.values()))}', "invalidSyntax"
            )
        else:
            found[names[name.lower()]] = value
    return found


def _text(given: Mapping[str, Any], name: str, *, needed: bool = False) -> str | None:
    value = given.get(name)
    if value in (None, "") and not needed:
        return None
    if not isinstance(value, str) or not 0 < len(value) <= _LONGEST or not value.isprintable():
        raise ScimInvalid(f'"{name}" must be a text of 1 to {_LONGEST} printable characters.')
    return value


def _flag(value: Any) -> bool | None:
    """Entra sends "True" and "False"."""
    read = {"true": True, "false": False}.get(value.lower()) if isinstance(value, str) else value
    if read is None and value is None:
        return None
    if not isinstance(read, bool):
        raise ScimInvalid('"active" must be true or false.')
    return read


def _email(sent: Any, user_name: str) -> str:
    every = [one for one in sent or [] if isinstance(one, dict)] if isinstance(sent, list | None) else []
    ranked = sorted(every, key=lambda one: (_flag_of(one.get("primary")), one.get("type") == "work"), reverse=True)
    found = next((one["value"] for one in ranked if one.get("value")), user_name)
    if not isinstance(found, str) or len(found) > _LONGEST or not _ADDRESS.fullmatch(found):
        raise ScimInvalid('A user needs an e-mail address of ASCII characters, in "emails" or as "userName".')
    return found.lower()


def _flag_of(value: Any) -> bool:
    return value is True or (isinstance(value, str) and value.lower() == "true")


def _ids(sent: Any) -> list[str]:
    items = sent if isinstance(sent, list) else [sent]
    named = [one.get("value") if isinstance(one, dict) else one for one in items]
    found = [one for one in named if isinstance(one, str) and 0 < len(one) <= _LONGEST and one.isprintable()]
    if len(found) < len(named):
        raise ScimInvalid('"members" must be a list of {"value": "<id of a user>"}.')
    return list(dict.fromkeys(found))


def _operations(sent: Any) -> list[tuple[str, str | None, Any]]:
    given = {name.lower(): value for name, value in sent.items()} if isinstance(sent, dict) else {}
    operations = given.get("operations")
    if PATCH not in (given.get("schemas") or []) or not isinstance(operations, list) or not operations:
        raise ScimInvalid(f'A patch needs "schemas": ["{PATCH}"] and "Operations".', "invalidSyntax")
    if len(operations) > _MOST_OPERATIONS:
        raise ScimInvalid(f"A patch may have {_MOST_OPERATIONS} operations.", "tooMany")
    return [_operation(one) for one in operations]


def _operation(sent: Any) -> tuple[str, str | None, Any]:
    given = {name.lower(): value for name, value in sent.items()} if isinstance(sent, dict) else {}
    how, path = str(given.get("op", "")).lower(), given.get("path")
    if how not in ("add", "replace", "remove"):
        raise ScimInvalid('"op" must be add, replace or remove.', "invalidSyntax")
    if path is not None and (not isinstance(path, str) or len(path) > _LONGEST):
        raise ScimInvalid(f'"path" must be a text of at most {_LONGEST} characters.', "invalidPath")
    if not path and how == "remove":
        raise ScimInvalid("What is removed must be named by its path.", "noTarget")
    return how, path or None, given.get("value")


def _targets(
    how: str, path: str | None, value: Any, names: Mapping[str, str], schema: str
) -> list[tuple[str, str | None, Any]]:
    """The attributes that an operation names, each with its part, and the value; those that are not kept are left
    out."""
    if path is None:
        if not isinstance(value, dict):
            raise ScimInvalid("Without a path, the value must be an object.")
        return [one for name, part in value.items() for one in _targets(how, name, part, names, schema)]
    if path.lower() in (ENTERPRISE.lower(), schema.lower()):
        return _targets(how, None, value, names, schema) if path.lower() == schema.lower() else []
    read = _PATH.fullmatch(path)
    if read is None:
        raise ScimInvalid(f'The path "{path[:200]}" cannot be read.', "invalidPath")
    urn, name = (read["urn"] or schema).lower(), names.get(read["name"].lower())
    if urn == ENTERPRISE.lower():
        return []
    if urn != schema.lower() or name is None:
        hint = suggest(read["name"], list(names.values()))
        raise ScimInvalid(f'There is no attribute "{path[:200]}".{hint}', "invalidPath")
    if name in _NOT_KEPT or name == "schemas":
        return []
    return [(name, _part(read["part"]) if read["part"] else None, value)]


def _part(name: str) -> str:
    found = _PARTS.get(name.lower())
    if found is None:
        raise ScimInvalid(f'There is no attribute "{name[:80]}".', "invalidPath")
    return found


def _emails(how: str, there: list[Any], part: str | None, value: Any) -> list[Any]:
    """One address is kept of a user, whichever the directory calls primary."""
    if how == "remove":
        return []
    if part not in (None, "value"):
        return there
    fresh = [{"value": value}] if part == "value" or isinstance(value, str) else value
    if not isinstance(fresh, list):
        raise ScimInvalid('"emails" must be a list of {"value": "ada@example.com"}.')
    is_first = part == "value" or any(isinstance(one, dict) and _flag_of(one.get("primary")) for one in fresh)
    kept = [{**one, "primary": False} if is_first else one for one in there if isinstance(one, dict)]
    return fresh if how == "replace" or part == "value" else [*fresh, *kept] if is_first else [*kept, *fresh]


def _members(how: str, path: str | None, value: Any) -> Members:
    read = _PATH.fullmatch(path or "members")
    if read is not None and read["filter"]:
        asked = read_filter(read["filter"], {"value": "value"})
        return Members(how, [asked["value"]])
    if value is None and how == "remove":
        return Members("replace", [])
    return Members(how, _ids(value if value is not None else []))
