"""The budget of a wallet's policy: judges and reserves in one transaction, settles and releases later.

`judge_and_reserve` runs inside the unit that writes the intent, its nonce and its signed bytes. Units run one after
another, so with limit L and equal amounts A exactly floor(L / A) succeed. Prices are read before the unit, by
`values_of`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import field, replace
from decimal import Decimal
from typing import Any, Final, Protocol, TypeVar

from dustrun.core.money.dust import DustRefusal, DustRules, check_caps
from dustrun.core.money.intent import Movement
from dustrun.core.money.policy import (
    Allow,
    CountedUnits,
    Deny,
    PolicyRequest,
    Reason,
    Verdict,
    VerdictFacts,
    WalletPolicy,
    Worth,
    count,
    judge,
    needs,
)
from dustrun.core.money.policy.counting import GAS_USD, USD, asked, canonical, gas_measure, is_gas
from dustrun.core.money.policy.judge import RUN, depends_on_prices, judge_fee, needs_approved_gas, priced_assets
from dustrun.core.money.policy.outflow import Ceilings, TakenAmounts, judge_outflow
from dustrun.core.money.policy.scope import find_unproven, paid
from dustrun.core.money.policy.scopes import count_under
from dustrun.core.values.addresses import ZERO_ADDRESS
from dustrun.core.values.amounts import Asset
from dustrun.core.values.exact_json import dumps_text
from dustrun.errors import DustrunError, Temporary
from dustrun.records import dataclass
from dustrun.sdk.chain import Price
from dustrun.storage.db.statement import Tx
from dustrun.storage.money import reservations as rows
from dustrun.storage.money.reservations import Ledger, ReservationRow, Totals

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class AssetValue:
    """A price with the decimals of its asset; `doubt` says why it may be wrong. `is_first`: only because one source
    alone names it and no price before is known; a price that a person approved for the wallet ends that."""

    price: Price
    decimals: int
    doubt: str | None = None
    is_first: bool = False

    @property
    def worth(self) -> Worth:
        """The value as the policy counts it."""
        return Worth(self.price.usd, self.decimals)

    def public(self) -> dict[str, Any]:
        """As JSON; the price is a string."""
        price = self.price
        return {
            "usd": f"{price.usd:f}",
            "source": price.source,
            "atMs": price.at_ms,
            "ageMs": price.age_ms,
            "decimals": self.decimals,
        }


class Valuer(Protocol):
    """Knows the price and the decimals of an asset."""

    async def value(self, asset: Asset, *, surveys: bool = True) -> AssetValue:
        """`surveys`: also says why the price may be wrong. Raises `Invalid` if no source prices it, `Temporary` if a
        source or chain does not answer."""
        ...

    async def decimals(self, asset: Asset) -> int:
        """Raises `Invalid` if it is not a token."""
        ...


Shaped = tuple[Mapping[str, frozenset[str]] | None, frozenset[str]]


class SpendShaping(Protocol):
    """Knows what shapes the spends of runs."""

    def shaped(self, tx: Tx, org_id: str, run_pk: int, path: str) -> Shaped:
        """The sources of each money field of the spend that a node of a run makes; and the contracts among them that
        networks name."""
        ...

    def why_unaccepted(self, tx: Tx, org_id: str, run_pk: int) -> str | None:
        """Why a run may not spend by what is stored now; None if it may."""
        ...

    async def slicing(self, judge: Callable[[], Awaitable[T]]) -> T:
        """Does what may need slices."""
        ...


@dataclass(frozen=True, slots=True)
class Earlier:
    """What a simulation has spent before, and when by its clock. `is_of_node`: the node that is judged has."""

    at_ms: int
    counted: CountedUnits
    is_of_node: bool = False


class Quotes(dict[str, AssetValue]):
    """Values by asset key. `unreachable`: a source that might price what is missing did not answer. `is_surveyed`: what
    makes a price doubtful was looked for."""

    unreachable: Temporary | None = None
    is_surveyed: bool = True


Values = Mapping[str, AssetValue]


def check_reached(verdict: Verdict, values: Values) -> None:
    """Raises `Temporary` if a spend is denied while a price source cannot be reached: later it may be allowed."""
    if isinstance(verdict, Deny) and isinstance(values, Quotes) and values.unreachable is not None:
        raise values.unreachable


@dataclass(frozen=True, slots=True)
class SpendCase:
    """One spend of a wallet under the policy in force; `values` are those of `Budget.values_of`. `scopes`: under which
    name the run and the node add up what they spend (`RUN`, `BATCH`)."""

    wallet_id: str
    policy: WalletPolicy | None
    request: PolicyRequest
    values: Values
    now_ms: int
    concerns: tuple[Reason, ...] = ()
    """Concerns that were noticed before, which a person has to look at whatever the policy says."""
    scopes: Mapping[int, str] = field(default_factory=dict)


_CENT: Final = DustRules(Decimal("0.01"))
_DUST_USD: Final = "dustUsd"
_EVER_MS: Final = 2**62
_TIMES_APPROVED: Final = 10
"""By how many times a first price may differ from the one that a person approved."""
_NOT_SURVEYED: Final = "Its price was not held against other sources"


class Budget:
    """Judges what wallets spend by their policies."""

    def __init__(self, valuer: Valuer, dust: DustRules = _CENT, shaping: SpendShaping | None = None) -> None:
        self._valuer = valuer
        self._dust = dust
        self._shaping = shaping

    async def slicing(self, judge: Callable[[], Awaitable[T]]) -> T:
        """Does what judges spends, after what shapes them is known."""
        return await (judge() if self._shaping is None else self._shaping.slicing(judge))

    def why_unaccepted(self, tx: Tx, org_id: str, run_pk: int | None) -> str | None:
        """Why a run may not spend any more: a connector, row or variable that shapes its spends has been changed by
        who may not, since it began. None if it may."""
        if self._shaping is None or run_pk is None:
            return None
        return self._shaping.why_unaccepted(tx, org_id, run_pk)

    def _shaped(self, tx: Tx, case: SpendCase) -> SpendCase:
        """The case with what shapes its spend, if the policy asks for that."""
        place = case.request.origin.place
        if self._shaping is None or case.policy is None or case.policy.sources is None or place is None:
            return case
        shaped, listed = self._shaping.shaped(tx, *place)
        return replace(case, request=replace(case.request, shaped=shaped, listed=listed))

    async def values_of(
        self, requests: Iterable[PolicyRequest], valuer: Valuer | None = None, *, surveys: bool = True
    ) -> Quotes:
        """The current values of the requests' assets, by key, or those of a simulation's `valuer`. Unpriced assets are
        left out; the policy decides about those. Call it before the unit: it reads chains and price sources.
        `surveys`: a statement of the policy depends on prices being right (`depends_on_prices`)."""
        asked = self._valuer if valuer is None else valuer
        assets = sorted({asset for request in requests for asset in request.assets}, key=lambda asset: asset.key)
        found = await asyncio.gather(*(_find_value(asked, asset, surveys=surveys) for asset in assets))
        pairs = zip(assets, found, strict=True)
        quotes = Quotes({canonical(asset): value for asset, value in pairs if isinstance(value, AssetValue)})
        quotes.unreachable = next((one for one in found if isinstance(one, Temporary)), None)
        quotes.is_surveyed = surveys
        return quotes

    async def find_value(self, asset: Asset) -> AssetValue | None:
        """The current price and decimals of an asset; None if no source has them now."""
        found = await _find_value(self._valuer, asset, surveys=False)
        return found if isinstance(found, AssetValue) else None

    async def find_decimals(self, asset: Asset) -> int | None:
        """The decimals of an asset; None if its contract does not answer."""
        try:
            return await self._valuer.decimals(asset)
        except DustrunError:
            return None

    def judge_and_reserve(
        self,
        tx: Tx,
        case: SpendCase,
        subject_id: str,
        *,
        is_approved: bool = False,
        dust_run: str | None = None,
        ledger: Ledger | None = None,
        reserves: bool = True,
    ) -> Verdict:
        """The verdict; `Allow` also reserves for `subject_id` (the id of a transaction or signature).

        A denial raises nothing, so that the unit can keep the verdict and the recipients asked for: the waiting hours
        of a new recipient begin with the first request. `dust_run` names the dust test that the spend belongs to; its
        caps then apply too, whatever was scaled before. `ledger`: of a unit that judges several spends; whoever has
        made it also writes it. Not `reserves`: `Allow` changes nothing, since it will be judged again.
        """
        case = self._shaped(tx, case)
        own = Ledger(tx, case.now_ms) if ledger is None else ledger
        reserved_for = subject_id if reserves else None
        verdict = self._judge_and_reserve(own, case, reserved_for, is_approved, dust_run)
        if ledger is None:
            own.write()
        return verdict

    def _judge_and_reserve(
        self, ledger: Ledger, case: SpendCase, subject_id: str | None, is_approved: bool, dust_run: str | None
    ) -> Verdict:
        policy, request = case.policy, case.request
        facts = _facts(ledger, case, is_approved=is_approved, is_dust=dust_run is not None)
        verdict = judge(policy, request, facts)
        dust_units = self._dust_units(count(request, facts.worths)) if dust_run is not None else 0
        if dust_run is not None and not isinstance(verdict, Deny):
            whole = self._dust_units(asked(request, facts.worths))
            verdict = self._judge_dust(ledger, dust_run, dust_units, whole) or verdict
        note_recipients(ledger, case)
        if isinstance(verdict, Allow) and subject_id is not None:
            counted = count_under(policy, request, facts.worths)
            prices = {key: dumps_text(value.public()) for key, value in case.values.items()}
            if request.native is not None and (coin := prices.get(canonical(request.native))) is not None:
                prices[gas_measure(request.native.chain_id)] = coin
            ledger.reserve(wallet_id=case.wallet_id, subject_id=subject_id, units=counted.units, prices=prices)
            for measure, span in needs(policy, request) if policy is not None else ():
                if span in case.scopes and counted.units.get(measure):
                    name, kept, _ = _place(case, measure, span)
                    ledger.reserve(wallet_id=name, subject_id=subject_id, units={kept: counted.units[measure]})
            if dust_run is not None:
                ledger.reserve(wallet_id=dust_run, subject_id=subject_id, units={_DUST_USD: dust_units})
        return verdict

    def ceilings(self, policy: WalletPolicy | None, request: PolicyRequest, *, is_dust: bool) -> Ceilings:
        """The bounds of one transaction's outflow."""
        rule = None if policy is None else policy.outflow
        return Ceilings(rule, self._dust.spend_cap if is_dust else None, find_unproven(policy, request))

    async def judge_outflow(
        self, ceilings: Ceilings, request: PolicyRequest, taken: TakenAmounts, valuer: Valuer | None = None
    ) -> tuple[Reason, ...]:
        """Why a transaction takes too much; empty if it does not, or if nothing bounds it."""
        if not ceilings:
            return ()
        moved = tuple(Movement("send", asset, 0, ZERO_ADDRESS) for asset in taken.assets)
        surveys = ceilings.dust_cap is not None or (ceilings.rule is not None and ceilings.rule.max_usd is not None)
        values = await self.values_of([replace(request, movements=moved)], valuer, surveys=surveys)
        declared = {canonical(movement.asset) for movement in request.movements}
        known = {key: one.worth for key, one in values.items() if one.doubt is None or key in declared}
        reasons = judge_outflow(ceilings, taken, request.movements, known)
        if reasons:
            check_reached(Deny(reasons), values)
        return reasons

    def _dust_units(self, counted: CountedUnits) -> int:
        """The amount in 1e-18 dollars; an unpriced asset counts as one dust target."""
        return counted.units.get(USD, 0) + len(counted.unpriced) * self._dust.target

    def _judge_dust(self, ledger: Ledger, dust_run: str, units: int, whole: int, before: int = 0) -> Deny | None:
        """Checks the caps of a dust test, with what comes `before` and is not stored. `whole` includes a swap's
        approval, which is counted with the swap but must be dust too."""
        spent = ledger.spent(dust_run, _DUST_USD, _EVER_MS) + before
        try:
            check_caps(self._dust, whole, 0)
            check_caps(self._dust, units, spent)
        except DustRefusal as refusal:
            return Deny((Reason("dust", refusal.message),))
        return None

    def judge_simulated(
        self,
        tx: Tx,
        case: SpendCase,
        earlier: Sequence[Earlier] = (),
        *,
        ledger: Ledger | None = None,
        dust_run: str | None = None,
    ) -> tuple[Verdict, CountedUnits]:
        """The verdict against stored spends and `earlier` ones that are not stored: those of a simulation, or of the
        node that is judged. Reserves nothing. An earlier spend counts for one window of the simulation's clock. The
        second value is what this one counts; pass it in `earlier` next time."""
        case = self._shaped(tx, case)
        ledger = Ledger(tx, case.now_ms) if ledger is None else ledger
        now_ms, facts = case.now_ms, _facts(ledger, case, is_dust=dust_run is not None)
        spent = {
            (measure, window_ms): units
            + sum(one.counted.units.get(measure, 0) for one in earlier if _is_within(one, window_ms, now_ms))
            for (measure, window_ms), units in facts.spent.items()
        }
        verdict = judge(case.policy, case.request, replace(facts, spent=spent))
        counted = count_under(case.policy, case.request, facts.worths)
        if dust_run is not None and not isinstance(verdict, Deny):
            before, whole = sum(self._dust_units(one.counted) for one in earlier), asked(case.request, facts.worths)
            units = self._dust_units(counted)
            verdict = self._judge_dust(ledger, dust_run, units, self._dust_units(whole), before) or verdict
        return verdict, CountedUnits() if isinstance(verdict, Deny) else counted

    def judge_replacement(self, tx: Tx, case: SpendCase, subject_id: str, *, is_approved: bool = False) -> Verdict:
        """Whether a replacement may bid this much; `Allow` puts the new fee into the open reservation. Only fee
        ceilings and fee limits are checked: what it moves is reserved already. `is_approved`: a person approved a fee
        up to the ceiling of its bids."""
        facts = _facts(Ledger(tx, case.now_ms), case, is_approved=is_approved)
        own = {row.measure: row.units for row in rows.list_of_subject(tx, subject_id) if row.state == rows.OPEN}
        spent = {need: units - own.get(need[0], 0) for need, units in facts.spent.items()}
        verdict = _judge_fee(case, replace(facts, spent=spent))
        if isinstance(verdict, Allow):
            rows.change_open(tx, subject_id, _fees(case.request, facts))
        return verdict

    def judge_fill(self, tx: Tx, case: SpendCase, subject_id: str) -> Verdict:
        """Whether the transaction that fills a nonce gap may bid this much; `Allow` reserves its fee, the only thing it
        spends."""
        ledger = Ledger(tx, case.now_ms)
        facts = _facts(ledger, case)
        verdict = _judge_fee(case, facts)
        if isinstance(verdict, Allow):
            ledger.reserve(wallet_id=case.wallet_id, subject_id=subject_id, units=_fees(case.request, facts))
            ledger.write()
        return verdict


