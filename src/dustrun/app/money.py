"""Chains, wallets and spending: the outbox, dust tests and simulations."""

from __future__ import annotations

from decimal import Decimal
from functools import partial

from dustrun.app.base import Base
from dustrun.chain.chains import Chains
from dustrun.chain.evm import LiveChain
from dustrun.chain.simulate import SimChain
from dustrun.core.money.dust import DustRules
from dustrun.engine.spend.deps import SpendDeps
from dustrun.engine.spend.dust import NodeDust
from dustrun.engine.spend.live import LiveSpend
from dustrun.engine.spend.simulated_chains import MakesChains, SimulatedChains
from dustrun.errors import Code, Invalid
from dustrun.records import dataclass
from dustrun.services.outbox.concerns import look_ahead
from dustrun.services.outbox.deps import OutboxDeps
from dustrun.services.outbox.events import EventPublisher
from dustrun.services.outbox.loop_judgement import LoopQuestions
from dustrun.services.outbox.outbox import Transactions
from dustrun.services.outbox.policy_check import SimulatedPolicy, find_policy
from dustrun.services.preview.dust_plans import DustPlans
from dustrun.services.preview.dust_scaling import Duster
from dustrun.services.preview.fund_needs import Funds
from dustrun.services.preview.rehearsal_guard import RehearsalGuard
from dustrun.services.preview.spend_forecast import SpendForecasts
from dustrun.services.preview.spend_reports import SpendReports
from dustrun.services.prices import PriceBook, PriceMemory
from dustrun.services.runs.shaping import RunShaping
from dustrun.services.wallets.allowances import Allowances
from dustrun.services.wallets.asked_spends import FindsValue
from dustrun.services.wallets.budget import Budget
from dustrun.services.wallets.wallets import Wallets


@dataclass(frozen=True, slots=True)
class Money:
    wallets: Wallets
    allowances: Allowances
    outbox: Transactions
    simulated_chains: SimulatedChains
    spend: SpendDeps
    dust_plans: DustPlans
    fund_needs: Funds
    find_value: FindsValue


def make_money(base: Base, publisher: EventPublisher) -> Money:
    settings, database, writer, chains = base.settings, base.database, base.writer, base.chains
    prices = PriceBook.of(settings, chains.get, base.price_http, PriceMemory(database, writer))
    rules = DustRules(Decimal(settings.dust_usd))
    budget = Budget(prices, rules, RunShaping(base.gate, chains.networks))
    duster = Duster(prices, rules, lambda wallet_id: find_policy(database, wallet_id))
    wallets = Wallets(database, writer, base.signers)
    outbox = Transactions(
        OutboxDeps(
            settings,
            database,
            writer,
            base.vault,
            chains,
            base.signers,
            budget,
            publisher,
            base.leases,
            second_prices=prices.on(partial(_second_of, chains), is_past=True) if settings.second_endpoints else None,
        )
    )
    forecasts = SpendForecasts(database, base.programs, base.catalog, wallets)
    dust_plans = DustPlans(forecasts, duster, prices, chains.get, base.slices)
    reports = SpendReports(database, chains.get, prices, settings)
    live = LiveSpend(outbox, RehearsalGuard(database), NodeDust(duster, dust_plans), reports, settings)
    policy = SimulatedPolicy(database, budget, partial(look_ahead, outbox.deps))
    simulated = _simulated_chain(base)
    simulated_chains = SimulatedChains(database, simulated, prices, policy, reports, settings)
    allowances = Allowances(database, chains, budget.find_value)
    loops = LoopQuestions(outbox.deps)
    spend = SpendDeps(chains.get, prices, wallets, live, simulated_chains, allowances.candidates, loops)
    return Money(
        wallets,
        allowances,
        outbox,
        simulated_chains,
        spend,
        dust_plans,
        Funds(forecasts, prices, chains.get),
        budget.find_value,
    )


def _second_of(chains: Chains, chain_id: int) -> LiveChain:
    found = chains.second(chain_id)
    if found is None:
        raise Invalid(f"Chain {chain_id} has no second endpoint.", code=Code.CHAIN_NOT_SERVED)
    return found


def _simulated_chain(base: Base) -> MakesChains:
    settings = base.settings
    return lambda chain_id, state, as_of=None: SimChain(
        base.chains.get(chain_id),
        strategy=settings.simulation_strategy,
        fork_binary=settings.fork_binary,
        state=state,
        as_of=as_of,
    )
