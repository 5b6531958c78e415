"""Whom the settings let in, by what the provider says of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from dustrun.core.validate import suggest
from dustrun.errors import Conflict
from dustrun.records import dataclass
from dustrun.services.access.api_keys import PRESETS
from dustrun.services.access.oidc.id_token import refuse
from dustrun.services.access.principal import PERMISSIONS
from dustrun.settings import Settings

EVERYBODY: Final = "*"
_EMAIL: Final = re.compile(r"[!-?A-~]{1,200}@[0-9A-Za-z.-]{1,253}")
_MOST_EMAIL, _MOST_NAME, _MOST_SUBJECT = 254, 255, 255


@dataclass(frozen=True, slots=True)
class AdmittedPerson:
    """Somebody whom the settings let in. `email`: only if it is verified. `permissions`: those of their groups; None:
    groups give none."""

    subject: str
    email: str | None
    name: str
    permissions: tuple[str, ...] | None


class SignInAdmission:
    """Decides by settings alone; raises `Conflict` if they name a permission that does not exist."""

    def __init__(self, settings: Settings) -> None:
        self._claim = settings.sign_in_groups_claim
        self._domains = frozenset(domain.lower().removeprefix("@") for domain in settings.sign_in_domains)
        self._trusts_emails = settings.sign_in_trust_emails
        self._given = {group: permissions_of_group(group, names) for group, names in settings.sign_in_groups.items()}

    @property
    def needs_groups(self) -> bool:
        """Whether anything depends on a group."""
        return bool(set(self._given) - {EVERYBODY})

    def lacks(self, claims: Mapping[str, Any], *, is_first: bool) -> bool:
        """Whether a claim is missing that decides something; of whom nobody knows yet, an address does."""
        needs_email = is_first or bool(self._domains)
        lacks_groups = self.needs_groups and _find(claims, self._claim) is None
        return lacks_groups or (needs_email and "email" not in claims)

    def admit(self, claims: Mapping[str, Any], *, groups_decide: bool = True) -> AdmittedPerson:
        """Who it is, and what they may do; raises `Forbidden` if they are not let in. `groups_decide`: not if a
        directory tells this server of their groups."""
        subject, email = claims["sub"], self._email(claims)
        if not isinstance(subject, str) or not 0 < len(subject) <= _MOST_SUBJECT:
            raise refuse("The provider does not say who you are (sub).")
        if self._domains and (email is None or email.rpartition("@")[2] not in self._domains):
            raise refuse(
                f"You need a verified e-mail address at {' or '.join(sorted(self._domains))} to sign in here "
                "(sign_in_domains)."
            )
        said = claims.get("name") or claims.get("preferred_username")
        printed = "".join(one for one in said if one.isprintable()) if isinstance(said, str) else ""
        name = printed.strip()[:_MOST_NAME]
        return AdmittedPerson(
            subject, email, name or email or subject, self._permissions(claims) if groups_decide else None
        )

    def _email(self, claims: Mapping[str, Any]) -> str | None:
        said = claims.get("email")
        if not isinstance(said, str) or len(said) > _MOST_EMAIL or not _EMAIL.fullmatch(said):
            return None
        verified = claims.get("email_verified")
        return said.lower() if verified is True or (verified is None and self._trusts_emails) else None

    def _permissions(self, claims: Mapping[str, Any]) -> tuple[str, ...] | None:
        if not self._given:
            return None
        groups = self._groups(claims) if self.needs_groups else set()
        given = [names for group, names in self._given.items() if group == EVERYBODY or group in groups]
        if not any(given):
            raise refuse(
                "None of your groups at the provider may do anything here. Whoever runs this server says in "
                "sign_in_groups which groups may."
            )
        return tuple(sorted(frozenset().union(*given)))

    def _groups(self, claims: Mapping[str, Any]) -> set[str]:
        found = _find(claims, self._claim)
        elsewhere = claims.get("_claim_names")
        if found is None and isinstance(elsewhere, dict) and self._claim in elsewhere:
            raise refuse(
                f'The provider leaves the claim "{self._claim}" out, because you are in too many groups. It must send '
                "only those that are given to this application."
            )
        if isinstance(found, str):
            return {found}
        return {one for one in found if isinstance(one, str)} if isinstance(found, list | dict) else set()


def _find(claims: Mapping[str, Any], name: str) -> Any:
    """A claim of that name, else one inside of others, whose names are divided by dots."""
    if name in claims:
        return claims[name]
    found: Any = claims
    for part in name.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def permissions_of_group(group: str, names: tuple[str, ...]) -> frozenset[str]:
    """The permissions that the settings give a group, with those of presets; raises `Conflict` for unknown ones."""
    found: set[str] = set()
    for name in names:
        if name not in PRESETS and name not in PERMISSIONS:
            hint = suggest(name, [*PRESETS, *PERMISSIONS])
            raise Conflict(f'sign_in_groups gives "{group}" what is no permission: "{name}".{hint}')
        found |= PRESETS.get(name, {name})
    return frozenset(found)