async def _find_value(valuer: Valuer, asset: Asset, *, surveys: bool) -> AssetValue | Temporary | None:
    try:
        return await valuer.value(asset, surveys=surveys)
    except Temporary as error:
        return error
    except DustrunError:
        return None  # unknown, which the verdict says with its reason


def ask(ledger: Ledger, case: SpendCase) -> None:
    """Asks for what judging a spend needs to know, so that all of it takes one round trip, and that of many spends."""
    if case.policy is None:
        return
    ledger.ask(case.wallet_id, (), _recipients(case) if case.policy.new_recipient_hours else ())
    for measure, span in needs(case.policy, case.request):
        name, measure, window_ms = _place(case, measure, span)
        ledger.ask(name, [(measure, window_ms)])


def _place(case: SpendCase, measure: str, span: int) -> tuple[str, str, int]:
    """Where the ledger has what was spent in a window, or by the run or the node, which need not have a name yet."""
    if span > 0:
        return case.wallet_id, measure, span
    return case.scopes.get(span, ""), f"{'run' if span == RUN else 'batch'}:{measure}", _EVER_MS


def _is_within(earlier: Earlier, span: int, now_ms: int) -> bool:
    if span > 0:
        return earlier.at_ms > now_ms - span
    return span == RUN or earlier.is_of_node


