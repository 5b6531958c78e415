"""Answers about triggers: what is armed, what they saw, and what their rehearsals would have done."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from dustrun.operations.declaration.answers import STORED, Answer, From, Time, time
from dustrun.operations.declaration.encoding import data_of
from dustrun.services.triggers.events import Aggregate, ChainProgress
from dustrun.services.triggers.rehearsal import Rehearsal
from dustrun.services.triggers.subscriptions import Subscription, recorded_principal
from dustrun.storage.triggers.subscriptions import SubscriptionRow

Json = dict[str, Any]
Outcome = Literal["started", "skipped", "failed", "orphaned"]
State = Literal["armed", "paused", "ended", "failed"]
TriggerMode = Literal["live", "simulate", "dust"]
_ID = "01m8brt9hae4de3w6f0w3c1rmr"


class TriggerEventAnswer(Answer):
    """One thing that a trigger saw, and what became of it."""

    id: str = Field(examples=[f"evt_{_ID}"])
    organization_id: Annotated[str, From("org_id")]
    workflow_id: str
    trigger_node_id: Annotated[str, From("node_id")]
    platform: Annotated[str, From("type")] = Field(description="Type of the trigger.", examples=["webhook"])
    key: str = Field(description="Its identity: the same key again starts nothing.")
    mode: TriggerMode = Field(description="How it ran.")
    outcome: Outcome = Field(description="`orphaned`: what it told of is not so any more.")
    status: Annotated[
        Literal["success", "failure"], From(lambda one: "failure" if one.outcome == "failed" else "success")
    ] = Field(description="`failure` if a run should have started and could not.")
    action_taken: Annotated[
        Literal["triggered", "skipped"], From(lambda one: "triggered" if one.run_id is not None else "skipped")
    ]
    reason: str | None = Field(
        description="Why no run was started, like `cooldown`, `exhausted`, `paused`, `filter`, `payload`."
    )
    error_message: Annotated[str | None, From("message")] = Field(description="The reason as a sentence.")
    run_id: str | None
    body: Annotated[Any, From("payload"), STORED] = Field(description="The payload.")
    metadata: Annotated[Any, From("request"), STORED] = Field(
        description="Of an inbound request: its method, headers and query, secrets masked."
    )
    replay_of: str | None = Field(description="The event that it repeats.")
    occurred_at: Time
    created_at: Annotated[Time, From("received_at")] = Field(description="When it came in.")
    processed_at: Annotated[Time, From("received_at")]


class ReplayedAnswer(Answer):
    """One event that a replay of many has chosen."""

    event_id: Annotated[str, From("row.id")]
    occurred_at: Annotated[Time, From("row.occurred_at")]
    outcome: Annotated[Outcome, From("row.outcome")] = Field(description="What became of it before.")
    before: Annotated[str | None, From("row.reason")] = Field(description="Why it started no run before.")
    action: Annotated[Literal["none", "triggered", "skipped"], From("fired.action", missing="none")] = Field(
        description="`none`: it was only listed."
    )
    reason: Annotated[str | None, From("fired.reason")] = Field(description="Why it started no run now.")
    message: Annotated[str | None, From("fired.message")] = Field(description="The reason as a sentence.")
    run_ids: Annotated[list[str], From("fired.run_ids", missing=[])]


class ReplaysAnswer(Answer):
    """The replays of the events of a filter."""

    items: list[ReplayedAnswer]
    has_more: bool = Field(description="Whether more events match: ask again.")


class FiredAnswer(Answer):
    """The result of an event."""

    action: Literal["triggered", "skipped"]
    event_id: str = Field(examples=[f"evt_{_ID}"])
    run_ids: list[str]
    reason: str | None = Field(description="Why no run was started.")
    message: str | None = Field(description="The reason as a sentence.")


class GapAnswer(Answer):
    """A range that a trigger did not scan."""

    id: str = Field(examples=[f"gap_{_ID}"])
    workflow_id: str
    range: Annotated[Any, STORED] = Field(description="What was left out, like `{fromBlock, toBlock}`.")
    reason: str
    state: Literal["open", "replaying", "replayed", "lost"] = Field(
        description="`lost`: its source cannot show it any more, so it cannot be replayed."
    )
    created_at: Time
    replayed_at: Time | None


class ChainPlace(Answer):
    """How far a trigger of a chain is, as its watcher saw it last."""

    chain_id: int
    head: int = Field(description="The newest block.")
    last_scanned_block: Annotated[int | None, From("scanned")] = Field(description="Null: it has not begun yet.")
    lag: int | None = Field(description="Blocks that have their confirmations and are not scanned yet.")
    seen_at: Time = Field(description="When its watcher wrote this.")


class TriggerState(Answer):
    """A trigger of a published version."""

    id: str = Field(examples=[f"sub_{_ID}"])
    trigger_node_id: str
    type: str
    state: State
    state_reason: str | None = Field(description="Why it is not armed, like `max_runs_exhausted` or `over`.")
    mode: TriggerMode = Field(description="How its events run: live, or only as rehearsals.")
    version: int = Field(description="The version that its events run.")
    published_by: str = Field(description="The key in whose name they run.")
    armed_at: Time
    next_fire_at: Time | None = Field(description="When it is due; null if no time decides.")
    last_fired_at: Time | None = Field(description="When an event of it last started a run.")
    failures: int = Field(description="Failed attempts to watch, in a row.")
    last_error: str | None = Field(description="Why the newest of them failed; null while it watches well.")
    stalled_since: Time | None = Field(description="Since when it stands still; null while it goes on.")
    chain: ChainPlace | None = Field(None, description="Of a trigger of a chain, how far it is.")


class TriggerInfo(Answer):
    """A trigger that publishing has set up."""

    workflow_id: str
    triggers: list[TriggerState]


class TriggerAggregate(TriggerState):
    """A trigger, and counts of what came of it."""

    run_count: int
    success_count: int
    failure_count: int
    cancelled_count: int
    skipped_count: int = Field(description="Events that started no run.")
    failed_count: int = Field(description="Events whose run could not start.")


class TriggerAggregates(Answer):
    """All triggers of a workflow."""

    workflow_id: str
    triggers: list[TriggerAggregate]


def state_shape(row: SubscriptionRow, progress: ChainProgress | None = None) -> Json:
    """A subscription as JSON."""
    return {
        "id": row.id,
        "triggerNodeId": row.node_id,
        "type": row.type,
        "state": row.state,
        "stateReason": row.state_reason,
        "mode": row.mode,
        "version": row.version,
        "publishedBy": recorded_principal(row).key_id,
        "armedAt": time(row.armed_at),
        "nextFireAt": time(row.next_at) if row.state == "armed" else None,
        "lastFiredAt": time(row.last_event_at),
        "failures": row.failures,
        "lastError": row.last_error or (progress.error if progress is not None else None),
        "stalledSince": time(row.stalled_since),
        "chain": data_of(ChainPlace, progress) if progress is not None else None,
    }


def info_shape(found: tuple[str, list[tuple[Subscription, ChainProgress | None]]]) -> Json:
    """A workflow's subscriptions as JSON."""
    workflow_id, subs = found
    return {"workflowId": workflow_id, "triggers": [state_shape(sub.row, progress) for sub, progress in subs]}


