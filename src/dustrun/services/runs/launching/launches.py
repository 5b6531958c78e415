"""Launches: who may, starts a run as its rehearsal showed it; for anybody else a person decides."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from dustrun import clock
from dustrun.core import stream_events
from dustrun.core.hooks import LAUNCH_PROPOSED
from dustrun.core.run.state import Mode
from dustrun.core.values.exact_json import dumps_text, loads
from dustrun.core.workflow.program import Program
from dustrun.errors import Code, Conflict, Forbidden, Invalid, NotFound, Problem
from dustrun.listeners import Listeners
from dustrun.records import dataclass
from dustrun.services.access import audit, idempotency
from dustrun.services.access.principal import Principal
from dustrun.services.runs import may_start
from dustrun.services.runs.launching import decision as matching
from dustrun.services.runs.launching.decision import Decision, Direct, LaunchDecision, LaunchRequest, RehearsedReach
from dustrun.services.runs.reporting.reports import RunReports
from dustrun.services.runs.runs import Runs
from dustrun.services.runs.start import Starts
from dustrun.services.runs.start_request import RunRequest
from dustrun.services.streaming.broadcaster import ActivityNotice, Broadcaster
from dustrun.services.workflows.compiled import CompiledWorkflows
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Tx
from dustrun.storage.db.writer import Writer
from dustrun.storage.hooks import reading
from dustrun.storage.runs import approvals as rows
from dustrun.storage.runs import runs as run_rows
from dustrun.storage.runs.approvals import APPROVED, PENDING, ApprovalRow
from dustrun.storage.runs.runs import RunRow

# Tells of launches that wait for a person: hooks, and who reads the activity.


def _told(row: ApprovalRow) -> dict[str, Any]:
    return {"approvalId": row.id, "message": row.message, "until": clock.to_rfc3339(row.expires_at)}


def note(tx: Tx, row: ApprovalRow) -> None:
    """Tells hooks, in the transaction that stores the question. `run_id` is the simulation's."""
    reading.add(
        tx,
        org_id=row.org_id,
        type_=LAUNCH_PROPOSED,
        at=row.created_at,
        data=_told(row),
        workflow_id=row.workflow_id,
        run_id=row.run_id,
        mode=row.mode,
    )


class ProposedLaunches:
    """Tells the readers of the activity. The approval is what stays; a stream only shows it."""

    def __init__(self, hub: Broadcaster) -> None:
        self._hub = hub

    def tell(self, row: ApprovalRow) -> None:
        """A launch was proposed."""
        data = {**_told(row), "runId": row.run_id, "mode": row.mode}
        self._hub.announce(
            row.org_id, ActivityNotice(stream_events.LAUNCH_PROPOSED, row.created_at, row.workflow_id, dumps_text(data))
        )


_GOOD_FOR_MS: Final = 15 * 60_000
_VERBS = {Mode.LIVE: "Run", Mode.DUST: "Test with dust amounts"}


@dataclass(frozen=True, slots=True)
class Launch:
    """The outcome of a proposal: a run that has started, or a question to a person."""

    run_id: str
    approval: ApprovalRow | None = None

    @property
    def has_started(self) -> bool:
        """Whether the run has started."""
        return self.approval is None


@dataclass(frozen=True, slots=True)
class _Proposal:
    """A request whose rehearsal matches."""

    asked: LaunchRequest
    rehearsal: RunRow
    program: Program
    binding: str
    closure: str

    @property
    def run_id(self) -> str:
        """The run that it would start."""
        return matching.run_id_of(self.binding)


Also = Callable[[Tx, ApprovalRow], None]


def _nothing_else(_tx: Tx, _row: ApprovalRow) -> None:
    return None


