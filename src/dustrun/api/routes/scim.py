"""`/scim/v2`: SCIM 2.0, by which a company's directory makes, changes and deactivates people and groups."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final
from urllib.parse import parse_qsl

import orjson
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from dustrun import clock
from dustrun.api.auth import admit
from dustrun.api.envelope import PRIVATE, request_id
from dustrun.api.errors import as_failure
from dustrun.api.limits import read_body, retry_after
from dustrun.api.routing import ForeignRoute
from dustrun.errors import Code, DustrunError
from dustrun.operations.declaration.parts import Parts, parts_of
from dustrun.sdk.threads import run_beside
from dustrun.services.access.principal import PROVISION, Principal
from dustrun.services.access.scim.directory import ListPart, ShownGroup, ShownUser, check_provisions, document_of
from dustrun.services.access.scim.documents import GROUP, USER, ScimInvalid, read_filter
from dustrun.services.access.scim.schemas import RESOURCE_TYPES, SCHEMAS, SERVICE_PROVIDER

Json = dict[str, Any]
_LIST: Final = "urn:ietf:params:scim:api:messages:2.0:ListResponse"
_ERROR: Final = "urn:ietf:params:scim:api:messages:2.0:Error"
_ROOT: Final = "/scim/v2"
_MOST: Final = 200
_USUAL: Final = 100
_USER_FILTERS: Final = {name.lower(): name for name in ("userName", "id", "externalId", "emails.value")}
_GROUP_FILTERS: Final = {name.lower(): name for name in ("displayName", "id", "externalId", "members.value")}


class _Asking:
    """A request: who asks, the query, and the body."""

    def __init__(self, parts: Parts, principal: Principal, scope: Scope, body: Any) -> None:
        self.parts = parts
        self.directory = parts.access.directory
        self.principal = principal
        self.body = body
        self.id: str = scope["path_params"].get("id", "")
        self.query: Mapping[str, str] = dict(parse_qsl(scope["query_string"].decode("latin-1")))
        self.base = parts.settings.base_url() + _ROOT

    def part(self, known: Mapping[str, str]) -> ListPart:
        """Which part of a list is asked for; `startIndex` counts from one."""
        wanted = read_filter(self.query.get("filter", ""), known)
        first, count = self._number("startIndex", 1), self._number("count", _USUAL)
        return ListPart(wanted, min(max(count, 0), _MOST), max(first, 1) - 1)

    def _number(self, name: str, default: int) -> int:
        text = self.query.get(name, str(default))
        if not text.removeprefix("-").isdecimal() or len(text) > 9:
            raise ScimInvalid(f'"{name}" must be a whole number.')
        return int(text)

    def listed(self, count: int, part: ListPart, found: list[Json]) -> Json:
        """A page of a list."""
        shown = [self.chosen(one) for one in found]
        page = {"totalResults": count, "startIndex": part.offset + 1, "itemsPerPage": len(shown)}
        return {"schemas": [_LIST], **page, "Resources": shown}

    def chosen(self, document: Json) -> Json:
        """The requested attributes of a document; its id and schemas always are among them."""
        only, without = self._names("attributes"), self._names("excludedAttributes")
        kept = {"id", "schemas"}
        return {
            name: value
            for name, value in document.items()
            if name in kept or ((not only or name.lower() in only) and name.lower() not in without)
        }

    def leaves_out(self, name: str) -> bool:
        """Whether an attribute is not asked for."""
        only = self._names("attributes")
        return name in self._names("excludedAttributes") or (bool(only) and name not in only)

    def _names(self, parameter: str) -> set[str]:
        named = [one.strip().lower() for one in self.query.get(parameter, "").split(",") if one.strip()]
        return {one.rpartition(":")[2].partition(".")[0] for one in named}

    def user(self, shown: ShownUser) -> Json:
        """A user, as the directory is told."""
        row = shown.user.row
        groups = [{"value": one.id, "display": one.name, "type": "direct"} for one in shown.groups]
        meta = self._meta("User", f"/Users/{row.person_id}", row.created_at, row.changed_at)
        return {"schemas": [USER], "id": row.person_id, **document_of(shown.user), "groups": groups, "meta": meta}

    def group(self, shown: ShownGroup) -> Json:
        """A group, as the directory is told."""
        row = shown.row
        found: Json = {"schemas": [GROUP], "id": row.id, "displayName": row.name}
        if row.external_id is not None:
            found["externalId"] = row.external_id
        if shown.members is not None:
            users = f"{self.base}/Users/"
            found["members"] = [{"value": one, "type": "User", "$ref": users + one} for one in shown.members]
        return {**found, "meta": self._meta("Group", f"/Groups/{row.id}", row.created_at, row.changed_at)}

    def _meta(self, kind: str, path: str, created: int, changed: int) -> Json:
        times = {"created": clock.to_rfc3339(created), "lastModified": clock.to_rfc3339(changed)}
        return {"resourceType": kind, **times, "location": self.base + path}


_Answer = Callable[[_Asking], Awaitable[tuple[int, Json | None]]]


async def _list_users(asking: _Asking) -> tuple[int, Json | None]:
    part = asking.part(_USER_FILTERS)
    count, found = await asking.directory.list_users(asking.principal, part)
    return 200, asking.listed(count, part, [asking.user(one) for one in found])


async def _get_user(asking: _Asking) -> tuple[int, Json | None]:
    return 200, asking.chosen(asking.user(await asking.directory.get_user(asking.principal, asking.id)))


async def _create_user(asking: _Asking) -> tuple[int, Json | None]:
    return 201, asking.user(await asking.directory.create_user(asking.principal, asking.body))


async def _put_user(asking: _Asking) -> tuple[int, Json | None]:
    return 200, asking.user(await asking.directory.put_user(asking.principal, asking.id, asking.body))


async def _patch_user(asking: _Asking) -> tuple[int, Json | None]:
    return 200, asking.user(await asking.directory.patch_user(asking.principal, asking.id, asking.body))


async def _delete_user(asking: _Asking) -> tuple[int, Json | None]:
    await asking.directory.delete_user(asking.principal, asking.id)
    return 204, None


async def _list_groups(asking: _Asking) -> tuple[int, Json | None]:
    part = asking.part(_GROUP_FILTERS)
    wanted = dict(part.wanted)
    member = wanted.pop("members.value", None)
    with_members = not asking.leaves_out("members")
    count, found = await asking.directory.list_groups(
        asking.principal, ListPart(wanted, part.limit, part.offset), member, with_members=with_members
    )
    return 200, asking.listed(count, part, [asking.group(one) for one in found])


async def _get_group(asking: _Asking) -> tuple[int, Json | None]:
    return 200, asking.chosen(asking.group(await asking.directory.get_group(asking.principal, asking.id)))


async def _create_group(asking: _Asking) -> tuple[int, Json | None]:
    return 201, asking.group(await asking.directory.create_group(asking.principal, asking.body))


async def _put_group(asking: _Asking) -> tuple[int, Json | None]:
    return 200, asking.group(await asking.directory.put_group(asking.principal, asking.id, asking.body))


async def _patch_group(asking: _Asking) -> tuple[int, Json | None]:
    return 200, asking.group(await asking.directory.patch_group(asking.principal, asking.id, asking.body))


async def _delete_group(asking: _Asking) -> tuple[int, Json | None]:
    await asking.directory.delete_group(asking.principal, asking.id)
    return 204, None


def _about(documents: Mapping[str, Json], *, is_list: bool) -> _Answer:
    """The server's description of itself."""

    async def tell(asking: _Asking) -> tuple[int, Json | None]:
        if asking.query.get("filter"):
            message = "What the server says of itself is not filtered: ask again without `filter`."
            raise DustrunError(message, code=Code.SCIM_FILTER_REFUSED)
        located = [_located(one, asking.base) for one in documents.values()]
        if is_list:
            return 200, asking.listed(len(located), ListPart({}, _MOST, 0), located)
        if asking.id and asking.id not in documents:
            raise DustrunError(f'There is no "{asking.id[:200]}".', code=Code.ROUTE_UNKNOWN)
        return 200, _located(documents[asking.id], asking.base)

    return tell


