"""Judges the spends of a loop's items together before the first item begins, as one batch; the same in every mode.

A live run asks one question about all of them then. Their intents are stored with it, so that the answer covers exactly
these; what an item spends is still judged for itself when its turn comes, and signed only if it is allowed then.
Whether a transaction reverts, what it takes from the wallet, and whether the wallet has enough is found in each item's
turn: it may depend on the items before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import field, replace
from functools import partial
from typing import Final, TypeVar

from dustrun import clock
from dustrun.chain.simulate.taking import forecast_outflow
from dustrun.core.evm.calls import selector_of
from dustrun.core.money.intent import Intent, Spend
from dustrun.core.money.policy import Allow, Ask, CountedUnits, Deny, PolicyRequest, Reason
from dustrun.core.money.policy.counting import Origin
from dustrun.core.money.policy.document import WalletPolicy
from dustrun.core.money.policy.judge import BATCH, depends_on_prices
from dustrun.core.money.transaction_state import TxState
from dustrun.core.values.amounts import Asset
from dustrun.errors import Code, Permanent
from dustrun.records import dataclass
from dustrun.services.outbox import concerns, fees, intents, policy_check
from dustrun.services.outbox.deps import OutboxDeps
from dustrun.services.outbox.events import CommittedSteps
from dustrun.services.outbox.fees import FeeRequest, PricedIntent
from dustrun.services.outbox.preflight import Ready
from dustrun.services.outbox.spend_status import IntentFailure, SpendRequest, intent_of, load_of
from dustrun.services.wallets import budget as budgets
from dustrun.services.wallets.budget import Budget, Earlier, SpendCase, Valuer, Values, with_fee
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Tx
from dustrun.storage.money import transactions as rows
from dustrun.storage.money.reservations import Ledger
from dustrun.storage.money.transactions import TransactionRow
from dustrun.storage.runs import approvals as approval_rows
from dustrun.storage.runs.approvals import ApprovalRow

_AT_ONCE: Final = 20
_JUDGED: Final = 100
"""Spends that one query judges, in a reader's thread."""
T = TypeVar("T")
FindCost = Callable[[str, Intent], Awaitable[PricedIntent | IntentFailure]]
"""The cost of what a sender sends next."""
Named = tuple[int, str]
"""The place of a spend in the loop, and the item of one of its intents."""


@dataclass(frozen=True, slots=True)
class LoopSpend:
    """The spend of one node in one item of a loop. `is_fixed`: its intents are the same later, so that a person can
    approve them now; those of a swap depend on the price then."""

    request: SpendRequest
    node_id: str
    sender: str
    spend: Spend
    is_fixed: bool = True


@dataclass(slots=True)
class LoopVerdicts:
    """The spends that are refused, by place, each with the item of the intent that is; and the intents that need a
    person's approval. `by_fee`: those whose fee may have decided."""

    denied: dict[int, tuple[str, Deny]] = field(default_factory=dict)
    asks: dict[Named, Ask] = field(default_factory=dict)
    by_fee: dict[Named, Named] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Ground:
    """The facts that live runs and simulations judge by: the clock, prices, what a wallet spent `before` and is not
    stored, and `origin_of`: where a spend comes from, under which names its run and node add up, and the dust test that
    it belongs to."""

    now_ms: int
    origin_of: Callable[[Tx, WalletPolicy | None, LoopSpend], tuple[Origin, Mapping[int, str], str | None]]
    valuer: Valuer | None = None
    before: Callable[[str], Sequence[Earlier]] = lambda _: ()


