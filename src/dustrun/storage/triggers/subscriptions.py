"""Rows of subscriptions: one per workflow, trigger node and type."""

from __future__ import annotations

from dataclasses import fields
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy import bindparam as b

from dustrun.records import dataclass
from dustrun.storage.db.statement import Statement, Tx
from dustrun.storage.db.trigger_tables import subscriptions as t

ARMED, PAUSED, ENDED, FAILED = "armed", "paused", "ended", "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionRow:
    """One subscription as stored; JSON as text, times in milliseconds."""

    pk: int = 0
    id: str
    org_id: str
    workflow_id: str
    version: int
    node_id: str
    type: str
    config: str
    state: str
    state_reason: str | None = None
    mode: str
    cursor: str | None = None
    cursor_version: int = 0
    next_at: int | None = None
    principal: str
    failures: int = 0
    last_error: str | None = None
    armed_at: int
    last_event_at: int | None = None
    created_at: int
    updated_at: int
    stalled_since: int | None = None


_NAMES = tuple(field.name for field in fields(SubscriptionRow))
_NEW = tuple(name for name in _NAMES if name != "pk")
_COLUMNS = [t.c[name] for name in _NAMES]
_INSERT = Statement(sa.insert(t).values({name: b(name) for name in _NEW}))
_FIND = Statement(sa.select(*_COLUMNS).where(t.c.id == b("id_")))
_GET = Statement(sa.select(*_COLUMNS).where(t.c.pk == b("the_pk")))
_FIND_TO_CHANGE = Statement(sa.select(*_COLUMNS).where(t.c.pk == b("the_pk")).with_for_update())
_LIST_OF = Statement(sa.select(*_COLUMNS).where(t.c.workflow_id == b("workflow_id")).order_by(t.c.pk))
_FIND_OF_NODE = Statement(
    sa.select(*_COLUMNS).where(
        t.c.workflow_id == b("workflow_id"), t.c.node_id == b("node_id"), t.c.type == b("the_type")
    )
)
_LIST_ARMED = Statement(
    sa.select(*_COLUMNS)
    # a literal, because SQLite uses a partial index only if it can see the condition's value
    .where(t.c.state == sa.literal_column("'armed'"), t.c.pk > b("after", type_=sa.BigInteger))
    .order_by(t.c.pk)
    .limit(b("count", type_=sa.Integer))
)
_LIST_FAILED = Statement(
    sa.select(*_COLUMNS)
    .where(t.c.state == sa.literal_column("'failed'"), t.c.pk > b("after", type_=sa.BigInteger))
    .order_by(t.c.pk)
    .limit(b("count", type_=sa.Integer))
)
_LIST_ARMED_AS = Statement(
    sa.select(*_COLUMNS).where(t.c.state == sa.literal_column("'armed'"), t.c.type == b("the_type")).order_by(t.c.pk)
)
_LIST_ARMED_OF = Statement(
    sa.select(*_COLUMNS)
    .where(t.c.state == sa.literal_column("'armed'"), t.c.type == b("the_type"), t.c.org_id == b("org_id"))
    .order_by(t.c.pk)
)
_PAUSE_ALL = Statement(
    sa.update(t)
    .where(t.c.workflow_id == b("of_workflow"), t.c.state == "armed")
    .values(state="paused", state_reason=b("reason"), stalled_since=sa.null(), updated_at=b("now", type_=sa.BigInteger))
)


def _row(found: tuple[Any, ...]) -> SubscriptionRow:
    return SubscriptionRow(**dict(zip(_NAMES, found, strict=True)))


def insert(tx: Tx, row: SubscriptionRow) -> None:
    """Inserts a subscription; its `pk` is given by the database."""
    tx.do(_INSERT, **{name: getattr(row, name) for name in _NEW})


def find(tx: Tx, subscription_id: str) -> SubscriptionRow | None:
    """Finds a subscription by its public id."""
    found = tx.one(_FIND, id_=subscription_id)
    return _row(found) if found else None


def find_to_change(tx: Tx, pk: int) -> SubscriptionRow | None:
    """Finds a subscription and, on PostgreSQL, locks its row; lock its workflow's row before."""
    found = tx.one(_FIND_TO_CHANGE, the_pk=pk)
    return _row(found) if found else None


def get(tx: Tx, pk: int) -> SubscriptionRow:
    """Reads a subscription that must exist."""
    found = tx.one(_GET, the_pk=pk)
    assert found is not None
    return _row(found)


def find_of_node(tx: Tx, workflow_id: str, node_id: str, type: str) -> SubscriptionRow | None:
    """Finds the subscription of a workflow's node."""
    found = tx.one(_FIND_OF_NODE, workflow_id=workflow_id, node_id=node_id, the_type=type)
    return _row(found) if found else None


def list_of(tx: Tx, workflow_id: str) -> list[SubscriptionRow]:
    """Lists a workflow's subscriptions of any state."""
    return [_row(found) for found in tx.all(_LIST_OF, workflow_id=workflow_id)]


def list_armed(tx: Tx, *, after: int, count: int) -> list[SubscriptionRow]:
    """Lists armed subscriptions of all organisations, by `pk`."""
    return [_row(found) for found in tx.all(_LIST_ARMED, after=after, count=count)]


def list_failed(tx: Tx, *, after: int, count: int) -> list[SubscriptionRow]:
    """Lists subscriptions of all organisations that something has stopped, by `pk`."""
    return [_row(found) for found in tx.all(_LIST_FAILED, after=after, count=count)]


def list_armed_as(tx: Tx, type: str) -> list[SubscriptionRow]:
    """Lists the armed subscriptions of one type, of all organisations."""
    return [_row(found) for found in tx.all(_LIST_ARMED_AS, the_type=type)]


def list_armed_of(tx: Tx, org_id: str, type: str) -> list[SubscriptionRow]:
    """Lists an organisation's armed subscriptions of one type."""
    return [_row(found) for found in tx.all(_LIST_ARMED_OF, org_id=org_id, the_type=type)]


@lru_cache(maxsize=64)
def _update(names: tuple[str, ...]) -> Statement:
    return Statement(sa.update(t).where(t.c.pk == b("of_pk")).values({name: b(name) for name in names}))


def update(tx: Tx, pk: int, **changes: Any) -> None:
    """Updates the given columns."""
    tx.do(_update(tuple(sorted(changes))), of_pk=pk, **changes)


def pause_all(tx: Tx, workflow_id: str, reason: str, now: int) -> None:
    """Pauses every armed subscription of a workflow."""
    tx.do(_PAUSE_ALL, of_workflow=workflow_id, reason=reason, now=now)