def note_recipients(ledger: Ledger, case: SpendCase) -> None:
    """Notes whom a spend asks to pay: the waiting hours of a new recipient begin with the first request."""
    if case.policy is not None:
        ledger.note_recipients(case.wallet_id, _recipients(case))


def _recipients(case: SpendCase) -> set[str]:
    assert case.policy is not None
    return {one.counterparty.lower() for one in paid(case.policy, case.request)}


def _facts(ledger: Ledger, case: SpendCase, *, is_approved: bool = False, is_dust: bool = False) -> VerdictFacts:
    policy, now_ms = case.policy, case.now_ms
    worths = {key: value.worth for key, value in case.values.items()}
    doubts = _doubts(ledger, case)
    if isinstance(case.values, Quotes) and not case.values.is_surveyed and depends_on_prices(policy):
        doubts = dict.fromkeys(case.values, _NOT_SURVEYED)  # the policy is another one than when the values were read
    if policy is None:
        return VerdictFacts(now_ms, worths)
    ask(ledger, case)
    spent = {
        (measure, span): ledger.spent(*_place(case, measure, span)) for measure, span in needs(policy, case.request)
    }
    seen: dict[str, int] = {}
    if policy.new_recipient_hours:
        seen = ledger.first_seen(case.wallet_id, _recipients(case))
    gas_units = _approved_gas(ledger, case) if needs_approved_gas(policy, case.request) else 0
    concerns = (*case.concerns, *(_of_dust(case, doubts) if is_dust else ()))
    return VerdictFacts(now_ms, worths, spent, seen, is_approved, doubts, concerns, gas_units)