def aggregates_shape(found: tuple[str, list[Aggregate]]) -> Json:
    """Counts by trigger as JSON."""
    workflow_id, aggregates = found
    return {"workflowId": workflow_id, "triggers": [_aggregate(one) for one in aggregates]}


def _aggregate(one: Aggregate) -> Json:
    runs, outcomes = one.runs, one.outcomes
    return {
        **state_shape(one.sub.row, one.progress),
        "runCount": sum(runs.values()),
        "successCount": runs.get("success", 0),
        "failureCount": runs.get("failure", 0),
        "cancelledCount": runs.get("cancelled", 0),
        "skippedCount": outcomes.get("skipped", 0),
        "failedCount": outcomes.get("failed", 0),
    }


class RehearsedEvents(Answer):
    """How many events came, by what became of them."""

    outcome: Outcome
    reason: str | None
    count: int


class RefusedRehearsal(Answer):
    """A rehearsed run that would not have done what it should."""

    event_id: str
    run_id: str
    status: str
    reasons: list[str]


class TriggerRehearsalAnswer(Answer):
    """The effects that events would have had that were only watched."""

    workflow_id: str
    version: int | None = Field(description="The live version.")
    since: Time
    until: Time
    triggers: list[TriggerState]
    events: list[RehearsedEvents]
    effects: Any = Field(
        description="Sums over the runs that have ended: runs by status, transactions, balance changes, fees, policy "
        "verdicts, warnings."
    )
    summed_runs: int = Field(description="Runs in these sums: the newest 500 at most.")
    open_runs: int = Field(description="Runs that have not ended.")
    refused: list[RefusedRehearsal] = Field(description="Runs that failed or that a policy stopped; the newest 50.")


def rehearsal_shape(found: Rehearsal) -> Json:
    """A rehearsal as JSON."""
    counts = sorted(found.counts.items(), key=lambda item: (item[0][0], item[0][1] or ""))
    return {
        "workflowId": found.workflow_id,
        "version": found.version,
        "since": time(found.since),
        "until": time(found.until),
        "triggers": [state_shape(row) for row in found.subs],
        "events": [{"outcome": one, "reason": reason, "count": count} for (one, reason), count in counts],
        "effects": found.effects,
        "summedRuns": found.summed,
        "openRuns": found.open,
        "refused": list(found.refused),
    }


def went_live_shape(found: tuple[str, list[SubscriptionRow]]) -> Json:
    """A workflow's subscriptions after one was made live."""
    workflow_id, rows = found
    return {"workflowId": workflow_id, "triggers": [state_shape(row) for row in rows]}
