"""What a change makes of a workflow's row, or why not: decisions without any I/O."""

from __future__ import annotations

from typing import Any

from dustrun.errors import Code, Conflict, NotFound, Problem
from dustrun.storage.workflows.workflows import WorkflowRow

DRAFT, ACTIVE, PAUSED, ARCHIVED = "draft", "active", "paused", "archived"
EXHAUSTED = "max_runs_exhausted"

Changes = dict[str, Any]


def decide_pause(row: WorkflowRow) -> Changes:
    """An active workflow stops taking triggers."""
    _need_status(row, ACTIVE, "paused")
    return {"status": PAUSED, "paused_reason": None}


def decide_resume(row: WorkflowRow) -> Changes:
    """A paused workflow takes triggers again, unless it has no runs left."""
    _need_status(row, PAUSED, "resumed")
    if row.remain_runs == 0:
        raise Conflict("The workflow has no runs left; refill it instead.")
    return {"status": ACTIVE, "paused_reason": None}


def decide_discard(row: WorkflowRow) -> Changes:
    """The draft goes, the live version stays."""
    need_not_archived(row)
    if row.draft_version is None:
        raise NotFound("The workflow has no draft version.", code=Code.DRAFT_UNKNOWN)
    if row.live_version is None:
        raise Conflict("The draft is the workflow's only version.", code=Code.NO_LIVE_VERSION)
    return {"draft_version": None}


def decide_archive(row: WorkflowRow) -> Changes:
    """Nothing is live any more; the current version is kept to come back as a draft. Archiving twice is no change."""
    if row.status == ARCHIVED:
        return {}
    return {
        "status": ARCHIVED,
        "paused_reason": None,
        "draft_version": row.current_version,
        "live_version": None,
    }


def decide_unarchive(row: WorkflowRow) -> Changes:
    """The kept version is a draft again."""
    _need_status(row, ARCHIVED, "unarchived")
    return {"status": DRAFT}


def decide_refill(row: WorkflowRow, remain_runs: int) -> Changes:
    """The counter is set; what was paused for want of runs goes on."""
    need_not_archived(row)
    if row.max_runs is None:
        raise Conflict("The workflow has no `maxRuns`, so there is nothing to refill.")
    changes: Changes = {"remain_runs": remain_runs}
    if row.status == PAUSED and row.paused_reason == EXHAUSTED:
        changes |= {"status": ACTIVE, "paused_reason": None}
    return changes


def decide_max_runs(row: WorkflowRow, max_runs: int | None) -> Changes:
    """A new cap moves the counter by as much as the cap moves, never below zero."""
    if max_runs is None:
        return {"max_runs": None, "remain_runs": None}
    if row.max_runs is None or row.remain_runs is None:
        return {"max_runs": max_runs, "remain_runs": max_runs}
    return {"max_runs": max_runs, "remain_runs": max(0, row.remain_runs + max_runs - row.max_runs)}


def _need_status(row: WorkflowRow, status: str, done: str) -> None:
    if row.status != status:
        raise Conflict(f'A workflow in status "{row.status}" cannot be {done}; it must be "{status}".')


def need_not_archived(row: WorkflowRow) -> None:
    """Raises `Conflict` for an archived workflow."""
    if row.status == ARCHIVED:
        raise Conflict("The workflow is archived; unarchive it first.")


def need_version(row: WorkflowRow, expected: int | None, actual: int | None, field: str) -> None:
    """Raises `Conflict` unless the caller expects what is there, or expects nothing."""
    if expected is not None and expected != actual:
        problem = Problem(field, f"the workflow is at version {actual}")
        raise Conflict(
            f"The workflow is at version {actual}, not {expected}.", code=Code.VERSION_MOVED, details=[problem]
        )


def draft_to_publish(row: WorkflowRow, expected: int | None) -> int:
    """The number of the draft; raises `Conflict` when there is none, or another one than expected."""
    need_not_archived(row)
    if row.draft_version is None:
        need_version(row, expected, row.live_version, "expectedVersion")
        raise Conflict("The workflow has no draft to publish.")
    need_version(row, expected, row.draft_version, "expectedVersion")
    return row.draft_version


def changed(row: WorkflowRow, changes: Changes) -> Changes:
    """The changes that differ from what is there."""
    return {name: value for name, value in changes.items() if getattr(row, name) != value}
