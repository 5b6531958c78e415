"""One attempt of a node that spends, on simulated chains: the same intents, prices, policy and `finish` as live."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from dustrun.chain.simulate import SimChain, SimResult
from dustrun.core.money.intent import Intent, Receipt, SignRequest, Spend, Spent
from dustrun.core.money.policy import Deny, Reason, Request
from dustrun.core.money.policy.counting import Origin
from dustrun.core.money.receipts import read_receipt, show_receipt
from dustrun.core.money.rehearsal_guard import data_hash
from dustrun.core.values.exact_json import dumps_text
from dustrun.engine.node.context import NodeContext
from dustrun.engine.node.job import ASSUMED_INPUT, Job
from dustrun.engine.node.outcome import Failed, Outcome, Settled
from dustrun.engine.spend.live import Reports, as_failed, plan_spend, why_no_result
from dustrun.engine.spend.shared_chain import set_clock
from dustrun.engine.spend.simulation_state import SimulationState
from dustrun.errors import Code, DustrunError
from dustrun.records import dataclass
from dustrun.sdk.chain import WalletView
from dustrun.services.outbox.fees import INSUFFICIENT_FUNDS, REVERTED, FeeRequest, price
from dustrun.services.outbox.outflow import denial as outflow_denial
from dustrun.services.outbox.policy_check import SimulatedPolicy, SimulatedVerdict, denial
from dustrun.services.outbox.spend_status import Failure
from dustrun.services.preview.spend_reports import Place
from dustrun.services.prices import PriceBook
from dustrun.services.wallets.budget import with_fee
from dustrun.settings import Settings

_STEPS = {"simulated": "simulated", "reverted": "reverted", "rejected": "refused", "refused": "refused"}
# What stands for a signature: 27 and two words that no real one has, so that what uses it is found out.
_WORDS = (b"dustrun simulates no signature r", b"dustrun simulates no signature s")
_SIGNATURE = f"0x{_WORDS[0].hex()}{_WORDS[1].hex()}1b"
_PLACEHOLDERS = (*(word.hex() for word in _WORDS), *(str(int.from_bytes(word)) for word in _WORDS))
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class SimulationDeps:
    """What a turn uses of its simulation: chains, prices, policy and reports."""

    simulation: SimulationState
    sim: Callable[[int], Awaitable[SimChain]]
    prices: PriceBook
    policy: SimulatedPolicy
    reports: Reports
    settings: Settings


class SimulatedSpend:
    """One attempt of one node on the simulated chains. `job.shown` always holds what it has done so far."""

    def __init__(self, deps: SimulationDeps, job: Job, run_id: str, context: NodeContext, origin: Origin) -> None:
        self._deps = deps
        self._simulation = deps.simulation
        self._job = job
        self._context = context
        self._wallet: WalletView = context.wallet
        self._shown = job.shown
        self._signatures: list[Json] = []
        self._untold: Json | None = None
        self._origin = origin
        self._key = f"{run_id}/{job.start.path}"

    async def run(self) -> Outcome:
        """Executes the attempt."""
        if _needs_signature(self._job.resolved):
            return await self._unsigned()
        timeout_ms = self._job.node.node.timeout_ms or self._deps.settings.default_timeout_ms
        spend = await plan_spend(self._job, self._context, timeout_ms)
        receipts: list[Receipt] = []
        for intent in spend.intents:
            done = await self._carry_out(intent)
            if isinstance(done, Failure):
                return as_failed(done, await self.facts())
            receipts.append(done)
        for request in spend.signatures:
            judged = await self._judge(
                Request.of_signature(request, self._wallet.address), self._note_signature(request)
            )
            if isinstance(judged, Failure):
                return as_failed(judged, await self.facts())
            self._simulation.count(self._wallet.id, self._context.now_ms, judged.counted)
        outcome = await self._conclude(spend, receipts)
        if not (isinstance(outcome, Failed) and outcome.retryable):  # another attempt only makes the result
            self._simulation.let_go(self._key)  # not before: a time limit that cuts it off leads to another attempt
        return outcome

    def _note_signature(self, request: SignRequest) -> Json:
        public = request.public()
        names = ("item", "sign", "chainId", "about", "movements")
        self._signatures.append({**{name: public[name] for name in names}, "status": "notSigned"})
        return self._signatures[-1]

    async def _unsigned(self) -> Outcome:
        """The outcome of a node that needs a signature: a simulation makes none, so its effect is unknown."""
        shown = self._job.resolved if isinstance(self._job.resolved, dict) else {}
        why = "Not simulated: it needs a signature, and a simulation makes none. Pin a result of this node to go on."
        self._shown.append(
            {
                "status": "notSimulable",
                "item": "main",
                "chainId": shown.get("chainId"),
                "to": shown.get("contract"),
                "from": self._wallet.address,
                "walletId": self._wallet.id,
                "hash": None,
                "value": "0",
                "about": why,
                "assumed": True,
                "warnings": [{"code": "NOT_SIMULABLE", "message": why}],
            }
        )
        note = {"simulation": why}
        return Settled(self._job.action.example_output, assumed=True, facts=await self.facts(), note=note)

    async def _carry_out(self, intent: Intent) -> Receipt | Failure:
        """One intent: its cost, the policy's verdict, then its effect. An intent that an earlier attempt executed is
        not executed again."""
        earlier = self._simulation.done.get(self._key, {}).get(intent.item)
        if earlier is not None:
            self._shown.append(earlier["shown"])
            return _as_kept(intent, earlier)
        sim = await self._deps.sim(intent.chain_id)
        await set_clock(sim, self._context.now_ms)
        shown = _shown_intent(intent, self._wallet)
        priced = await price(
            sim, FeeRequest(self._wallet.address, intent), self._deps.settings.transaction_max_fee_rise
        )
        if isinstance(priced, Failure):
            error = {"code": priced.code, "message": priced.message}
            self._show(shown, status="rejected", error=error, **_revert_of(priced))
            return priced
        judged = await self._judge(priced.request, shown)
        if isinstance(judged, Failure):
            self._show(shown, status="refused", error={"code": judged.code, "message": judged.message})
            return judged
        reasons: tuple[Reason, ...] = ()

        async def is_bounded(result: SimResult) -> bool:
            nonlocal reasons
            assert result.taken is not None
            reasons = await self._deps.policy.judge_outflow(
                judged.ceilings, priced.request, result.taken, self._deps.prices
            )
            return not reasons

        result = await sim.send(self._wallet.address, intent, events=intent.events, keep_if=is_bounded)
        if reasons:
            refused = outflow_denial(reasons)
            verdict = Deny(reasons).public()
            self._show(
                shown, status="refused", verdict=verdict, error={"code": refused.code, "message": refused.message}
            )
            return refused
        self._show(shown, **result.public())
        if not result.is_success or result.receipt is None:
            return _failure(intent, result)
        self._simulation.count(
            self._wallet.id, self._context.now_ms, with_fee(judged.counted, result.receipt.fee_units)
        )
        self._keep(result.receipt)
        return result.receipt

    def _keep(self, receipt: Receipt) -> None:
        kept: Json = {"shown": self._shown[-1], "receipt": show_receipt(receipt)}
        if receipt.return_data is not None:
            kept["returned"] = receipt.return_data.hex()
        self._simulation.keep(self._key, receipt.item, kept)

    async def _judge(self, request: Request, shown: Json) -> Failure | SimulatedVerdict:
        """Why the policy denies it, or its verdict; what would need a person's approval goes through."""
        earlier = self._simulation.spent.get(self._wallet.id, ())
        now_ms = self._context.now_ms
        asked = replace(request, origin=self._origin)
        judged = await self._deps.policy.judge(self._wallet.id, asked, now_ms, earlier, self._deps.prices)
        shown["verdict"] = judged.verdict.public()
        return denial(judged.verdict) if isinstance(judged.verdict, Deny) else judged

    async def _conclude(self, spend: Spend, receipts: Sequence[Receipt]) -> Outcome:
        """The action's `finish`. A placeholder stands for each signature, and whatever depends on it is assumed. An
        error here is reported as `RESULT`, as in a live run, where the spend has happened."""
        signatures = {request.item: _SIGNATURE for request in spend.signatures}
        assert self._job.action.finish is not None
        try:
            output = await self._job.action.finish(
                self._job.input, spend, Spent(tuple(receipts), signatures), self._context
            )
        except (DustrunError, ValidationError) as error:
            if isinstance(error, DustrunError) and error.code is Code.SIM_FORK_LOST:
                raise
            message = f"It was simulated, but its result could not be made: {why_no_result(error)}"
            return Failed("RESULT", message, retryable=True, facts=await self.facts())
        assumed = self._job.assumed or bool(signatures)
        return Settled(output.model_dump(by_alias=True), assumed=assumed, facts=await self.facts())

    def _show(self, shown: Json, **more: Any) -> None:
        if self._job.assumed:
            more["assumed"] = True
        self.tell()
        self._shown.append({**shown, **more})
        self._untold = _event_of(self._shown[-1])

    def tell(self) -> None:
        """Emits the event of the newest transaction. It is held back until the next one or the end of the node, so that
        it takes no commit of its own."""
        if self._untold is not None:
            self._context.tell("transaction", self._untold)
            self._untold = None

    async def facts(self) -> Json:
        """The facts of the execution, for the report of effects."""
        facts = await self._deps.reports.simulated(
            self._shown,
            self._signatures,
            Place(self._deps.sim, self._deps.prices, self._simulation.recipients),
        )
        return facts | ASSUMED_INPUT if self._job.assumed else facts


