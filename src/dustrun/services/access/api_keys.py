"""API keys: creating, authenticating and revoking them, and the owner key of the first start."""

from __future__ import annotations

import asyncio
import contextvars
import hmac
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from dustrun import clock, ids
from dustrun.core.validate import suggest
from dustrun.core.values import exact_json
from dustrun.core.workflow.placement import is_within
from dustrun.errors import Code, Conflict, Forbidden, Invalid, NotFound, Problem, Unauthenticated
from dustrun.listeners import Listeners
from dustrun.records import dataclass
from dustrun.services.access import audit, idempotency
from dustrun.services.access.paging import Page, Paging, page_of
from dustrun.services.access.principal import OF_THE_SERVER, PERMISSIONS, PROVISION, Principal
from dustrun.storage.access import keys as rows
from dustrun.storage.access import organizations, people
from dustrun.storage.access.keys import KeyRow
from dustrun.storage.access.organizations import OrganizationRow
from dustrun.storage.data import connectors
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Tx
from dustrun.storage.db.writer import Writer
from dustrun.storage.money import wallets
from dustrun.storage.workflows import workflows

OWNER_FILE = "owner.key"
_KEY = re.compile(r"sk_[0-9A-Za-z]{40}")
# Other processes notice a revocation when the entry expires; the process that revoked the key, at once.
_CACHE_S = 5.0
_CACHE_MAX = 10_000
_SKEW_MS = 60_000
"""How far the clocks of servers that share a store may be apart."""

# No preset includes what concerns the whole server.
READ = frozenset(name for name in PERMISSIONS - OF_THE_SERVER if name.endswith(":read")) | {"run:stream"}
# Permissions that move money, approve spends or create keys must be named; no preset includes them.
READ_WRITE = (
    PERMISSIONS
    - OF_THE_SERVER
    - {"wallet:spend", "wallet:admin", "approval:decide", "key:write", "admin"}
    - {PROVISION}
)
# What an assistant needs to draft and to rehearse over MCP: nothing with it writes to the outside or spends.
MCP = frozenset(["workflow:read", "workflow:create", "workflow:update", "workflow:simulate", "run:read", "run:inline"])
PRESETS = {"read": READ, "read-write": READ_WRITE, "mcp": MCP}


@dataclass(frozen=True, slots=True)
class NewKey:
    """A new key; `secret` is the key itself, shown only once."""

    row: KeyRow
    secret: str


@dataclass(frozen=True, slots=True)
class _Cached:
    principal: Principal
    hash: str
    expires_at: int | None
    look_again_at: float


def permissions_of(row: KeyRow) -> list[str]:
    """Parses a key's stored permissions."""
    found: list[str] = exact_json.loads(row.permissions)
    return found


def ids_of(text: str | None) -> list[str] | None:
    """Parses a stored list of ids that limits a key; None means no limit."""
    return None if text is None else exact_json.loads(text)


def principal_of(row: KeyRow) -> Principal:
    """The principal of a stored key."""
    return Principal(
        row.id,
        row.org_id,
        frozenset(permissions_of(row)),
        _limit(row.workflow_ids),
        _limit(row.wallet_ids),
        row.expires_at,
        connector_ids=_limit(row.connector_ids),
    )


def _limit(text: str | None) -> frozenset[str] | None:
    found = ids_of(text)
    return None if found is None else frozenset(found)


def make_key(
    org_id: str,
    name: str,
    permissions: Sequence[str],
    *,
    secret: str | None = None,
    description: str | None = None,
    expires_at: int | None = None,
    workflow_ids: Sequence[str] | None = None,
    wallet_ids: Sequence[str] | None = None,
    created_by: str | None = None,
    person_id: str | None = None,
    workflow_scope: str | None = None,
    service_account_id: str | None = None,
    connector_ids: Sequence[str] | None = None,
) -> NewKey:
    """Creates a key without storing it."""
    secret = secret or ids.new_secret("sk")
    row = KeyRow(
        id=ids.new_id("key"),
        org_id=org_id,
        name=name,
        description=description,
        hash=ids.secret_hash(secret),
        permissions=exact_json.dumps_text(sorted(set(permissions))),
        created_at=clock.now_ms(),
        expires_at=expires_at,
        workflow_ids=_ids_text(workflow_ids),
        wallet_ids=_ids_text(wallet_ids),
        created_by=created_by,
        person_id=person_id,
        workflow_scope=workflow_scope,
        service_account_id=service_account_id,
        connector_ids=_ids_text(connector_ids),
    )
    return NewKey(row, secret)


