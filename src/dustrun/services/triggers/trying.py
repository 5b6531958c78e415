"""Previews of triggers: the next times of schedules, and a test of a config before it is published."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from dataclasses import field, replace
from typing import Any, Final, Protocol

from pydantic import ValidationError

from dustrun import clock
from dustrun.catalog import Catalog
from dustrun.core.text.masking import Mask
from dustrun.core.triggers.schedules.due import NextFire, ScheduleProgress, jitter
from dustrun.core.triggers.schedules.preview import UpcomingFire, payload_of, upcoming
from dustrun.core.values import exact_json
from dustrun.core.workflow.definition import ConnectorReference
from dustrun.errors import Code, DustrunError, Invalid, Problem
from dustrun.records import dataclass
from dustrun.sdk.threads import run_beside, run_sized
from dustrun.sdk.trigger import Finding, Trigger, TriggerContext
from dustrun.services.access.principal import Principal
from dustrun.services.connectors.connectors import find_seen
from dustrun.services.connectors.read_hosts import ReadHosts
from dustrun.services.problems import errors_in, problems_of
from dustrun.services.triggers.context import Contexts
from dustrun.services.triggers.subscriptions import Subscription, Subscriptions
from dustrun.services.workflows.workflows import Workflow, Workflows
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Tx
from dustrun.storage.triggers import events, subscriptions
from dustrun.storage.triggers.events import TriggerEventFilters
from dustrun.storage.triggers.subscriptions import SubscriptionRow
from dustrun.storage.workflows import workflows as workflow_rows

# Real events for the test of a trigger: what the world shows now, within bounds.


_WITHIN_S: Final = 15.0
_LISTENS_S: Final = 5.0
_MAY_ASK: Final = "run:inline"


@dataclass(frozen=True, slots=True)
class RecentEvent:
    """The payload of the newest event that was found, or why there is none; `note` is for people."""

    payload: Any
    note: str


class FindsRecent(Protocol):
    """Finds the newest real event of one kind of trigger."""

    async def recent(self, context: TriggerContext, trigger: Trigger, config: Any) -> RecentEvent:
        """Looks within bounds; `payload` None: there is none. Raises `DustrunError`."""
        ...


class RecentOfSources:
    """Asks the source of a polled trigger."""

    async def recent(self, context: TriggerContext, trigger: Trigger, config: Any) -> RecentEvent:
        """The source's events of now."""
        if trigger.recent is None:
            return RecentEvent(None, "The type has no way to find one.")
        found = await trigger.recent(context, config)
        return RecentEvent(found, "The source has none." if found is None else "As the source shows it now.")


class NextOfStreams:
    """Listens to a stream for a moment."""

    async def recent(self, context: TriggerContext, trigger: Trigger, config: Any) -> RecentEvent:
        """The first event that comes; nothing is acknowledged."""
        if trigger.listen is None or not trigger.peeks:
            return RecentEvent(None, "To listen would take events away from those who wait for them.")
        source = trigger.listen(context, config, None)
        try:
            async with asyncio.timeout(_LISTENS_S):
                async for received in source:
                    if received.events:
                        return RecentEvent(dict(received.events[0].payload), "As it has just come.")
        except TimeoutError:
            return RecentEvent(None, f"The source works; nothing came within {_LISTENS_S:g} s.")
        finally:
            if isinstance(source, AsyncGenerator):
                await source.aclose()
        return RecentEvent(None, "The source has closed the connection.")


async def find(
    finders: Mapping[str, FindsRecent], principal: Principal, context: TriggerContext, trigger: Trigger, config: Any
) -> RecentEvent | None:
    """The newest real event, or why there is none; None if a trigger of this kind is not looked for. A test of a polled
    trigger sends its request, so it needs the permission to do that."""
    finder = finders.get(trigger.kind)
    if finder is None:
        return None
    if trigger.kind in ("polled", "streamed") and not principal.may(_MAY_ASK):
        return RecentEvent(None, f'The source was not asked: the key lacks the permission "{_MAY_ASK}".')
    try:
        async with asyncio.timeout(_WITHIN_S):
            return await finder.recent(context, trigger, config)
    except TimeoutError:
        return RecentEvent(None, f"Nothing was found within {_WITHIN_S:g} s.")
    except DustrunError as error:
        return RecentEvent(None, f"None could be found: {error.message}")


SHOWN: Final = 10
"""How many fires a preview shows."""
_OF_WORKFLOW: Final = "The last event of the workflow that started a run."


@dataclass(frozen=True, slots=True)
class NodeSchedule:
    """The fires to come of one trigger. `state`: of its subscription; None if its version is not published."""

    node_id: str
    type: str
    zone_name: str
    state: str | None
    fires: list[UpcomingFire]
    waiting: int = 0


