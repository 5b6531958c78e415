"""Service accounts: accounts of programs, which are nobody's hand. Their keys are API keys that always expire.

A key has what its account may do. More permissions of the account are its keys' too; fewer, disabling and deleting
revoke them, as with people, so that nothing goes on with rights that were taken away.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from dustrun import clock, ids
from dustrun.core.values import exact_json
from dustrun.errors import Code, Conflict, Invalid, NotFound, Problem
from dustrun.records import dataclass
from dustrun.services.access import audit, idempotency
from dustrun.services.access.api_keys import (
    Keys,
    NewKey,
    check_grant,
    check_there,
    end_keys_of_account,
    end_within,
    good_maker,
    ids_of,
    is_good,
    limits_of_new,
    make_key,
    permissions_of,
)
from dustrun.services.access.paging import Page, Paging, page_of
from dustrun.services.access.principal import PROVISION, Principal
from dustrun.services.access.roles import permissions_of_role
from dustrun.storage.access import keys as key_rows
from dustrun.storage.access import people as person_rows
from dustrun.storage.access import service_accounts as rows
from dustrun.storage.access.keys import KeyRow
from dustrun.storage.access.service_accounts import AccountRow
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Tx
from dustrun.storage.db.writer import Writer

DAY_MS: Final = 86_400_000
LIFE_MS: Final = 90 * DAY_MS
MOST_LIFE_MS: Final = 366 * DAY_MS
_FOR_PEOPLE: Final = frozenset(["admin", "operator"])
"""What people and keys of people administer with: whoever has it makes people, and so hands."""
_DOING: Final = "manage service accounts"
_WRONG: Final = "The request body is not valid."


@dataclass(frozen=True, slots=True)
class Account:
    """A service account, and those of its keys that are good, newest first."""

    row: AccountRow
    keys: list[KeyRow]
    last_used_at: int | None

    @property
    def status(self) -> str:
        """`active` or `disabled`."""
        return "active" if self.row.disabled_at is None else "disabled"

    @property
    def key_ids(self) -> list[str]:
        """The ids of its good keys."""
        return [one.id for one in self.keys]


@dataclass(frozen=True, slots=True)
class Rotated:
    """A new key, and the one that it replaces, which goes on until it expires."""

    row: KeyRow
    secret: str
    replaced: KeyRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What a change gives; None: it stays."""

    name: str | None = None
    description: str | None = None
    permissions: Sequence[str] | None = None
    role: str | None = None
    owner_id: str | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """What an account can access, as its keys will have it; None: everything."""

    workflow_ids: Sequence[str] | None = None
    workflow_scope: Sequence[str] | None = None
    wallet_ids: Sequence[str] | None = None
    connector_ids: Sequence[str] | None = None


