"""Back-tests: what a workflow would have done with the events of the past, simulated on the state of each moment."""

from __future__ import annotations

import asyncio
import contextvars
import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from dustrun import clock, ids, log
from dustrun.core.run.as_of import AsOf
from dustrun.core.run.effect_sums import EffectSums
from dustrun.core.run.state import RUN_OPEN, RunStatus
from dustrun.core.triggers.limits import Skip, StartLimits, decide
from dustrun.core.values.exact_json import dumps_text, loads_own
from dustrun.errors import Code, Conflict, DustrunError, Invalid, NotFound, Problem, Temporary, Uncertain
from dustrun.records import dataclass
from dustrun.sdk.threads import run_beside
from dustrun.sdk.trigger import Trigger
from dustrun.services.access import idempotency
from dustrun.services.access.api_keys import principal_of
from dustrun.services.access.paging import Page, Paging, page_of
from dustrun.services.access.principal import Principal
from dustrun.services.runs.reporting.reports import RunReports
from dustrun.services.runs.runs import Runs
from dustrun.services.runs.start import Starts
from dustrun.services.runs.start_request import RunRequest
from dustrun.services.triggers.backtest.past_events import FindsEvents, PastEvent, PastTrigger, Period
from dustrun.services.triggers.recording import PAYLOAD
from dustrun.services.workflows.compiled import CompiledWorkflow, CompiledWorkflows
from dustrun.storage.access import keys as key_rows
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Tx
from dustrun.storage.db.writer import Writer
from dustrun.storage.sharing import leases
from dustrun.storage.triggers import backtests as rows
from dustrun.storage.triggers.backtests import DONE, FAILED, RUNNING, BacktestRow
from dustrun.storage.workflows import versions as version_rows
from dustrun.storage.workflows import workflows as workflow_rows
from dustrun.storage.workflows.workflows import WorkflowRow

# What a back-test found: a line per event, the sum of effects, and what was refused.


Json = dict[str, Any]
_MOST_IDS = 5
_NO_STATE = (
    "No endpoint has the chain's state of that moment: full nodes keep about 128 blocks, an archive node keeps all. "
    "Configure one in `chain_endpoints`."
)


class BacktestReport:
    """Reads the runs of a back-test."""

    def __init__(self, reports: RunReports) -> None:
        self._reports = reports

    async def make(self, principal: Principal, row: BacktestRow) -> Json:
        """The report over the runs so far."""
        sums, events, refused = EffectSums(), list[Json](), dict[str, Json]()
        for place, shown in enumerate(loads_own(row.events)):
            line = {"key": shown["key"], "occurredAt": shown["occurredAt"], "blocks": shown["blocks"]}
            line |= {"skipped": shown["skip"], "runId": None, "status": None, "error": None}
            if shown["skip"] is None:
                await self._add(principal, run_id_of(row.id, place), line, (sums, refused))
            events.append(line)
        lost = refused.get(Code.SIM_FORK_LOST.name)
        return {
            "events": events,
            "totals": sums.public(),
            "skipped": _counted(one["skipped"] for one in events if one["skipped"] is not None),
            "refused": list(refused.values()),
            "stateMissing": {"count": 0 if lost is None else lost["count"], "message": _NO_STATE if lost else None},
        }

    async def _add(
        self, principal: Principal, run_id: str, line: Json, kept: tuple[EffectSums, dict[str, Json]]
    ) -> None:
        sums, refused = kept
        try:
            report = await self._reports.effects(principal, run_id)
        except NotFound:  # not begun yet, or removed since
            return
        line |= {"runId": run_id, "status": report["status"]}
        if RunStatus(report["status"]) in RUN_OPEN:
            return
        sums.add(report)
        failed = [one for one in report["notPassed"] if one["code"] == "NODE_FAILED"]
        for one in failed:
            code, _, message = one["message"].partition(": ")
            line["error"] = line["error"] or {"code": code, "message": message, "path": one["path"]}
            _note(refused, code, message, run_id)


def _note(refused: dict[str, Json], code: str, message: str, run_id: str) -> None:
    found = refused.setdefault(code, {"code": code, "message": message, "count": 0, "runIds": []})
    found["count"] += 1
    if len(found["runIds"]) < _MOST_IDS:
        found["runIds"].append(run_id)


