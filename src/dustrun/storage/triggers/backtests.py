"""Rows of back-tests: what was asked, the events that were found, and what became of each."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import sqlalchemy as sa
from sqlalchemy import bindparam as b

from dustrun.records import dataclass
from dustrun.storage.db.statement import Statement, Tx
from dustrun.storage.db.trigger_tables import backtests as t

RUNNING, DONE, FAILED = "running", "done", "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class BacktestRow:
    """One back-test; JSON as text, times in milliseconds."""

    id: str
    org_id: str
    workflow_id: str
    version: int
    node_id: str
    type: str
    key_id: str
    asked: str
    status: str
    events: str
    is_cut: int
    report: str | None = None
    error: str | None = None
    created_at: int
    finished_at: int | None = None


_NAMES = tuple(field.name for field in fields(BacktestRow))
_COLUMNS = [t.c[name] for name in _NAMES]
_INSERT = Statement(sa.insert(t))
_FIND = Statement(sa.select(*_COLUMNS).where(t.c.org_id == b("org_id"), t.c.id == b("id_")))
_LIST_OF = Statement(
    sa.select(*_COLUMNS)
    .where(t.c.org_id == b("org_id"), t.c.workflow_id == b("workflow_id"))
    .order_by(t.c.id.desc())
    .limit(b("count", type_=sa.Integer))
    .offset(b("offset", type_=sa.Integer))
)
_LIST_RUNNING = Statement(sa.select(*_COLUMNS).where(t.c.status == RUNNING).order_by(t.c.id))
_COUNT_RUNNING = Statement(
    sa.select(sa.func.count()).select_from(t).where(t.c.org_id == b("org_id"), t.c.status == RUNNING)
)
_FINISH = Statement(
    sa.update(t)
    .where(t.c.id == b("id_"), t.c.status == RUNNING)
    .values(
        status=b("new_status"), report=b("new_report"), error=b("new_error"), finished_at=b("now", type_=sa.BigInteger)
    )
)


def _row(found: tuple[Any, ...]) -> BacktestRow:
    return BacktestRow(**dict(zip(_NAMES, found, strict=True)))


def insert(tx: Tx, row: BacktestRow) -> None:
    """Inserts a back-test."""
    tx.do(_INSERT, **{name: getattr(row, name) for name in _NAMES})


def find(tx: Tx, org_id: str, backtest_id: str) -> BacktestRow | None:
    """Finds a back-test of the organisation."""
    found = tx.one(_FIND, org_id=org_id, id_=backtest_id)
    return _row(found) if found else None


def list_of(tx: Tx, org_id: str, workflow_id: str, *, limit: int, offset: int) -> list[BacktestRow]:
    """Lists a workflow's back-tests, newest first."""
    found = tx.all(_LIST_OF, org_id=org_id, workflow_id=workflow_id, count=limit, offset=offset)
    return [_row(one) for one in found]


def list_running(tx: Tx) -> list[BacktestRow]:
    """Lists the back-tests of all organisations that have not ended."""
    return [_row(one) for one in tx.all(_LIST_RUNNING)]


def count_running(tx: Tx, org_id: str) -> int:
    """Counts an organisation's back-tests that have not ended."""
    found = tx.one(_COUNT_RUNNING, org_id=org_id)
    return int(found[0]) if found is not None else 0


def finish(tx: Tx, backtest_id: str, *, status: str, report: str | None, error: str | None, now: int) -> None:
    """Ends a back-test."""
    tx.do(_FINISH, id_=backtest_id, new_status=status, new_report=report, new_error=error, now=now)
