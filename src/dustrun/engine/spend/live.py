"""A node that spends, live or as a dust test: its action plans a spend, the outbox executes it, the action finishes.

Nothing here signs or sends. Every step may be interrupted at any moment and repeated: stored intents win, and the input
that they were made from is stored with them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

from pydantic import BaseModel, ValidationError

from dustrun import clock, log
from dustrun.core.money.intent import Spend, Spent
from dustrun.core.run.plan import Holds
from dustrun.core.validate import field_path
from dustrun.core.workflow.definition import WALLET, ConnectorReference
from dustrun.core.workflow.program import Program
from dustrun.engine.node.context import NodeContext
from dustrun.engine.node.outcome import Failed, Interrupted, Job, Outcome, Settled, Suspended, as_dust, of_error
from dustrun.engine.node.roots import until_known
from dustrun.engine.node.time_limits import plan_within
from dustrun.errors import CommitUnknown, DustrunError, StoreUnavailable, Temporary
from dustrun.records import dataclass
from dustrun.services.outbox.spend_status import ALLOWANCE_MET, IntentFailure, Outbox, SpendRequest, SpendStatus
from dustrun.services.preview.spend_reports import ReportPlace
from dustrun.services.runs.engine_port import RunFacts
from dustrun.settings import Settings

_logger = log.get(__name__)
_LOOK_AGAIN_MS = 2_000
_PASSING = "TEMPORARY"
_INPUT, _NOTES, _DUST, _ASSUMED, _ATTEMPT, _WALLET = "input", "notes", "dust", "assumed", "attempt", "walletId"
_AHEAD = "ahead"
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Scaled:
    """An input with its amounts scaled to dust, and the scaled amounts to show."""

    value: BaseModel
    entries: tuple[Mapping[str, Any], ...]


class Dust(Protocol):
    """Scales amounts to dust."""

    async def scale(self, job: Job, facts: RunFacts, context: NodeContext) -> Scaled:
        """The input with its amounts scaled; raises `Refused` when an amount cannot or must not be scaled."""
        ...

    async def plan(self, facts: RunFacts, program: Program, payload: Mapping[str, Any]) -> Json:
        """The planned spending of a run, as far as it is known before."""
        ...


class Reports(Protocol):
    """Describes spends for the effects report."""

    async def sent(self, status: SpendStatus) -> Json:
        """Facts of intents that have ended."""
        ...

    async def simulated(
        self,
        transactions: Sequence[Mapping[str, Any]],
        signatures: Sequence[Mapping[str, Any]],
        place: ReportPlace,
    ) -> Json:
        """Facts of simulated intents."""
        ...


class Guard(Protocol):
    """Compares live spends with their rehearsal."""

    async def check(self, facts: RunFacts, path: str, wallet_id: str, spend: Spend) -> None:
        """Raises `Refused` when the spend exceeds the rehearsed one."""
        ...


class LiveSpend:
    """Executes nodes that spend, live and as a dust test."""

    def __init__(self, outbox: Outbox, guard: Guard, dust: Dust, reports: Reports, settings: Settings) -> None:
        self.outbox = outbox
        self._guard = guard
        self._dust = dust
        self._reports = reports
        self._settings = settings

    async def dust_plan(self, facts: RunFacts, program: Program, payload: Mapping[str, Any]) -> Json:
        """The plan that a dust test logs before its first signature."""
        return await self._dust.plan(facts, program, payload)

    async def carry_out(
        self, job: Job, facts: RunFacts, context: NodeContext, is_cancelled: Callable[[], bool]
    ) -> Outcome:
        """One step, as far as possible without waiting; after a cancel nothing new is signed. Raises `StoreUnavailable`
        or `CommitUnknown` if the store could not be reached: whatever is stored wins, so the step may be repeated."""
        request, given = self._request(job, facts, context.wallet.id), job.input
        try:
            status = await self._step(job, facts, request, context, is_cancelled)
            if status is None or (is_cancelled() and status.status == "failed" and not status.is_signed):
                return await self._unless_spent(request, Interrupted(_why_interrupted(status)))
            return await self._outcome(job, request, status, context, is_cancelled())
        except (StoreUnavailable, CommitUnknown):
            job.input = given  # a dust test has scaled it
            raise
        except Temporary as error:
            return await self._unless_spent(request, of_error(error))
        except DustrunError as error:
            return of_error(error)

    async def _unless_spent(self, request: SpendRequest, outcome: Outcome) -> Outcome:
        """The outcome of a node that has spent nothing. One that has, or may have, does not end: it goes on where it
        was. What was read may be older than a commit in doubt, so this is looked up in a unit of the writer."""
        status = await until_known(partial(self.outbox.find_stored, request), is_unknown=True)
        if status is None or not _has_spent(status):
            return outcome
        holds = Holds.CANCEL if status.is_signed or status.status == "settled" else Holds.NOTHING
        return Suspended(clock.now_ms() + _LOOK_AGAIN_MS, await self._facts(status), answerable=True, holds=holds)

    async def find_wallet(self, job: Job, facts: RunFacts) -> ConnectorReference | None:
        """The wallet of what the node has stored and that is under way or has happened: another attempt keeps it."""
        found = await self.outbox.find_wallet(self._request(job, facts, ""))
        return ConnectorReference(type=WALLET, id=found) if found is not None else None

    async def plan_ahead(self, job: Job, facts: RunFacts, context: NodeContext) -> Spend:
        """The spend of an item's node, before its turn; raises what the action raises."""
        given = job.input
        spend = await self._plan_spend(job, facts, context)
        return replace(spend, notes={**spend.notes, _AHEAD: given.model_dump(by_alias=True)})

    def _request(self, job: Job, facts: RunFacts, wallet_id: str) -> SpendRequest:
        confirmations = getattr(job.input, "confirmations", None)
        return replace(request_at(facts, job.start.path, wallet_id, is_dust=job.is_dust), confirmations=confirmations)

    async def _step(
        self, job: Job, facts: RunFacts, request: SpendRequest, context: NodeContext, is_cancelled: Callable[[], bool]
    ) -> SpendStatus | None:
        if is_cancelled():
            return await self.outbox.abandon(request)
        status = await self.outbox.find(request)
        given = job.input
        if status is not None and _was_asked_ahead(status):
            status = await self._take_turn(job, request, status, context)
        elif status is not None and _was_approved(status):
            status = await self._measure_again(job, request, status, context)
        if status is None or _may_plan_anew(status, _attempt(job, facts)):
            spend = await self._plan_spend(job, facts, context)
            if is_cancelled():
                return await self.outbox.abandon(request)
            status = await self.outbox.plan(request, spend)
        if job.refusal is not None:
            return await self.outbox.refuse(request, job.refusal.item, job.refusal.verdict)
        status = await self.outbox.advance(request, status)
        if not job.is_dust or not _is_met(status) or is_cancelled():
            return status
        job.input = given
        status = await self.outbox.plan(request, await self._plan_spend(job, facts, context))  # without the approval
        return await self.outbox.advance(request, status)

    async def _take_turn(
        self, job: Job, request: SpendRequest, status: SpendStatus, context: NodeContext
    ) -> SpendStatus | None:
        """What was asked about before the loop began, with the notes of its turn: a result is measured from there. A
        dust test keeps the amounts that were approved, whatever the price does. None if the item spends something else
        by now, which is asked about for itself."""
        notes = dict(status.spend.notes)
        if job.input.model_dump(by_alias=True) in (notes.pop(_AHEAD), notes[_INPUT]):
            spend = await self._plan_again(job, notes, context)
            if spend.intents == status.spend.intents:
                return await self.outbox.renew(request, {**notes, _NOTES: dict(spend.notes)})
        await self.outbox.abandon(request)
        return None

    async def _measure_again(
        self, job: Job, request: SpendRequest, status: SpendStatus, context: NodeContext
    ) -> SpendStatus:
        """What a person has approved, with the notes of now: a result is measured from right before it is signed, not
        from when the question was asked."""
        notes = status.spend.notes
        try:
            spend = await self._plan_again(job, notes, context)
        except (StoreUnavailable, CommitUnknown):
            raise
        except DustrunError:
            return status  # the outbox says why it cannot be signed now
        if spend.intents != status.spend.intents:
            return status  # what is approved stays, whatever would be planned now
        return await self.outbox.renew(request, {**notes, _NOTES: dict(spend.notes)})

    async def _plan_again(self, job: Job, notes: Mapping[str, Any], context: NodeContext) -> Spend:
        """The action's plan of now, from the input that was stored."""
        same = replace(job, input=job.action.input.model_validate(notes[_INPUT]))
        return await plan_spend(same, context, self._settings)

    async def _plan_spend(self, job: Job, facts: RunFacts, context: NodeContext) -> Spend:
        """The action's spend, with the input that it was planned from."""
        entries: tuple[Mapping[str, Any], ...] = ()
        if job.is_dust:
            scaled = await self._dust.scale(job, facts, context)
            job.input, entries = scaled.value, scaled.entries
        try:
            spend = await plan_spend(job, context, self._settings)
        except DustrunError as error:
            raise (as_dust(error) if job.is_dust else error) from None
        await self._guard.check(facts, job.start.path, context.wallet.id, spend)
        kept = {
            _INPUT: job.input.model_dump(by_alias=True),
            _NOTES: dict(spend.notes),
            _WALLET: context.wallet.id,
            _ASSUMED: job.assumed,
            _ATTEMPT: _attempt(job, facts),
            _DUST: [dict(entry) for entry in entries],
        }
        return replace(spend, notes=kept)

    async def _outcome(
        self, job: Job, request: SpendRequest, status: SpendStatus, context: NodeContext, is_cancelled: bool
    ) -> Outcome:
        failure = status.failure if status.status == "failed" else None
        if failure is not None and _goes_on(status, failure, is_cancelled):
            failure = None
        facts = await self._facts(status, is_over=status.status == "settled" or failure is not None)
        if status.status == "settled":
            return await self._conclude(job, status, context, facts)
        if failure is not None:
            failed = as_failed(failure, facts)
            return await self._unless_spent(request, failed) if failure.code == _PASSING else failed
        facts["spend"]["abandoned"] = is_cancelled
        until = status.until
        if status.status == "failed":  # what is in flight must settle first
            until = clock.now_ms() + _LOOK_AGAIN_MS
        holds = Holds.CANCEL if status.is_signed else Holds.NOTHING
        return Suspended(until, facts, answerable=True, holds=holds, note=_note(status))

    async def _facts(self, status: SpendStatus, *, is_over: bool = False) -> Json:
        notes = status.spend.notes
        kept = {name: notes[name] for name in (_INPUT, _WALLET, _ASSUMED)}
        spend = {**kept, "sent": status.is_signed}
        facts: Json = {"spend": spend, "transactions": [dict(transaction) for transaction in status.transactions]}
        if is_over:
            facts |= await self._reported(status)
        if notes[_DUST]:
            facts["dust"] = list(notes[_DUST])
        return facts

    async def _reported(self, status: SpendStatus) -> Json:
        """The report's additions to what is stored; nothing if they cannot be made, because what happened stays so."""
        try:
            return await self._reports.sent(status)
        except (StoreUnavailable, CommitUnknown):
            raise
        except Exception as error:
            hashes = [transaction.get("hash") for transaction in status.transactions]
            _logger.error("the report of a spend failed unexpectedly", hashes=hashes, exc_info=error)
            return {}

    async def _conclude(self, job: Job, status: SpendStatus, context: NodeContext, facts: Json) -> Outcome:
        """The action's `finish`. The spend has happened, so an error or a defect here is reported as `RESULT`, never as
        a failed spend."""
        assert status.spent is not None
        assert job.action.finish is not None
        notes = status.spend.notes
        try:
            value = job.action.input.model_validate(notes[_INPUT])
            spend = replace(status.spend, notes=notes[_NOTES])
            output = await job.action.finish(value, spend, status.spent, context)
        except (StoreUnavailable, CommitUnknown):
            raise
        except Exception as error:
            if not isinstance(error, DustrunError | ValidationError):
                _logger.error("the result of a spend failed unexpectedly", path=job.start.path, exc_info=error)
            return _without_result(status.spent, why_no_result(error), facts)
        result, assumed = output.model_dump(by_alias=True), bool(notes[_ASSUMED])
        return Settled(result, assumed=assumed, facts=facts, secrets=status.signatures)

    async def after_defect(self, job: Job, facts: RunFacts, error: Exception) -> Outcome:
        """The outcome of a step that a bug interrupted: what was signed is still followed."""
        message = f'The action "{job.action.type}" failed unexpectedly ({type(error).__name__}); see the server\'s log.'
        status = await until_known(partial(self.outbox.find_stored, self._request(job, facts, "")), is_unknown=True)
        if status is not None and status.spent is not None:
            return _without_result(status.spent, message, await self._facts(status))
        if status is None or not status.is_signed:
            return Failed("INTERNAL", message)
        kept = await self._facts(status)
        return Suspended(clock.now_ms() + 30 * _LOOK_AGAIN_MS, kept, answerable=True, holds=Holds.CANCEL)


