"""Takes what triggers saw: one transaction decides, records the event, starts its run and moves the cursor.
`SkippedEvents` tells who reads the activity of those that started none."""

from __future__ import annotations

from collections.abc import Callable

from dustrun import clock, log
from dustrun.core.stream_events import TRIGGER_SKIPPED
from dustrun.core.triggers.event import CursorMove, TriggerEvent
from dustrun.core.triggers.limits import Skip
from dustrun.core.values import exact_json
from dustrun.errors import Code, Conflict, Forbidden, Invalid, NotFound, Refused, Temporary
from dustrun.listeners import Listeners
from dustrun.records import dataclass
from dustrun.sdk.trigger import PolledEvent
from dustrun.services.access import idempotency
from dustrun.services.access.principal import Principal
from dustrun.services.runs.create import NotStarted
from dustrun.services.runs.start import Starts
from dustrun.services.runs.start_request import RunRequest
from dustrun.services.streaming.broadcaster import ActivityNotice, Broadcaster
from dustrun.services.triggers import recording
from dustrun.services.triggers.recording import CursorMoved, Decision, EventFailure, EventOutcome, Overlap
from dustrun.services.triggers.subscriptions import Subscription, Subscriptions, recorded_principal
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Tx
from dustrun.storage.db.writer import Writer
from dustrun.storage.triggers import events as event_rows
from dustrun.storage.triggers.subscriptions import SubscriptionRow

_TRIES = 5
_REFUSALS = (Invalid, Forbidden, NotFound, Conflict, Refused)
"""Why a run cannot start, now or later; everything else is tried again by whoever fires."""

_FULL = (Code.STATE_CONFLICT, Code.RUN_LIMIT)
"""As many runs as may be unfinished, or kept."""


@dataclass(frozen=True, slots=True)
class FireOptions:
    """How an event is taken. `is_unlimited`: whatever the limits say, and without counting; `replay_of`: the event
    that it repeats; `by`: who runs it, if not the key that published; `given`: it is only recorded, and why;
    `beside`: is written in the same transaction, also if the event had come before and the cursor moves behind it;
    `overlap`: the run that it may not run beside; `is_exact`: it counts only for the subscription as it was read;
    `refused_key`: as `Decision` has it; `is_correction`: it tells of what a reorg did to what earlier runs were told,
    so it is unlimited and waits for room; `mode`: that of its run, if not the subscription's."""

    is_unlimited: bool = False
    replay_of: str | None = None
    by: Principal | None = None
    given: Skip | EventFailure | None = None
    beside: Callable[[Tx], None] | None = None
    overlap: Overlap | None = None
    is_exact: bool = False
    refused_key: str | None = None
    is_correction: bool = False
    mode: str | None = None


_AS_USUAL = FireOptions()