def _located(document: Json, base: str) -> Json:
    return {**document, "meta": {**document["meta"], "location": base + document["meta"]["location"]}}


class _Served:
    """One route: authenticates, reads the body, answers, and tells errors as SCIM does."""

    def __init__(self, answer: _Answer) -> None:
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        parts = parts_of(scope)
        try:
            principal = await admit(parts, scope, PROVISION)
            check_provisions(principal)
            body = await _body(parts, scope, receive)
            asking = _Asking(parts, principal, scope, body)
            status, shown = await self._answer(asking)
            text = b"" if shown is None else await _encoded(shown)
            location = {"Location": shown["meta"]["location"]} if status == 201 and shown is not None else {}
        except Exception as error:
            failure = as_failure(error, request_id(scope))
            status, text, location = failure.code.status, orjson.dumps(_failed(failure)), _headers(failure)
        common = {name.decode(): value.decode() for name, value in PRIVATE}
        media = "application/scim+json" if text else None
        await Response(text, status, {**common, **location}, media)(scope, receive, send)


async def _body(parts: Parts, scope: Scope, receive: Receive) -> Any:
    if scope["method"] in ("GET", "DELETE"):
        return None
    sent = await read_body(scope, receive, parts.settings.max_body_bytes)
    try:
        return await run_beside(json.loads, sent) if len(sent) > 10_000 else json.loads(sent)
    except (ValueError, RecursionError):
        raise ScimInvalid("The body is not valid JSON.", "invalidSyntax") from None


