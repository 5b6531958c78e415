"""A node that spends, simulated: the same wishes, prices, policy and last word as live, on a simulated chain.

A run and the runs that it calls share their chains: each stands on the block at which it was first touched, and every
transaction sees what the earlier ones left. Nodes that spend take turns, in the planner's order.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from pydantic import ValidationError

from dustrun.chain.simulate import SimChain, SimResult
from dustrun.core.exact_json import dumps_text, loads_own
from dustrun.core.intent import Intent, Receipt, Spend, Spent
from dustrun.core.policy import Counted, Deny, Request
from dustrun.engine.context import NodeContext, Reach
from dustrun.engine.node import Job
from dustrun.engine.outcome import Failed, Outcome, Settled, of_error
from dustrun.engine.spending import Reports, as_failed, wish
from dustrun.errors import DustrunError
from dustrun.sdk.chain import Block, CallResult, Chain, ChainCall, ChainTransaction, Fees, WalletView
from dustrun.services.ports import RunFacts
from dustrun.services.prices import PriceBook
from dustrun.services.simulated_policy import SimulatedPolicy
from dustrun.services.transactions.deciding import denial
from dustrun.services.transactions.order import Failure
from dustrun.services.transactions.pricing import Priced, Wish, price
from dustrun.settings import Settings
from dustrun.storage import forks as fork_rows
from dustrun.storage.database import Database
from dustrun.storage.forks import Fork

_KEPT = 500
_STEPS = {"simulated": "simulated", "reverted": "reverted", "rejected": "refused", "refused": "refused"}
_SIGNATURE = "0x" + "00" * 65
Json = dict[str, Any]


class MakesChains(Protocol):
    """Who makes simulated chains."""

    def __call__(self, chain_id: int, state: Mapping[str, Any] | None) -> SimChain:
        """A chain that stands nowhere yet, or where `state` left off."""
        ...


@dataclass(slots=True)
class Rehearsal:
    """What the simulated runs under one root share. `told` is how many changes of each chain are on their way to the
    tables; `counted` is what the wallets have spent in it."""

    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    chains: dict[int, SimChain] = field(default_factory=dict)
    stored: dict[int, str] | None = None
    told: dict[int, int] = field(default_factory=dict)
    counted: dict[str, list[Counted]] = field(default_factory=dict)
    prices: PriceBook | None = None


class Rehearsals:
    """The simulated chains of this process's runs. What is not in memory is read from the tables again."""

    def __init__(
        self,
        database: Database,
        make: MakesChains,
        prices: PriceBook,
        policy: SimulatedPolicy,
        reports: Reports,
        settings: Settings,
    ) -> None:
        self._prices = prices
        self._database = database
        self._make = make
        self._policy = policy
        self._reports = reports
        self._settings = settings
        self._kept: OrderedDict[int, Rehearsal] = OrderedDict()

    def reach(self, facts: RunFacts) -> Reach:
        """What a node of a simulated run sees: chains and prices of the simulation."""
        kept = self._kept.setdefault(facts.top_pk, Rehearsal())
        if kept.prices is None:
            kept.prices = self._prices.on(lambda chain_id: self.chain(facts, chain_id))
        return Reach(lambda chain_id: self.chain(facts, chain_id), kept.prices)

    def chain(self, facts: RunFacts, chain_id: int) -> Chain:
        """The simulated chain that a run and those that it calls share."""
        live = self._make(chain_id, None)  # raises for a chain that the server does not know
        return _Shared(live, lambda: self._sim(facts.top_pk, chain_id))

    def forks(self, facts: RunFacts) -> list[Fork]:
        """Where the chains stand that were touched since the last call, to be stored with what the run records."""
        kept = self._kept.get(facts.top_pk)
        if kept is None:
            return []
        found = []
        for chain_id, sim in kept.chains.items():
            if sim.changes > kept.told.get(chain_id, 0):
                kept.told[chain_id] = sim.changes
                found.append(Fork(facts.top_pk, chain_id, sim.changes, dumps_text(sim.to_json())))
        return found

    async def end(self, facts: RunFacts) -> None:
        """The run is over, or put down: what it holds can be made again from the tables."""
        kept = self._kept.pop(facts.pk, None)
        for sim in kept.chains.values() if kept is not None else ():
            await sim.close()

    async def _sim(self, top_pk: int, chain_id: int) -> SimChain:
        kept = await self._of(top_pk)
        if chain_id not in kept.chains:
            assert kept.stored is not None
            state = kept.stored.get(chain_id)
            sim = kept.chains[chain_id] = self._make(chain_id, loads_own(state) if state is not None else None)
            kept.told[chain_id] = sim.changes
        return kept.chains[chain_id]

    async def _of(self, top_pk: int) -> Rehearsal:
        kept = self._kept.setdefault(top_pk, Rehearsal())
        self._kept.move_to_end(top_pk)
        if kept.stored is None:
            rows = await self._database.read(lambda tx: fork_rows.list_of(tx, top_pk))
            if kept.stored is None:
                kept.stored = {row.chain_id: row.state for row in rows}
        while len(self._kept) > _KEPT:
            _, old = self._kept.popitem(last=False)
            for sim in old.chains.values():
                await sim.close()
        return kept

    async def carry_out(self, job: Job, facts: RunFacts, context: NodeContext) -> Outcome:
        """Carries a node that spends out, or says why it would fail live."""
        kept = await self._of(facts.top_pk)
        async with kept.turn:
            try:
                return await _Turn(self, kept, job, facts, context).run()
            except DustrunError as error:
                return of_error(error)

    async def priced(self, chain: SimChain, sender: str, intent: Intent) -> Priced | Failure:
        """As the ledger prices a wish, on the simulated chain."""
        return await price(chain, Wish(sender, intent), self._settings.transaction_max_fee_rise)

    @property
    def settings(self) -> Settings:
        """The server's."""
        return self._settings

    @property
    def policy(self) -> SimulatedPolicy:
        """Who judges."""
        return self._policy

    @property
    def reports(self) -> Reports:
        """Who describes assets."""
        return self._reports