def request_at(facts: RunFacts, path: str, wallet_id: str, *, is_dust: bool) -> SpendRequest:
    """The part that asks the outbox for a node of a run."""
    return SpendRequest(
        org_id=facts.org_id,
        run_pk=facts.pk,
        run_id=facts.id,
        root_run_id=facts.root_run_id,
        workflow_id=facts.workflow_id,
        workflow_name=facts.workflow_name,
        path=path,
        mode="dust" if is_dust else "live",
        wallet_id=wallet_id,
        key_id=facts.triggered_by,
    )


def _was_asked_ahead(status: SpendStatus) -> bool:
    """Whether it was planned and asked about before its loop began, and its turn has only come now."""
    return _AHEAD in status.spend.notes and not status.is_signed and status.status == "open"


def _was_approved(status: SpendStatus) -> bool:
    """Whether its question is answered and nothing of it is signed yet."""
    is_open = status.status == "open" and status.waits_for is None and not _has_begun(status)
    return is_open and status.stored is not None and bool(status.stored.approvals)


def _without_result(spent: Spent, why: str, facts: Json) -> Failed:
    """The outcome of a node that has spent and has no result."""
    hashes = ", ".join(str(receipt.hash) for receipt in spent.receipts)
    message = f"It was spent ({hashes}), but its result could not be made: {why}"
    return Failed("RESULT", message, retryable=True, facts=facts)


