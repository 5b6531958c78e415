"""The simulated chains of runs.

A run and the runs that it calls share their chains: each is pinned to the block at which it was first used, and every
transaction sees the effects of the earlier ones. Nodes that spend take turns, in the planner's order.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

from dustrun import clock
from dustrun.chain.simulate import SimChain
from dustrun.core.money.intent import Intent
from dustrun.core.money.policy import Reason
from dustrun.core.money.policy.counting import Origin
from dustrun.core.money.policy.document import WalletPolicy
from dustrun.core.run.as_of import AsOf
from dustrun.core.values.exact_json import loads_own
from dustrun.engine.node.context import NodeContext, Reach
from dustrun.engine.node.outcome import Failed, Job, Outcome, of_error
from dustrun.engine.spend.live import Reports
from dustrun.engine.spend.shared_chain import SharedChain, set_clock
from dustrun.engine.spend.simulated import SimulatedSpend, SimulationDeps
from dustrun.engine.spend.simulation_state import SimulationState
from dustrun.errors import DustrunError
from dustrun.sdk.chain import Chain
from dustrun.services.outbox import fees
from dustrun.services.outbox.fees import FeeRequest, PricedIntent
from dustrun.services.outbox.loop_judgement import Ground, LoopJudge, LoopSpend, LoopVerdicts
from dustrun.services.outbox.policy_check import SimulatedPolicy
from dustrun.services.outbox.spend_status import IntentFailure
from dustrun.services.prices import PriceBook
from dustrun.services.runs.engine_port import RunFacts
from dustrun.services.wallets.budget import Earlier
from dustrun.settings import Settings
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Tx
from dustrun.storage.runs import forks as fork_rows
from dustrun.storage.runs.forks import Fork


class MakesChains(Protocol):
    """Makes simulated chains."""

    def __call__(self, chain_id: int, state: Mapping[str, Any] | None, as_of: AsOf | None = None) -> SimChain:
        """A chain that is not pinned yet, or one restored from `state`. It is pinned at `as_of`, else at the head."""
        ...


class SimulatedChains:
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
        self._kept: dict[int, SimulationState] = {}

    def __len__(self) -> int:
        """How many simulations are held in memory."""
        return len(self._kept)

    def reach(self, facts: RunFacts, now_ms: int) -> Reach:
        """The chains and prices of the simulation, as a node that starts at `now_ms` sees them."""
        simulation = self._held(facts)
        simulation.now_ms = max(simulation.now_ms, now_ms)
        return Reach(lambda chain_id: self.chain(facts, chain_id, now_ms), self._priced(facts, simulation))

    def _priced(self, facts: RunFacts, simulation: SimulationState) -> PriceBook:
        """The prices of the simulation's present state. They outlive the run that asks for them first, so they do not
        count it among those that go on."""

        async def sim_of(chain_id: int) -> SimChain:
            return self._sim(await self._restored(simulation, facts), facts, chain_id)

        ahead_ms = simulation.now_ms if simulation.now_ms > clock.now_ms() else 0
        # prices change when a pool moves, or when the clock advances
        if simulation.prices is None or simulation.priced_at != (
            simulation.moment,
            ahead_ms,
        ):
            at_ms = simulation.now_ms
            simulation.prices = self._prices.on(
                lambda chain_id: self._shared(chain_id, at_ms, lambda: sim_of(chain_id)),
                is_past=facts.as_of is not None,
            )
            simulation.priced_at = (simulation.moment, ahead_ms)
        return simulation.prices

    def chain(self, facts: RunFacts, chain_id: int, now_ms: int) -> Chain:
        """The simulated chain that a run and those that it calls share, at `now_ms` of the run's clock or later."""
        return self._shared(chain_id, now_ms, lambda: self.sim(facts, chain_id))

    def _shared(self, chain_id: int, now_ms: int, sim_of: Callable[[], Awaitable[SimChain]]) -> Chain:
        network = self._make(chain_id, None).network  # raises for a chain that the server does not know

        async def find() -> SimChain:
            sim = await sim_of()
            await set_clock(sim, now_ms)
            return sim

        return SharedChain(network, find)

    def forks(self, facts: RunFacts) -> list[Fork]:
        """The state of the chains that changed since the last call, to be stored with the run's next batch."""
        simulation = self._kept.get(facts.top_pk)
        return [] if simulation is None else simulation.unrecorded(facts.top_pk)

    async def end(self, facts: RunFacts) -> None:
        """The run has ended: frees the chains when no other run of the simulation continues."""
        simulation = self._kept.get(facts.top_pk)
        if simulation is not None:
            simulation.runs.discard(facts.pk)
            if not simulation.runs:
                await self.forget(facts)

    async def forget(self, facts: RunFacts) -> None:
        """Drops the simulation from memory, which may be ahead of the tables after a failed write."""
        simulation = self._kept.pop(facts.top_pk, None)
        for sim in simulation.chains.values() if simulation is not None else ():
            await sim.close()

    async def sim(self, facts: RunFacts, chain_id: int) -> SimChain:
        """A simulated chain in its current state, from memory or the tables."""
        return self._sim(await self._of(facts), facts, chain_id)

    def _sim(self, simulation: SimulationState, facts: RunFacts, chain_id: int) -> SimChain:
        if chain_id not in simulation.chains:
            assert simulation.stored is not None
            state = simulation.stored.get(chain_id)
            kept = loads_own(state) if state is not None else None
            sim = simulation.chains[chain_id] = self._make(chain_id, kept, facts.as_of)
            simulation.recorded[chain_id] = sim.changes
        return simulation.chains[chain_id]

    async def go_back(self, facts: RunFacts, chain_id: int, mark: Mapping[str, Any]) -> None:
        """Puts a chain back to a mark, as a new version of it."""
        simulation, left = await self._of(facts), await self.sim(facts, chain_id)
        await left.block()
        simulation.chains[chain_id] = self._make(chain_id, left.before(mark), facts.as_of)
        await left.close()

    def _held(self, facts: RunFacts) -> SimulationState:
        simulation = self._kept.setdefault(facts.top_pk, SimulationState())
        simulation.runs.add(facts.pk)
        return simulation

    async def _of(self, facts: RunFacts) -> SimulationState:
        return await self._restored(self._held(facts), facts)

    async def _restored(self, simulation: SimulationState, facts: RunFacts) -> SimulationState:
        if simulation.stored is None:
            rows = await self._database.read(lambda tx: fork_rows.list_of(tx, facts.top_pk))
            if simulation.stored is None:
                simulation.restore(rows)
        return simulation

    async def carry_out(self, job: Job, facts: RunFacts, context: NodeContext) -> Outcome:
        """Executes a node that spends; its failure is the one it would have live."""
        simulation = await self._of(facts)
        async with simulation.lock:
            deps = SimulationDeps(
                simulation,
                lambda chain_id: self.sim(facts, chain_id),
                partial(self.go_back, facts),
                partial(self._look, facts, simulation),
                self._priced(facts, simulation),
                self._policy,
                self._reports,
                self._settings,
            )
            spend = SimulatedSpend(deps, job, facts.id, context, self._origin(facts, job.start.path))
            try:
                return await spend.run()
            except DustrunError as error:
                outcome = of_error(error)
                if isinstance(outcome, Failed):
                    outcome.facts = await spend.facts()
                return outcome
            finally:
                spend.tell()

    async def judge_loop(
        self, facts: RunFacts, spends: Sequence[LoopSpend], now_ms: int, *, stops: bool
    ) -> LoopVerdicts:
        """The verdicts on the spends of a loop before its first item, on what the simulation has spent so far."""
        simulation = await self._of(facts)

        async def cost_of(sender: str, intent: Intent) -> PricedIntent | IntentFailure:
            sim = await self.sim(facts, intent.chain_id)
            await set_clock(sim, now_ms)
            return await fees.cost_of(sim, FeeRequest(sender, intent), self._settings.transaction_max_fee_rise)

        def origin_of(
            _tx: Tx, _policy: WalletPolicy | None, one: LoopSpend
        ) -> tuple[Origin, Mapping[int, str], str | None]:
            return self._origin(facts, one.request.path), {}, None

        def before(wallet_id: str) -> Sequence[Earlier]:
            return tuple(simulation.spent.get(wallet_id, ()))

        ground = Ground(now_ms, origin_of, self._priced(facts, simulation), before)
        async with simulation.lock:
            judge = LoopJudge(self._policy.database, self._policy.budget, spends, ground, stops=stops)
            return await judge.judge(cost_of)

    @staticmethod
    def _origin(facts: RunFacts, path: str) -> Origin:
        place = (facts.org_id, facts.pk, path)
        return Origin(facts.workflow_id, f"simulated/{facts.top_pk}", facts.triggered_by, place)

    async def _look(
        self, facts: RunFacts, simulation: SimulationState, sender: str, intents: Sequence[Intent]
    ) -> Sequence[tuple[Reason, ...]]:
        """The outbox's view of a node now; nothing in a back-test, whose chains are of the past."""
        if facts.as_of is not None:
            return [() for _ in intents]
        sims = {intent.chain_id: await self.sim(facts, intent.chain_id) for intent in intents}
        untouched = [chain_id for chain_id, sim in sims.items() if not (await sim.mark())["steps"]]
        return await self._policy.look(facts.org_id, sender, intents, self._priced(facts, simulation), untouched)

    async def close(self) -> None:
        """The server is stopping: frees the chains' processes and connections. Their state is in the tables."""
        for simulation in list(self._kept.values()):
            for sim in simulation.chains.values():
                await sim.close()
