"""Dependencies of runs that read chains and spend: chains, prices, wallets, the outbox, simulated chains."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from dustrun.core.money.allowances import Allowance
from dustrun.core.workflow.definition import WALLET, ConnectorReference
from dustrun.engine.node.context import Reach
from dustrun.engine.node.mode import RunMode
from dustrun.engine.spend.live import LiveSpend
from dustrun.engine.spend.simulated_chains import SimulatedChains
from dustrun.errors import Invalid
from dustrun.records import dataclass
from dustrun.sdk.chain import Chain, Prices, WalletView
from dustrun.services.outbox.loop_judgement import LoopQuestions
from dustrun.services.runs.engine_port import RunFacts


class Wallets(Protocol):
    """Finds wallets."""

    async def find_view(self, org_id: str, wallet_id: str | None) -> WalletView | None:
        """An active wallet by its id; with None the organisation's default wallet."""
        ...

    async def find_view_of_any(self, org_id: str, wallet_id: str) -> WalletView | None:
        """A wallet by its id, also an archived one."""
        ...


@dataclass(frozen=True, slots=True)
class SpendDeps:
    """The services behind nodes that read chains or spend."""

    chain: Callable[[int], Chain]
    prices: Prices
    wallets: Wallets
    live: LiveSpend
    simulated_chains: SimulatedChains
    candidates: Callable[[str, str, str, int], Awaitable[list[Allowance]]]
    loops: LoopQuestions

    def reach(self, facts: RunFacts, mode: RunMode, now_ms: int) -> Reach:
        """The chains that a node of this run sees: live ones, or its simulated ones at `now_ms` of the run's clock."""
        if mode.has_simulated_chains:
            return self.simulated_chains.reach(facts, now_ms)
        return Reach(self.chain, self.prices)

    async def granted(self, facts: RunFacts, mode: RunMode, wallet: WalletView, chain_id: int) -> list[Allowance]:
        """The allowances of a wallet to others: by what it has signed, and by what the simulation has done."""
        found = set(await self.candidates(facts.org_id, wallet.id, wallet.address, chain_id))
        if mode.has_simulated_chains:
            sim = await self.simulated_chains.sim(facts, chain_id)
            found.update(sim.granted(wallet.address))
        return sorted(found)

    async def wallet(self, facts: RunFacts, connector: ConnectorReference | None) -> WalletView:
        """The wallet of a node; raises `Invalid` when there is none."""
        if connector is not None and connector.type != WALLET:
            raise Invalid(f'The node needs a connector of type "wallet", not "{connector.type}".')
        wallet_id = connector.id if connector is not None else None
        view = await self.wallets.find_view(facts.org_id, wallet_id)
        if view is not None:
            return view
        if wallet_id is not None:
            raise Invalid(f'There is no wallet "{wallet_id}" in this organisation; GET /v1/wallets lists the ids.')
        raise Invalid(
            "The organisation has no default wallet. Make one (on the page Wallets, or with dustrun wallet create), or "
            'choose one for this step: its connector {"type": "wallet", "id": "wal_…"}.'
        )