def _ids_text(ids_: Sequence[str] | None) -> str | None:
    return None if ids_ is None else exact_json.dumps_text(sorted(set(ids_)))


def is_good(row: KeyRow) -> bool:
    """Whether a key is neither revoked nor expired."""
    return row.revoked_at is None and (row.expires_at is None or row.expires_at > clock.now_ms())


def need_good(tx: Tx, principal: Principal) -> None:
    """Raises `Unauthenticated` if the caller's key has ended meanwhile. For what protects money: another server of a
    shared store may have revoked it a moment ago."""
    row = rows.find(tx, principal.org_id, principal.key_id)
    if row is None or not is_good(row):
        raise Unauthenticated("The API key was revoked, or has expired.")


class Keys:
    """Use cases of API keys, with a cache that makes authentication cheap."""

    def __init__(self, database: Database, writer: Writer) -> None:
        self._database = database
        self._writer = writer
        self._cache: dict[str, _Cached] = {}
        self._looking: dict[str, asyncio.Task[Principal | None]] = {}
        self._revocations = 0
        self.on_revoked: Listeners[[str]] = Listeners()
        """Called with the id of each revoked key."""
        self.on_revoked_here: Listeners[[str, str]] = Listeners()
        """In a shared store: called with id and hash of each key that was revoked by this process."""
        self.on_reach: Listeners[[str, frozenset[str]]] = Listeners()
        """Called with the id of a key whose workflows have changed, and with them."""
        self.on_reach_here: Listeners[[str, str, list[str]]] = Listeners()
        """In a shared store: called with id, hash and workflows of each key for which this process has changed them."""
        self._looked_at = clock.now_ms()

    def find_cached(self, secret: str) -> Principal | None:
        """The cached principal of a recently used key; None means: call `find`."""
        key_hash = ids.secret_hash(secret)
        cached = self._cache.get(key_hash)
        if cached is None or not hmac.compare_digest(cached.hash, key_hash):
            return None
        expired = cached.expires_at is not None and cached.expires_at <= clock.now_ms()
        if expired or cached.look_again_at <= clock.monotonic_s():
            self._cache.pop(key_hash, None)
            return None
        return cached.principal

    async def find(self, secret: str) -> Principal | None:
        """The principal of a key; None if the key is unknown, revoked or expired.

        Requests that come while a key is looked up wait for the same answer: else hundreds would queue for the readers
        whenever the entry of a busy key expires."""
        if not _KEY.fullmatch(secret):
            return None
        key_hash = ids.secret_hash(secret)
        looking = self._looking.get(key_hash)
        if looking is None:
            # in no request's context, and it goes on if that request is cancelled
            looking = asyncio.get_running_loop().create_task(self._look_up(key_hash), context=contextvars.Context())
            self._looking[key_hash] = looking
            looking.add_done_callback(lambda done: self._looked_up(key_hash, done))
        return await asyncio.shield(looking)

    def _looked_up(self, key_hash: str, done: asyncio.Task[Principal | None]) -> None:
        if self._looking.get(key_hash) is done:
            del self._looking[key_hash]
        if not done.cancelled():
            done.exception()  # told to those that wait, if there are any left

    async def _look_up(self, key_hash: str) -> Principal | None:
        before = self._revocations
        row = await self._database.look_up(lambda tx: rows.find_by_hash(tx, key_hash))
        if row is None or not hmac.compare_digest(row.hash, key_hash) or not is_good(row):
            return None
        principal = principal_of(row)
        if before == self._revocations:  # otherwise the row that was read may be older than the revocation
            self._remember(principal, row)
        return principal

    def _remember(self, principal: Principal, row: KeyRow) -> None:
        if len(self._cache) >= _CACHE_MAX:
            self._cache.clear()
        self._cache[row.hash] = _Cached(principal, row.hash, row.expires_at, clock.monotonic_s() + _CACHE_S)

    async def create(
        self,
        principal: Principal,
        *,
        name: str,
        permissions: Sequence[str],
        description: str | None,
        expires_at: int | None,
        workflow_ids: Sequence[str] | None = None,
        workflow_scope: Sequence[str] | None = None,
        wallet_ids: Sequence[str] | None = None,
        connector_ids: Sequence[str] | None = None,
    ) -> NewKey:
        """Creates a key with no more rights and no later expiry than the caller's own, whose limits it inherits.

        Raises `Forbidden`, or `Invalid` for a workflow, wallet or connector that the caller does not have."""
        principal.need_presence("create a key")
        check_grant(principal, permissions)
        wallet_ids = _within("walletIds", principal.wallet_ids, wallet_ids)
        connector_ids = _within("connectorIds", principal.connector_ids, connector_ids)

        def unit(tx: Tx) -> NewKey:
            maker = good_maker(tx, principal)
            ends = end_within(maker, expires_at)
            named, scope = limits_of_new(tx, principal, maker, workflow_ids, workflow_scope)
            check_there(tx, principal.org_id, workflow_ids, wallet_ids, connector_ids)
            new = make_key(
                principal.org_id,
                name,
                permissions,
                description=description,
                expires_at=ends,
                workflow_ids=named,
                wallet_ids=wallet_ids,
                created_by=principal.key_id,
                person_id=maker.person_id,
                workflow_scope=scope,
                service_account_id=maker.service_account_id,
                connector_ids=connector_ids,
            )
            rows.insert(tx, new.row)
            given = {"workflowIds": named, "workflowScope": ids_of(scope), "walletIds": wallet_ids}
            given |= {"connectorIds": connector_ids}
            limits = {field: value for field, value in given.items() if value is not None}
            audit.record(tx, principal, "key.create", new.row.id, name=name, permissions=sorted(permissions), **limits)
            return new

        return await idempotency.write(self._writer, unit)

    async def get(self, principal: Principal, key_id: str) -> KeyRow:
        """A key of the organisation; raises `NotFound`, also to a limited key for one that is wider than itself."""
        return await self._database.read(lambda tx: _get_seen(tx, principal, key_id))

    async def whose(self, principal: Principal) -> tuple[KeyRow, OrganizationRow]:
        """The caller's own key and its organisation."""

        def query(tx: Tx) -> tuple[KeyRow, OrganizationRow]:
            organization = organizations.find(tx, principal.org_id)
            assert organization is not None, "organisations are never deleted"
            return _get(tx, principal, principal.key_id), organization

        return await self._database.read(query)

    async def list_page(self, principal: Principal, paging: Paging) -> Page[KeyRow]:
        """Lists the organisation's keys, newest first; to a limited key those that are no wider than itself."""
        if principal.is_limited:
            every = await self._database.read(lambda tx: rows.list_all(tx, principal.org_id))
            seen = [row for row in every if _sees(principal, row)]
            return page_of(seen[paging.offset : paging.offset + paging.peek], paging)
        found = await self._database.read(
            lambda tx: rows.list_page(tx, principal.org_id, limit=paging.peek, offset=paging.offset)
        )
        return page_of(found, paging)

    async def revoke(self, principal: Principal, key_id: str, *, keep_made: bool = False) -> KeyRow:
        """Revokes a key and the keys that it made, directly or through others, immediately; idempotent.

        `keep_made`: only the key itself, for an unlimited administrator. Raises `NotFound`, `Forbidden` for a key with
        permissions that the caller lacks, or `Conflict` if the organisation would be left without an administrator."""
        if keep_made:
            principal.need("admin")
            principal.need_no_limits("revoke a key without those that it made")

        def unit(tx: Tx) -> list[KeyRow]:
            row = _get_seen(tx, principal, key_id)
            _check_may_revoke(principal, row)
            made = [] if keep_made else rows.list_made(tx, principal.org_id, key_id)
            good = [one for one in (row, *made) if one.revoked_at is None]
            _check_admin_stays(tx, principal.org_id, good)
            for one in good:
                rows.revoke(tx, one.id, at_ms=clock.now_ms())
                detail = {} if one.id == key_id else {"madeBy": key_id}
                audit.record(tx, principal, "key.revoke", one.id, **detail)
            return [_get(tx, principal, one.id) for one in (row, *(one for one in good if one.id != key_id))]

        revoked = await self._writer.write(unit, self.forget_all)
        return revoked[0]

    def hear_revoked(self, key_id: str, key_hash: str) -> None:
        """Another process has revoked a key."""
        self._revocations += 1
        self._looking.clear()
        self._cache.pop(key_hash, None)
        self.on_revoked(key_id)

    def hear_reach(self, key_id: str, key_hash: str, workflow_ids: Sequence[str]) -> None:
        """The reach of a key that is limited to folders or tags has changed, maybe on another server."""
        self._revocations += 1
        self._looking.clear()
        self._cache.pop(key_hash, None)
        self.on_reach(key_id, frozenset(workflow_ids))

    def tell_reach(self, moved: Sequence[KeyRow]) -> None:
        """The same for keys that this process has changed, once that is stored."""
        for row in moved:
            reached = ids_of(row.workflow_ids) or []
            self.hear_reach(row.id, row.hash, reached)
            self.on_reach_here(row.id, row.hash, reached)

    async def look_for_reach(self) -> None:
        """Hears what every such key can access now, whether or not another process told."""
        for row in await self._database.read(rows.list_every_scoped):
            self.hear_reach(row.id, row.hash, ids_of(row.workflow_ids) or [])

    async def look_for_revoked(self) -> None:
        """Ends what keys may do that another process has revoked since the last look, whether or not it told."""
        now = clock.now_ms()
        revoked = await self._database.read(lambda tx: rows.list_revoked(tx, since=self._looked_at - _SKEW_MS))
        self._looked_at = now
        for key_id, key_hash in revoked:
            self.hear_revoked(key_id, key_hash)

    def forget_all(self, revoked: Sequence[KeyRow]) -> None:
        """Ends what these keys may do, once their revocation is stored."""
        self._revocations += 1
        self._looking.clear()  # what is read now may be older than the revocation: nobody else may wait for it
        for row in revoked:
            self._cache.pop(row.hash, None)
            self.on_revoked(row.id)
            self.on_revoked_here(row.id, row.hash)


