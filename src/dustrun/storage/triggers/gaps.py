"""Rows of gaps: ranges that a subscription did not scan."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import sqlalchemy as sa
from sqlalchemy import bindparam as b

from dustrun.records import dataclass
from dustrun.storage.db.statement import Statement, Tx
from dustrun.storage.db.trigger_tables import trigger_gaps as t

OPEN, REPLAYING, REPLAYED = "open", "replaying", "replayed"
LOST = "lost"
"""Of a source that cannot show it any more: nobody can replay it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GapRow:
    """One gap as stored; `range` is JSON, times in milliseconds."""

    pk: int = 0
    id: str
    org_id: str
    workflow_id: str
    subscription_pk: int
    range: str
    reason: str
    state: str
    created_at: int
    replayed_at: int | None = None


_NAMES = tuple(field.name for field in fields(GapRow))
_NEW = tuple(name for name in _NAMES if name != "pk")
_COLUMNS = [t.c[name] for name in _NAMES]
_INSERT = Statement(sa.insert(t).values({name: b(name) for name in _NEW}))
_FIND = Statement(sa.select(*_COLUMNS).where(t.c.org_id == b("org_id"), t.c.id == b("id_")))
_LIST = Statement(
    sa.select(*_COLUMNS)
    .where(t.c.workflow_id == b("workflow_id"))
    .order_by(t.c.pk.desc())
    .limit(b("count", type_=sa.Integer))
    .offset(b("skip", type_=sa.Integer))
)
_LIST_REPLAYING = Statement(
    sa.select(*_COLUMNS).where(t.c.subscription_pk == b("subscription_pk"), t.c.state == "replaying").order_by(t.c.pk)
)
_SET_STATE = Statement(
    sa.update(t)
    .where(t.c.pk == b("the_pk"), t.c.state == b("was"))
    .values(state=b("becomes"), replayed_at=b("at", type_=sa.BigInteger))
)


def _row(found: tuple[Any, ...]) -> GapRow:
    return GapRow(**dict(zip(_NAMES, found, strict=True)))


def insert(tx: Tx, row: GapRow) -> None:
    """Inserts a gap."""
    tx.do(_INSERT, **{name: getattr(row, name) for name in _NEW})


def find(tx: Tx, org_id: str, gap_id: str) -> GapRow | None:
    """Finds a gap by its public id."""
    found = tx.one(_FIND, org_id=org_id, id_=gap_id)
    return _row(found) if found else None


def list_page(tx: Tx, workflow_id: str, *, limit: int, offset: int) -> list[GapRow]:
    """Lists a workflow's gaps, newest first."""
    return [_row(found) for found in tx.all(_LIST, workflow_id=workflow_id, count=limit, skip=offset)]


def list_replaying(tx: Tx, subscription_pk: int) -> list[GapRow]:
    """Lists the gaps that a subscription is asked to scan after all."""
    return [_row(found) for found in tx.all(_LIST_REPLAYING, subscription_pk=subscription_pk)]


def set_state(tx: Tx, pk: int, *, was: str, becomes: str, at: int | None = None) -> bool:
    """Changes a gap's state; False if it was in another one."""
    return tx.run(_SET_STATE, the_pk=pk, was=was, becomes=becomes, at=at) == 1