async def _encoded(shown: Json) -> bytes:
    is_long = len(shown.get("Resources") or shown.get("members") or ()) > 100
    return await run_beside(orjson.dumps, shown) if is_long else orjson.dumps(shown)


def _failed(error: DustrunError) -> Json:
    told: Json = {"schemas": [_ERROR], "status": str(error.code.status), "detail": error.message}
    if isinstance(error, ScimInvalid):
        told["scimType"] = error.scim_type
    elif error.code in (Code.PERSON_EMAIL_TAKEN, Code.ROLE_TAKEN):
        told["scimType"] = "uniqueness"
    return told


def _headers(error: DustrunError) -> dict[str, str]:
    if error.code.status in (429, 503):
        return {"Retry-After": retry_after(error.retry_after_s)}
    return {"WWW-Authenticate": "Bearer"} if error.code.status == 401 else {}


def _route(method: str, path: str, answer: _Answer) -> ForeignRoute:
    return ForeignRoute(_ROOT + path, _Served(answer), method=method, permission=PROVISION)


raw_routes = [
    _route("GET", "/Users", _list_users),
    _route("POST", "/Users", _create_user),
    _route("GET", "/Users/{id}", _get_user),
    _route("PUT", "/Users/{id}", _put_user),
    _route("PATCH", "/Users/{id}", _patch_user),
    _route("DELETE", "/Users/{id}", _delete_user),
    _route("GET", "/Groups", _list_groups),
    _route("POST", "/Groups", _create_group),
    _route("GET", "/Groups/{id}", _get_group),
    _route("PUT", "/Groups/{id}", _put_group),
    _route("PATCH", "/Groups/{id}", _patch_group),
    _route("DELETE", "/Groups/{id}", _delete_group),
    _route("GET", "/ServiceProviderConfig", _about({"": SERVICE_PROVIDER}, is_list=False)),
    _route("GET", "/ResourceTypes", _about(RESOURCE_TYPES, is_list=True)),
    _route("GET", "/ResourceTypes/{id}", _about(RESOURCE_TYPES, is_list=False)),
    _route("GET", "/Schemas", _about(SCHEMAS, is_list=True)),
    _route("GET", "/Schemas/{id}", _about(SCHEMAS, is_list=False)),
]