class LoopJudge:
    """Judges spends in their order, each with what those before it spend; those that are refused spend nothing.
    `stops`: nothing comes after one that is refused."""

    def __init__(
        self, database: Database, budget: Budget, spends: Sequence[LoopSpend], ground: Ground, *, stops: bool = False
    ) -> None:
        self._database = database
        self._budget = budget
        self._spends = spends
        self._ground = ground
        self._stops = stops
        self._spent: dict[str, CountedUnits] = {}
        self._requests: dict[Named, PolicyRequest] = {}
        self._of_assets: dict[frozenset[Asset], PolicyRequest] = {}
        self._usual: dict[Named, int] = {}

    def requests_of(self, wallet_id: str) -> list[PolicyRequest]:
        """The judgement of a wallet."""
        return [one for (place, _), one in self._requests.items() if self._spends[place].request.wallet_id == wallet_id]

    async def judge(self, cost_of: FindCost) -> LoopVerdicts:
        """The verdicts. Raises `Temporary` if a chain does not answer, or one is denied while a price source cannot be
        reached."""
        await self._price(cost_of, {})
        policies = [
            await policy_check.find_policy(self._database, wallet_id)
            for wallet_id in dict.fromkeys(one.request.wallet_id for one in self._spends)
        ]
        surveys = any(map(depends_on_prices, policies))
        values = await self._budget.values_of(self._of_assets.values(), self._ground.valuer, surveys=surveys)
        found = await self._judge_all(values)
        if found.by_fee:  # by that of another which calls the same
            await self._price(cost_of, found.by_fee)
            found = await self._judge_all(values)
        for _, verdict in [*found.denied.values()][:1]:
            budgets.check_reached(verdict, values)
        return found

    async def _judge_all(self, values: Values) -> LoopVerdicts:
        found, self._spent = LoopVerdicts(), {}
        for part in _parts(range(len(self._spends)), _JUDGED):
            query = partial(self._judge_part, part, values)
            done, self._spent = await self._budget.slicing(partial(self._database.read, query))
            found.denied |= done.denied
            found.asks |= done.asks
            found.by_fee |= done.by_fee
            if self._stops and found.denied:
                break
        return found

    async def _price(self, cost_of: FindCost, exact: Mapping[Named, object]) -> None:
        """The fee of each, with one estimate for all that call the same, but for the `exact` ones. One that the chain
        would not accept now may be accepted after those before it, and is judged without a fee."""
        named = [
            (place, one, intent)
            for place, one in enumerate(self._spends)
            for intent in one.spend.intents
            if not exact or (place, intent.item) in exact
        ]
        kinds: dict[object, tuple[str, Intent]] = {}
        for part in _parts(named, _JUDGED):
            for place, one, intent in part:
                kinds[exact.get((place, intent.item), _kind(one.sender, intent))] = one.sender, intent
            await asyncio.sleep(0)
        costs = dict[object, PricedIntent | IntentFailure]()
        for some in _parts([*kinds.items()]):
            asked = [cost_of(sender, intent) for _, (sender, intent) in some]
            costs |= zip((kind for kind, _ in some), await asyncio.gather(*asked), strict=True)
        for part in _parts(named, _JUDGED):
            for place, one, intent in part:
                self._note(place, one, intent, costs[exact.get((place, intent.item), _kind(one.sender, intent))])
            await asyncio.sleep(0)

    def _note(self, place: int, one: LoopSpend, intent: Intent, cost: PricedIntent | IntentFailure) -> None:
        name = place, intent.item
        if isinstance(cost, IntentFailure):
            request = PolicyRequest.of_intent(intent, one.sender, gas_limit=0, max_fee_units=0)
            self._usual.pop(name, None)
        else:
            request = replace(cost, intent=intent).request
            self._usual[name] = cost.gas_limit * cost.bid.expected_units + cost.data_fee_units
        self._requests[name] = self._of_assets[request.assets] = request

    def _judge_part(self, part: Iterable[int], values: Values, tx: Tx) -> tuple[LoopVerdicts, dict[str, CountedUnits]]:
        """The verdicts on some of them, and what each wallet has spent after these."""
        now, ledger = self._ground.now_ms, Ledger(tx, self._ground.now_ms)
        found, spent = LoopVerdicts(), {**self._spent}
        policies: dict[str, WalletPolicy | None] = {}
        before: dict[str, Sequence[Earlier]] = {}
        origins: dict[tuple[str, str], tuple[Origin, Mapping[int, str], str | None]] = {}
        for place in part:
            one = self._spends[place]
            wallet_id, key = one.request.wallet_id, (one.request.wallet_id, one.node_id)
            if wallet_id not in policies:
                policies[wallet_id] = policy_check.policy_of(tx, wallet_id, max(now, clock.now_ms()))
                before[wallet_id] = self._ground.before(wallet_id)
            if key not in origins:
                origins[key] = self._ground.origin_of(tx, policies[wallet_id], one)
            origin, scopes, dust_run = origins[key]
            if BATCH in scopes:
                scopes = {**scopes, BATCH: policy_check.batch_of(one.request)}
            own, others = CountedUnits(), spent.get(wallet_id, CountedUnits())
            for intent in one.spend.intents:
                name = place, intent.item
                asked = replace(self._requests[name], origin=origin)
                case = SpendCase(wallet_id, policies[wallet_id], asked, values, now, scopes=scopes)
                earlier = [*before[wallet_id], Earlier(now, others), Earlier(now, own, is_of_node=True)]
                verdict, counted = self._budget.judge_simulated(tx, case, earlier, ledger=ledger, dust_run=dust_run)
                if not isinstance(verdict, Allow) and any(map(_is_of_fee, verdict.reasons)):
                    found.by_fee[name] = name
                if isinstance(verdict, Deny):
                    found.denied[place] = intent.item, verdict
                    break
                if isinstance(verdict, Ask):
                    found.asks[name] = verdict
                own += with_fee(counted, self._usual[name]) if name in self._usual else counted
            if place not in found.denied:
                spent[wallet_id] = others + own
            elif self._stops:
                break
        return found, spent


