"""A node that spends, simulated: the same wishes, prices, policy and last word as live, on a simulated chain.

A run and the runs that it calls share their chains: each stands on the block at which it was first touched, and every
transaction sees what the earlier ones left. Nodes that spend take turns, in the planner's order.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from pydantic import ValidationError

from dustrun.chain.simulate import SimChain, SimResult
from dustrun.core.exact_json import dumps_text, loads_own
from dustrun.core.intent import Intent, Receipt, Spend, Spent
from dustrun.core.policy import Counted, Deny, Request
from dustrun.core.receipts import read_receipt, show_receipt
from dustrun.engine.context import NodeContext, Reach
from dustrun.engine.node import ASSUMED_INPUT, Job
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

_STEPS = {"simulated": "simulated", "reverted": "reverted", "rejected": "refused", "refused": "refused"}
# What stands for a signature: 27 and two words that no real one has, so that what uses it is found out.
_WORDS = (b"dustrun simulates no signature r", b"dustrun simulates no signature s")
_SIGNATURE = f"0x{_WORDS[0].hex()}{_WORDS[1].hex()}1b"
_PLACEHOLDERS = (*(word.hex() for word in _WORDS), *(str(int.from_bytes(word)) for word in _WORDS))
_WALLETS = 0  # no chain has this id: the row of what wallets have spent on all of them
Json = dict[str, Any]


class MakesChains(Protocol):
    """Who makes simulated chains."""

    def __call__(self, chain_id: int, state: Mapping[str, Any] | None) -> SimChain:
        """A chain that stands nowhere yet, or where `state` left off."""
        ...


@dataclass(slots=True)
class Rehearsal:
    """What the simulated runs under one root share. `told` is how many changes of each chain are on their way to the
    tables; `counted` is what the wallets have spent in it; `done` are the wishes of nodes that failed after them, by
    node and item: the next attempt does not do them twice. `runs` are those that go on in it."""

    runs: set[int] = field(default_factory=set)
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    chains: dict[int, SimChain] = field(default_factory=dict)
    stored: dict[int, str] | None = None
    told: dict[int, int] = field(default_factory=dict)
    counted: dict[str, Counted] = field(default_factory=dict)
    done: dict[str, dict[str, Json]] = field(default_factory=dict)
    changes: int = 0
    prices: PriceBook | None = None
    priced_at: int = -1

    @property
    def moment(self) -> int:
        """Rises whenever a chain changes."""
        return sum(sim.changes for sim in self.chains.values())

    def wallets(self) -> str:
        """What was spent and done so far, as JSON."""
        counted = {
            wallet_id: {
                "units": {name: str(units) for name, units in spent.units.items()},
                "unpriced": list(spent.unpriced),
                "feeUnpriced": spent.fee_unpriced,
            }
            for wallet_id, spent in self.counted.items()
        }
        return dumps_text({"counted": counted, "done": self.done})

    def restore(self, rows: Sequence[Fork]) -> None:
        """From the tables."""
        self.stored = {row.chain_id: row.state for row in rows if row.chain_id != _WALLETS}
        for row in rows:
            if row.chain_id == _WALLETS:
                shown = loads_own(row.state)
                self.changes = self.told[_WALLETS] = row.steps
                self.done = shown["done"]
                for wallet_id, spent in shown["counted"].items():
                    units = {name: int(units) for name, units in spent["units"].items()}
                    self.counted[wallet_id] = Counted(units, tuple(spent["unpriced"]), spent["feeUnpriced"])


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
        self._kept: dict[int, Rehearsal] = {}

    def __len__(self) -> int:
        """How many simulations are held in memory."""
        return len(self._kept)

    def reach(self, facts: RunFacts, now_ms: int) -> Reach:
        """What a node of a simulated run sees from its start on: chains and prices of the simulation."""
        kept = self._held(facts)
        if kept.prices is None or kept.priced_at != kept.moment:  # a pool may have moved
            kept.prices = self._prices.on(lambda chain_id: self.chain(facts, chain_id, now_ms))
            kept.priced_at = kept.moment
        return Reach(lambda chain_id: self.chain(facts, chain_id, now_ms), kept.prices)

    def chain(self, facts: RunFacts, chain_id: int, now_ms: int) -> Chain:
        """The simulated chain that a run and those that it calls share, at `now_ms` of the run's clock or later."""
        live = self._make(chain_id, None)  # raises for a chain that the server does not know

        async def find() -> SimChain:
            sim = await self.sim(facts, chain_id)
            await _set_clock(sim, now_ms)
            return sim

        return _Shared(live, find)

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
        if kept.changes > kept.told.get(_WALLETS, 0):
            kept.told[_WALLETS] = kept.changes
            found.append(Fork(facts.top_pk, _WALLETS, kept.changes, kept.wallets()))
        return found

    async def end(self, facts: RunFacts) -> None:
        """The run is over: what it holds is let go when no other run of the simulation goes on."""
        kept = self._kept.get(facts.top_pk)
        if kept is not None:
            kept.runs.discard(facts.pk)
            if not kept.runs:
                await self.forget(facts)

    async def forget(self, facts: RunFacts) -> None:
        """What memory holds may be ahead of the tables, since something was not written: it is read from them anew."""
        kept = self._kept.pop(facts.top_pk, None)
        for sim in kept.chains.values() if kept is not None else ():
            await sim.close()

    async def sim(self, facts: RunFacts, chain_id: int) -> SimChain:
        """A simulated chain, where the tables or earlier nodes left it."""
        kept = await self._of(facts)
        if chain_id not in kept.chains:
            assert kept.stored is not None
            state = kept.stored.get(chain_id)
            sim = kept.chains[chain_id] = self._make(chain_id, loads_own(state) if state is not None else None)
            kept.told[chain_id] = sim.changes
        return kept.chains[chain_id]

    def _held(self, facts: RunFacts) -> Rehearsal:
        kept = self._kept.setdefault(facts.top_pk, Rehearsal())
        kept.runs.add(facts.pk)
        return kept

    async def _of(self, facts: RunFacts) -> Rehearsal:
        kept = self._held(facts)
        if kept.stored is None:
            rows = await self._database.read(lambda tx: fork_rows.list_of(tx, facts.top_pk))
            if kept.stored is None:
                kept.restore(rows)
        return kept

    async def carry_out(self, job: Job, facts: RunFacts, context: NodeContext) -> Outcome:
        """Carries a node that spends out, or says why it would fail live."""
        kept = await self._of(facts)
        async with kept.turn:
            turn = _Turn(self, kept, job, facts, context)
            try:
                return await turn.run()
            except DustrunError as error:
                outcome = of_error(error)
                if isinstance(outcome, Failed):
                    outcome.facts = await turn.told()
                return outcome

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
        self._key = f"{facts.id}/{job.start.path}"

    async def run(self) -> Outcome:
        """As far as it goes."""
        if _needs_signature(self._job.resolved):
            return await self._unsigned()
        timeout_ms = self._job.node.node.timeout_ms or self._all.settings.default_timeout_ms
        spend = await wish(self._job, self._context, timeout_ms)
        receipts: list[Receipt] = []
        for intent in spend.intents:
            done = await self._carry_out(intent)
            if isinstance(done, Failure):
                return as_failed(done, await self.told())
            receipts.append(done)
        for request in spend.signatures:
            denied = await self._judge(Request.of_signature(request), {"item": request.item, "about": request.about})
            if denied is not None:
                return as_failed(denied, await self.told())
        if self._kept.done.pop(self._key, None) is not None:
            self._kept.changes += 1
        return await self._conclude(spend, receipts)

    async def _unsigned(self) -> Outcome:
        """What it would send needs a signature that no simulation makes, so what it would do is not known."""
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
        return Settled(self._job.action.example_output, assumed=True, facts=await self.told(), note=note)

    async def _carry_out(self, intent: Intent) -> Receipt | Failure:
        """One wish: what it costs, what policy says, then what it does. One that an earlier attempt of the node has
        carried out stays as it is."""
        earlier = self._kept.done.get(self._key, {}).get(intent.item)
        if earlier is not None:
            self._shown.append(earlier["shown"])
            return _as_kept(intent, earlier)
        sim = await self._all.sim(self._facts, intent.chain_id)
        await _set_clock(sim, self._context.now_ms)
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
            self._keep(result.receipt)
            return result.receipt
        return _failure(intent, result)

    def _keep(self, receipt: Receipt) -> None:
        kept: Json = {"shown": self._shown[-1], "receipt": show_receipt(receipt)}
        if receipt.return_data is not None:
            kept["returned"] = receipt.return_data.hex()
        self._kept.done.setdefault(self._key, {})[receipt.item] = kept
        self._kept.changes += 1

    async def _judge(self, request: Request, shown: Json) -> Failure | None:
        earlier = self._kept.counted.get(self._wallet.id, Counted())
        verdict, counted = await self._all.policy.judge(self._wallet.id, request, self._context.now_ms, (earlier,))
        shown["verdict"] = verdict.public()
        if isinstance(verdict, Deny):
            return denial(verdict)
        self._kept.counted[self._wallet.id] = earlier + counted
        self._kept.changes += 1
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
            return Failed("RESULT", f"The result could not be made: {error}", facts=await self.told())
        assumed = self._job.assumed or bool(signatures)
        return Settled(output.model_dump(by_alias=True), assumed=assumed, facts=await self.told())

    def _show(self, shown: Json, **more: Any) -> None:
        if self._job.assumed:
            more["assumed"] = True
        self._shown.append({**shown, **more})
        self._context.tell("transaction", _brief(self._shown[-1]))

    async def told(self) -> Json:
        """The facts of the execution, for the report of effects."""
        told = await self._all.reports.simulated(self._shown, self._code)
        return told | ASSUMED_INPUT if self._job.assumed else told

    async def _code(self, chain_id: int, address: str) -> bytes:
        return await (await self._all.sim(self._facts, chain_id)).code(address)


async def _set_clock(sim: SimChain, now_ms: int) -> None:
    """The next block is not older than the run's clock, which a simulated wait has moved on."""
    head = await sim.block()
    ahead_s = now_ms // 1000 - head.time - max(1, sim.network.block_time_ms // 1000)
    if ahead_s > 0:
        sim.advance(ahead_s)


def _needs_signature(resolved: Any) -> bool:
    """Whether the placeholder of a signature stands in an input."""
    text = dumps_text(resolved).lower()
    return any(placeholder in text for placeholder in _PLACEHOLDERS)


def _as_kept(intent: Intent, earlier: Json) -> Receipt:
    receipt = read_receipt(intent.item, earlier["receipt"])
    return replace(receipt, return_data=bytes.fromhex(earlier["returned"])) if "returned" in earlier else receipt


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