@dataclass(frozen=True, slots=True)
class WorkflowSchedule:
    """The fires to come of a workflow's schedules."""

    workflow_id: str
    version: int
    now: int
    nodes: list[NodeSchedule]

    @property
    def next_run_at(self) -> int | None:
        """When the next run starts, if it is published and not paused."""
        times = [node.fires[0].at for node in self.nodes if node.state == "armed" and node.fires]
        return min(times, default=None)


@dataclass(frozen=True, slots=True)
class TriggerTrial:
    """An event that a trigger with a config would see: a `recent` one, or a `sample`; `note` says where it is from.
    `zone_name` and `fires` are of a schedule."""

    type: str
    kind: str
    origin: str
    payload: Any
    findings: list[Finding]
    zone_name: str | None = None
    fires: list[UpcomingFire] = field(default_factory=list)
    note: str | None = None


@dataclass(frozen=True, slots=True)
class NextRun:
    """When a schedule starts a workflow next."""

    workflow_id: str
    workflow_name: str
    at: int


class TriggerPreviews:
    """Reads what comes next; changes nothing."""

    def __init__(
        self,
        database: Database,
        catalog: Catalog,
        workflows: Workflows,
        subscriptions: Subscriptions,
        contexts: Contexts,
        finders: Mapping[str, FindsRecent],
        read_hosts: ReadHosts,
    ) -> None:
        self._database = database
        self._catalog = catalog
        self._workflows = workflows
        self._subscriptions = subscriptions
        self._contexts = contexts
        self._finders = finders
        self._read_hosts = read_hosts

    async def schedule(self, principal: Principal, workflow_id: str) -> WorkflowSchedule:
        """The next fires of the live version, else of the draft; raises `NotFound`."""
        found = await self._workflows.get(principal, workflow_id)
        if found.row.live_version is not None:
            found = await self._workflows.get_live(principal, workflow_id)
        subs = await self._subscriptions.list_of(workflow_id)
        by_node = {(sub.row.node_id, sub.row.type): sub for sub in subs}
        now = clock.now_ms()
        nodes = await run_beside(self._node_schedules, found, by_node, now)
        return WorkflowSchedule(workflow_id, found.version.version, now, nodes)

    async def soonest(self, principal: Principal, most: int) -> list[NextRun]:
        """When which workflows run next, by every published schedule that the key can reach, soonest first."""
        types = [name for name, one in self._catalog.triggers.items() if one.next_fire is not None]

        def query(tx: Tx) -> list[SubscriptionRow]:
            return [row for one in types for row in subscriptions.list_armed_of(tx, principal.org_id, one)]

        found = await self._database.read(query)
        reached = [row for row in found if principal.may_read_workflow(row.workflow_id)]
        coming = await run_beside(self._soonest, reached, most)

        def names(tx: Tx) -> dict[str, str]:
            named = (workflow_rows.find(tx, principal.org_id, one) for one in {one for one, _ in coming})
            return {row.id: row.name for row in named if row is not None}

        named = await self._database.read(names) if coming else {}
        return [NextRun(one, named.get(one, ""), at) for one, at in coming]

    def _soonest(self, found: list[SubscriptionRow], most: int) -> list[tuple[str, int]]:
        times = [(row.workflow_id, self._next_of(row)) for row in found]
        return sorted(((one, at) for one, at in times if at is not None), key=lambda pair: pair[1])[:most]

    def _next_of(self, row: SubscriptionRow) -> int | None:
        if row.cursor is not None:
            return ScheduleProgress.read(exact_json.loads(row.cursor)).next
        sub = self._subscriptions.parsed(row)
        return None if sub is None else _next_fire(sub.trigger, sub.config)(row.armed_at)

    def _node_schedules(
        self, found: Workflow, subs: Mapping[tuple[str, str], Subscription], now: int
    ) -> list[NodeSchedule]:
        definition = exact_json.loads(found.version.definition)
        nodes: list[NodeSchedule] = []
        for node_id in definition.get("triggerNodeIds", ["root"]):
            node = definition["nodes"].get(node_id, {})
            trigger = self._catalog.triggers.get(node.get("type"))
            if trigger is None or trigger.next_fire is None:
                continue
            try:
                config = trigger.config.model_validate(node.get("payload", {}))
            except ValidationError:
                continue  # an unfinished draft
            nodes.append(_node_schedule(node_id, trigger, config, subs.get((node_id, trigger.type)), now))
        return nodes

    async def test(
        self,
        principal: Principal,
        trigger_type: str,
        config: Mapping[str, Any],
        workflow_id: str | None = None,
        connector_id: str | None = None,
    ) -> TriggerTrial:
        """What a trigger with this config and connector would see, without secrets. Raises `NotFound`, `Invalid`, and
        `Refused` where the key may not have a host asked."""
        self._catalog.public_trigger(trigger_type, summary=True)
        trigger, mask = self._catalog.triggers[trigger_type], Mask()
        checked = await run_beside(_checked, trigger, config)
        if principal.may("run:inline"):  # for others no source is asked
            await self._read_hosts.check_look(principal, trigger_type, config)
        reference = await self._reference(principal, trigger_type, connector_id)
        context = await self._contexts.open(
            principal.org_id, reference, mask, principal.workflow_ids, principal, reads=trigger.kind == "streamed"
        )
        tested = await self._test(principal, context, trigger, checked, workflow_id)
        return await run_sized(tested.payload, _masked, tested, mask) if mask else tested

    async def _test(
        self, principal: Principal, context: TriggerContext, trigger: Trigger, checked: Any, workflow_id: str | None
    ) -> TriggerTrial:
        trigger_type, recent = trigger.type, None
        if workflow_id is not None:
            await self._workflows.get(principal, workflow_id)
            if principal.may("run:read"):  # as the event log asks for
                recent = await self._recent(principal, trigger_type, workflow_id)
        findings = await trigger.check(context, checked)
        note = _OF_WORKFLOW if recent is not None else None
        if recent is None and not any(one.severity == "error" for one in findings):
            found = await find(self._finders, principal, context, trigger, checked)
            recent, note = (None, None) if found is None else (found.payload, found.note)
        origin = "sample" if recent is None else "recent"
        if trigger.next_fire is None:
            payload = trigger.sample_of(checked) if recent is None else recent
            return TriggerTrial(trigger_type, trigger.kind, origin, payload, findings, note=note)
        zone_name = trigger.policy(checked).zone_name
        fires = await run_beside(upcoming, _next_fire(trigger, checked), zone_name, clock.now_ms(), SHOWN)
        sample = payload_of(zone_name, fires[0].at) if fires else trigger.sample_of(checked)
        payload = sample if recent is None else recent
        return TriggerTrial(trigger_type, trigger.kind, origin, payload, findings, zone_name, fires, note)

    async def _reference(
        self, principal: Principal, trigger_type: str, connector_id: str | None
    ) -> ConnectorReference | None:
        """The connector that a test names, if the trigger takes it and the key may see it."""
        if connector_id is None:
            return None

        def query(tx: Tx) -> str | None:
            row = find_seen(tx, principal, connector_id)
            return None if row is None else row.type

        type_ = await self._database.read(query)
        taken = self._catalog.specs()[trigger_type].connectors
        if type_ is None:
            raise _refused(f'There is no connector "{connector_id}".')
        if not taken:
            raise _refused(f'"{trigger_type}" uses no connector; leave connectorId out.')
        if type_ not in taken:
            raise _refused(f'"{trigger_type}" takes no connector of type "{type_}", only {", ".join(taken)}.')
        return ConnectorReference(type=type_, id=connector_id)

    async def _recent(self, principal: Principal, trigger_type: str, workflow_id: str) -> Any:
        wanted = TriggerEventFilters(
            org_id=principal.org_id, workflow_id=workflow_id, type=trigger_type, outcome=events.STARTED
        )
        found = await self._database.read(lambda tx: events.list_page(tx, wanted, limit=1, offset=0))
        return exact_json.loads(found[0].payload) if found else None