def _sees(principal: Principal, row: KeyRow) -> bool:
    return not principal.is_limited or row.id == principal.key_id or principal_of(row).is_within(principal)


def _get_seen(tx: Tx, principal: Principal, key_id: str) -> KeyRow:
    row = _get(tx, principal, key_id)
    if not _sees(principal, row):
        raise _unknown(key_id)
    return row


def _unknown(key_id: str) -> NotFound:
    return NotFound(f'There is no API key "{key_id}".', code=Code.KEY_UNKNOWN)


def _check_may_revoke(principal: Principal, row: KeyRow) -> None:
    beyond = sorted(name for name in permissions_of(row) if not principal.may(name))
    if beyond and row.id != principal.key_id:
        names = ", ".join(f'"{name}"' for name in beyond)
        raise Forbidden(f"A key can revoke only keys with permissions that it has itself; it lacks {names}.")


def _get(tx: Tx, principal: Principal, key_id: str) -> KeyRow:
    row = rows.find(tx, principal.org_id, key_id)
    if row is None:
        raise _unknown(key_id)
    return row


def end_keys_of(tx: Tx, principal: Principal, person_id: str, *, keeps_way_in: bool = False) -> list[KeyRow]:
    """Revokes every key of a person, in the caller's transaction, and returns those that it has revoked now. Raises
    `Forbidden` or `Conflict` as `Keys.revoke` does; with `keeps_way_in`, the keys stay without which nobody could
    administer the organisation."""
    good = [row for row in rows.list_of_person(tx, principal.org_id, person_id) if row.revoked_at is None]
    for row in good:
        _check_may_revoke(principal, row)
    try:
        _check_admin_stays(tx, principal.org_id, good)
    except Conflict:
        if not keeps_way_in:
            raise
        homes = people.home_keys(tx, principal.org_id)
        good = [row for row in good if row.id in homes or not _administers(row)]
    for row in good:
        rows.revoke(tx, row.id, at_ms=clock.now_ms())
        audit.record(tx, principal, "key.revoke", row.id, person=person_id)
    return good