def _is_of_fee(reason: Reason) -> bool:
    """Whether a fee may have decided."""
    return reason.statement.startswith(("gas", "fee", "limits"))


def _kind(sender: str, intent: Intent) -> object:
    """What has the same cost: calls of one function of one contract with as much data, and plain transfers."""
    to = intent.to if intent.data else None
    return intent.chain_id, sender, to, selector_of(intent.data), len(intent.data), intent.gas_limit


def _parts(items: Sequence[T], size: int = _AT_ONCE) -> Iterable[Sequence[T]]:
    return (items[start : start + size] for start in range(0, len(items), size))


class LoopQuestions:
    """Judges the loops of live runs and dust tests, and asks people about them."""

    def __init__(self, deps: OutboxDeps) -> None:
        self._deps = deps

    async def judge(
        self, loop: SpendRequest, spends: Sequence[LoopSpend], may_fail: Sequence[bool], *, stops: bool
    ) -> LoopVerdicts:
        """The verdicts on the spends of a loop. Where one that must not fail is refused, recipients are noted, since
        the hours that a new one has to wait begin now; else each item's own turn notes them."""
        deps = self._deps
        judge = LoopJudge(deps.database, deps.budget, spends, Ground(clock.now_ms(), _origin_of), stops=stops)
        found = await judge.judge(self._cost)
        ends = [place for place in found.denied if not may_fail[place]]
        for wallet_id in dict.fromkeys(spends[place].request.wallet_id for place in ends):
            await deps.writer.write(partial(_note, replace(loop, wallet_id=wallet_id), judge))
        return found

    async def _cost(
        self, sender: str, intent: Intent, gas_limit: int | None = None, max_price: int | None = None
    ) -> PricedIntent | IntentFailure:
        """The cost of a transaction with the gas limit that its own turn gives it, made from what a simulation uses."""
        chain, used = self._deps.chains.get(intent.chain_id), None
        if intent.data:
            limited = replace(intent, gas_limit=intent.gas_limit or gas_limit)
            try:
                seen = await forecast_outflow(chain, sender, [limited], [], self._deps.settings.fork_binary)
                used = seen[0].gas_used if seen and seen[0].failure is None else None
            except Permanent as error:
                if error.code is not Code.SIM_UNAVAILABLE:
                    raise
        request = FeeRequest(sender, intent, gas_limit, max_price, gas_used=used)
        return await fees.cost_of(chain, request, self._deps.settings.transaction_max_fee_rise)

    async def find_stored(self, spends: Sequence[LoopSpend]) -> list[bool]:
        """Which of them an earlier run of the retry chain has made, or has under way. Not those that are planned only:
        this run was interrupted before it could ask about them."""

        def query(part: Sequence[LoopSpend], tx: Tx) -> list[bool]:
            found = (load_of(tx, one.request) for one in part)
            return [one is not None and one.has_begun and not one.came_to_nothing for one in found]

        found = list[bool]()
        for part in _parts(spends):
            found += await self._deps.database.read(partial(query, part))
        return found

    async def ask(self, loop: SpendRequest, spends: Sequence[LoopSpend], verdicts: LoopVerdicts) -> list[str]:
        """Asks about all spends of each wallet of which one needs it, and that are not refused; the ids of the
        questions. Those whose cost nobody can know yet, and those that are not fixed, are asked about in their turn."""
        wallets = dict.fromkeys(spends[place].request.wallet_id for place, _ in verdicts.asks)
        asked = []
        for wallet_id in wallets:
            chosen = [
                place
                for place, one in enumerate(spends)
                if one.request.wallet_id == wallet_id and one.is_fixed and place not in verdicts.denied
            ]
            asked += await self._ask_wallet(replace(loop, wallet_id=wallet_id), spends, chosen, verdicts)
        return asked

    async def _ask_wallet(
        self, loop: SpendRequest, spends: Sequence[LoopSpend], chosen: Sequence[int], verdicts: LoopVerdicts
    ) -> list[str]:
        deps, asks, ready = self._deps, dict[str, Ask](), list[Ready]()
        policy = await policy_check.find_policy(deps.database, loop.wallet_id)
        for part in _parts(chosen):
            planned = await self._plan([spends[place] for place in part])
            costs = await asyncio.gather(*(self._cost_all(found) for found in planned))
            for place, found, cost in zip(part, planned, costs, strict=True):
                if cost is None:
                    continue
                values = await deps.budget.values_of([one.request for one in cost], surveys=depends_on_prices(policy))
                ready += [Ready(row, one, values) for row, one in zip(found, cost, strict=True)]
                named = ((row.id, verdicts.asks.get((place, row.item))) for row in found)
                asks |= {row_id: verdict for row_id, verdict in named if verdict is not None}
        if not asks:
            return []
        seen = await concerns.look(deps, ready)
        written = await deps.writer.write(
            lambda tx: _ask(tx, loop, seen, asks), lambda done: deps.publisher.tell(*done[1])
        )
        return written[0]

    async def _plan(self, spends: Sequence[LoopSpend]) -> list[tuple[TransactionRow, ...]]:
        """Stores the intents of some spends, nothing signed."""
        deps = self._deps

        def unit(tx: Tx) -> tuple[list[tuple[TransactionRow, ...]], list[CommittedSteps | None]]:
            done = [intents.plan(tx, one.request, one.spend, self._confirmations) for one in spends]
            told = [committed for _, some in done for committed in some]
            return [stored.transactions for stored, _ in done], told

        return (await deps.writer.write(unit, lambda done: deps.publisher.tell(*done[1])))[0]

    def _confirmations(self, chain_id: int) -> int:
        return self._deps.chains.get(chain_id).network.confirmations

    async def _cost_all(self, planned: Sequence[TransactionRow]) -> list[PricedIntent] | None:
        """The exact cost of each transaction of a spend; None if one is not known yet, or not planned any more."""
        found = []
        for row in planned:
            if row.state != TxState.PLANNED:
                return None
            max_price = int(row.max_price) if row.max_price is not None else None
            cost = await self._cost(row.sender, intent_of(row), row.gas_limit, max_price)
            if isinstance(cost, IntentFailure):
                return None
            found.append(cost)
        return found

    async def find_asked(self, loop: SpendRequest) -> list[str]:
        """The questions that were asked about this loop before a restart."""
        asked = await self._deps.database.read(
            lambda tx: approval_rows.list_spends_at(tx, loop.org_id, loop.run_pk, loop.path)
        )
        return [one.id for one in asked]

    async def find_answer(self, loop: SpendRequest, asked: Sequence[str]) -> IntentFailure | int | None:
        """Until when a question stays open; why one was not approved; None if all were."""

        def query(tx: Tx) -> list[tuple[IntentFailure | bool, ApprovalRow | None]]:
            return [
                (
                    policy_check.question_status(tx, loop.org_id, approval_id),
                    approval_rows.find(tx, loop.org_id, approval_id),
                )
                for approval_id in asked
            ]

        found = await self._deps.database.read(query)
        why = next((one for one, _ in found if isinstance(one, IntentFailure)), None)
        if why is not None:
            return why
        return min((row.expires_at for is_open, row in found if is_open and row is not None), default=None)

    async def refuse(self, loop: SpendRequest, asked: Sequence[str], why: IntentFailure) -> None:
        """Refuses what was asked about: the first for that reason, the others with it."""

        def unit(tx: Tx) -> list[CommittedSteps | None]:
            found = rows.ask_of_run(tx, loop.org_id, loop.run_pk)
            tx.wait()
            planned = [row for row in found() if row.approval_id in asked and row.state == TxState.PLANNED]
            refused = [policy_check.refuse(tx, row, why) for row in planned[:1]]
            return refused + [policy_check.give_up(tx, row, policy_check.OTHERS_FAILED) for row in planned[1:]]

        await self._deps.writer.write(unit, lambda done: self._deps.publisher.tell(*done))


