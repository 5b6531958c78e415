"""Rows of API requests: who called which route when; a ring that drops its oldest rows."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from dustrun.records import dataclass
from dustrun.storage.db.statement import Statement, Tx
from dustrun.storage.db.tables import api_keys as keys
from dustrun.storage.db.tables import key_requests as t


@dataclass(frozen=True, slots=True)
class RequestRow:
    """One request; `at` in milliseconds, `route` the template of its path. `service_account_id`: whose the key is."""

    org_id: str
    key_id: str
    at: int
    method: str
    route: str
    status: int
    request_id: str
    service_account_id: str | None = None


_NAMES = ("org_id", "key_id", "at", "method", "route", "status", "request_id")
_INSERT = Statement(sa.insert(t).values({name: sa.bindparam(name, type_=t.c[name].type) for name in _NAMES}))
_NEWEST = Statement(sa.select(sa.func.max(t.c.id)))
_KEEP_NEWEST = Statement(sa.delete(t).where(t.c.id <= sa.bindparam("upto", type_=sa.BigInteger)))
_FIRST_KEPT = Statement(sa.select(sa.func.min(t.c.id)).where(t.c.at >= sa.bindparam("before", type_=sa.BigInteger)))


Noted = tuple[str, str, int, str, str, int, str]
"""The values of a `RequestRow` as a plain tuple, which is cheaper to create for every request."""


def add(tx: Tx, requests: Sequence[Noted]) -> None:
    """Inserts rows."""
    tx.many(_INSERT, [dict(zip(_NAMES, request, strict=True)) for request in requests])


def keep_newest(tx: Tx, count: int) -> None:
    """Deletes all but about the newest `count` rows, counted by row number, which has few gaps."""
    row = tx.one(_NEWEST)
    if row and row[0]:
        tx.do(_KEEP_NEWEST, upto=row[0] - count)


def prune(tx: Tx, *, before_ms: int) -> int:
    """Deletes requests older than a time; returns the number of deleted rows."""
    first = tx.one(_FIRST_KEPT, before=before_ms)
    if first and first[0]:
        return tx.run(_KEEP_NEWEST, upto=first[0] - 1)
    newest = tx.one(_NEWEST)
    return tx.run(_KEEP_NEWEST, upto=newest[0]) if newest and newest[0] else 0


def list_page(
    tx: Tx, org_id: str, *, key_id: str | None, account_id: str | None, limit: int, offset: int
) -> list[tuple[int, RequestRow]]:
    """Lists one page of the organisation's requests with their numbers, newest first, optionally of one key or one
    service account."""
    query = sa.select(t.c.id, *(t.c[name] for name in _NAMES), keys.c.service_account_id)
    query = query.select_from(t.outerjoin(keys, keys.c.id == t.c.key_id)).where(t.c.org_id == org_id)
    if key_id is not None:
        query = query.where(t.c.key_id == key_id)
    if account_id is not None:
        query = query.where(keys.c.service_account_id == account_id)
    found = tx.all(Statement(query.order_by(t.c.id.desc()).limit(limit).offset(offset)))
    return [(row[0], RequestRow(*row[1:])) for row in found]