def end_keys_of_account(tx: Tx, principal: Principal, account_id: str) -> list[KeyRow]:
    """Revokes every key of a service account, as `end_keys_of` does a person's. None of them administers anything."""
    good = [row for row in rows.list_of_account(tx, principal.org_id, account_id) if row.revoked_at is None]
    for row in good:
        _check_may_revoke(principal, row)
    for row in good:
        rows.revoke(tx, row.id, at_ms=clock.now_ms())
        audit.record(tx, principal, "key.revoke", row.id, serviceAccount=account_id)
    return good


def check_grant(principal: Principal, permissions: Sequence[str]) -> None:
    """Raises `Invalid` or `Forbidden` unless the caller may give these permissions."""
    _check_known(permissions)
    _check_not_stronger(principal, permissions)


def _check_known(permissions: Sequence[str]) -> None:
    problems = [
        Problem(f"permissions[{index}]", f'"{name}" is not a permission.{suggest(name, PERMISSIONS)}')
        for index, name in enumerate(permissions)
        if name not in PERMISSIONS
    ]
    if problems:
        raise Invalid("The request body is not valid.", details=problems)


def _check_not_stronger(principal: Principal, permissions: Sequence[str]) -> None:
    beyond = sorted(name for name in permissions if not principal.may(name))
    if beyond:
        names = ", ".join(f'"{name}"' for name in beyond)
        raise Forbidden(f"A key can grant only permissions that it has itself; it lacks {names}.")
    granted = Principal("", principal.org_id, frozenset(permissions))
    if principal.only_simulates and granted.runs_beyond_simulations:
        raise Forbidden(
            'This key starts dry runs only, so a key that it makes with "run:inline" needs "workflow:simulate" too.'
        )