def _of_dust(case: SpendCase, doubts: Mapping[str, str]) -> Iterator[Reason]:
    """First prices from which a dust amount was made, whatever the policy says."""
    for key in sorted({canonical(movement.asset) for movement in case.request.movements} & doubts.keys()):
        if case.values[key].is_first:
            yield Reason("prices", f"{doubts[key]}: a person must approve dust amounts from it.")


def _doubts(ledger: Ledger, case: SpendCase) -> dict[str, str]:
    """Why prices may be wrong, but for first ones near those that a person approved for the wallet."""
    found = {key: value.doubt for key, value in case.values.items() if value.doubt is not None}
    for key in [key for key in found if case.values[key].is_first]:
        before, now = ledger.approved(case.wallet_id, key), case.values[key].price.usd
        if before is not None and now <= Decimal(before) * _TIMES_APPROVED and Decimal(before) <= now * _TIMES_APPROVED:
            del found[key]
    return found


def _gas_of(chain_id: int | None) -> str:
    """Under which name the price of gas on a chain is kept."""
    return f"gas:{chain_id}"


def _approved_gas(ledger: Ledger, case: SpendCase) -> int:
    return int(ledger.approved(case.wallet_id, _gas_of(case.request.chain_id)) or 0)


def keep_approved(ledger: Ledger, case: SpendCase, *, is_dust: bool) -> None:
    """Keeps what a person approved with a spend, and nothing else vouched for: later ones of the wallet are held
    against it."""
    request = case.request
    if request.native is not None and not request.usual_fee_units:
        ledger.keep_approved(case.wallet_id, _gas_of(request.chain_id), str(request.max_fee_units))
    shown = frozenset().union(*priced_assets(case.policy, request)) if case.policy is not None else frozenset()
    for key, value in case.values.items():
        if value.is_first and (is_dust or key in shown):
            ledger.keep_approved(case.wallet_id, key, f"{value.price.usd:f}")