class ServiceAccounts:
    """Use cases of service accounts; to change them, for administrators without limits."""

    def __init__(self, database: Database, writer: Writer, keys: Keys) -> None:
        self._database = database
        self._writer = writer
        self._keys = keys

    async def create(self, principal: Principal, given: Given, limits: Limits) -> Account:
        """Makes an account with no more rights than the caller, which the caller's person answers for unless another
        one is named; raises `Conflict` if the organisation has one of this name."""
        _check_manager(principal)

        def unit(tx: Tx) -> Account:
            check_there(tx, principal.org_id, limits.workflow_ids, limits.wallet_ids, limits.connector_ids)
            permissions = _rights(tx, principal, given)
            maker, now = good_maker(tx, principal), clock.now_ms()
            name = given.name or ""
            _check_free(tx, principal.org_id, name)
            row = AccountRow(
                id=ids.new_id("svc"),
                org_id=principal.org_id,
                name=name,
                description=given.description,
                role=given.role,
                permissions=exact_json.dumps_text(permissions),
                workflow_ids=_ids_text(limits.workflow_ids),
                workflow_scope=_ids_text(limits.workflow_scope),
                wallet_ids=_ids_text(limits.wallet_ids),
                connector_ids=_ids_text(limits.connector_ids),
                owner_id=_owner(tx, principal, given.owner_id) if given.owner_id else maker.person_id,
                created_by=principal.key_id,
                created_at=now,
                updated_at=now,
            )
            rows.insert(tx, row)
            said: dict[str, Any] = {"name": name, "role": row.role, "owner": row.owner_id, "permissions": permissions}
            said |= {"workflowIds": limits.workflow_ids, "workflowScope": limits.workflow_scope}
            said |= {"walletIds": limits.wallet_ids, "connectorIds": limits.connector_ids}
            _record(tx, principal, "create", row, said)
            return _account(tx, row)

        return await idempotency.write(self._writer, unit)

    async def list_page(self, principal: Principal, paging: Paging, *, disabled: bool | None = None) -> Page[Account]:
        """Lists the organisation's service accounts, newest first; `disabled` None: of either state."""
        principal.need_no_limits("see service accounts")

        def query(tx: Tx) -> list[Account]:
            found = rows.list_page(tx, principal.org_id, disabled=disabled, limit=paging.peek, offset=paging.offset)
            return [_account(tx, row) for row in found]

        return page_of(await self._database.read(query), paging)

    async def get(self, principal: Principal, account_id: str) -> Account:
        """A service account; raises `NotFound`."""
        principal.need_no_limits("see service accounts")

        def query(tx: Tx) -> Account:
            row = rows.find(tx, principal.org_id, account_id)
            if row is None or row.deleted_at is not None:
                raise _unknown(account_id)
            return _account(tx, row)

        return await self._database.read(query)

    async def change(self, principal: Principal, account_id: str, given: Given) -> Account:
        """Changes an account. More permissions are its keys' at once; any other ones revoke them."""
        _check_manager(principal)

        def unit(tx: Tx) -> tuple[Account, list[KeyRow]]:
            row = _get(tx, principal, account_id)
            if given.name is not None and given.name != row.name:
                _check_free(tx, principal.org_id, given.name)
            changed = replace(
                row,
                name=given.name or row.name,
                description=row.description if given.description is None else given.description,
                updated_at=clock.now_ms(),
            )
            if given.owner_id is not None and given.owner_id != row.owner_id:
                past = [*exact_json.loads(row.past_owners), [row.owner_id, changed.updated_at]]
                owner = _owner(tx, principal, given.owner_id)
                changed = replace(changed, owner_id=owner, past_owners=exact_json.dumps_text(past))
            ended = list[KeyRow]()
            if given.permissions is not None or given.role is not None:
                permissions = _rights(tx, principal, given)
                changed = replace(changed, role=given.role, permissions=exact_json.dumps_text(permissions))
                ended = _fit_keys(tx, principal, row, permissions)
            rows.update(tx, changed)
            said = {"name": given.name, "role": given.role, "owner": given.owner_id, "permissions": given.permissions}
            _record(tx, principal, "update", row, said)
            return _account(tx, changed), ended

        return await self._end(unit)

    async def enable(self, principal: Principal, account_id: str) -> Account:
        """Lets a disabled account have keys again; those that it had stay revoked."""
        return await self._mark(principal, account_id, "enable", disabled_at=None)

    async def disable(self, principal: Principal, account_id: str) -> Account:
        """Revokes the keys of an account, at once; it gets no others until it is enabled."""
        return await self._mark(principal, account_id, "disable", disabled_at=clock.now_ms())

    async def delete(self, principal: Principal, account_id: str) -> Account:
        """Revokes the keys of an account and deletes it, for good; its name is free again."""
        return await self._mark(principal, account_id, "delete", deleted_at=clock.now_ms())

    async def make_key(
        self, principal: Principal, account_id: str, *, name: str, description: str | None, expires_at: int | None
    ) -> NewKey:
        """Makes a key of an account, with what the account may do; it expires after 90 days unless another time within
        a year is given. The caller must have no limits, and as many rights as the account."""
        principal.need_no_limits(_DOING)
        principal.need_presence("create a key")

        def unit(tx: Tx) -> NewKey:
            row = _get(tx, principal, account_id)
            limits = _limits_of(row)
            end = _end(good_maker(tx, principal), expires_at, LIFE_MS)
            return _add_key(tx, principal, row, name, description, exact_json.loads(row.permissions), limits, end)

        return await idempotency.write(self._writer, unit)

    async def rotate(
        self, principal: Principal, key_id: str, *, grace_ms: int, expires_at: int | None = None
    ) -> Rotated:
        """Makes a key that replaces one of a service account, with the same rights and as long a life; the old one
        expires when the grace has passed. Streams that it opened end now, and can be opened again with either."""
        principal.need_no_limits(_DOING)
        principal.need_presence("create a key")

        def unit(tx: Tx) -> Rotated:
            old = key_rows.find(tx, principal.org_id, key_id)
            if old is None:
                raise NotFound(f'There is no API key "{key_id}".', code=Code.KEY_UNKNOWN)
            if old.service_account_id is None or old.revoked_at is not None:
                what = "it is revoked" if old.service_account_id else "this one is no service account's"
                message = f"Only a key of a service account can be rotated that is not revoked, and {what}. Make one."
                raise Conflict(message, code=Code.KEY_NOT_ROTATED)
            row, now = _get(tx, principal, old.service_account_id), clock.now_ms()
            ends_at = old.expires_at or now
            end = _end(good_maker(tx, principal), expires_at, max(ends_at - old.created_at, DAY_MS))
            limits = _limits_of(old)
            if limits.workflow_scope is not None:  # its workflows follow from it
                limits = replace(limits, workflow_ids=None)
            new = _add_key(tx, principal, row, old.name, old.description, permissions_of(old), limits, end)
            key_rows.expire(tx, old.id, at=min(ends_at, now + grace_ms))
            audit.record(tx, principal, "key.rotate", old.id, by=new.row.id, graceMs=grace_ms)
            replaced = key_rows.find(tx, principal.org_id, old.id)
            assert replaced is not None
            return Rotated(new.row, new.secret, replaced)

        return await idempotency.write(self._writer, unit, lambda done: self._keys.forget_all([done.replaced]))

    async def _mark(self, principal: Principal, account_id: str, verb: str, **changes: Any) -> Account:
        _check_manager(principal)

        def unit(tx: Tx) -> tuple[Account, list[KeyRow]]:
            row = _get(tx, principal, account_id)
            if verb == "disable" and row.disabled_at is not None:
                return _account(tx, row), []
            ended = [] if verb == "enable" else end_keys_of_account(tx, principal, row.id)
            changed = replace(row, updated_at=clock.now_ms(), **changes)
            rows.update(tx, changed)
            _record(tx, principal, verb, row, {"name": row.name})
            return _account(tx, changed), ended

        return await self._end(unit)

    async def _end(self, unit: Callable[[Tx], tuple[Account, list[KeyRow]]]) -> Account:
        done = await self._writer.write(unit, lambda done: self._keys.forget_all(done[1]))
        return done[0]


