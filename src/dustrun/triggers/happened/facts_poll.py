"""Looks for facts: those that the cursor has not seen, each once, however late its commit was."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from pydantic import Field

from dustrun.core.triggers.limits import MAX_DEPTH
from dustrun.sdk.trigger import Fact, NoRun, Polled, PolledEvent, TriggerConfig
from dustrun.triggers.workflow_finished import WorkflowId

OVERLAP_MS: Final = 60_000
"""A fact is dated before it is committed: this much earlier ones are read again."""
_LONGEST_IDLE_MS: Final = 3_600_000
_MOST: Final = 50


class HappenedConfig(TriggerConfig):
    """What every trigger for what happens in the server can be told."""

    poll_ms: int = Field(5000, ge=1000, le=3_600_000, strict=True, description="Milliseconds between two looks.")
    workflow_ids: tuple[WorkflowId, ...] | None = Field(
        None,
        min_length=1,
        max_length=50,
        description="Only those of these workflows; null: of all.",
        json_schema_extra={"x-widget": "workflow"},
    )

    def takes(self, workflow_id: Any) -> bool:
        """Whether what happens to a workflow counts."""
        return self.workflow_ids is None or workflow_id in self.workflow_ids


def begin(now: int) -> dict[str, Any]:
    """The cursor of a trigger that is armed now."""
    return {"since": now, "seen": [], "from": now}


def since_of(cursor: Any, now: int) -> int:
    """From when on a look reads."""
    return (now if cursor is None else int(cursor["since"])) - OVERLAP_MS


def news_of(facts: Sequence[Fact], cursor: Any, now: int, own: str | None, wanted: Iterable[str]) -> Polled:
    """The events of facts that were not seen; the first look only takes note of what is there. `own`: the workflow that
    is told; of what it led to itself nothing starts a run."""
    ordered = sorted(facts, key=lambda one: (one.at, one.key))
    if cursor is None:
        return Polled((), _cursor(now, ordered))
    seen, kinds, first = set(cursor["seen"]), set(wanted), cursor.get("from", 0)
    fresh = [one for one in ordered if one.key not in seen and one.at >= first]
    taken = fresh[:_MOST]
    if not taken and now - int(cursor["since"]) < _LONGEST_IDLE_MS:
        return Polled((), cursor)
    left = {one.key for one in fresh[_MOST:]}
    read = [one for one in ordered if one.key not in left]
    since = taken[-1].at if left else now
    events = [_event(one, own) for one in taken if one.what in kinds]
    after = _cursor(min(since, now), read)
    if first > after["since"] - OVERLAP_MS:
        after["from"] = first
    return Polled(events, after, after_ms=0 if left else None)


def _cursor(since: int, read: Sequence[Fact]) -> dict[str, Any]:
    return {"since": since, "seen": [one.key for one in read if one.at >= since - OVERLAP_MS]}


def _event(fact: Fact, own: str | None) -> PolledEvent:
    no_run = None
    if fact.depth >= MAX_DEPTH:
        no_run = NoRun("depth", f"More than {MAX_DEPTH} runs in a row were started by what the one before did.")
    elif own is not None and own in fact.through:
        no_run = NoRun("circle", "This workflow has led to what happened.")
    payload = {**fact.data, "depth": fact.depth + 1, "through": list(fact.through)}
    return PolledEvent(fact.key, payload, fact.at, no_run=no_run)