def settle(tx: Tx, subject_id: str, *, fee_units: int | None, at_ms: int) -> None:
    """Settles a final transaction: what it moved counts for one window from now, with the fee really paid. `fee_units`
    is None for a signature or an unknown fee, which counts as reserved."""
    endings = Endings(tx, [subject_id])
    endings.read()
    endings.settle(subject_id, fee_units=fee_units, at_ms=at_ms)
    endings.write()


def release(tx: Tx, subject_id: str, *, fee_units: int | None, at_ms: int) -> None:
    """Releases a reservation of which nothing was moved: a final revert or cancel. The network fee stays counted."""
    endings = Endings(tx, [subject_id])
    endings.read()
    endings.release(subject_id, fee_units=fee_units, at_ms=at_ms)
    endings.write()


class Endings:
    """Settles and releases what several transactions have reserved, in one unit: `read`, then each, then `write`."""

    def __init__(self, tx: Tx, subject_ids: Iterable[str]) -> None:
        self._tx = tx
        self._asked = {subject_id: rows.ask_of_subject(tx, subject_id) for subject_id in subject_ids}
        self._found: dict[str, list[ReservationRow]] = {}
        self._totals = Totals(tx)

    def read(self) -> None:
        """Reads what they reserved, and the totals that it is added to."""
        self._tx.wait()
        self._found = {subject_id: found() for subject_id, found in self._asked.items()}
        self._totals.ask(row for found in self._found.values() for row in found)
        self._tx.wait()

    def settle(self, subject_id: str, *, fee_units: int | None, at_ms: int) -> None:
        """See `budget.settle`."""
        self._settle(self._found[subject_id], _paid_fee(self._found[subject_id], fee_units), at_ms)

    def release(self, subject_id: str, *, fee_units: int | None, at_ms: int) -> None:
        """See `budget.release`."""
        found = self._found[subject_id]
        self._settle([row for row in found if is_gas(row.measure)], _paid_fee(found, fee_units), at_ms)
        rows.release(self._tx, [row for row in found if not is_gas(row.measure)], at_ms)

    def _settle(self, found: Iterable[ReservationRow], paid_units: Mapping[str, int], at_ms: int) -> None:
        for row in found:
            if row.state == rows.OPEN:
                self._totals.settle(row, paid_units.get(row.measure, row.units), at_ms)

    def write(self) -> None:
        """Writes what was settled."""
        self._totals.write()