def _check_manager(principal: Principal) -> None:
    principal.need_no_limits(_DOING)
    principal.need_presence(_DOING)


def _limits_of(row: AccountRow | KeyRow) -> Limits:
    return Limits(*map(ids_of, (row.workflow_ids, row.workflow_scope, row.wallet_ids, row.connector_ids)))


def _unknown(account_id: str) -> NotFound:
    return NotFound(f'There is no service account "{account_id}".', code=Code.SERVICE_ACCOUNT_UNKNOWN)


def _get(tx: Tx, principal: Principal, account_id: str) -> AccountRow:
    row = rows.find_to_change(tx, principal.org_id, account_id)
    if row is None:
        raise _unknown(account_id)
    return row


def _add_key(
    tx: Tx,
    principal: Principal,
    row: AccountRow,
    name: str,
    description: str | None,
    permissions: Sequence[str],
    limits: Limits,
    end: int,
) -> NewKey:
    maker = good_maker(tx, principal)
    if row.disabled_at is not None:
        raise Conflict(f'"{row.name}" is disabled; enable it first.', code=Code.SERVICE_ACCOUNT_DISABLED)
    check_grant(principal, permissions)
    named, scope = limits_of_new(tx, principal, maker, limits.workflow_ids, limits.workflow_scope)
    new = make_key(
        principal.org_id,
        name,
        permissions,
        description=description,
        expires_at=end,
        workflow_ids=named,
        workflow_scope=scope,
        wallet_ids=limits.wallet_ids,
        connector_ids=limits.connector_ids,
        created_by=principal.key_id,
        service_account_id=row.id,
    )
    key_rows.insert(tx, new.row)
    about = {"serviceAccount": row.id, "permissions": sorted(permissions)}
    audit.record(tx, principal, "key.create", new.row.id, name=name, **about)
    return new