class Launches:
    """Starts runs for real that one simulation has shown, or asks a person to."""

    def __init__(
        self,
        database: Database,
        writer: Writer,
        programs: CompiledWorkflows,
        starts: Starts,
        runs: Runs,
        reports: RunReports,
        reach: RehearsedReach,
    ) -> None:
        self._database = database
        self._writer = writer
        self._programs = programs
        self._starts = starts
        self._runs = runs
        self._reports = reports
        self._reach = reach
        self.on_decided: Listeners[[ApprovalRow]] = Listeners()
        """Called with each launch that was approved or rejected."""
        self.on_proposed: Listeners[[ApprovalRow]] = Listeners()
        """Called with each question about a launch, once it is asked."""

    async def propose(
        self, principal: Principal, asked: LaunchRequest, *, as_assistant: bool = False, also: Also = _nothing_else
    ) -> Launch:
        """Starts the run if the key could start it anyway; otherwise asks a person, who is not the key's. An assistant
        always asks, and the key that it works for may decide. `also` writes what follows from the question, in its
        transaction. Raises `Conflict` (`REHEARSAL_MISMATCH`)."""
        principal.need("workflow:simulate")
        principal.need_workflow(asked.workflow_id)
        if asked.mode is Mode.SIMULATE:
            raise Invalid("A launch is `live` or `dust`.", details=[Problem("mode", "must be live or dust")])
        proposal = await self._judge(principal, asked)
        if not as_assistant and await self._may_start(principal, proposal.program):
            return await self._start(principal, proposal)
        row = _question(principal, proposal, None if as_assistant else principal.key_id)

        def unit(tx: Tx) -> tuple[ApprovalRow, bool]:
            asked_now, is_new = self._ask(tx, principal, proposal, row)
            also(tx, asked_now)
            return asked_now, is_new

        question, is_new = await self._writer.write(unit)
        if is_new:
            self.on_proposed(question)
        return Launch(proposal.run_id, question)

    async def _judge(self, principal: Principal, asked: LaunchRequest) -> _Proposal:
        run = (await self._runs.get(principal, asked.rehearsal_run_id, slim=True)).row
        _need_readable(principal, run)
        compiled = await self._programs.find(asked.workflow_id, asked.version)
        if compiled is None or run.org_id != principal.org_id:
            raise NotFound(f"The workflow has no version {asked.version}.", code=Code.VERSION_UNKNOWN)
        payload: dict[str, Any] = asked.payload
        if run.workflow_id == asked.workflow_id and run.version == asked.version:
            payload = await may_start.accept(self._runs.catalog, compiled, run.trigger_node_id, asked.payload)
        matching.check(asked, payload, run, clock.now_ms())
        closure = await self._reach.slicing(
            lambda: self._database.read(lambda tx: self._reach.check(tx, principal, run, asked.mode))
        )
        report = await self._reports.effects(principal, run.id)
        binding = matching.binding_of(asked, payload, report)
        return _Proposal(asked, run, compiled.runnable(), binding, closure)

    async def _may_start(self, principal: Principal, program: Program) -> bool:
        """Whether the key could start the run by itself."""
        if not (principal.may("workflow:execute") and principal.may("wallet:spend")):
            return False
        try:
            await self._database.read(
                lambda tx: may_start.check_spending(tx, principal, program) if program.wallets else None
            )
        except Forbidden:
            return False
        return True

    async def _start(self, principal: Principal, proposal: _Proposal) -> Launch:
        request = _request(proposal.rehearsal, proposal.asked.mode, proposal.run_id, proposal.asked.chat_message_id)
        try:
            await self._starts.start(principal, proposal.asked.workflow_id, request, Direct(proposal.rehearsal))
        except Conflict as error:
            if error.code is not Code.REHEARSAL_MISMATCH or not await self._has_started(proposal):
                raise
        return Launch(proposal.run_id)

    async def _has_started(self, proposal: _Proposal) -> bool:
        org_id, rehearsal = proposal.rehearsal.org_id, proposal.rehearsal.id
        run = await self._database.read(lambda tx: run_rows.find_launched(tx, org_id, rehearsal))
        return run is not None and run.id == proposal.run_id

    def _ask(self, tx: Tx, principal: Principal, proposal: _Proposal, row: ApprovalRow) -> tuple[ApprovalRow, bool]:
        """The question, and whether it was asked just now."""
        known = rows.find(tx, row.org_id, row.id)
        if known is not None and known.status == PENDING and known.binding == row.binding:
            return known, False
        if known is not None or run_rows.find_launched(tx, row.org_id, row.run_id) is not None:
            raise matching.mismatch(row.run_id, [Problem("rehearsalRunId", "it was used for a launch already")])
        message_id = proposal.asked.chat_message_id
        if message_id is not None and not run_rows.has_message(tx, row.org_id, message_id):
            message = f'"{message_id}" names no message of this organisation.'
            raise Invalid(message, code=Code.CHAT_MESSAGE_UNKNOWN, details=[Problem("chatMessageId", message)])
        rows.add(tx, row)
        audit.record(tx, principal, "launch.propose", row.id, runId=proposal.run_id, rehearsalRunId=row.run_id)
        note(tx, row)
        return row, True

    async def decide(self, principal: Principal, row: ApprovalRow, decision: Decision) -> ApprovalRow:
        """Records the decision; an approval starts the run in the same transaction."""
        decided = await (self._approve if decision.outcome == APPROVED else self._reject)(principal, row, decision)
        self.on_decided(decided)
        return decided

    async def _reject(self, principal: Principal, row: ApprovalRow, decision: Decision) -> ApprovalRow:
        deciding = LaunchDecision(principal, row, decision, self._reach)
        return await idempotency.write(self._writer, deciding.close)

    async def _approve(self, principal: Principal, row: ApprovalRow, decision: Decision) -> ApprovalRow:
        principal.need("workflow:execute")
        launch: dict[str, Any] = loads(row.launch or "{}")
        rehearsal = await self._database.read(lambda tx: run_rows.get(tx, row.run_pk))
        request = _request(rehearsal, Mode(row.mode), launch["runId"], launch["chatMessageId"])
        deciding = LaunchDecision(principal, row, decision, self._reach)
        assert row.workflow_id is not None
        await self._starts.start(principal, row.workflow_id, request, deciding)
        assert deciding.decided is not None
        return deciding.decided


