"""Recording of one event in the tables, in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field, replace
from typing import Any

from dustrun import clock, ids
from dustrun.core.triggers.event import CursorMove, TriggerEvent
from dustrun.core.triggers.limits import EXHAUSTED, Admit, Skip, StartLimits, decide
from dustrun.core.values.exact_json import dumps_text
from dustrun.errors import Code, DustrunError
from dustrun.records import dataclass
from dustrun.services.access.principal import Principal
from dustrun.services.runs.engine_port import CreatedRun
from dustrun.services.triggers import pausing
from dustrun.services.triggers.subscriptions import recorded_principal
from dustrun.storage.db.statement import Tx
from dustrun.storage.runs import runs
from dustrun.storage.triggers import event_state
from dustrun.storage.triggers import events as event_rows
from dustrun.storage.triggers import subscriptions as rows
from dustrun.storage.triggers.event_state import EventState
from dustrun.storage.triggers.events import FAILED, SKIPPED, STARTED, EventRow
from dustrun.storage.triggers.subscriptions import ARMED, ENDED, SubscriptionRow
from dustrun.storage.workflows import workflows


class CursorMoved(Exception):
    """The subscription has changed since it was read: read it again. Nothing was written."""


class StillRunning(Exception):
    """The run before has not ended, and this event is to wait for it. Nothing was written."""


@dataclass(frozen=True, slots=True)
class Overlap:
    """The run before, and what becomes of an event while it goes on: `skip` records it, `queue` raises
    `StillRunning`."""

    run_id: str
    then: str


@dataclass(frozen=True, slots=True)
class EventFailure:
    """The event cannot start a run: a word for programs, a sentence for people."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class EventOutcome:
    """The outcome of an event. `action` is `triggered` or `skipped`; `is_duplicate`: it had come before, and this is
    what became of it then; `changes`: the workflow whose subscriptions it changed."""

    event_id: str
    action: str
    reason: str | None = None
    message: str | None = None
    run_ids: tuple[str, ...] = ()
    is_duplicate: bool = False
    changes: str | None = None
    created: CreatedRun | None = field(default=None, repr=False, compare=False)


def refusal_of(error: DustrunError) -> Skip | EventFailure:
    """The record of an event whose run cannot start."""
    if error.code == Code.STATE_CONFLICT:
        return Skip("concurrency", error.message)
    reason = _REASONS.get(error.code, "refused")
    details = "; ".join(f"{one.get('field')}: {one.get('message')}" for one in error.public_details()[:5])
    return EventFailure(reason, f"{error.message} {details}".strip())


PAYLOAD = "payload"
_REASONS: Mapping[int, str] = {
    Code.PAYLOAD_INVALID: PAYLOAD,
    Code.VERSION_NOT_ACCEPTED: "not_accepted",
    Code.REHEARSAL_MISSING: "not_rehearsed",
    Code.PERMISSION_MISSING: "forbidden",
    Code.DEFINITION_INVALID: "definition",
    Code.RUN_LIMIT: "quota",
}