def _note(loop: SpendRequest, judge: LoopJudge, tx: Tx) -> None:
    policy_check.note_recipients(tx, loop, judge.requests_of(loop.wallet_id))


def _origin_of(tx: Tx, policy: WalletPolicy | None, one: LoopSpend) -> tuple[Origin, Mapping[int, str], str | None]:
    origin = policy_check.origin_of(tx, policy, one.request)
    return origin, policy_check.scopes_of(tx, policy, one.request), policy_check.dust_run_of(tx, one.request)


def _ask(
    tx: Tx, loop: SpendRequest, ready: Sequence[Ready], asks: Mapping[str, Ask]
) -> tuple[list[str], list[CommittedSteps | None]]:
    """Asks once; nothing if one of them has changed meanwhile, or they are asked about already."""
    fresh = [replace(one, row=rows.get(tx, one.row.id)) for one in ready]
    if any(one.row.state != TxState.PLANNED or one.row.run_pk != loop.run_pk for one in fresh):
        return [], []
    known = list(dict.fromkeys(one.row.approval_id for one in fresh if one.row.approval_id is not None))
    if known:
        return known, []
    policy_check.note_recipients(tx, loop, (one.request for one in ready))
    told = policy_check.ask_all(tx, loop, fresh, asks)
    return [str(rows.get(tx, fresh[0].row.id).approval_id)], told