def _checked(trigger: Trigger, config: Mapping[str, Any]) -> Any:
    try:
        return trigger.config.model_validate(config)
    except ValidationError as error:
        problems = problems_of(errors_in(error, config, trigger.config.model_validate), whole="", model=trigger.config)
        named = [Problem(f"config.{one.field}".rstrip("."), one.message, one.code) for one in problems]
        raise Invalid("The config is not valid.", code=Code.BODY_INVALID, details=named) from None


def _refused(message: str) -> Invalid:
    return Invalid(message, code=Code.BODY_INVALID, details=[Problem("connectorId", message)])


def _masked(tested: TriggerTrial, mask: Mask) -> TriggerTrial:
    findings = [replace(one, message=mask.text(one.message)) for one in tested.findings]
    note = None if tested.note is None else mask.text(tested.note)
    return replace(tested, payload=mask.value(tested.payload), findings=findings, note=note)


def _next_fire(trigger: Trigger, config: Any) -> NextFire:
    find = trigger.next_fire
    assert find is not None
    return lambda after: find(config, after, None)


def _node_schedule(node_id: str, trigger: Trigger, config: Any, sub: Subscription | None, now: int) -> NodeSchedule:
    policy, next_fire = trigger.policy(config), _next_fire(trigger, config)
    state = sub.row.state if sub is not None else None
    cursor = sub.cursor if sub is not None else None
    waiting = len(ScheduleProgress.read(cursor).waiting) if cursor is not None else 0
    fires = [] if state == "ended" else upcoming(next_fire, policy.zone_name, now, SHOWN)
    if policy.jitter_ms and sub is not None:
        fires = [_delayed(fire, jitter(sub.id, fire.at, policy.jitter_ms)) for fire in fires]
    return NodeSchedule(node_id, trigger.type, policy.zone_name, state, fires, waiting)


def _delayed(fire: UpcomingFire, by_ms: int) -> UpcomingFire:
    note = f"Starts {by_ms} ms later (jitterMs)."
    return UpcomingFire(fire.at, fire.local_time, f"{fire.note} {note}" if fire.note else note)