def _counted(reasons: Any) -> Json:
    counts: dict[str, int] = {}
    for reason in reasons:
        counts[reason] = counts.get(reason, 0) + 1
    return counts


def run_id_of(backtest_id: str, place: int) -> str:
    """The id of the run of an event, so that no event is simulated twice."""
    return f"run_{hashlib.sha256(f'{backtest_id} {place}'.encode()).hexdigest()[:40]}"


SOURCE: Final = "backtest"
_MOST_AT_ONCE: Final = 4  # back-tests of one organisation
_RUN_WITHIN_S: Final = 120.0
_AGAIN_S: Final = 1.0
_logger = log.get("dustrun.backtests")


@dataclass(frozen=True, slots=True, kw_only=True)
class BacktestRequest:
    """What is asked for. Without `version` the live version, else the draft; without `trigger_node_id` the only trigger
    that fires by itself."""

    period: Period
    version: int | None = None
    trigger_node_id: str | None = None
    count: int = 50
    prop_values: Mapping[str, Any] | None = None


class _Stopping(Exception):
    """The server stops; the back-test goes on after the next start."""


@dataclass(frozen=True, slots=True)
class Deps:
    """What back-tests use. `holder`: in a shared store this process, which holds a lease for each of its back-tests."""

    database: Database
    writer: Writer
    starts: Starts
    runs: Runs
    programs: CompiledWorkflows
    report: BacktestReport
    holder: str | None = None