class _Turn:
    """One attempt of one node on the simulated chains."""

    def __init__(self, all: Rehearsals, kept: Rehearsal, job: Job, facts: RunFacts, context: NodeContext) -> None:
        self._all = all
        self._kept = kept
        self._job = job
        self._facts = facts
        self._context = context
        self._wallet: WalletView = context.wallet
        self._shown: list[Json] = []

    async def run(self) -> Outcome:
        timeout_ms = self._job.node.node.timeout_ms or self._all.settings.default_timeout_ms
        spend = await wish(self._job, self._context, timeout_ms)
        receipts: list[Receipt] = []
        for intent in spend.intents:
            done = await self._carry_out(intent)
            if isinstance(done, Failure):
                return as_failed(done, await self._told())
            receipts.append(done)
        for request in spend.signatures:
            denied = await self._judge(Request.of_signature(request), {"item": request.item, "about": request.about})
            if denied is not None:
                return as_failed(denied, await self._told())
        return await self._conclude(spend, receipts)

    async def _carry_out(self, intent: Intent) -> Receipt | Failure:
        """One wish: what it costs, what policy says, then what it does."""
        sim = await self._all._sim(self._facts.top_pk, intent.chain_id)
        self._set_clock(sim, await sim.block())
        shown = _wished(intent, self._wallet)
        priced = await self._all.priced(sim, self._wallet.address, intent)
        if isinstance(priced, Failure):
            self._show(shown, status="rejected", error={"code": priced.code, "message": priced.message})
            return priced
        denied = await self._judge(priced.request, shown)
        if denied is not None:
            self._show(shown, status="refused", error={"code": denied.code, "message": denied.message})
            return denied
        result = await sim.send(self._wallet.address, intent)
        self._show(shown, **result.public())
        if result.is_success and result.receipt is not None:
            return result.receipt
        return _failure(intent, result)

    def _set_clock(self, sim: SimChain, head: Block) -> None:
        """The next block is not older than the run's clock, which a simulated wait has moved on."""
        ahead_s = self._context.now_ms // 1000 - head.time - max(1, sim.network.block_time_ms // 1000)
        if ahead_s > 0:
            sim.advance(ahead_s)

    async def _judge(self, request: Request, shown: Json) -> Failure | None:
        earlier = self._kept.counted.setdefault(self._wallet.id, [])
        verdict, counted = await self._all.policy.judge(self._wallet.id, request, self._context.now_ms, tuple(earlier))
        shown["verdict"] = verdict.public()
        if isinstance(verdict, Deny):
            return denial(verdict)
        earlier.append(counted)
        return None

    async def _conclude(self, spend: Spend, receipts: Sequence[Receipt]) -> Outcome:
        """The action's own last word. A signature is never made: a placeholder stands for it, and whatever hangs on
        it is assumed."""
        signatures = {request.item: _SIGNATURE for request in spend.signatures}
        assert self._job.action.finish is not None
        try:
            output = await self._job.action.finish(
                self._job.input, spend, Spent(tuple(receipts), signatures), self._context
            )
        except ValidationError as error:
            return Failed("RESULT", f"The result could not be made: {error}", facts=await self._told())
        assumed = self._job.assumed or bool(signatures)
        return Settled(output.model_dump(by_alias=True), assumed=assumed, facts=await self._told())

    def _show(self, shown: Json, **more: Any) -> None:
        if self._job.assumed:
            more["assumed"] = True
        self._shown.append({**shown, **more})
        self._context.tell("transaction", _brief(self._shown[-1]))

    async def _told(self) -> Json:
        """The facts of the execution, for the report of effects."""
        return {"transactions": self._shown, "assets": await self._all.reports.assets(self._shown)}


