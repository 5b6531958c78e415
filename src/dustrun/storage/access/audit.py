"""Rows of the audit log: who changed what and when."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields

import sqlalchemy as sa

from dustrun.core.audit_export import link_hash
from dustrun.records import dataclass
from dustrun.storage.db import store_facts
from dustrun.storage.db.statement import Row, Statement, Tx
from dustrun.storage.db.tables import api_keys, audit_keys
from dustrun.storage.db.tables import audit as t

# The hash chain of the audit log: a row that was changed, removed or inserted behind the server's back shows.
#
# Each row has the SHA-256 of the previous row's hash and its own content, in one chain for the whole store. The head,
# which is the number of rows and the newest hash, is a fact of the store, written in the transaction of the row, so
# that missing newest rows show as well. Who can write to the database can also build a whole new chain: then only a
# head that was noted elsewhere tells.


_PIECE = 1000
_PAGE = Statement(
    sa.select(t.c.id, t.c.hash, t.c.org_id, t.c.key_id, t.c.at, t.c.action, t.c.subject, t.c.detail)
    .where(t.c.id > sa.bindparam("after", type_=sa.BigInteger))
    .order_by(t.c.id)
    .limit(_PIECE)
)


@dataclass(frozen=True, slots=True)
class Head:
    """The end of the chain."""

    rows: int
    hash: str


@dataclass(frozen=True, slots=True)
class AuditCheck:
    """What the log says: its head as it should be, rows from before there was a chain, and what is wrong, or None."""

    head: Head
    unchained: int
    problem: str | None


def head_of(tx: Tx) -> Head:
    """The recorded head; zero rows for a new store."""
    found = store_facts.find(tx, store_facts.AUDIT_HEAD)
    if found is None:
        return Head(0, "")
    rows, _, newest = found.partition(" ")
    return Head(int(rows), newest)


def link(tx: Tx, content: Row) -> str:
    """Appends a row of this content to the chain, in the transaction that inserts it; returns its hash."""
    head = head_of(tx)
    newest = link_hash(head.hash, content)
    store_facts.put(tx, store_facts.AUDIT_HEAD, f"{head.rows + 1} {newest}")
    return newest


def verify(tx: Tx) -> AuditCheck:
    """Computes every hash again and compares the chain with the recorded head; a server may append meanwhile."""
    head, found, unchained = head_of(tx), Head(0, ""), 0
    at_head = found
    for row_id, stored, *content in _rows(tx):
        if not stored and not found.rows:
            unchained += 1
            continue
        expected = link_hash(found.hash, tuple(content))
        if stored != expected:
            problem = f"entry {row_id} was changed, or an entry before it was removed or inserted"
            return AuditCheck(head, unchained, problem)
        found = Head(found.rows + 1, expected)
        at_head = found if found.rows <= head.rows else at_head
    is_whole = at_head == head and found.rows <= head_of(tx).rows
    return AuditCheck(found, unchained, None if is_whole else _end(found, head))


def _end(found: Head, head: Head) -> str:
    return f"its end does not match the recorded one: {found.rows} chained entries, recorded {head.rows}"


def _rows(tx: Tx) -> Iterator[Row]:
    after = -1
    while rows := tx.all(_PAGE, after=after):
        yield from rows
        after = rows[-1][0]


_INSERT = Statement(
    sa.insert(t).values(
        org_id=sa.bindparam("org_id"),
        key_id=sa.bindparam("key_id"),
        at=sa.bindparam("at"),
        action=sa.bindparam("action"),
        subject=sa.bindparam("subject"),
        detail=sa.bindparam("detail"),
        hash=sa.bindparam("hash"),
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRow:
    """One audited change; `at` in milliseconds, `detail` JSON text. `person_id` and `service_account_id`: whose the
    key is now."""

    id: int
    org_id: str
    key_id: str
    at: int
    action: str
    subject: str
    detail: str
    person_id: str | None = None
    service_account_id: str | None = None


def insert(tx: Tx, *, org_id: str, key_id: str, at_ms: int, action: str, subject: str, detail: str) -> None:
    """Inserts an audit row at the end of the chain."""
    linked = link(tx, (org_id, key_id, at_ms, action, subject, detail))
    tx.do(_INSERT, org_id=org_id, key_id=key_id, at=at_ms, action=action, subject=subject, detail=detail, hash=linked)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditFilters:
    """Filters of the log; None: any. `keys`: made with one of these; `action`: this one, or all of a noun; `since` and
    `until` in milliseconds, from and before."""

    keys: tuple[str, ...] | None = None
    action: str | None = None
    subject: str | None = None
    since: int | None = None
    until: int | None = None

    def where(self) -> Iterator[sa.ColumnElement[bool]]:
        """The filters as conditions that have an index each."""
        if self.keys is not None:
            yield t.c.key_id.in_(self.keys)
        if self.action is not None:
            noun = (t.c.action >= f"{self.action}.") & (t.c.action < f"{self.action}/")  # the character after the dot
            yield t.c.action == self.action if "." in self.action else noun
        if self.subject is not None:
            yield t.c.subject == self.subject
        if self.since is not None:
            yield t.c.at >= self.since
        if self.until is not None:
            yield t.c.at < self.until


def list_page(tx: Tx, org_id: str, filters: AuditFilters, *, limit: int, offset: int) -> list[AuditRow]:
    """Lists one page of the organisation's changes, newest first."""
    own = [t.c[name] for name in ("id", "org_id", "key_id", "at", "action", "subject", "detail")]
    columns = (*own, api_keys.c.person_id, api_keys.c.service_account_id)
    query = sa.select(*columns).select_from(t.outerjoin(api_keys, api_keys.c.id == t.c.key_id))
    query = query.where(t.c.org_id == org_id, *filters.where())
    has_times = filters.since is not None or filters.until is not None
    # by its time a far past is found at once; else the order is that of the chain, whatever the clock did
    order = (t.c.at.desc(), t.c.id.desc()) if has_times else (t.c.id.desc(),)
    found = tx.all(Statement(query.order_by(*order).limit(limit).offset(offset)))
    return [AuditRow(**dict(zip((one.name for one in columns), row, strict=True))) for row in found]