def _within(field: str, own: frozenset[str] | None, wanted: Sequence[str] | None) -> Sequence[str] | None:
    """The limits of a new key: those requested, else those of the creating key."""
    if own is None:
        return wanted
    if wanted is None:
        return sorted(own)
    beyond = sorted(set(wanted) - own)
    if beyond:
        names = ", ".join(f'"{name}"' for name in beyond)
        raise Forbidden(f"A key can grant access only to what it can access itself; {names} is not in its {field}.")
    return wanted


def limits_of_new(
    tx: Tx, principal: Principal, maker: KeyRow, wanted: Sequence[str] | None, scope: Sequence[str] | None
) -> tuple[Sequence[str] | None, str | None]:
    """The workflows of a new key, and the scope that they follow from: those requested, else those of the creating
    key. A scope keeps what it was given with, so that it can be reckoned anew when workflows are moved."""
    own = ids_of(maker.workflow_scope)
    if wanted is None and scope is None and own is not None:
        scope = own
    if scope is None:
        return _within("workflowIds", principal.workflow_ids, wanted), None
    beyond = [one for one in scope if principal.workflow_ids is not None and not is_within(one, own or ())]
    if beyond:
        names = ", ".join(f'"{name}"' for name in beyond)
        raise Forbidden(f"A key can grant access only to what it can access itself; {names} is not in its scope.")
    every = sorted({*scope, *(_within("workflowIds", principal.workflow_ids, wanted or ()) or ())})
    organizations.lock(tx, principal.org_id)  # nobody moves a workflow meanwhile
    return workflows.list_scoped(tx, principal.org_id, every), exact_json.dumps_text(every)


def scoped_ids(tx: Tx, row: KeyRow) -> list[str] | None:
    """The workflows of a key that takes the place of this one: of a revoked key they are not kept up."""
    if row.workflow_scope is None:
        return ids_of(row.workflow_ids)
    organizations.lock(tx, row.org_id)
    return workflows.list_scoped(tx, row.org_id, ids_of(row.workflow_scope) or ())


def reckon_reach(tx: Tx, principal: Principal) -> list[KeyRow]:
    """Reckons anew what keys that are limited to folders and tags can access, after the caller has moved workflows;
    those whose access has changed. Raises `Forbidden` if one would gain a workflow that may do what the caller may
    not: who moves workflows gives access to them."""
    organizations.lock(tx, principal.org_id)
    moved = []
    for row in rows.list_scoped(tx, principal.org_id):
        reached = workflows.list_scoped(tx, principal.org_id, ids_of(row.workflow_scope) or ())
        before = set(ids_of(row.workflow_ids) or ())
        if set(reached) == before:
            continue
        after = replace(row, workflow_ids=_ids_text(reached))
        if not before.issuperset(reached) and is_good(row) and not principal_of(after).is_within(principal):
            raise Forbidden(
                f'This would let the key "{row.name}" ({row.id}) access a workflow, and that key may do what yours may '
                "not. Ask somebody who may do as much, or leave the workflow out of the key's folders and tags."
            )
        rows.set_reach(tx, row.id, after.workflow_ids or "[]")
        moved.append(after)
    return moved


