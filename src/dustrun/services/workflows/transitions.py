"""State transitions of a workflow: what each operation changes in its row, or why it is refused. No I/O."""

from __future__ import annotations

import hashlib
from typing import Any, Final

from dustrun.core.values import exact_json
from dustrun.errors import Code, Conflict, NotFound, Problem
from dustrun.records import dataclass
from dustrun.storage.workflows.workflows import WorkflowRow

DRAFT, ACTIVE, PAUSED, ARCHIVED = "draft", "active", "paused", "archived"
EXHAUSTED = "max_runs_exhausted"

Changes = dict[str, Any]

AUTOSAVE_PAUSE_MS: Final = 10 * 60_000
"""An autosave after a longer pause keeps the version before it."""
AUTOSAVE_SPAN_MS: Final = 30 * 60_000
"""However busy an editor is, its history has a version for each such span."""


@dataclass(frozen=True, slots=True)
class Autosave:
    """A save that an editor makes by itself: whose, of which editing session, and when."""

    key: str
    session: str
    at: int


def decide_pause(row: WorkflowRow) -> Changes:
    """Pauses an active workflow: its triggers stop."""
    _need_status(row, ACTIVE, "paused")
    return {"status": PAUSED, "paused_reason": None}


def decide_resume(row: WorkflowRow) -> Changes:
    """Resumes a paused workflow: its triggers start again, unless it has no runs left."""
    _need_status(row, PAUSED, "resumed")
    if row.remain_runs == 0:
        raise Conflict("The workflow has no runs left; refill it instead.")
    return {"status": ACTIVE, "paused_reason": None}


def decide_discard(row: WorkflowRow) -> Changes:
    """Discards the draft and keeps the live version."""
    need_not_archived(row)
    if row.draft_version is None:
        raise NotFound("The workflow has no draft version.", code=Code.DRAFT_UNKNOWN)
    if row.live_version is None:
        raise Conflict("The draft is the workflow's only version.", code=Code.NO_LIVE_VERSION)
    return {"draft_version": None}


def decide_archive(row: WorkflowRow) -> Changes:
    """Archives a workflow: no version is live; unarchiving restores the current one as a draft. Idempotent."""
    if row.status == ARCHIVED:
        return {}
    return {
        "status": ARCHIVED,
        "paused_reason": None,
        "draft_version": row.current_version,
        "live_version": None,
    }


def decide_unarchive(row: WorkflowRow) -> Changes:
    """Unarchives a workflow: the kept version becomes a draft."""
    _need_status(row, ARCHIVED, "unarchived")
    return {"status": DRAFT}


def decide_refill(row: WorkflowRow, remain_runs: int) -> Changes:
    """Sets the counter of remaining runs; resumes a workflow that was paused because it had none left."""
    need_not_archived(row)
    if row.max_runs is None:
        raise Conflict("The workflow has no `maxRuns`, so there is nothing to refill.")
    changes: Changes = {"remain_runs": remain_runs}
    if row.status == PAUSED and row.paused_reason == EXHAUSTED:
        changes |= {"status": ACTIVE, "paused_reason": None}
    return changes


def decide_max_runs(row: WorkflowRow, max_runs: int | None) -> Changes:
    """Changes `maxRuns` and moves the counter of remaining runs by the same amount, not below zero."""
    if max_runs is None:
        return {"max_runs": None, "remain_runs": None}
    if row.max_runs is None or row.remain_runs is None:
        return {"max_runs": max_runs, "remain_runs": max_runs}
    return {"max_runs": max_runs, "remain_runs": max(0, row.remain_runs + max_runs - row.max_runs)}


def decide_draft(row: WorkflowRow, autosave: Autosave | None) -> tuple[Changes, int | None]:
    """The next version becomes the draft. Also the version that it replaces: the draft that the same session saved
    before, unless something has used it meanwhile, or it is to stay in the history."""
    number = row.latest_version + 1
    mark, replaced = None, None
    if autosave is not None:
        mark = {"key": autosave.key, "session": autosave.session, "since": autosave.at}
        known = exact_json.loads(row.autosave) if row.autosave is not None else {}
        if _continues(row, known, autosave):
            replaced, mark["since"] = row.draft_version, known["since"]
        mark |= {"version": number, "at": autosave.at}
    text = exact_json.dumps_text(mark) if mark is not None else None
    return {"latest_version": number, "draft_version": number, "autosave": text}, replaced


def _continues(row: WorkflowRow, known: dict[str, Any], autosave: Autosave) -> bool:
    return (
        row.draft_version is not None
        and row.draft_version != row.live_version
        and known.get("version") == row.draft_version
        and (known["key"], known["session"]) == (autosave.key, autosave.session)
        and 0 <= autosave.at - known["at"] <= AUTOSAVE_PAUSE_MS
        and 0 <= autosave.at - known["since"] <= AUTOSAVE_SPAN_MS
    )


def _need_status(row: WorkflowRow, status: str, done: str) -> None:
    if row.status != status:
        raise Conflict(f'A workflow in status "{row.status}" cannot be {done}; it must be "{status}".')


def need_not_archived(row: WorkflowRow) -> None:
    """Raises `Conflict` if the workflow is archived."""
    if row.status == ARCHIVED:
        raise Conflict("The workflow is archived; unarchive it first.")


def need_version(row: WorkflowRow, expected: int | None, actual: int | None, field: str) -> None:
    """Raises `Conflict` if the caller expects a version other than the actual one."""
    if expected is not None and expected != actual:
        problem = Problem(field, f"the workflow is at version {actual}")
        raise Conflict(
            f"The workflow is at version {actual}, not {expected}.", code=Code.VERSION_MOVED, details=[problem]
        )


def layout_revision(row: WorkflowRow) -> str:
    """Names the editor's layout as it is stored; another layout has another name. Its saves raise no version."""
    return hashlib.sha256((row.ui_metadata or "").encode()).hexdigest()[:16]


def need_layout(row: WorkflowRow, expected: str | None) -> None:
    """Raises `Conflict` if the caller knows another layout than the stored one."""
    if expected is not None and expected != (actual := layout_revision(row)):
        problem = Problem("expectedUiRevision", f"the layout has revision {actual}; read it, and merge yours into it")
        message = f"The layout has revision {actual}, not {expected}."
        raise Conflict(message, code=Code.VERSION_MOVED, details=[problem])


def draft_to_publish(row: WorkflowRow, expected: int | None) -> int:
    """The draft's version number; raises `Conflict` if there is no draft or it is not the expected one."""
    need_not_archived(row)
    if row.draft_version is None:
        need_version(row, expected, row.live_version, "expectedVersion")
        raise Conflict("The workflow has no draft to publish.")
    need_version(row, expected, row.draft_version, "expectedVersion")
    return row.draft_version


def changed(row: WorkflowRow, changes: Changes) -> Changes:
    """The subset of changes that differ from the row's current values."""
    return {name: value for name, value in changes.items() if getattr(row, name) != value}