# What an export takes from the chain, and the keys that sign it. Every part of an export is read by the ids of the
# whole store, so that it costs the same however many organisations there are.

MOST_EXPORTED = 1000
_PERSON = sa.select(api_keys.c.person_id).where(api_keys.c.id == t.c.key_id).scalar_subquery()
_CHAINED = Statement(
    sa.select(t.c.id, t.c.org_id, t.c.key_id, t.c.at, t.c.action, t.c.subject, t.c.detail, _PERSON, t.c.hash)
    .where(t.c.id > sa.bindparam("after", type_=sa.BigInteger))
    .order_by(t.c.id)
    .limit(sa.bindparam("limit", type_=sa.Integer))
)
_HASH_AT = Statement(
    sa.select(t.c.hash).where(t.c.id <= sa.bindparam("after", type_=sa.BigInteger)).order_by(t.c.id.desc()).limit(1)
)


@dataclass(frozen=True, slots=True)
class ChainedRow:
    """One audited change of any organisation, and its hash."""

    row: AuditRow
    hash: str


def list_chained(tx: Tx, *, after: int, limit: int) -> tuple[str, list[ChainedRow]]:
    """Lists changes of all organisations after an id, oldest first, and the hash that was the newest up to that id."""
    before = tx.one(_HASH_AT, after=after)
    names = ("id", "org_id", "key_id", "at", "action", "subject", "detail", "person_id")
    found = tx.all(_CHAINED, after=after, limit=limit)
    rows = [ChainedRow(AuditRow(**dict(zip(names, row[:-1], strict=True))), row[-1]) for row in found]
    return (before[0] if before else ""), rows


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditKeyRow:
    """A key that signs exports; `public_key` in Base64, `sealed` the private one."""

    id: str
    org_id: str
    public_key: str
    sealed: str
    created_at: int


_KEY_NAMES = tuple(field.name for field in fields(AuditKeyRow))
_ADD_KEY = Statement(sa.insert(audit_keys))
_KEYS = Statement(
    sa.select(*(audit_keys.c[name] for name in _KEY_NAMES)).order_by(
        audit_keys.c.created_at.desc(), audit_keys.c.id.desc()
    )
)


def insert_key(tx: Tx, row: AuditKeyRow) -> None:
    """Inserts a key that signs from now on."""
    tx.do(_ADD_KEY, **{name: getattr(row, name) for name in _KEY_NAMES})


def list_keys(tx: Tx) -> list[AuditKeyRow]:
    """Lists the keys that sign or have signed, the newest first; they are the installation's."""
    return [AuditKeyRow(**dict(zip(_KEY_NAMES, row, strict=True))) for row in tx.all(_KEYS)]