class Backtests:
    """Finds past events, simulates a run for each, and reports. What is unfinished goes on after a restart."""

    def __init__(self, deps: Deps, finders: Mapping[str, FindsEvents], recorded: FindsEvents) -> None:
        self._deps = deps
        self._finders = finders
        self._recorded = recorded
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def begin(self, principal: Principal, workflow_id: str, request: BacktestRequest) -> BacktestRow:
        """Finds the events and begins to simulate them. Raises `Invalid` for a period or trigger that cannot be
        searched, `Conflict` when too many back-tests are running."""
        principal.need_workflow(workflow_id)
        await self._deps.database.read(lambda tx: _need_room(tx, principal.org_id))  # before events are looked for
        workflow = await self._deps.database.read(lambda tx: workflow_rows.find(tx, principal.org_id, workflow_id))
        if workflow is None:
            raise NotFound(f'There is no workflow "{workflow_id}".', code=Code.WORKFLOW_UNKNOWN)
        version = request.version or workflow.live_version or workflow.draft_version or workflow.latest_version
        compiled = await self._deps.programs.find(workflow_id, version)
        if compiled is None:
            raise NotFound(f"The workflow has no version {version}.", code=Code.VERSION_UNKNOWN)
        compiled.runnable()
        node_id, trigger = self._trigger_of(compiled, request)
        asked = PastTrigger(principal.org_id, workflow_id, node_id, trigger, compiled.trigger_configs[node_id])
        finder = self._finders.get(trigger.kind, self._recorded)
        found = await finder.find(asked, request.period, request.count + 1)
        about = version, node_id, trigger.type
        accepts = partial(self._accepts, compiled, node_id)
        row = await run_beside(_row_of, principal, workflow, about, request, found, accepts)

        def unit(tx: Tx) -> BacktestRow:
            workflow_rows.keep_draft(tx, row.org_id, workflow_id, version)
            if version_rows.find(tx, workflow_id, version) is None:  # an autosave came in between
                raise NotFound(f"The workflow has no version {version}.", code=Code.VERSION_UNKNOWN)
            _need_room(tx, row.org_id)  # others may have begun meanwhile, here or in another process
            rows.insert(tx, row)
            self._is_ours(tx, row)
            return row

        await idempotency.write(self._deps.writer, unit)
        self._go_on(row)
        return row

    def _accepts(self, compiled: CompiledWorkflow, node_id: str, event: PastEvent) -> bool:
        """Whether the trigger's schema lets the event through."""
        trigger = self._deps.runs.catalog.triggers[compiled.definition.nodes[node_id].type]
        try:
            trigger.accept(compiled.trigger_configs[node_id], event.payload)
        except Invalid:
            return False
        return True

    def _trigger_of(self, compiled: CompiledWorkflow, request: BacktestRequest) -> tuple[str, Trigger]:
        nodes, catalog = compiled.definition.nodes, self._deps.runs.catalog
        triggers = {name: catalog.triggers[nodes[name].type] for name in compiled.definition.trigger_node_ids}
        wanted = request.trigger_node_id
        if wanted is not None and wanted not in triggers:
            message = f'"{wanted}" names no trigger of this version; it has: {", ".join(triggers)}.'
            raise Invalid(message, code=Code.TRIGGER_NODE_UNKNOWN, details=[Problem("triggerNodeId", message)])
        firing = {name: trigger for name, trigger in triggers.items() if trigger.is_armed}
        if wanted is None and len(firing) != 1:
            if not firing:
                message = "no trigger of this version fires by itself, so it has no past events"
                raise Invalid("There is no trigger to test.", details=[Problem("triggerNodeId", message)])
            message = f"says which trigger; those that fire by themselves: {', '.join(firing)}"
            raise Invalid("Say which trigger to test.", details=[Problem("triggerNodeId", message)])
        node_id = wanted if wanted is not None else next(iter(firing))
        if node_id not in firing:
            raise Invalid(
                f'"{node_id}" is fired by a caller, so it has no events of its own.',
                details=[Problem("triggerNodeId", "must name a trigger that fires by itself")],
            )
        return node_id, firing[node_id]

    async def get(self, principal: Principal, backtest_id: str) -> BacktestRow:
        """A back-test; raises `NotFound`."""
        row = await self._deps.database.read(lambda tx: rows.find(tx, principal.org_id, backtest_id))
        if row is None or not principal.may_use_workflow(row.workflow_id):
            raise NotFound(f'There is no back-test "{backtest_id}".', code=Code.BACKTEST_UNKNOWN)
        return row

    async def list_page(self, principal: Principal, workflow_id: str, paging: Paging) -> Page[BacktestRow]:
        """Lists a workflow's back-tests, newest first."""
        await self._deps.runs.check_workflow(principal, workflow_id)
        found = await self._deps.database.read(
            lambda tx: rows.list_of(tx, principal.org_id, workflow_id, limit=paging.peek, offset=paging.offset)
        )
        return page_of(found, paging)

    async def wait(self, principal: Principal, row: BacktestRow, within_s: float) -> BacktestRow:
        """The back-test once it has ended, or as it is when the time is up."""
        task = self._tasks.get(row.id)
        if task is not None and within_s > 0:
            await asyncio.wait([task], timeout=within_s)
        return await self.get(principal, row.id)

    async def start(self) -> None:
        """Goes on with what a stop of the server interrupted."""
        await self.take_over()

    async def take_over(self) -> None:
        """Goes on with what a process left when it ended; with nothing that another one carries out."""

        def unit(tx: Tx) -> list[BacktestRow]:
            found = [row for row in rows.list_running(tx) if row.id not in self._tasks]
            return [row for row in found if self._is_ours(tx, row)]

        for row in await self._deps.writer.write(unit):
            if row.id not in self._tasks:
                self._go_on(row)

    def _is_ours(self, tx: Tx, row: BacktestRow) -> bool:
        """Whether no other living process carries it out."""
        return self._deps.holder is None or leases.take(tx, _lease_of(row.id), self._deps.holder) is not None

    async def stop(self) -> None:
        """Stops; the rest is simulated after the next start."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _go_on(self, row: BacktestRow) -> None:
        # a context of its own: the request that began it has its own log fields and its own Idempotency-Key
        task = asyncio.get_running_loop().create_task(self._carry_out(row), context=contextvars.Context())
        self._tasks[row.id] = task
        task.add_done_callback(lambda _: self._tasks.pop(row.id, None))

    async def _carry_out(self, row: BacktestRow) -> None:
        """Carries a back-test out to its end; while the store is away, again and again."""
        while True:
            try:
                await self._finish(row, *await self._outcome(row))
                return
            except _Stopping:
                return
            except (Temporary, Uncertain) as error:
                _logger.failed("a back-test waits", error, backtest_id=row.id)
                await asyncio.sleep(_AGAIN_S)

    async def _outcome(self, row: BacktestRow) -> tuple[str, str | None, str | None]:
        """How a back-test ends: its status, its report or what went wrong. What was simulated before is not again."""
        try:
            key = await self._deps.database.read(lambda tx: key_rows.find(tx, row.org_id, row.key_id))
            assert key is not None, "keys are never deleted"
            principal, asked = principal_of(key), loads_own(row.asked)
            for place, shown in enumerate(loads_own(row.events)):
                if shown["skip"] is None:
                    await self._simulate(principal, row, asked["propValues"], (place, PastEvent.of(shown)))
            return DONE, dumps_text(await self._deps.report.make(principal, row)), None
        except (_Stopping, Temporary, Uncertain):
            raise
        except DustrunError as error:
            return FAILED, None, error.message
        except Exception as error:
            _logger.error("a back-test failed", backtest_id=row.id, exc_info=error)
            return FAILED, None, "An unexpected error; the server's log has it."

    async def _finish(self, row: BacktestRow, status: str, report: str | None, error: str | None) -> None:
        now = clock.now_ms()

        def unit(tx: Tx) -> None:
            if not self._is_ours(tx, row):  # this process was held up for so long that another one took it over
                return
            rows.finish(tx, row.id, status=status, report=report, error=error, now=now)
            if self._deps.holder is not None:
                leases.forget(tx, _lease_of(row.id), self._deps.holder)

        await self._deps.writer.write(unit)

    async def _simulate(
        self, principal: Principal, row: BacktestRow, props: dict[str, Any], placed: tuple[int, PastEvent]
    ) -> None:
        place, event = placed
        run_id = run_id_of(row.id, place)
        request = RunRequest(
            payload=event.payload,
            version=row.version,
            run_id=run_id,
            simulate=True,
            trigger_node_id=row.node_id,
            prop_values=props,
            source=SOURCE,
            as_of=AsOf(event.occurred_at, event.blocks),
            headers=dict(event.headers),
            query=dict(event.query),
        )
        for attempt in range(10):
            try:
                with log.scope():  # the lines about the back-test are not of this run
                    await self._deps.starts.start(principal, row.workflow_id, request)
                break
            except Temporary as error:
                await asyncio.sleep(min(error.retry_after_s or 1, 5) * (attempt + 1))
            except Invalid as error:
                if error.code != Code.RUN_ID_USED:  # it began before a restart
                    raise
                break
        until = clock.monotonic_s() + _RUN_WITHIN_S
        reached = await self._deps.runs.waits.wait(row.org_id, run_id, _RUN_WITHIN_S)
        if reached is None and clock.monotonic_s() < until:
            raise _Stopping


def _need_room(tx: Tx, org_id: str) -> None:
    if rows.count_running(tx, org_id) >= _MOST_AT_ONCE:
        raise Conflict(f"{_MOST_AT_ONCE} back-tests are running; wait until one of them has ended.")


def _lease_of(backtest_id: str) -> str:
    return f"{leases.ONCE}backtest:{backtest_id}"


def _row_of(
    principal: Principal,
    workflow: WorkflowRow,
    about: tuple[int, str, str],
    request: BacktestRequest,
    found: Sequence[PastEvent],
    accepts: Callable[[PastEvent], bool],
) -> BacktestRow:
    version, node_id, type = about
    events, period = found[: request.count], request.period
    skips = _skips(events, workflow.max_runs, workflow.cooldown_ms, accepts)
    asked = {"from": period.from_ms, "to": period.to_ms, "fromBlock": period.from_block, "toBlock": period.to_block}
    return BacktestRow(
        id=ids.new_id("bt"),
        org_id=principal.org_id,
        workflow_id=workflow.id,
        version=version,
        node_id=node_id,
        type=type,
        key_id=principal.key_id,
        asked=dumps_text(asked | {"limit": request.count, "propValues": dict(request.prop_values or {})}),
        status=RUNNING,
        events=dumps_text([one.public() | {"skip": skip} for one, skip in zip(events, skips, strict=True)]),
        is_cut=int(len(found) > len(events)),
        created_at=clock.now_ms(),
    )


def _skips(
    events: Sequence[PastEvent], max_runs: int | None, cooldown_ms: int | None, accepts: Callable[[PastEvent], bool]
) -> list[str | None]:
    """For each event, why it would have started no run; None: it would have. A payload that the trigger refuses counts
    against no limit."""
    last: int | None = None
    left, found = max_runs, list[str | None]()
    for event in events:
        verdict = decide(StartLimits("active", left, cooldown_ms, last), event.occurred_at)
        if isinstance(verdict, Skip):
            found.append(verdict.reason)
        elif not accepts(event):
            found.append(PAYLOAD)
        else:
            last, left = event.occurred_at, verdict.remain_runs
            found.append(None)
    return found