def _check_free(tx: Tx, org_id: str, name: str) -> None:
    if rows.find_by_name(tx, org_id, name) is not None:
        raise Conflict(f'There is a service account "{name}".', code=Code.SERVICE_ACCOUNT_TAKEN)


def _owner(tx: Tx, principal: Principal, person_id: str) -> str:
    person = person_rows.find(tx, principal.org_id, person_id)
    home = None if person is None else key_rows.find(tx, principal.org_id, person.key_id)
    if home is None or not is_good(home):
        why = "there is no such person" if home is None else "this person is deactivated"
        raise Invalid(_WRONG, details=[Problem("ownerId", f"{why}; GET /v1/people lists them")])
    return person_id


def _rights(tx: Tx, principal: Principal, given: Given) -> list[str]:
    """The permissions that are given, of which none may be beyond the caller's, nor for people alone."""
    field = "permissions" if given.role is None else "role"
    named = given.permissions or () if given.role is None else permissions_of_role(tx, principal.org_id, given.role)
    check_grant(principal, named)
    wrong = sorted(_FOR_PEOPLE.intersection(named))
    if wrong:
        message = f'includes "{wrong[0]}", which a service account cannot have: administering is for people'
        raise Invalid(_WRONG, details=[Problem(field, message)])
    if PROVISION in named and len(set(named)) > 1:
        message = f'includes "{PROVISION}" and others: what a directory provisions with may do nothing else'
        raise Invalid(_WRONG, details=[Problem(field, message)])
    return sorted(set(named))


def _fit_keys(tx: Tx, principal: Principal, row: AccountRow, permissions: Sequence[str]) -> list[KeyRow]:
    """Gives the keys of an account its new permissions, if these are more; else revokes them. Returns those that were
    revoked."""
    had, gets = set(exact_json.loads(row.permissions)), set(permissions)
    if not had <= gets:
        return end_keys_of_account(tx, principal, row.id)
    for key in key_rows.list_of_account(tx, row.org_id, row.id) if had < gets else ():
        if is_good(key) and set(permissions_of(key)) == had:  # not those that its keys have made with less
            key_rows.widen(tx, key.id, exact_json.dumps_text(sorted(gets)))
    return []


def _end(maker: KeyRow, expires_at: int | None, life_ms: int) -> int:
    """When a new key expires: not after the key that makes it."""
    now = clock.now_ms()
    if expires_at is not None and expires_at > now + MOST_LIFE_MS:
        problem = Problem("expiresAt", "must be within a year: keys of service accounts always expire")
        raise Invalid(_WRONG, details=[problem])
    usual = now + min(life_ms, MOST_LIFE_MS)
    return min(end_within(maker, expires_at) or usual, expires_at or usual)


def _ids_text(named: Sequence[str] | None) -> str | None:
    return None if named is None else exact_json.dumps_text(sorted(set(named)))


def _account(tx: Tx, row: AccountRow) -> Account:
    every = key_rows.list_of_account(tx, row.org_id, row.id)
    used = [key.last_used_at for key in every if key.last_used_at is not None]
    return Account(row, [key for key in every if is_good(key)], max(used, default=None))


def _record(tx: Tx, principal: Principal, verb: str, row: AccountRow, said: Mapping[str, Any]) -> None:
    detail = {field: value for field, value in said.items() if value is not None}
    audit.record(tx, principal, f"service-account.{verb}", row.id, **detail)
