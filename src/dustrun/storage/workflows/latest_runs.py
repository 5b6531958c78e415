"""The newest run of each workflow of a list, and the newest passed ones of its current version."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa

from dustrun.core.run.state import Mode, RunStatus
from dustrun.records import dataclass
from dustrun.storage.db.statement import Statement, Tx
from dustrun.storage.db.tables import org_of_found, runs
from dustrun.storage.db.tables import workflows as t

_MODES = tuple(mode.value for mode in Mode)
_SHOWN_VERSION = sa.func.coalesce(t.c.draft_version, t.c.live_version, t.c.latest_version)


@dataclass(frozen=True, slots=True)
class LastRun:
    """The newest run of a workflow, in any mode and of any version."""

    id: str
    status: str
    mode: str
    version: int | None
    started_at: int
    finished_at: int | None


@dataclass(slots=True)
class Latest:
    """What a list shows of a workflow's runs, as far as it was asked for. `ladder`: the newest passed run of the
    current version, by mode."""

    has_last_run: bool
    """Whether the last run was asked for; there may be none."""
    ladder: dict[str, str] | None
    last_run: LastRun | None = None


def _newest(*where: sa.ColumnElement[bool]) -> sa.ScalarSelect[Any]:
    query = sa.select(runs.c.pk).where(runs.c.workflow_id == t.c.id, *where)
    return query.order_by(runs.c.pk.desc()).limit(1).correlate(t).scalar_subquery()


def _passed(mode: str) -> sa.ScalarSelect[Any]:
    return _newest(
        runs.c.version == _SHOWN_VERSION,
        runs.c.status == RunStatus.SUCCESS.value,
        runs.c.mode == mode,
        runs.c.passed == sa.literal_column("1"),
        runs.c.finished_at.is_not(None),  # as the index says
    )


def list_latest(tx: Tx, workflow_ids: Sequence[str], *, last_run: bool, ladder: bool) -> dict[str, Latest]:
    """Reads what is asked for of all of these workflows in one statement."""
    found = {workflow_id: Latest(last_run, {} if ladder else None) for workflow_id in workflow_ids}
    _gather(found, tx.all(statement_for(workflow_ids, last_run=last_run, ladder=ladder)))
    return found


def statement_for(workflow_ids: Sequence[str], *, last_run: bool, ladder: bool) -> Statement:
    """Finds each run by an index, and then reads it."""
    # runs about to be deleted belong to no organisation
    wanted = {"last": _newest(org_of_found == t.c.org_id)} if last_run else {}
    wanted |= {mode: _passed(mode) for mode in _MODES} if ladder else {}
    columns = [query.label(name) for name, query in wanted.items()]
    newest = sa.select(t.c.id.label("workflow_id"), *columns).where(t.c.id.in_(workflow_ids)).subquery("newest")
    pks = {name: newest.c[name] for name in wanted}
    is_last = runs.c.pk == pks["last"] if last_run else sa.false()
    is_passed = runs.c.pk.in_([pk for name, pk in pks.items() if name != "last"])
    shown = (runs.c.id, runs.c.status, runs.c.mode, runs.c.version, runs.c.started_at, runs.c.finished_at)
    query = sa.select(newest.c.workflow_id, is_last, is_passed, *shown)
    return Statement(query.select_from(newest.join(runs, runs.c.pk.in_(list(pks.values())))))


def _gather(found: dict[str, Latest], rows: Iterable[tuple[Any, ...]]) -> None:
    for workflow_id, is_last, is_passed, *shown in rows:
        run = LastRun(*shown)
        if is_last:
            found[workflow_id].last_run = run
        ladder = found[workflow_id].ladder
        if is_passed and ladder is not None:
            ladder[run.mode] = run.id