async def plan_spend(job: Job, context: NodeContext, settings: Settings) -> Spend:
    """The spend that the action returns; raises what the action raises, or `Temporary` after its time limit."""
    spend = await plan_within(job, settings, job.action.run(job.input, context))
    if not isinstance(spend, Spend):
        raise TypeError(f"the action returned {type(spend).__name__}, not a Spend")
    return spend


def _attempt(job: Job, facts: RunFacts) -> list[Any]:
    """Identifies the attempt; stored with the intents, so that a failed attempt is not taken for another."""
    return [facts.id, job.start.attempt]


def _may_plan_anew(status: SpendStatus, attempt: list[Any]) -> bool:
    """Whether the stored intents belong to another attempt and none is in flight or has happened; the outbox decides
    finally."""
    return status.spend.notes[_ATTEMPT] != attempt and not status.is_signed and status.status != "settled"


def _is_met(status: SpendStatus) -> bool:
    """Whether an approval became unnecessary because another transaction granted it, with nothing in flight."""
    return status.failure is not None and status.failure.code == ALLOWANCE_MET and not status.is_signed


def _goes_on(status: SpendStatus, failure: IntentFailure, is_cancelled: bool) -> bool:
    """Whether the node still waits although its last step failed: something is in flight, or has happened."""
    if status.is_signed:
        return True
    return failure.code == _PASSING and _has_begun(status) and not is_cancelled


def _has_spent(status: SpendStatus) -> bool:
    """Whether something is in flight, or has happened."""
    return status.is_signed or status.status == "settled" or (status.status == "open" and _has_begun(status))


def _why_interrupted(status: SpendStatus | None) -> str:
    more = " more" if status is not None and _has_begun(status) else ""
    return f"The run was cancelled before this node spent anything{more}."


def _has_begun(status: SpendStatus) -> bool:
    return any(transaction.get("hash") for transaction in status.transactions)


def as_failed(failure: IntentFailure, facts: Json) -> Failed:
    """The failure of a spend as the node's outcome."""
    details = [dict(detail) for detail in failure.details] or None
    return Failed(failure.code, failure.message, failure.retryable, details, facts=facts)


def why_no_result(error: Exception) -> str:
    """The error's message without its input values, which may be signatures."""
    if isinstance(error, DustrunError):
        return error.message
    if not isinstance(error, ValidationError):
        return f"the action failed unexpectedly ({type(error).__name__}); see the server's log."
    return "; ".join(f"{field_path(item['loc'])}: {item['msg']}" for item in error.errors(include_input=False))


def _note(status: SpendStatus) -> Json | None:
    return {"waitsFor": status.waits_for} if status.waits_for is not None else None
