"""Rows of API keys; the key itself is never stored, only its SHA-256."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

import sqlalchemy as sa

from dustrun.records import dataclass
from dustrun.storage.db.statement import Statement, Tx
from dustrun.storage.db.tables import api_keys as t


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRow:
    """One API key; times in milliseconds, `permissions` and the `_ids` that limit it JSON lists."""

    id: str
    org_id: str
    name: str
    description: str | None
    hash: str
    permissions: str
    created_at: int
    expires_at: int | None = None
    revoked_at: int | None = None
    workflow_ids: str | None = None
    wallet_ids: str | None = None
    last_used_at: int | None = None
    created_by: str | None = None
    person_id: str | None = None
    workflow_scope: str | None = None
    service_account_id: str | None = None
    connector_ids: str | None = None


_NAMES = tuple(field.name for field in fields(KeyRow))
_COLUMNS = [t.c[name] for name in _NAMES]
_BY_ID = (t.c.org_id == sa.bindparam("org_id"), t.c.id == sa.bindparam("id"))
_INSERT = Statement(sa.insert(t))
_FIND = Statement(sa.select(*_COLUMNS).where(*_BY_ID))
_FIND_ANY = Statement(sa.select(*_COLUMNS).where(t.c.id == sa.bindparam("id")))
_IS_REVOKED = Statement(sa.select(t.c.id).where(*_BY_ID, t.c.revoked_at.is_not(None)))
_FIND_BY_HASH = Statement(sa.select(*_COLUMNS).where(t.c.hash == sa.bindparam("hash")))
_REVOKE = Statement(
    sa.update(t)
    .where(t.c.id == sa.bindparam("of_id"), t.c.revoked_at.is_(None))
    .values(revoked_at=sa.bindparam("revoked_at"))
)
_LIST_GOOD = Statement(
    sa.select(*_COLUMNS)
    .where(
        t.c.org_id == sa.bindparam("org_id"),
        t.c.revoked_at.is_(None),
        sa.or_(t.c.expires_at.is_(None), t.c.expires_at > sa.bindparam("now", type_=sa.BigInteger)),
    )
    .with_for_update()
)
_LIST_SCOPED = Statement(
    sa.select(*_COLUMNS)
    .where(t.c.org_id == sa.bindparam("org_id"), t.c.workflow_scope.is_not(None), t.c.revoked_at.is_(None))
    .order_by(t.c.id)
)
_OF_OPERATORS = Statement(
    sa.select(t.c.org_id)
    .where(t.c.permissions.like('%"operator"%'), t.c.revoked_at.is_(None))
    .group_by(t.c.org_id)
    .order_by(t.c.org_id)
)
_EVERY_SCOPED = Statement(sa.select(*_COLUMNS).where(t.c.workflow_scope.is_not(None), t.c.revoked_at.is_(None)))
_REACH = Statement(sa.update(t).where(t.c.id == sa.bindparam("of_id")).values(workflow_ids=sa.bindparam("reached")))
_USE = Statement(
    sa.update(t)
    .where(
        t.c.id == sa.bindparam("of_id"),
        sa.or_(t.c.last_used_at.is_(None), t.c.last_used_at < sa.bindparam("at", type_=sa.BigInteger)),
    )
    .values(last_used_at=sa.bindparam("at", type_=sa.BigInteger))
)
_PAGE = Statement(
    sa.select(*_COLUMNS)
    .where(t.c.org_id == sa.bindparam("org_id"))
    .order_by(t.c.id.desc())
    .limit(sa.bindparam("limit", type_=sa.Integer))
    .offset(sa.bindparam("offset", type_=sa.Integer))
)


_REVOKED = Statement(
    sa.select(t.c.id, t.c.hash).where(t.c.revoked_at > sa.bindparam("since", type_=sa.BigInteger)).order_by(t.c.id)
)
_ALL = Statement(sa.select(*_COLUMNS).where(t.c.org_id == sa.bindparam("org_id")).order_by(t.c.id.desc()))
_OF_PERSON = Statement(
    sa.select(*_COLUMNS)
    .where(t.c.org_id == sa.bindparam("org_id"), t.c.person_id == sa.bindparam("person_id"))
    .order_by(t.c.id)
)
_OF_ACCOUNT = Statement(
    sa.select(*_COLUMNS)
    .where(t.c.org_id == sa.bindparam("org_id"), t.c.service_account_id == sa.bindparam("account_id"))
    .order_by(t.c.id.desc())
)
_EXPIRE = Statement(
    sa.update(t).where(t.c.id == sa.bindparam("of_id")).values(expires_at=sa.bindparam("at", type_=sa.BigInteger))
)
_WIDEN = Statement(sa.update(t).where(t.c.id == sa.bindparam("of_id")).values(permissions=sa.bindparam("wider")))
_GIVE = Statement(sa.update(t).where(t.c.id == sa.bindparam("of_id")).values(person_id=sa.bindparam("person_id")))


def _row(found: tuple[Any, ...]) -> KeyRow:
    return KeyRow(**dict(zip(_NAMES, found, strict=True)))


def insert(tx: Tx, row: KeyRow) -> None:
    """Inserts a key."""
    tx.do(_INSERT, **{name: getattr(row, name) for name in _NAMES})


def find(tx: Tx, org_id: str, key_id: str) -> KeyRow | None:
    """Finds a key of the organisation."""
    found = tx.one(_FIND, org_id=org_id, id=key_id)
    return _row(found) if found else None


def ask_revoked(tx: Tx, org_id: str, key_id: str | None) -> Callable[[], bool]:
    """Asks whether a key is revoked; the function returns it after a wait."""
    asked = tx.soon(_IS_REVOKED, org_id=org_id, id=key_id)
    return lambda: asked.value is not None


def is_revoked(tx: Tx, org_id: str, key_id: str) -> bool:
    """Whether a key is revoked."""
    found = ask_revoked(tx, org_id, key_id)
    tx.wait()
    return found()


def find_any(tx: Tx, key_id: str) -> KeyRow | None:
    """Finds a key of any organisation."""
    found = tx.one(_FIND_ANY, id=key_id)
    return _row(found) if found else None


def find_by_hash(tx: Tx, key_hash: str) -> KeyRow | None:
    """Finds a key of any organisation by its SHA-256."""
    found = tx.one(_FIND_BY_HASH, hash=key_hash)
    return _row(found) if found else None


def revoke(tx: Tx, key_id: str, *, at_ms: int) -> None:
    """Revokes a key; a revoked key keeps its first revocation time."""
    tx.do(_REVOKE, of_id=key_id, revoked_at=at_ms)


def list_good(tx: Tx, org_id: str, *, now_ms: int) -> list[KeyRow]:
    """Lists the organisation's valid keys, with row locks on PostgreSQL."""
    return [_row(found) for found in tx.all(_LIST_GOOD, org_id=org_id, now=now_ms)]