def check_there(
    tx: Tx,
    org_id: str,
    workflow_ids: Sequence[str] | None,
    wallet_ids: Sequence[str] | None,
    connector_ids: Sequence[str] | None,
) -> None:
    """Raises `Invalid` unless the organisation has these workflows, wallets and connectors."""
    finds: tuple[tuple[str, Sequence[str] | None, Callable[[Tx, str, str], object | None]], ...] = (
        ("workflow", workflow_ids, workflows.find),
        ("wallet", wallet_ids, wallets.find),
        ("connector", connector_ids, connectors.find),
    )
    problems = [
        Problem(f"{kind}Ids[{index}]", f'there is no {kind} "{name}"')
        for kind, names, find in finds
        for index, name in enumerate(names or ())
        if find(tx, org_id, name) is None
    ]
    if problems:
        raise Invalid("The request body is not valid.", details=problems)


def _administers(row: KeyRow) -> bool:
    """Whether the key is a full administrator: permission `admin`, no expiry, no limits."""
    return not principal_of(row).is_limited and row.expires_at is None and "admin" in permissions_of(row)


def _check_admin_stays(tx: Tx, org_id: str, revoked: Sequence[KeyRow]) -> None:
    """Raises `Conflict` if these are the organisation's last keys that administer it."""
    if not any(map(_administers, revoked)):
        return  # thousands are let go one by one
    unusable = people.home_keys(tx, org_id)  # nobody has their secrets, so they are no way back in
    gone = {row.id for row in revoked if _administers(row) and row.id not in unusable}
    if not gone:
        return
    good = rows.list_good(tx, org_id, now_ms=clock.now_ms())
    if not any(_administers(other) for other in good if other.id not in gone | unusable):
        raise Conflict(
            'This would revoke the organisation\'s last unlimited "admin" key without expiry; without it nobody could '
            "create keys. Create another one first, then revoke this one with it; keepMade=true leaves the keys that "
            "this one made.",
            code=Code.KEY_LAST_ADMIN,
        )


def good_maker(tx: Tx, principal: Principal) -> KeyRow:
    """The caller's key, which must still be valid in this transaction."""
    maker = _get(tx, principal, principal.key_id)
    if not is_good(maker):
        raise Forbidden("The key that creates this key has expired or was revoked.")
    return maker


def end_within(maker: KeyRow, expires_at: int | None) -> int | None:
    """The expiry of a new key: not after that of the creating key."""
    if maker.expires_at is None or expires_at is None:
        return expires_at or maker.expires_at
    if expires_at > maker.expires_at:
        raise Forbidden("A key cannot create a key that expires later than itself.")
    return expires_at


async def ensure_owner(database: Database, writer: Writer, data_dir: Path) -> Path | None:
    """Creates the organisation and its owner key at the first start; returns the key file's path, None later.

    The file is written before the rows, so that after a crash in between the next start uses the same key.
    """
    if await database.read(organizations.exist):
        return None
    path = data_dir / OWNER_FILE
    secret = read_secret(path) or write_secret(path, ids.new_secret("sk"))
    owner_of_all = OrganizationRow(ids.new_id("org"), "Default", clock.now_ms())
    new = make_key(owner_of_all.id, "owner", ["admin", "operator"], secret=secret)

    def unit(tx: Tx) -> bool:
        if organizations.exist(tx):
            return False
        organizations.insert(tx, owner_of_all)
        rows.insert(tx, new.row)
        maker = Principal(new.row.id, owner_of_all.id, frozenset({"admin"}))
        audit.record(tx, maker, "organization.create", owner_of_all.id, name=owner_of_all.name)
        return True

    return path if await writer.write(unit) else None


def read_secret(path: Path) -> str | None:
    try:
        secret = path.read_text(encoding="ascii").strip()
    except (FileNotFoundError, UnicodeDecodeError):
        return None
    if not _KEY.fullmatch(secret):
        return None
    path.chmod(0o600)
    return secret


def write_secret(path: Path, secret: str) -> str:
    """Writes the file atomically, with mode 0600."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="ascii") as file:
        file.write(secret + "\n")
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    return secret
