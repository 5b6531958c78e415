"""Figures of runs over time: which workflows are busy, how many runs end well, and what they fail with."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from dustrun.core.values.exact_json import loads
from dustrun.records import dataclass
from dustrun.services.access.principal import Principal
from dustrun.storage.db.database import Database
from dustrun.storage.runs import run_metrics as rows
from dustrun.storage.runs.run_lists import RunFilters
from dustrun.storage.runs.run_metrics import FailedRun, Slots

MOST_FAILED = 2000
"""Failed runs whose errors are compared."""


@dataclass(frozen=True, slots=True)
class Slot:
    """The runs that started in a span of time and have ended, by status."""

    begin: int
    counts: dict[str, int]


@dataclass(slots=True)
class RunError:
    """An error that runs failed with; the run is the newest of them."""

    error: str
    code: str | None
    run_id: str
    workflow_id: str | None
    last_at: int
    count: int = 1


@dataclass(frozen=True, slots=True)
class RunErrors:
    """Errors, the most frequent first. `is_partial`: more runs failed than were looked at."""

    items: Sequence[RunError]
    failed: int
    is_partial: bool


async def busiest(
    database: Database, principal: Principal, filters: RunFilters, limit: int
) -> list[tuple[str, dict[str, int]]]:
    """The workflows with most runs of the filters, and their runs by status."""
    counts = await database.read(lambda tx: rows.count_by_workflow(tx, principal.org_id, filters))
    found: dict[str, dict[str, int]] = {}
    for (workflow_id, status), total in counts.items():
        found.setdefault(workflow_id, {})[status] = total
    return sorted(found.items(), key=lambda one: (-sum(one[1].values()), one[0]))[:limit]


async def series(database: Database, principal: Principal, filters: RunFilters, slots: Slots) -> list[Slot]:
    """The ended runs of the filters in each span of time, also where there are none."""
    counts = await database.read(lambda tx: rows.count_by_slot(tx, principal.org_id, filters, slots))
    found: list[dict[str, int]] = [{} for _ in range(slots.count)]
    for (number, status), total in counts.items():
        found[number][status] = total
    return [Slot(slots.begin + number * slots.width, one) for number, one in enumerate(found)]


async def top_errors(database: Database, principal: Principal, filters: RunFilters, limit: int) -> RunErrors:
    """What the newest failed runs of the filters failed with."""
    found = await database.read(lambda tx: rows.list_failed(tx, principal.org_id, filters, MOST_FAILED + 1))
    looked_at = found[:MOST_FAILED]
    items = await asyncio.to_thread(_grouped, looked_at)
    return RunErrors(items[:limit], len(looked_at), len(found) > MOST_FAILED)


def _grouped(found: Sequence[FailedRun]) -> list[RunError]:
    by_text: dict[tuple[str, str | None], RunError] = {}
    for run in found:
        error = loads(run.error) if run.error else {}
        text, code = str(error.get("message") or ""), error.get("code")
        known = by_text.get((text, code))
        if known is None:
            by_text[text, code] = RunError(text, code, run.id, run.workflow_id, run.finished_at)
        else:
            known.count, known.last_at = known.count + 1, max(known.last_at, run.finished_at)
    return sorted(by_text.values(), key=lambda one: (-one.count, -one.last_at, one.error))