@dataclass(slots=True)
class Decision:
    """Decides about one event in the transaction that would start its run. `given`: it was decided already; `by`: who
    runs it, if not the key that published; `refused_key`: what it is recorded under if its payload is refused, so that
    its own key stays free for one that is not; `mode`: that of its run."""

    row: SubscriptionRow
    event: TriggerEvent
    move: CursorMove | None = None
    is_unlimited: bool = False
    replay_of: str | None = None
    by: Principal | None = None
    given: Skip | EventFailure | None = None
    beside: Callable[[Tx], None] | None = None
    overlap: Overlap | None = None
    refused_key: str | None = None
    mode: str = "live"
    event_id: str = field(default_factory=lambda: ids.new_id("evt"))
    now: int = field(default_factory=clock.now_ms)
    fired: EventOutcome | None = None
    _locked: EventState | None = None
    _admit: Admit | None = None

    def look(self, tx: Tx) -> EventOutcome | Skip | None:
        """The outcome of the event as far as can be seen without the writer; None: it starts a run."""
        found = event_state.find(tx, *self._names())
        if found is None:
            raise CursorMoved
        if found.event_id is not None and self.move is None:
            return _duplicate(found)
        verdict = self._judge(tx, found)
        return verdict if isinstance(verdict, Skip) else None

    def before(self, tx: Tx) -> EventOutcome | None:
        """Decides; None: the run is to be created, and `after` follows. Otherwise the event is recorded.

        Locks workflow and subscription, in that order. Raises `CursorMoved`."""
        self.now = clock.now_ms()  # one instant decides and is recorded
        locked = self._locked = event_state.find_to_change(tx, *self._names())
        if locked is None:
            raise CursorMoved
        if locked.event_id is not None:
            if self.move is not None and locked.cursor_version == self.move.expected:
                rows.update(tx, self.row.pk, **_moved(locked, _without_run(self.move)))
                self._write_beside(tx)
            return _duplicate(locked)
        _need_unmoved(self.row, locked, self.move)
        verdict = self.given or self._judge(tx, locked)
        if isinstance(verdict, Admit):
            self._admit = verdict
            return None
        return self._record(tx, verdict, locked)

    def refuse(self, error: DustrunError) -> None:
        """Its run cannot start: only to be recorded."""
        self.given = refusal_of(error)
        if self.refused_key is not None and self.given.reason == PAYLOAD:
            self.event = replace(self.event, key=self.refused_key)

    def _names(self) -> tuple[int, str, str]:
        """The subscription, the key in whose name it runs, and the event's own."""
        return self.row.pk, recorded_principal(self.row).key_id, self.event.key

    def _judge(self, tx: Tx, found: EventState) -> Admit | Skip:
        verdict = self._judge_alone(found)
        before = self.overlap
        if isinstance(verdict, Skip) or before is None or not _is_running(tx, self.row.org_id, before.run_id):
            return verdict
        if before.then == "queue":
            raise StillRunning
        return Skip("overlap", f"The run before, {before.run_id}, has not ended.")

    def _judge_alone(self, found: EventState) -> Admit | Skip:
        if self.by is None and not self._key_is_good(found):
            return Skip(pausing.KEY_REVOKED, "The key that published this version is revoked or has expired.")
        if self.is_unlimited:
            return Admit()
        if found.state != ARMED and found.state_reason != EXHAUSTED:
            return Skip(found.state, f"The trigger is {found.state}: {found.state_reason or 'not armed'}.")
        if found.mode != "live":  # it only watches: it counts no runs, and has a cooldown of its own
            return decide(StartLimits(found.status, None, found.cooldown_ms, found.last_event_at), self.now)
        limits = StartLimits(found.status, found.remain_runs, found.cooldown_ms, found.last_triggered_at)
        return decide(limits, self.now)

    def _key_is_good(self, found: EventState) -> bool:
        if found.key_id is None or found.key_revoked_at is not None:
            return False
        return found.key_expires_at is None or found.key_expires_at > self.now

    def _record(self, tx: Tx, verdict: Skip | EventFailure, locked: EventState) -> EventOutcome:
        outcome = SKIPPED if isinstance(verdict, Skip) else FAILED
        event_rows.insert(tx, self._event(outcome, verdict.reason, verdict.message, None))
        self._write_beside(tx)
        changes, workflow_id = None, self.row.workflow_id
        if verdict.reason == pausing.KEY_REVOKED and locked.status == "active":
            pausing.pause(tx, workflow_id, pausing.KEY_REVOKED, recorded_principal(self.row))
            changes = workflow_id
        if self.move is not None:
            rows.update(tx, self.row.pk, **_moved(locked, _without_run(self.move)))
            changes = workflow_id if self.move.ends is not None else changes
        return EventOutcome(self.event_id, "skipped", verdict.reason, verdict.message, changes=changes)

    def after(self, tx: Tx, created: CreatedRun) -> EventOutcome:
        """Records that the event has started a run, and what that changes."""
        assert self._locked is not None
        assert self._admit is not None
        now, workflow_id = self.now, self.row.workflow_id
        event_rows.insert(tx, self._event(STARTED, None, None, created.run_id))
        self._write_beside(tx)
        moved = _moved(self._locked, self.move) if self.move is not None else {}
        rows.update(tx, self.row.pk, **moved, last_event_at=now)
        if self.mode == "live" and not self.is_unlimited:
            workflows.update(tx, workflow_id, remain_runs=self._admit.remain_runs, last_triggered_at=now)
            if self._admit.takes_last:
                pausing.pause(tx, workflow_id, EXHAUSTED, recorded_principal(self.row))
        ends = self.move is not None and self.move.ends is not None
        changes = workflow_id if ends or self._admit.takes_last else None
        self.fired = EventOutcome(
            self.event_id, "triggered", run_ids=(created.run_id,), changes=changes, created=created
        )
        return self.fired

    def _write_beside(self, tx: Tx) -> None:
        if self.beside is not None:
            self.beside(tx)

    def _event(self, outcome: str, reason: str | None, message: str | None, run_id: str | None) -> EventRow:
        row, event = self.row, self.event
        return EventRow(
            id=self.event_id,
            org_id=row.org_id,
            workflow_id=row.workflow_id,
            subscription_pk=row.pk,
            node_id=row.node_id,
            type=row.type,
            key=event.key,
            mode=self.mode,
            outcome=outcome,
            reason=reason,
            message=message,
            run_id=run_id,
            payload=dumps_text(event.payload),
            request=dumps_text(event.request) if event.request is not None else None,
            replay_of=self.replay_of,
            occurred_at=event.occurred_at,
            received_at=self.now,
        )