def list_organizations_of_operators(tx: Tx) -> list[str]:
    """Lists the organisations that have a key which operates the server."""
    return [str(org_id) for (org_id,) in tx.all(_OF_OPERATORS)]


def list_revoked(tx: Tx, *, since: int) -> list[tuple[str, str]]:
    """Lists id and hash of the keys of all organisations that were revoked after a time."""
    return [(row[0], row[1]) for row in tx.all(_REVOKED, since=since)]


def list_scoped(tx: Tx, org_id: str) -> list[KeyRow]:
    """Lists the organisation's keys that are limited to folders and tags, without revoked ones."""
    return [_row(found) for found in tx.all(_LIST_SCOPED, org_id=org_id)]


def list_every_scoped(tx: Tx) -> list[KeyRow]:
    """The same of all organisations."""
    return [_row(found) for found in tx.all(_EVERY_SCOPED)]


def set_reach(tx: Tx, key_id: str, workflow_ids: str) -> None:
    """Sets which workflows a key can access."""
    tx.do(_REACH, of_id=key_id, reached=workflow_ids)


def list_all(tx: Tx, org_id: str) -> list[KeyRow]:
    """Lists all keys of the organisation, newest first."""
    return [_row(found) for found in tx.all(_ALL, org_id=org_id)]


def list_of_person(tx: Tx, org_id: str, person_id: str) -> list[KeyRow]:
    """Lists the keys of a person, also those that have ended."""
    return [_row(found) for found in tx.all(_OF_PERSON, org_id=org_id, person_id=person_id)]


def list_of_account(tx: Tx, org_id: str, account_id: str) -> list[KeyRow]:
    """Lists the keys of a service account, newest first, also those that have ended."""
    return [_row(found) for found in tx.all(_OF_ACCOUNT, org_id=org_id, account_id=account_id)]


ME = "me"


def ids_of(tx: Tx, org_id: str, who: str, caller: str) -> tuple[str, ...]:
    """The keys that are or were whose id this is: a person's, a service account's, a key's own; `me`: whose key the
    caller's is."""
    if who == ME:
        own = find(tx, org_id, caller)
        who = (own and (own.person_id or own.service_account_id)) or caller
    kind = who.partition("_")[0]
    if kind == "per":
        return tuple(row.id for row in list_of_person(tx, org_id, who))
    if kind == "svc":
        return tuple(row.id for row in list_of_account(tx, org_id, who))
    return (who,)


def expire(tx: Tx, key_id: str, *, at: int) -> None:
    """Has a key expire at a time."""
    tx.do(_EXPIRE, of_id=key_id, at=at)


def give(tx: Tx, key_id: str, person_id: str) -> None:
    """Makes a key a person's."""
    tx.do(_GIVE, of_id=key_id, person_id=person_id)


def widen(tx: Tx, key_id: str, permissions: str) -> None:
    """Gives a key more permissions."""
    tx.do(_WIDEN, of_id=key_id, wider=permissions)


def list_made(tx: Tx, org_id: str, key_id: str) -> list[KeyRow]:
    """Lists the keys that a key made, directly or through other keys."""
    made: dict[str, list[KeyRow]] = {}
    for row in list_all(tx, org_id):
        if row.created_by is not None:
            made.setdefault(row.created_by, []).append(row)
    found: list[KeyRow] = []
    open_ids = [key_id]
    while open_ids:
        children = made.pop(open_ids.pop(), [])
        found += children
        open_ids += [child.id for child in children]
    return found


def note_use(tx: Tx, used: Mapping[str, int]) -> None:
    """Records when keys were last used, by id; never moves a time back."""
    tx.many(_USE, [{"of_id": key_id, "at": at} for key_id, at in used.items()])


def list_page(tx: Tx, org_id: str, *, limit: int, offset: int) -> list[KeyRow]:
    """Lists one page of the organisation's keys, newest first."""
    return [_row(found) for found in tx.all(_PAGE, org_id=org_id, limit=limit, offset=offset)]
