"""One attempt of a node that spends, on simulated chains: the same intents, prices, policy and `finish` as live."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from dustrun.chain.simulate import SimChain, SimResult
from dustrun.core.money.intent import Intent, Receipt, SignRequest, Spend, Spent
from dustrun.core.money.policy import CountedUnits, Deny, PolicyRequest, Reason
from dustrun.core.money.policy.counting import Origin, is_gas
from dustrun.core.money.receipts import read_receipt, show_receipt
from dustrun.core.money.rehearsal_guard import data_hash
from dustrun.core.stream_events import TRANSACTION
from dustrun.core.values.exact_json import dumps_text
from dustrun.engine.node.context import NodeContext
from dustrun.engine.node.outcome import ASSUMED_INPUT, Failed, Job, Outcome, Settled
from dustrun.engine.spend.live import Reports, as_failed, plan_spend, why_no_result
from dustrun.engine.spend.shared_chain import set_clock
from dustrun.engine.spend.simulation_state import SimulationState
from dustrun.errors import Code, DustrunError
from dustrun.records import dataclass
from dustrun.sdk.chain import WalletView
from dustrun.services.outbox.fees import INSUFFICIENT_FUNDS, REVERTED, FeeRequest, price
from dustrun.services.outbox.judgement import denial as outflow_denial
from dustrun.services.outbox.policy_check import NOT_SIGNED, OTHERS_FAILED, SimulatedPolicy, SimulatedVerdict, denial
from dustrun.services.outbox.spend_status import IntentFailure
from dustrun.services.preview.spend_reports import ReportPlace
from dustrun.services.prices import PriceBook
from dustrun.services.wallets.budget import Earlier, with_fee
from dustrun.settings import Settings

_STEPS = {
    "simulated": "simulated",
    "reverted": "reverted",
    "rejected": "refused",
    "refused": "refused",
    "cancelled": "cancelled",
}
# What stands for a signature: 27 and two words that no real one has, so that what uses it is found out.
_WORDS = (b"dustrun simulates no signature r", b"dustrun simulates no signature s")
_SIGNATURE = f"0x{_WORDS[0].hex()}{_WORDS[1].hex()}1b"
_PLACEHOLDERS = (*(word.hex() for word in _WORDS), *(str(int.from_bytes(word)) for word in _WORDS))
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class SimulationDeps:
    """The parts of its simulation that a turn uses: chains, prices, policy, reports. `go_back` puts a chain back to a
    mark; `look` says what a person would have to look at before a node is signed, of each of its transactions."""

    simulation: SimulationState
    sim: Callable[[int], Awaitable[SimChain]]
    go_back: Callable[[int, Mapping[str, Any]], Awaitable[None]]
    look: Callable[[str, Sequence[Intent]], Awaitable[Sequence[tuple[Reason, ...]]]]
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
        self._balances: dict[int, int] = {}
        self._promised: dict[int, int] = {}
        self._spent_here = 0
        self._concerns: dict[str, tuple[Reason, ...]] = {}  # by item
        self._held_fees: list[Earlier] = []  # while a node is judged, the highest fees count

    async def run(self) -> Outcome:
        """Executes the attempt."""
        if _needs_signature(self._job.resolved):
            return await self._unsigned()
        spend = await plan_spend(self._job, self._context, self._deps.settings)
        receipts = await self._carry_out_all(spend.intents)
        if isinstance(receipts, IntentFailure):
            return as_failed(receipts, await self.facts())
        for request in spend.signatures:
            judged = await self._judge(
                PolicyRequest.of_signature(request, self._wallet.address), self._note_signature(request)
            )
            if isinstance(judged, IntentFailure):
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

    async def _carry_out_all(self, intents: Sequence[Intent]) -> list[Receipt] | IntentFailure:
        """All intents, or none of them: what is judged before the first signature in a live run is carried out here,
        and taken back if one of them is refused."""
        items = [intent.item for intent in intents]
        self._concerns = dict(zip(items, await self._deps.look(self._wallet.address, intents), strict=True))
        if len(intents) == 1:
            done = await self._carry_out(intents[0])
            return done if isinstance(done, IntentFailure) else [done]
        if self._key not in self._simulation.marks:
            chains = dict.fromkeys(intent.chain_id for intent in intents)
            marks = {str(chain_id): await (await self._deps.sim(chain_id)).mark() for chain_id in chains}
            self._simulation.mark(self._key, marks)
        shown, receipts = len(self._shown), list[Receipt]()
        for place, intent in enumerate(intents):
            done = await self._carry_out(intent)
            if isinstance(done, IntentFailure):
                for chain_id, mark in self._simulation.go_back(self._key).items():
                    await self._deps.go_back(int(chain_id), mark)
                self._show_unsigned(intents, shown, place)
                return done
            receipts.append(done)
        return receipts

    def _show_unsigned(self, intents: Sequence[Intent], first: int, refused: int) -> None:
        """Shows a node that was refused as a live run does: the others are not signed."""
        error = {"code": NOT_SIGNED, "message": OTHERS_FAILED}
        told = self._shown[first + refused]
        rows = [{**_shown_intent(intent, self._wallet), "status": "cancelled", "error": error} for intent in intents]
        rows[refused] = told
        self._shown[first:] = [{**row, "assumed": True} if self._job.assumed else row for row in rows]
        self.tell()
        for row in rows:
            if row is not told:
                self._context.tell(TRANSACTION, _event_of(row))

    async def _carry_out(self, intent: Intent) -> Receipt | IntentFailure:
        """One intent: its cost, the policy's verdict, then its effect. An intent that an earlier attempt executed is
        not executed again."""
        earlier = self._simulation.done.get(self._key, {}).get(intent.item)
        if earlier is not None:
            self._shown.append(earlier["shown"])
            return _as_kept(intent, earlier)
        sim, now_ms = await self._deps.sim(intent.chain_id), self._context.now_ms
        await set_clock(sim, now_ms)
        shown = _shown_intent(intent, self._wallet)
        if self._job.refusal is not None and self._job.refusal.item == intent.item:
            refused, shown["verdict"] = denial(self._job.refusal.verdict), self._job.refusal.verdict.public()
            self._show(shown, status="refused", error={"code": refused.code, "message": refused.message})
            return refused
        if intent.chain_id not in self._balances:
            self._balances[intent.chain_id] = await sim.balance(self._wallet.address)
        request = FeeRequest(
            self._wallet.address,
            intent,
            promised_units=self._promised.get(intent.chain_id, 0),
            balance_units=self._balances[intent.chain_id],
        )
        priced = await price(sim, request, self._deps.settings.transaction_max_fee_rise)
        if isinstance(priced, IntentFailure):
            error = {"code": priced.code, "message": priced.message}
            self._show(shown, status="rejected", error=error, **_revert_of(priced))
            return priced
        judged = await self._judge(priced.request, shown)
        if isinstance(judged, IntentFailure):
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

        result = await sim.send(
            self._wallet.address, intent, events=intent.events, keep_if=is_bounded, gas_limit=priced.gas_limit
        )
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
        paid = with_fee(judged.counted, result.receipt.fee_units)
        self._simulation.count(self._wallet.id, now_ms, paid)
        self._held_fees.append(Earlier(now_ms, _fee_beyond(judged.counted, paid)))
        self._spent_here += 1
        self._promised[intent.chain_id] = self._promised.get(intent.chain_id, 0) + priced.most_units
        self._keep(result.receipt)
        return result.receipt

    def _keep(self, receipt: Receipt) -> None:
        kept: Json = {"shown": self._shown[-1], "receipt": show_receipt(receipt)}
        if receipt.return_data is not None:
            kept["returned"] = receipt.return_data.hex()
        self._simulation.keep(self._key, receipt.item, kept)

    async def _judge(self, request: PolicyRequest, shown: Json) -> IntentFailure | SimulatedVerdict:
        """Why the policy denies it, or its verdict; what would need a person's approval goes through."""
        now_ms = self._context.now_ms
        spent = self._simulation.spent.get(self._wallet.id, [])
        before, own = spent[: len(spent) - self._spent_here], spent[len(spent) - self._spent_here :]
        earlier = [*before, *(replace(one, is_of_node=True) for one in own), *self._held_fees]
        asked = replace(request, origin=self._origin)
        concerns = self._concerns.get(shown["item"], ()) if request.kind == "transaction" else ()
        judged = await self._deps.policy.judge(self._wallet.id, asked, now_ms, earlier, self._deps.prices, concerns)
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
            self._context.tell(TRANSACTION, self._untold)
            self._untold = None

    async def facts(self) -> Json:
        """The facts of the execution, for the report of effects."""
        facts = await self._deps.reports.simulated(
            self._shown,
            self._signatures,
            ReportPlace(self._deps.sim, self._deps.prices, self._simulation.recipients),
        )
        return facts | ASSUMED_INPUT if self._job.assumed else facts


def _needs_signature(resolved: Any) -> bool:
    """Whether the placeholder of a signature occurs in an input."""
    text = dumps_text(resolved).lower()
    return any(placeholder in text for placeholder in _PLACEHOLDERS)


def _fee_beyond(counted: CountedUnits, paid: CountedUnits) -> CountedUnits:
    """The share of the highest fee beyond the one that was paid."""
    return CountedUnits({name: units - paid.units[name] for name, units in counted.units.items() if is_gas(name)})


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


def _revert_of(failure: IntentFailure) -> Json:
    """The decoded reason of a revert, for the report."""
    return next(({"revert": detail["revert"]} for detail in failure.details if "revert" in detail), {})


def _failure(intent: Intent, result: SimResult) -> IntentFailure:
    """The failure that the node would have live."""
    code = INSUFFICIENT_FUNDS if result.lacks_funds else REVERTED
    details = ({"field": "transaction", "message": "reverts", "revert": dict(result.revert)},) if result.revert else ()
    return IntentFailure(code, f"{intent.about}: {result.reason}", retryable=True, details=details)