def _wished(intent: Intent, wallet: WalletView) -> Json:
    """A wish as the report shows it."""
    public = intent.public()
    names = ("item", "chainId", "to", "value", "about", "method", "movements")
    return {**{name: public[name] for name in names}, "from": wallet.address, "walletId": wallet.id, "hash": None}


def _brief(shown: Json) -> Json:
    """What the event of a simulated transaction says."""
    names = ("item", "chainId", "from", "to", "value", "about", "gasLimit", "gasUsed", "fee", "blockNumber", "error")
    return {"status": _STEPS[shown["status"]]} | {name: shown[name] for name in names if shown.get(name) is not None}


def _failure(intent: Intent, result: SimResult) -> Failure:
    """As the node would fail live."""
    code = "REVERTED" if result.status == "reverted" else "INSUFFICIENT_FUNDS"
    details = ({"field": "transaction", "message": "reverts", "revert": dict(result.revert)},) if result.revert else ()
    return Failure(code, f"{intent.about}: {result.reason}", retryable=True, details=details)


class _Shared:
    """A simulated chain as actions read it: found when it is first asked, since that reads the tables."""

    def __init__(self, known: SimChain, find: Callable[[], Any]) -> None:
        self._known = known
        self._find = find

    @property
    def network(self) -> Any:
        """The chain's description."""
        return self._known.network

    async def block(self) -> Block:
        """The newest simulated block."""
        return await (await self._find()).block()  # type: ignore[no-any-return]

    async def call(self, call: ChainCall) -> bytes:
        """What a call returns on the simulated state."""
        return await (await self._find()).call(call)  # type: ignore[no-any-return]

    async def call_many(self, calls: Sequence[ChainCall]) -> list[CallResult]:
        """Many calls on the simulated state."""
        return await (await self._find()).call_many(calls)  # type: ignore[no-any-return]

    async def balance(self, address: str) -> int:
        """Native balance on the simulated state."""
        return await (await self._find()).balance(address)  # type: ignore[no-any-return]

    async def code(self, address: str) -> bytes:
        """A contract's code on the simulated state."""
        return await (await self._find()).code(address)  # type: ignore[no-any-return]

    async def fees(self) -> Fees:
        """What one bids at the pinned block."""
        return await (await self._find()).fees()  # type: ignore[no-any-return]

    async def find_transaction(self, hash: str) -> ChainTransaction | None:
        """A real transaction by its hash."""
        return await (await self._find()).find_transaction(hash)  # type: ignore[no-any-return]