class Intake:
    """Where every event of every trigger comes in."""

    def __init__(self, database: Database, writer: Writer, starts: Starts, subscriptions: Subscriptions) -> None:
        self._database = database
        self._writer = writer
        self._starts = starts
        self._subscriptions = subscriptions
        self._holding: set[int] = set()
        """Subscriptions whose last event started no run. Their next event is checked against the limits first, so that
        no run is prepared in vain."""
        self.on_changed: Listeners[[str]] = Listeners()
        """Called with a workflow's id after a commit that paused it or ended one of its subscriptions."""
        self.on_skipped: Listeners[[SubscriptionRow, EventOutcome]] = Listeners()
        """Called after the commit of an event that started no run."""

    async def fire(
        self,
        sub: Subscription,
        event: TriggerEvent,
        move: CursorMove | None = None,
        options: FireOptions = _AS_USUAL,
    ) -> EventOutcome:
        """Takes an event; returns once all that follows from it is on disk. The same key again changes nothing.

        With a `move`, or if it `is_exact`, raises `CursorMoved` if the subscription has changed since it was read.
        Raises `StillRunning` if the event is to wait for the run before. Raises `Temporary` when
        nothing was written, and `Uncertain` when the outcome is unknown: fire it again then, with the same key."""
        for _ in range(_TRIES):
            try:
                with log.scope():  # whoever fires may go on to other events, which are not of this run
                    return await self._fire(sub, _decision(sub, event, move, options), options)
            except CursorMoved:
                if move is not None or options.is_exact:
                    raise
            sub = await self._subscriptions.find(sub.id) or sub
        raise Temporary("The workflow changes too fast; nothing was started.", retry_after_s=1)

    async def _fire(self, sub: Subscription, decision: Decision, options: FireOptions) -> EventOutcome:
        fired = await self._held(sub, decision) if decision.given is not None or sub.pk in self._holding else None
        return fired if fired is not None else await self._start(sub, decision, options)

    async def _held(self, sub: Subscription, decision: Decision) -> EventOutcome | None:
        """The outcome of an event that starts no run; None if it may start one, as far as a look without the writer can
        tell."""
        ahead: EventOutcome | Skip | EventFailure | None = decision.given
        if ahead is None:
            ahead = await self._database.look_up(decision.look)
        if isinstance(ahead, EventOutcome):
            return ahead
        return await self._record(sub, decision) if ahead is not None else None

    async def _start(self, sub: Subscription, decision: Decision, options: FireOptions) -> EventOutcome:
        principal = decision.by or recorded_principal(sub.row)
        try:
            await self._starts.start(principal, sub.row.workflow_id, _request(sub, decision), decision)
            fired = decision.fired
        except NotStarted as held:
            fired = held.result
        except _REFUSALS as error:
            fired = await self._held(sub, decision)  # a limit or a repetition is told first
            if fired is not None:
                return fired
            if options.is_correction and error.code in _FULL:
                raise Temporary(error.message) from None
            decision.refuse(error)
            return await self._fire(sub, decision, options)
        assert fired is not None
        self._tell(sub.row, fired)
        return fired

    async def _record(self, sub: Subscription, decision: Decision) -> EventOutcome | None:
        """Records an event that starts no run; None if it may start one after all."""
        fired = await idempotency.write(self._writer, decision.before)
        if fired is not None:
            self._tell(sub.row, fired)
        return fired

    def _tell(self, row: SubscriptionRow, fired: EventOutcome) -> None:
        if fired.action == "triggered":
            self._holding.discard(row.pk)
        else:
            self._holding.add(row.pk)
        if fired.action == "skipped" and not fired.is_duplicate:
            self.on_skipped(row, fired)
        if fired.changes is not None:
            self.on_changed(fired.changes)

    async def take(
        self,
        sub: Subscription,
        event: PolledEvent | None,
        move: CursorMove,
        beside: Callable[[Tx], None] | None = None,
    ) -> EventOutcome | None:
        """Takes what a source has shown, None if it was no event, and moves the cursor behind it; `beside` is written
        in the same transaction. Raises as `fire` does."""
        if event is None:
            await self.move(sub, move, beside)
            return None
        given, no_run = None, event.no_run
        if no_run is not None:
            given = (EventFailure if no_run.is_failure else Skip)(no_run.reason, no_run.message)
        key = event.key if event.formerly is None else await self._known_as(sub, event, event.formerly)
        taken = TriggerEvent(key, event.payload, event.occurred_at)
        return await self.fire(sub, taken, move, FireOptions(given=given, beside=beside))

    async def _known_as(self, sub: Subscription, event: PolledEvent, formerly: str) -> str:
        """The former key, if the same message is on record under it."""
        row = await self._database.read(lambda tx: event_rows.find_by_key(tx, sub.pk, formerly))
        known = None if row is None else exact_json.loads_own(row.payload)
        is_same = row is not None and (known is None or known["message"] == event.payload["message"])
        return formerly if is_same else event.key  # a payload that was cleared (None) says nothing

    async def move(self, sub: Subscription, move: CursorMove, beside: Callable[[Tx], None] | None = None) -> int:
        """Moves the cursor alone and returns its new version; raises `CursorMoved` as `fire` does."""

        def unit(tx: Tx) -> int:
            version = recording.move_alone(tx, sub.row, move)
            if beside is not None:
                beside(tx)
            return version

        version = await self._writer.write(unit)
        if move.ends is not None:
            self.on_changed(sub.row.workflow_id)
        return version

    async def failed(self, sub: Subscription, message: str, next_at: int) -> None:
        """Records that a subscription could not be looked at, and when the next look is; raises `CursorMoved`."""
        await self._writer.write(lambda tx: recording.look_failed(tx, sub.row, message, next_at))


def _decision(sub: Subscription, event: TriggerEvent, move: CursorMove | None, options: FireOptions) -> Decision:
    return Decision(
        sub.row,
        event,
        move,
        is_unlimited=options.is_unlimited or options.is_correction,
        replay_of=options.replay_of,
        by=options.by,
        given=options.given,
        beside=options.beside,
        overlap=options.overlap,
        refused_key=options.refused_key,
        mode=options.mode or sub.row.mode,
    )


def _request(sub: Subscription, decision: Decision) -> RunRequest:
    event = decision.event
    return RunRequest(
        payload=event.payload,
        version=sub.row.version,
        run_id=event.run_id,
        simulate=decision.mode == "simulate",
        dust_test=decision.mode == "dust",
        trigger_node_id=sub.row.node_id,
        source=sub.row.type,
        headers=dict(event.headers),
        query=dict(event.query),
    )


class SkippedEvents:
    """The listener of the intake. The event log is what keeps them; a stream only shows them."""

    def __init__(self, hub: Broadcaster) -> None:
        self._hub = hub

    def tell(self, row: SubscriptionRow, fired: EventOutcome) -> None:
        """An event of a subscription was recorded and started no run."""
        if not self._hub.has_readers(row.org_id):
            return
        data = {
            "eventId": fired.event_id,
            "triggerNodeId": row.node_id,
            "triggerType": row.type,
            "reason": fired.reason,
            "message": fired.message,
        }
        self._hub.announce(
            row.org_id, ActivityNotice(TRIGGER_SKIPPED, clock.now_ms(), row.workflow_id, exact_json.dumps_text(data))
        )