def _need_readable(principal: Principal, run: RunRow) -> None:
    """Raises `NotFound` for the run of another key if this one reads no runs: what differs from it would tell of it."""
    if not principal.may("run:read") and run.triggered_by != principal.key_id:
        raise NotFound(f'There is no run "{run.id}".', code=Code.RUN_UNKNOWN)


def _request(rehearsal: RunRow, mode: Mode, run_id: str, chat_message_id: str | None) -> RunRequest:
    """The run call that repeats a rehearsal."""
    return RunRequest(
        payload=loads(rehearsal.payload),
        version=rehearsal.version,
        run_id=run_id,
        dust_test=mode is Mode.DUST,
        chat_message_id=chat_message_id,
        trigger_node_id=rehearsal.trigger_node_id,
        prop_values=loads(rehearsal.prop_values),
        source="launch",
        rehearsal_run_id=rehearsal.id,
    )


def _question(principal: Principal, proposal: _Proposal, barred_key: str | None) -> ApprovalRow:
    """The question to a person, from what the server knows. It ends with the rehearsal at the latest."""
    run, asked, now = proposal.rehearsal, proposal.asked, clock.now_ms()
    launch = {
        "version": asked.version,
        "runId": proposal.run_id,
        "closure": proposal.closure,
        "proposedBy": principal.key_id,
        "chatMessageId": asked.chat_message_id,
    }
    return ApprovalRow(
        id=matching.approval_id_of(run.org_id, run.pk),
        org_id=run.org_id,
        run_pk=run.pk,
        run_id=run.id,
        workflow_id=run.workflow_id,
        workflow_name=run.workflow_name,
        path="",
        message=f'{_VERBS[asked.mode]}: version {asked.version} of "{run.workflow_name}", as {run.id} has shown it?',
        approvers="[]",
        mode=asked.mode.value,
        status=PENDING,
        created_at=now,
        expires_at=min(now + _GOOD_FOR_MS, run.started_at + matching.OLDEST_MS),
        binding=proposal.binding,
        barred_key=barred_key,
        launch=dumps_text(launch),
    )