def _paid_fee(found: list[ReservationRow], fee_units: int | None) -> dict[str, int]:
    """The gas measures with the fee really paid; US dollars in proportion, rounded up."""
    if fee_units is None:
        return {}
    fees: dict[str, int] = {}
    reserved = next((row for row in found if row.measure.startswith("gas:")), None)
    for row in found:
        if row is reserved:
            fees[row.measure] = fee_units
        elif row.measure == GAS_USD and reserved is not None and reserved.units:
            fees[row.measure] = -(-row.units * fee_units // reserved.units)
    return fees


def with_fee(counted: CountedUnits, fee_units: int) -> CountedUnits:
    """The amounts of a final simulated transaction: with the fee that it paid, as `settle` counts it."""
    reserved = next((measure for measure in counted.units if measure.startswith("gas:")), None)
    if reserved is None:
        return counted
    units = {**counted.units, reserved: fee_units}
    if GAS_USD in units and counted.units[reserved]:
        units[GAS_USD] = -(-units[GAS_USD] * fee_units // counted.units[reserved])
    return replace(counted, units=units)


def note_policy(tx: Tx, wallet_id: str, policy: WalletPolicy, at_ms: int) -> None:
    """Marks the recipients that a policy names as known to the wallet. Call it in the unit that stores the policy."""
    named = {entry.rpartition(":")[2].lower() for entry in policy.recipients}
    rows.note_recipients(tx, wallet_id, named - {"*"}, at_ms)


def _judge_fee(case: SpendCase, facts: VerdictFacts) -> Verdict:
    """Judges the fee alone; without a policy everything is denied."""
    if case.policy is None:
        return judge(None, case.request, facts)
    denied = tuple(judge_fee(case.policy, case.request, facts))
    return Deny(denied) if denied else Allow(())


def _fees(request: PolicyRequest, facts: VerdictFacts) -> dict[str, int]:
    return {name: units for name, units in count(request, facts.worths).units.items() if is_gas(name)}
