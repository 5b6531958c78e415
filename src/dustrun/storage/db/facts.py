"""Facts about what happened, in commit order: written with what they tell, and read by the triggers for own events.

Writers of a store take turns, so whoever has seen an id has seen all before it, however old the time of a later one.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import sqlalchemy as sa
from sqlalchemy import bindparam as b

from dustrun.storage.db.statement import Statement, Tx
from dustrun.storage.db.tables import facts as t

ENDED = ("final", "reverted", "cancelled", "displaced", "refused")
"""States of a transaction that are facts."""
Kind = Literal["transaction", "approval", "connector"]


class FactRow(NamedTuple):
    """One fact; `data` is JSON."""

    id: int
    subject_id: str
    what: str
    place: str
    at: int
    run_pk: int | None
    data: str | None


_ADD = Statement(
    sa.insert(t).values(
        {name: b(name) for name in ("org_id", "kind", "subject_id", "what", "place", "at", "run_pk", "data")}
    )
)
_COLUMNS = [t.c[name] for name in FactRow._fields]
_AFTER = Statement(
    sa.select(*_COLUMNS)
    .where(t.c.org_id == b("org_id"), t.c.kind == b("kind"), t.c.id > b("after", type_=sa.BigInteger))
    .order_by(t.c.id)
    .limit(b("count", type_=sa.Integer))
)
_NEWEST = Statement(sa.select(sa.func.coalesce(sa.func.max(t.c.id), 0)))
_LATEST = Statement(
    sa.select(*_COLUMNS)
    .where(t.c.org_id == b("org_id"), t.c.kind == b("kind"))
    .order_by(t.c.id.desc())
    .limit(b("count", type_=sa.Integer))
)
_newest = sa.select(sa.func.max(t.c.id)).scalar_subquery()
# ids must never be used again: they are cursors
_PRUNE = Statement(
    sa.delete(t).where(
        t.c.id.in_(sa.select(t.c.id).where(t.c.at < b("before"), t.c.id < _newest).order_by(t.c.id).limit(b("count")))
    )
)


def add(
    tx: Tx,
    org_id: str,
    kind: Kind,
    subject_id: str,
    what: str,
    at: int,
    *,
    place: str = "",
    run_pk: int | None = None,
    data: str | None = None,
) -> None:
    """Writes a fact, in the transaction of what it tells."""
    about = {"org_id": org_id, "kind": kind, "subject_id": subject_id, "what": what, "place": place}
    tx.do(_ADD, **about, at=at, run_pk=run_pk, data=data)


def list_after(tx: Tx, org_id: str, kind: Kind, after: int, count: int) -> list[FactRow]:
    """The facts of a kind after a cursor, oldest first."""
    return [FactRow(*row) for row in tx.all(_AFTER, org_id=org_id, kind=kind, after=after, count=count)]


def list_latest(tx: Tx, org_id: str, kind: Kind, count: int) -> list[FactRow]:
    """The newest facts of a kind, newest first."""
    return [FactRow(*row) for row in tx.all(_LATEST, org_id=org_id, kind=kind, count=count)]


def newest(tx: Tx) -> int:
    """The cursor of the newest fact."""
    row = tx.one(_NEWEST)
    assert row is not None
    return int(row[0])


def prune(tx: Tx, before: int, count: int) -> int:
    """Deletes up to `count` facts from before a time; returns how many."""
    return tx.run(_PRUNE, before=before, count=count)
