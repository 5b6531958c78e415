"""The simulated chains of runs: who holds them, what nodes read on them, whose turn it is to change them.

A run and the runs that it calls share their chains: each stands on the block at which it was first touched, and every
transaction sees what the earlier ones left. Nodes that spend take turns, in the planner's order.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from dustrun import clock
from dustrun.chain.simulate import SimChain
from dustrun.core.values.exact_json import loads_own
from dustrun.engine.node.context import NodeContext, Reach
from dustrun.engine.node.job import Job
from dustrun.engine.node.outcome import Failed, Outcome, of_error
from dustrun.engine.spend.live import Reports
from dustrun.engine.spend.shared_chain import SharedChain, set_clock
from dustrun.engine.spend.simulated import Stage, Turn
from dustrun.engine.spend.simulation_state import SimulationState
from dustrun.errors import DustrunError
from dustrun.sdk.chain import Chain
from dustrun.services.outbox.simulated_policy import SimulatedPolicy
from dustrun.services.prices import PriceBook
from dustrun.services.runs.engine_port import RunFacts
from dustrun.settings import Settings
from dustrun.storage.db.database import Database
from dustrun.storage.runs import forks as fork_rows
from dustrun.storage.runs.forks import Fork


class MakesChains(Protocol):
    """Who makes simulated chains."""

    def __call__(self, chain_id: int, state: Mapping[str, Any] | None) -> SimChain:
        """A chain that stands nowhere yet, or where `state` left off."""
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
        """What a node of a simulated run sees from its start on: chains and prices of the simulation."""
        simulation = self._held(facts)
        simulation.now_ms = max(simulation.now_ms, now_ms)
        ahead_ms = simulation.now_ms if simulation.now_ms > clock.now_ms() else 0
        # prices change when a pool moves, or when the clock advances
        if simulation.prices is None or simulation.priced_at != (
            simulation.moment,
            ahead_ms,
        ):
            simulation.prices = self._prices.on(lambda chain_id: self.chain(facts, chain_id, simulation.now_ms))
            simulation.priced_at = (simulation.moment, ahead_ms)
        return Reach(lambda chain_id: self.chain(facts, chain_id, now_ms), simulation.prices)

    def chain(self, facts: RunFacts, chain_id: int, now_ms: int) -> Chain:
        """The simulated chain that a run and those that it calls share, at `now_ms` of the run's clock or later."""
        network = self._make(chain_id, None).network  # raises for a chain that the server does not know

        async def find() -> SimChain:
            sim = await self.sim(facts, chain_id)
            await set_clock(sim, now_ms)
            return sim

        return SharedChain(network, find)

    def forks(self, facts: RunFacts) -> list[Fork]:
        """Where the chains stand that were touched since the last call, to be stored with what the run records."""
        simulation = self._kept.get(facts.top_pk)
        return [] if simulation is None else simulation.untold(facts.top_pk)

    async def end(self, facts: RunFacts) -> None:
        """The run is over: what it holds is let go when no other run of the simulation goes on."""
        simulation = self._kept.get(facts.top_pk)
        if simulation is not None:
            simulation.runs.discard(facts.pk)
            if not simulation.runs:
                await self.forget(facts)

    async def forget(self, facts: RunFacts) -> None:
        """What memory holds may be ahead of the tables, since something was not written: it is read from them anew."""
        simulation = self._kept.pop(facts.top_pk, None)
        for sim in simulation.chains.values() if simulation is not None else ():
            await sim.close()

    async def sim(self, facts: RunFacts, chain_id: int) -> SimChain:
        """A simulated chain, where the tables or earlier nodes left it."""
        simulation = await self._of(facts)
        if chain_id not in simulation.chains:
            assert simulation.stored is not None
            state = simulation.stored.get(chain_id)
            sim = simulation.chains[chain_id] = self._make(chain_id, loads_own(state) if state is not None else None)
            simulation.told[chain_id] = sim.changes
        return simulation.chains[chain_id]

    def _held(self, facts: RunFacts) -> SimulationState:
        simulation = self._kept.setdefault(facts.top_pk, SimulationState())
        simulation.runs.add(facts.pk)
        return simulation

    async def _of(self, facts: RunFacts) -> SimulationState:
        simulation = self._held(facts)
        if simulation.stored is None:
            rows = await self._database.read(lambda tx: fork_rows.list_of(tx, facts.top_pk))
            if simulation.stored is None:
                simulation.restore(rows)
        return simulation

    async def carry_out(self, job: Job, facts: RunFacts, context: NodeContext) -> Outcome:
        """Carries a node that spends out, or says why it would fail live."""
        simulation = await self._of(facts)
        async with simulation.turn:
            stage = Stage(
                simulation, lambda chain_id: self.sim(facts, chain_id), self._policy, self._reports, self._settings
            )
            turn = Turn(stage, job, facts.id, context)
            try:
                return await turn.run()
            except DustrunError as error:
                outcome = of_error(error)
                if isinstance(outcome, Failed):
                    outcome.facts = await turn.told()
                return outcome

    async def close(self) -> None:
        """The server stops: what the chains hold of this machine is given back. The tables have where they stand."""
        for simulation in list(self._kept.values()):
            for sim in simulation.chains.values():
                await sim.close()
