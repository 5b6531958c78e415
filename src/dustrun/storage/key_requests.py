"""Rows of requests: who called which route when; a ring whose oldest rows make room for new ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import sqlalchemy as sa

from dustrun.storage.statement import Statement, Tx
from dustrun.storage.tables import key_requests as t


@dataclass(frozen=True, slots=True)
class RequestRow:
    """One request; `at` in milliseconds, `route` the template of its path."""

    org_id: str
    key_id: str
    at: int
    method: str
    route: str
    status: int
    request_id: str


_INSERT = Statement(
    sa.insert(t).values(
        {
            name: sa.bindparam(name, type_=t.c[name].type)
            for name in ("org_id", "key_id", "at", "method", "route", "status", "request_id")
        }
    )
)
_NEWEST = Statement(sa.select(sa.func.max(t.c.id)))
_KEEP_NEWEST = Statement(sa.delete(t).where(t.c.id <= sa.bindparam("upto", type_=sa.BigInteger)))
_FIRST_KEPT = Statement(sa.select(sa.func.min(t.c.id)).where(t.c.at >= sa.bindparam("before", type_=sa.BigInteger)))


def add(tx: Tx, requests: Sequence[RequestRow]) -> None:
    """Adds rows."""
    tx.many(_INSERT, [asdict(request) for request in requests])


def keep_newest(tx: Tx, count: int) -> None:
    """Deletes all but about the newest `count` rows: their numbers have few gaps."""
    row = tx.one(_NEWEST)
    if row and row[0]:
        tx.run(_KEEP_NEWEST, upto=row[0] - count)


def prune(tx: Tx, *, before_ms: int) -> int:
    """Deletes what was asked before an instant; returns how many rows went."""
    first = tx.one(_FIRST_KEPT, before=before_ms)
    if first and first[0]:
        return tx.run(_KEEP_NEWEST, upto=first[0] - 1)
    newest = tx.one(_NEWEST)
    return tx.run(_KEEP_NEWEST, upto=newest[0]) if newest and newest[0] else 0


def list_page(tx: Tx, org_id: str, *, key_id: str | None, limit: int, offset: int) -> list[tuple[int, RequestRow]]:
    """One page of the organisation's requests with their numbers, newest first, optionally those of one key."""
    query = sa.select(t.c.id, t.c.org_id, t.c.key_id, t.c.at, t.c.method, t.c.route, t.c.status, t.c.request_id)
    query = query.where(t.c.org_id == org_id)
    if key_id is not None:
        query = query.where(t.c.key_id == key_id)
    found = tx.all(Statement(query.order_by(t.c.id.desc()).limit(limit).offset(offset)))
    return [(row[0], RequestRow(*row[1:])) for row in found]