def _needs_signature(resolved: Any) -> bool:
    """Whether the placeholder of a signature occurs in an input."""
    text = dumps_text(resolved).lower()
    return any(placeholder in text for placeholder in _PLACEHOLDERS)


def _as_kept(intent: Intent, earlier: Json) -> Receipt:
    receipt = read_receipt(intent.item, earlier["receipt"])
    return replace(receipt, return_data=bytes.fromhex(earlier["returned"])) if "returned" in earlier else receipt


def _shown_intent(intent: Intent, wallet: WalletView) -> Json:
    """An intent as the report shows it."""
    public = intent.public()
    names = ("item", "chainId", "to", "value", "about", "method", "movements")
    about = {"from": wallet.address, "walletId": wallet.id, "hash": None}
    if intent.data:
        about["dataHash"] = data_hash(intent.data)
    return {**{name: public[name] for name in names}, **about}


def _event_of(shown: Json) -> Json:
    """The event of a simulated transaction."""
    names = ("item", "chainId", "from", "to", "value", "about", "gasLimit", "gasUsed", "fee", "blockNumber", "error")
    return {"status": _STEPS[shown["status"]]} | {name: shown[name] for name in names if shown.get(name) is not None}


def _revert_of(failure: Failure) -> Json:
    """The decoded reason of a revert, for the report."""
    return next(({"revert": detail["revert"]} for detail in failure.details if "revert" in detail), {})


def _failure(intent: Intent, result: SimResult) -> Failure:
    """The failure that the node would have live."""
    code = INSUFFICIENT_FUNDS if result.lacks_funds else REVERTED
    details = ({"field": "transaction", "message": "reverts", "revert": dict(result.revert)},) if result.revert else ()
    return Failure(code, f"{intent.about}: {result.reason}", retryable=True, details=details)
