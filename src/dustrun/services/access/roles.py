"""Roles: names for sets of permissions that are given to people. Six are built in, an organisation makes its own.

A role does not change: nobody should gain or lose rights without somebody having looked at that person. Giving a person
another role is a change of permissions, which ends their keys and sessions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

from dustrun import clock
from dustrun.core.validate import suggest
from dustrun.core.values import exact_json
from dustrun.errors import Code, Conflict, Invalid, NotFound, Problem
from dustrun.records import dataclass
from dustrun.services.access import audit, idempotency
from dustrun.services.access.api_keys import READ, check_grant, is_good
from dustrun.services.access.principal import Principal
from dustrun.storage.access import keys as key_rows
from dustrun.storage.access import people as person_rows
from dustrun.storage.access import roles as rows
from dustrun.storage.access import service_accounts as account_rows
from dustrun.storage.access.roles import RoleRow
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Tx
from dustrun.storage.db.writer import Writer

_BUILDS: Final = (
    *("workflow:create", "workflow:update", "workflow:publish", "workflow:execute", "workflow:simulate"),
    *("workflow:delete", "run:cancel", "run:inline", "connector:write", "hook:write", "table:write"),
    *("chat:write", "assistant:use"),
)
_SPENDS: Final = ("workflow:execute", "workflow:simulate", "run:cancel", "wallet:spend", "transaction:write")
BUILT_IN: Final[Mapping[str, tuple[str, frozenset[str]]]] = MappingProxyType(
    {
        "owner": ("Administers the organisation and the server.", frozenset(["admin", "operator"])),
        "admin": ("Administers the organisation: may do everything in it.", frozenset(["admin"])),
        "builder": ("Builds, publishes and runs workflows that spend nothing.", READ.union(_BUILDS)),
        "spender": ("Runs workflows that spend within policies, and accepts versions.", READ.union(_SPENDS)),
        "approver": ("Decides what waits for an approval; starts nothing.", READ.union(["approval:decide"])),
        "viewer": ("Reads everything, changes nothing.", READ),
    }
)
MOST: Final = 100
_DOING: Final = "manage roles"


@dataclass(frozen=True, slots=True)
class Role:
    """A named set of permissions."""

    name: str
    description: str | None
    permissions: list[str]
    built_in: bool


class Roles:
    """Use cases of roles."""

    def __init__(self, database: Database, writer: Writer) -> None:
        self._database = database
        self._writer = writer

    async def list_all(self, principal: Principal) -> list[Role]:
        """The built-in roles, then the organisation's own by name."""
        own = await self._database.read(lambda tx: rows.list_all(tx, principal.org_id))
        return [*map(_built_in, BUILT_IN), *map(_own, own)]

    async def create(
        self, principal: Principal, name: str, description: str | None, permissions: Sequence[str]
    ) -> Role:
        """Makes a role of no more than the caller may do; raises `Conflict` if there is one of that name."""
        principal.need_no_limits(_DOING)
        principal.need_presence(_DOING)
        check_grant(principal, permissions)
        row = RoleRow(
            org_id=principal.org_id,
            name=name,
            description=description,
            permissions=exact_json.dumps_text(sorted(set(permissions))),
            created_at=clock.now_ms(),
        )

        def unit(tx: Tx) -> Role:
            there = rows.list_all(tx, principal.org_id)
            if name in BUILT_IN or any(one.name == name for one in there):
                raise Conflict(
                    f'There is a role "{name}". Roles do not change: make another one.', code=Code.ROLE_TAKEN
                )
            if len(there) >= MOST:
                raise Conflict(f"The organisation has {MOST} roles; delete one first.", code=Code.ROLE_TAKEN)
            rows.insert(tx, row)
            audit.record(tx, principal, "role.create", name, permissions=sorted(set(permissions)))
            return _own(row)

        return await idempotency.write(self._writer, unit)

    async def delete(self, principal: Principal, name: str) -> Role:
        """Deletes a role of the organisation; raises `Conflict` while people have it who are not deactivated, or
        service accounts."""
        principal.need_no_limits(_DOING)
        principal.need_presence(_DOING)

        def unit(tx: Tx) -> Role:
            row = rows.find(tx, principal.org_id, name)
            if row is None:
                why = "It is built in." if name in BUILT_IN else "GET /v1/roles lists those that there are."
                raise NotFound(f'There is no role "{name}" that could be deleted. {why}', code=Code.ROLE_UNKNOWN)
            people = [one.name for one in person_rows.list_of_role(tx, principal.org_id, name) if _is_active(tx, one)]
            having = [*people, *account_rows.list_of_role(tx, principal.org_id, name)]
            if having:
                raise Conflict(
                    f'{len(having)} people and service accounts have the role "{name}", such as '
                    f"{', '.join(having[:5])}: give them another one first.",
                    code=Code.ROLE_IN_USE,
                )
            person_rows.forget_role(tx, principal.org_id, name)
            rows.delete(tx, principal.org_id, name)
            audit.record(tx, principal, "role.delete", name)
            return _own(row)

        return await self._writer.write(unit)


def permissions_of_role(tx: Tx, org_id: str, name: str) -> list[str]:
    """The permissions of a role; raises `Invalid` for the field `role`."""
    if name in BUILT_IN:
        return sorted(BUILT_IN[name][1])
    own = rows.list_all(tx, org_id)
    found = next((one for one in own if one.name == name), None)
    if found is None:
        names = [*BUILT_IN, *(one.name for one in own)]
        problem = Problem("role", f'there is no role "{name}".{suggest(name, names)} There are {", ".join(names)}')
        raise Invalid("The request body is not valid.", details=[problem])
    return _own(found).permissions


def _built_in(name: str) -> Role:
    description, permissions = BUILT_IN[name]
    return Role(name, description, sorted(permissions), True)


def _own(row: RoleRow) -> Role:
    return Role(row.name, row.description, exact_json.loads(row.permissions), False)


def _is_active(tx: Tx, person: person_rows.PersonRow) -> bool:
    home = key_rows.find(tx, person.org_id, person.key_id)
    return home is not None and is_good(home)
