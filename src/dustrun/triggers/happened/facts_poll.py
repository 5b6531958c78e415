"""Looks for facts: those after the number in the cursor, each once, however late its commit was."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from pydantic import Field

from dustrun.core.triggers.limits import MAX_DEPTH
from dustrun.sdk.trigger import Fact, FactKind, NoRun, Polled, PolledEvent, TriggerConfig, TriggerContext
from dustrun.triggers.workflow_finished import WorkflowId

_OVERLAP_MS: Final = 60_000
"""How much earlier facts a look by time read again, as long as facts had no numbers."""
_MONTH_MS: Final = 30 * 86_400_000
_MOST: Final = 50


class LookConfig(TriggerConfig):
    """How often a trigger looks for what happens in the server."""

    poll_ms: int = Field(5000, ge=1000, le=3_600_000, strict=True, description="Milliseconds between two looks.")


class HappenedConfig(LookConfig):
    """Settings of every trigger for the events of workflows."""

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


def begin(newest: int, now: int) -> dict[str, Any]:
    """The cursor of a trigger that is armed now: `after`, the newest fact; what is stuck counts `from` now on."""
    return {"after": newest, "from": now}


async def news(
    ctx: TriggerContext, kind: FactKind, cursor: Any, counts: Callable[[Fact], bool], stuck: Sequence[Fact] = ()
) -> Polled:
    """The events of the facts after the cursor that count. `stuck`: what lasts is told once, until it is over."""
    now, own = ctx.now_ms, ctx.facts.workflow_id
    if cursor is None:
        return Polled((), begin(await ctx.facts.newest(), now))
    if "since" in cursor:
        return await _by_time(ctx, kind, cursor, counts)
    found, after, has_more = await ctx.facts.happened(kind, cursor["after"])
    events = [_event(one, own, {**cursor, "after": one.number}) for one in found if counts(one)]
    known = set(cursor.get("stuck", ()))
    begun = [one for one in stuck if one.key not in known and one.at >= cursor["from"] and counts(one)]
    cursor = {**cursor, "after": after}
    events += [_event(one, own, cursor) for one in begun[:_MOST]]  # the same again starts no second run
    lasting = (known & {one.key for one in stuck}) | {one.key for one in begun[:_MOST]}
    cursor = {**{name: cursor[name] for name in ("after", "from")}, **({"stuck": sorted(lasting)} if lasting else {})}
    return Polled(events, cursor, after_ms=0 if has_more or len(begun) > _MOST else None)


async def _by_time(ctx: TriggerContext, kind: FactKind, cursor: Any, counts: Callable[[Fact], bool]) -> Polled:
    """The last look of a trigger that a server without numbered facts has armed: what it has not seen yet."""
    newest, seen, first = await ctx.facts.newest(), set(cursor["seen"]), cursor.get("from", 0)
    found = await ctx.facts.by_time(kind, int(cursor["since"]) - _OVERLAP_MS)
    fresh = [one for one in found if one.key not in seen and one.at >= first and counts(one)]
    own = ctx.facts.workflow_id
    events = [_event(one, own, cursor) for one in sorted(fresh, key=lambda one: (one.at, one.key))]
    return Polled(events, begin(newest, first or ctx.now_ms), after_ms=0)


async def recent_of(
    ctx: TriggerContext, kind: FactKind, counts: Callable[[Fact], bool], more: Iterable[Fact] = ()
) -> dict[str, Any] | None:
    """The payload of the newest fact that counts, of the last 30 days."""
    known = [*await ctx.facts.by_time(kind, ctx.now_ms - _MONTH_MS), *await ctx.facts.latest(kind), *more]
    newest = max((one for one in known if counts(one)), key=lambda one: one.at, default=None)
    return None if newest is None else _payload(newest)


def _payload(fact: Fact) -> dict[str, Any]:
    return {**fact.data, "depth": fact.depth + 1, "through": list(fact.through)}


def _event(fact: Fact, own: str | None, cursor: Any) -> PolledEvent:
    """The event of a fact; `own`: the workflow that is told. Of what it led to itself nothing starts a run."""
    no_run = None
    if fact.depth >= MAX_DEPTH:
        no_run = NoRun("depth", f"More than {MAX_DEPTH} runs in a row were started by what the one before did.")
    elif own is not None and own in fact.through:
        no_run = NoRun("circle", "This workflow has led to what happened.")
    return PolledEvent(fact.key, _payload(fact), fact.at, cursor, no_run)
