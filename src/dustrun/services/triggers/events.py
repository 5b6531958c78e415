"""The event log: what triggers saw and what became of it, and replays."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from dustrun import clock, ids, log
from dustrun.core.triggers.chain.cursor import Cursor
from dustrun.core.triggers.event import REFUSED, TriggerEvent
from dustrun.core.values.exact_json import dumps_text, loads, loads_own
from dustrun.errors import Code, Conflict, NotFound
from dustrun.records import dataclass
from dustrun.sdk.trigger import Lost
from dustrun.services.access import audit, idempotency
from dustrun.services.access.paging import Page, Paging, page_of
from dustrun.services.access.principal import Principal
from dustrun.services.triggers.arming import Arming
from dustrun.services.triggers.intake import FireOptions, Intake
from dustrun.services.triggers.recording import EventOutcome
from dustrun.services.triggers.subscriptions import CHAIN, Subscription, Subscriptions
from dustrun.services.workflows.versions import get_workflow
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Tx
from dustrun.storage.db.writer import Writer
from dustrun.storage.triggers import chain_headers, subscriptions
from dustrun.storage.triggers import events as rows
from dustrun.storage.triggers import gaps as gap_rows
from dustrun.storage.triggers import subscriptions as subscription_rows
from dustrun.storage.triggers.events import EventRow, TriggerEventFilters
from dustrun.storage.triggers.gaps import LOST, OPEN, REPLAYING, GapRow
from dustrun.storage.triggers.subscriptions import SubscriptionRow
from dustrun.storage.workflows import workflows


@dataclass(frozen=True, slots=True)
class ChainProgress:
    """How far a trigger of a chain is: the newest block, the last one that it scanned, how many it should have scanned
    since, why it cannot go on, and when its watcher saw that."""

    chain_id: int
    head: int
    scanned: int | None
    lag: int | None
    error: str | None
    seen_at: int


@dataclass(frozen=True, slots=True)
class Aggregate:
    """The outcomes of one trigger: events by outcome, and the runs that they started by status."""

    sub: Subscription
    outcomes: Mapping[str, int]
    runs: Mapping[str, int]
    progress: ChainProgress | None = None


@dataclass(frozen=True, slots=True)
class ReplayOptions:
    """How the events of a filter are taken once more: `preview` (not at all), `simulate` or `replay`, at most so
    many."""

    mode: str
    ignore_limits: bool = False
    count: int = 20


@dataclass(frozen=True, slots=True)
class ReplayedEvent:
    """An event of a filter, and what became of its replay; None: it was only listed."""

    row: EventRow
    fired: EventOutcome | None


@dataclass(frozen=True, slots=True)
class Replays:
    """The events of a filter, oldest first, and whether there are more."""

    items: list[ReplayedEvent]
    has_more: bool


_PAGE = 200


class TriggerEvents:
    """Use cases of events."""

    def __init__(self, database: Database, subscriptions: Subscriptions, intake: Intake, arming: Arming) -> None:
        self._database = database
        self._subscriptions = subscriptions
        self._intake = intake
        self._arming = arming

    async def list_page(self, principal: Principal, filters: TriggerEventFilters, paging: Paging) -> Page[EventRow]:
        """Lists events, newest first; raises `NotFound` for a workflow that the caller cannot see."""
        if principal.workflow_ids is not None:
            filters = replace(filters, only=tuple(sorted(principal.workflow_ids)))

        def query(tx: Tx) -> list[EventRow]:
            if filters.workflow_id is not None:
                get_workflow(tx, principal, filters.workflow_id)
            return rows.list_page(tx, filters, limit=paging.peek, offset=paging.offset)

        return page_of(await self._database.read(query), paging)

    async def get(self, principal: Principal, event_id: str) -> EventRow:
        """Reads one event; raises `NotFound`."""
        return await self._database.read(lambda tx: _get(tx, principal, event_id))

    async def replay(self, principal: Principal, event_id: str, *, ignore_limits: bool) -> EventOutcome:
        """Takes an event once more, as a new one that points to the first, in the caller's name. It runs the version
        that is live now and obeys the limits, unless the caller says otherwise.

        Raises `NotFound`, `Forbidden` if the caller may not spend what the run can, and `Conflict` if the trigger is no
        longer part of the live version, or a reorg removed the event."""

        row = await self.get(principal, event_id)
        fired = await self._replay(principal, row, f"replay:{row.id}:{ids.new_id('rep')}", ignore_limits=ignore_limits)
        if fired.run_ids:
            log.bind(run_id=fired.run_ids[0])
        return fired

    async def replay_all(self, principal: Principal, filters: TriggerEventFilters, options: ReplayOptions) -> Replays:
        """Takes the events of a filter once more, oldest first; one that has been replayed with a run in that mode is
        left out. The key of a replay says which one of its event it is, so that of two callers at the same time only
        one takes it. Raises as `replay` does, before the first event."""
        chosen, has_more = await self._database.read(lambda tx: _choose(tx, principal, filters, options))
        if options.mode == "preview":
            return Replays([ReplayedEvent(row, None) for row, _ in chosen], has_more)
        mode, found = "simulate" if options.mode == "simulate" else None, list[ReplayedEvent]()
        for row, number in chosen:
            key = f"replay:{row.id}:{options.mode}:{number}"
            try:
                fired = await self._replay(principal, row, key, ignore_limits=options.ignore_limits, mode=mode)
            except Conflict as error:
                fired = EventOutcome(row.id, "skipped", "not_replayable", error.message)
            found.append(ReplayedEvent(row, fired))
        return Replays(found, has_more)

    async def _replay(
        self, principal: Principal, row: EventRow, key: str, *, ignore_limits: bool, mode: str | None = None
    ) -> EventOutcome:
        def query(tx: Tx) -> Subscription | None:
            sub = subscription_rows.get(tx, row.subscription_pk)
            workflow = workflows.find(tx, row.org_id, row.workflow_id)
            if workflow is not None and workflow.live_version is not None and (mode or sub.mode) != "simulate":
                self._arming.need_spending(tx, principal, workflow)
            is_live = workflow is not None and workflow.live_version == sub.version
            return self._subscriptions.parsed(sub) if is_live else None

        sub = await self._database.read(query)
        if row.key.startswith(REFUSED):
            raise Conflict("The request was refused before it was read, so there is no event to take again.")
        if sub is None or (sub.row.state == subscription_rows.ENDED and sub.row.state_reason != "over"):
            raise Conflict(f'The live version has no trigger "{row.node_id}" of type "{row.type}" any more.')
        if row.outcome == rows.ORPHANED:
            raise Conflict(
                f"{row.message} What it tells of is not so any more, so it cannot be taken again. To run the workflow "
                "all the same, start it by hand."
            )
        if row.payload == rows.NO_CONTENT:
            raise Conflict("The content of this event was deleted, as the organisation's retention says.")
        request = loads(row.request) if row.request is not None else None
        again = TriggerEvent(
            key=key,
            payload=loads(row.payload),
            occurred_at=clock.now_ms(),
            headers=(request or {}).get("headers", {}),
            query=(request or {}).get("query", {}),
            request=request,
        )
        origin = row.replay_of or row.id
        options = FireOptions(is_unlimited=ignore_limits, replay_of=origin, by=principal, mode=mode)
        return await self._intake.fire(sub, again, None, options)

    async def list_triggers(self, principal: Principal, workflow_id: str) -> list[Subscription]:
        """The subscriptions of a workflow; raises `NotFound`."""

        def query(tx: Tx) -> list[Subscription | None]:
            get_workflow(tx, principal, workflow_id)
            return [self._subscriptions.parsed(row) for row in subscription_rows.list_of(tx, workflow_id)]

        return [sub for sub in await self._database.read(query) if sub is not None]

    async def list_with_progress(
        self, principal: Principal, workflow_id: str
    ) -> list[tuple[Subscription, ChainProgress | None]]:
        """The subscriptions of a workflow, and how far those of chains are; raises `NotFound`."""
        found = await self.list_triggers(principal, workflow_id)
        return await self._database.read(lambda tx: [(sub, _progress(tx, sub)) for sub in found])

    async def aggregates(self, principal: Principal, workflow_id: str) -> list[Aggregate]:
        """The outcomes of each trigger of a workflow; raises `NotFound`."""
        found = await self.list_with_progress(principal, workflow_id)

        def query(tx: Tx) -> tuple[dict[tuple[int, str], int], dict[tuple[int, str], int]]:
            return rows.count_outcomes(tx, workflow_id), rows.count_run_statuses(tx, principal.org_id, workflow_id)

        outcomes, runs = await self._database.read(query)
        return [Aggregate(sub, _of(outcomes, sub.pk), _of(runs, sub.pk), progress) for sub, progress in found]


def _choose(
    tx: Tx, principal: Principal, filters: TriggerEventFilters, options: ReplayOptions
) -> tuple[list[tuple[EventRow, int]], bool]:
    """The events that are to be replayed, each with the number of its replay, and whether there are more."""
    assert filters.workflow_id is not None
    get_workflow(tx, principal, filters.workflow_id)
    chosen, after = list[tuple[EventRow, int]](), 0
    while page := rows.list_to_replay(tx, filters, after, _PAGE):
        for row in page:
            replays = rows.list_replays(tx, row)
            modes = {mode for mode, run_id in replays if run_id is not None}
            if modes - {"simulate"} if options.mode != "simulate" else "simulate" in modes:
                continue
            if len(chosen) == options.count:
                return chosen, True
            chosen.append((row, len(replays)))
        after = page[-1].pk
    return chosen, False


def _get(tx: Tx, principal: Principal, event_id: str) -> EventRow:
    row = rows.find(tx, principal.org_id, event_id)
    if row is None or not principal.may_use_workflow(row.workflow_id):
        raise NotFound(f'There is no trigger event "{event_id}".', code=Code.TRIGGER_EVENT_UNKNOWN)
    return row


def _progress(tx: Tx, sub: Subscription) -> ChainProgress | None:
    chain_id = getattr(sub.config, "chain_id", None) if sub.kind == CHAIN else None
    stored = chain_headers.find_progress(tx, chain_id) if chain_id is not None else None
    if chain_id is None or stored is None:
        return None
    state, seen_at = loads_own(stored[0]), stored[1]
    at = Cursor.of(sub.cursor)
    scanned, lag, error = at.number if at is not None else None, None, None
    behind = state["behind"].get(sub.id)
    if behind is not None:
        scanned, lag, error = behind["at"], behind["lag"], behind["error"]
    elif sub.is_armed and at is not None and sub.row.armed_at < seen_at:  # those that keep up are not listed
        scanned, lag = max(at.number, state["targets"].get(str(sub.config.confirmations), -1)), 0
    return ChainProgress(chain_id, state["head"], scanned, lag, error or state["error"], seen_at)


def _of(counts: Mapping[tuple[int, str], int], subscription_pk: int) -> dict[str, int]:
    return {name: count for (pk, name), count in counts.items() if pk == subscription_pk}


# Gaps: ranges that a subscription did not scan, which can be scanned after all.


def gap_of(row: SubscriptionRow, lost: Lost) -> Callable[[Tx], None]:
    """The write that records, in the transaction that goes on behind it, a range that a subscription can never see."""

    def insert(tx: Tx) -> None:
        gap = GapRow(
            id=ids.new_id("gap"),
            org_id=row.org_id,
            workflow_id=row.workflow_id,
            subscription_pk=row.pk,
            range=dumps_text(lost.range),
            reason=lost.reason,
            state=LOST,
            created_at=clock.now_ms(),
        )
        gap_rows.insert(tx, gap)

    return insert


class TriggerGaps:
    """Use cases of gaps. `on_asked` is told the workflow whose source is to scan one."""

    def __init__(self, database: Database, writer: Writer, on_asked: Callable[[str], None]) -> None:
        self._database = database
        self._writer = writer
        self._on_asked = on_asked

    async def list_page(self, principal: Principal, workflow_id: str, paging: Paging) -> Page[GapRow]:
        """Lists a workflow's gaps, newest first; raises `NotFound`."""

        def query(tx: Tx) -> list[GapRow]:
            get_workflow(tx, principal, workflow_id)
            return gap_rows.list_page(tx, workflow_id, limit=paging.peek, offset=paging.offset)

        return page_of(await self._database.read(query), paging)

    async def replay(self, principal: Principal, workflow_id: str, gap_id: str) -> GapRow:
        """Asks for a gap to be scanned after all; its events count like any other. Raises `NotFound`, and `Conflict`
        unless the gap is open and its trigger armed."""

        def unit(tx: Tx) -> GapRow:
            get_workflow(tx, principal, workflow_id)
            row = gap_rows.find(tx, principal.org_id, gap_id)
            if row is None or row.workflow_id != workflow_id:
                raise NotFound(f'The workflow has no gap "{gap_id}".', code=Code.TRIGGER_GAP_UNKNOWN)
            sub = subscriptions.get(tx, row.subscription_pk)
            if sub.state != subscriptions.ARMED:
                raise Conflict(f'The trigger "{sub.node_id}" is {sub.state}; only an armed one can scan a gap.')
            if not gap_rows.set_state(tx, row.pk, was=OPEN, becomes=REPLAYING):
                raise Conflict(f'The gap is "{row.state}"; only an open one can be replayed.')
            # its source takes the subscription up again because of this, after a restart too
            subscriptions.update(tx, sub.pk, updated_at=max(clock.now_ms(), sub.updated_at + 1))
            audit.record(tx, principal, "trigger-gap.replay", row.id, workflowId=workflow_id)
            found = gap_rows.find(tx, principal.org_id, gap_id)
            assert found is not None
            return found

        return await idempotency.write(self._writer, unit, lambda row: self._on_asked(row.workflow_id))