def _without_run(move: CursorMove) -> CursorMove:
    """The move of an event that starts no run."""
    return move if move.if_skipped is None else replace(move, cursor=move.if_skipped)


def _is_running(tx: Tx, org_id: str, run_id: str) -> bool:
    run = runs.find(tx, org_id, run_id)
    return run is not None and run.finished_at is None


def _duplicate(known: EventState) -> EventOutcome:
    assert known.event_id is not None
    runs = (known.event_run_id,) if known.event_run_id is not None else ()
    action = "triggered" if known.event_outcome == STARTED else "skipped"
    return EventOutcome(known.event_id, action, known.event_reason, known.event_message, runs, is_duplicate=True)


def _need_unmoved(read: SubscriptionRow, locked: EventState | SubscriptionRow, move: CursorMove | None) -> None:
    """Raises `CursorMoved` unless the subscription is as whoever fires has read it. What a watcher finds after its
    trigger was paused is not recorded: it is found again if the trigger catches up."""
    if move is not None and locked.cursor_version != move.expected:
        raise CursorMoved
    if move is not None and locked.state != ARMED and locked.state_reason != EXHAUSTED:
        raise CursorMoved
    if any(getattr(read, name) != getattr(locked, name) for name in ("version", "config", "mode", "principal")):
        raise CursorMoved


def _moved(row: EventState | SubscriptionRow, move: CursorMove) -> dict[str, Any]:
    changes: dict[str, Any] = {
        "cursor": dumps_text(move.cursor),
        "cursor_version": row.cursor_version + 1,
        "next_at": move.next_at,
        "failures": 0,
        "last_error": None,
    }
    if move.ends is not None:
        changes |= {"state": ENDED, "state_reason": move.ends, "next_at": None, "updated_at": clock.now_ms()}
    return changes


def move_alone(tx: Tx, row: SubscriptionRow, move: CursorMove) -> int:
    """Moves a cursor without an event; returns its new version. Raises `CursorMoved`."""
    locked = rows.find_to_change(tx, row.pk)
    if locked is None or locked.state != ARMED:
        raise CursorMoved
    _need_unmoved(row, locked, move)
    rows.update(tx, locked.pk, **_moved(locked, move))
    return locked.cursor_version + 1


_LONGEST_ERROR = 1000


def look_failed(tx: Tx, row: SubscriptionRow, message: str, next_at: int) -> None:
    """Records a failed look of a subscription that is still as it was read. Raises `CursorMoved`."""
    locked = rows.find_to_change(tx, row.pk)
    if locked is None or locked.state != ARMED or locked.cursor_version != row.cursor_version:
        raise CursorMoved
    rows.update(tx, locked.pk, failures=locked.failures + 1, last_error=message[:_LONGEST_ERROR], next_at=next_at)
