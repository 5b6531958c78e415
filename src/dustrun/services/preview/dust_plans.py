"""Plans a dust test before any run: what each spend would use instead of its amount, what would be refused, what is
still unknown, and what stays unscaled."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from dustrun.core.money.movements import Unknown
from dustrun.core.money.policy.counting import Worth
from dustrun.core.money.typical_gas import typical_gas
from dustrun.core.values.amounts import Asset, format_units
from dustrun.core.workflow.forecast import Forecast, ForecastInput, find_readers
from dustrun.errors import DustrunError, Invalid, Refused
from dustrun.records import dataclass
from dustrun.sdk import Action, Effect
from dustrun.services.access.principal import Principal
from dustrun.services.preview.dust_scaling import ChainOf, Duster, Entry, Scene, check_scalable
from dustrun.services.preview.spend_forecast import (
    Closure,
    ForecastScope,
    ForecastSpend,
    SpendForecast,
    SpendForecasts,
    unknown_in,
)
from dustrun.services.prices import PriceBook
from dustrun.services.workflows.slices import Slices

_BRANCHING = frozenset({"if", "switch", "for-each"})


@dataclass(frozen=True, slots=True)
class DustFinding:
    """A finding about a node; a refusal has a `code`, an unknown value has none."""

    path: str
    node_id: str
    field: str | None
    message: str
    code: str | None = None


@dataclass(frozen=True, slots=True)
class Fee:
    """A node's network fee at the current price, by what such transactions usually cost."""

    chain_id: int
    gas: int
    units: int
    usd_units: int | None


@dataclass(frozen=True, slots=True)
class PlannedSpend:
    """One execution of a node that spends, with its known amounts."""

    ahead: ForecastSpend
    entries: tuple[Entry, ...]
    fee: Fee | None


@dataclass(frozen=True, slots=True)
class Write:
    """A node with effects outside that is not scaled; `reads` are the scaled values that it uses."""

    node_id: str
    type: str
    reads: tuple[str, ...]
    path: str
    workflow_id: str | None


@dataclass(frozen=True, slots=True)
class Reading:
    """A condition or loop that reads a scaled value, so that it may take another branch than live."""

    node_id: str
    type: str
    field: str
    reads: str
    path: str
    workflow_id: str | None


@dataclass(frozen=True, slots=True)
class DustPlan:
    """The whole plan; dollars in units of 1e-18."""

    forecast: SpendForecast
    dust_usd_units: int
    spend_cap_units: int
    run_cap_units: int
    usd_units: int
    spends: tuple[PlannedSpend, ...]
    skipped: tuple[str, ...]
    refusals: tuple[DustFinding, ...]
    unknowns: tuple[DustFinding, ...]
    writes: tuple[Write, ...]
    conditions: tuple[Reading, ...]
    reasons: Sequence[dict[str, Any]] = ()
    """The sources of its first spends, as the API shows them."""

    def public(self) -> dict[str, Any]:
        """As JSON: the answer of `dust-plan`, and what a dust test shows before its first signature."""
        return {
            "workflowId": self.forecast.workflow_id,
            "version": self.forecast.version,
            "dustUsd": format_units(self.dust_usd_units, 18),
            "spendCapUsd": format_units(self.spend_cap_units, 18),
            "runCapUsd": format_units(self.run_cap_units, 18),
            "totalUsd": format_units(self.usd_units, 18),
            "spends": [_show_spend(spend) for spend in self.spends],
            "skipped": list(self.skipped),
            "refusals": [_show_finding(found) for found in self.refusals],
            "unknowns": [_show_finding(found) for found in self.unknowns],
            "writes": [
                {"path": one.path, "workflowId": one.workflow_id, "nodeId": one.node_id, "type": one.type}
                | {"reads": list(one.reads)}
                for one in self.writes
            ],
            "conditions": [
                {"path": one.path, "workflowId": one.workflow_id, "nodeId": one.node_id, "type": one.type}
                | {"field": one.field, "reads": one.reads}
                for one in self.conditions
            ],
        }


class _Draft:
    def __init__(self) -> None:
        self.spends: list[PlannedSpend] = []
        self.skipped: list[str] = []
        self.refusals: list[DustFinding] = []
        self.unknowns: list[DustFinding] = []
        self.usd_units = 0

    def note(self, seen: Forecast, error: DustrunError, field: str | None = None) -> None:
        """Records an error of one amount: a refusal, or something that is unknown for now."""
        found = DustFinding(seen.path, seen.node.id, field, error.message, error.code.name)
        if isinstance(error, Invalid | Refused):
            self.refusals.append(found)
        else:
            self.unknowns.append(replace(found, code=None))

    def unknown(self, seen: Forecast, field: str | None, why: str) -> None:
        """Records a value that only the run will know."""
        self.unknowns.append(DustFinding(seen.path, seen.node.id, field, why))


class DustPlans:
    """Makes dust plans. Reads chains and prices and changes nothing."""

    def __init__(
        self, forecasts: SpendForecasts, duster: Duster, prices: PriceBook, chain_of: ChainOf, slices: Slices
    ) -> None:
        self._slices = slices
        self._forecasts = forecasts
        self._duster = duster
        self._prices = prices
        self._chain_of = chain_of

    async def plan(self, principal: Principal, workflow_id: str, version: int | None, given: ForecastInput) -> DustPlan:
        """The plan of a version; raises `NotFound`, or `Invalid` if it does not validate."""
        forecast = await self._forecasts.of_workflow(principal, workflow_id, version)
        found = await self.plan_of(principal, forecast, given)
        return replace(found, reasons=await self._slices.beside(principal, workflow_id, forecast.version))

    async def plan_of(self, principal: Principal, forecast: SpendForecast, given: ForecastInput) -> DustPlan:
        """The plan of a validated workflow."""
        draft, rules = _Draft(), self._duster.rules
        closure = await self._forecasts.closure(principal, forecast, given)
        scaled: dict[str, set[str]] = {}
        for scope in closure.scopes:
            first_spend, first_unknown = len(draft.spends), len(draft.unknowns)
            for ahead in await self._forecasts.spends(principal, scope):
                await self._spend(draft, ahead)
            scaled[scope.path] = {spend.ahead.seen.node.id for spend in draft.spends[first_spend:]}
            scaled[scope.path] |= {one.node_id for one in draft.unknowns[first_unknown:]}
        for _, call, why in closure.unknown:
            draft.unknown(call, "workflowId", why)
        _note_calls(closure, scaled)
        writes: dict[tuple[str | None, str], Write] = {}
        conditions: dict[tuple[str | None, str, str, str], Reading] = {}
        for scope in closure.scopes:
            readers = find_readers(scope.program, scaled[scope.path])
            self._writes(draft, scope, readers, writes)
            for one in _conditions(scope, readers):
                conditions.setdefault((scope.workflow_id, one.node_id, one.field, one.reads), one)
        return DustPlan(
            forecast,
            rules.target,
            rules.spend_cap,
            rules.run_cap,
            draft.usd_units,
            tuple(draft.spends),
            tuple(draft.skipped),
            tuple(draft.refusals),
            tuple(draft.unknowns),
            tuple(writes.values()),
            tuple(conditions.values()),
        )

    async def _spend(self, draft: _Draft, ahead: ForecastSpend) -> None:
        seen, node = ahead.seen, ahead.seen.node.node
        if node.is_skipped_as_dust:
            draft.skipped.append(seen.path)
            return
        if node.dust == "refuse":
            message = 'The node says dust: "refuse": it does not run in a dust test.'
            draft.refusals.append(DustFinding(seen.path, seen.node.id, None, message, "REFUSED"))
            return
        try:
            check_scalable(node.type, ahead.action.funds_movement)
        except Refused as refusal:
            draft.note(seen, refusal)
            return
        if seen.repeats is not None:
            draft.unknown(seen, None, seen.repeats)
        entries = await self._entries(draft, ahead)
        fee = await self._fee(ahead, len(entries)) if entries else None
        draft.spends.append(PlannedSpend(ahead, tuple(entries), fee))

    async def _entries(self, draft: _Draft, ahead: ForecastSpend) -> list[Entry]:
        seen, entries = ahead.seen, list[Entry]()
        if ahead.wallet is None:
            draft.unknown(seen, "connector", ahead.no_wallet or "there is no wallet")
            return entries
        if not ahead.spots and not seen.unknowns:
            draft.refusals.append(
                DustFinding(seen.path, seen.node.id, None, "The input has no amount.", "DUST_UNSCALABLE")
            )
        amount = seen.node.node.dust_amount
        override = None if amount is None else int(amount)
        for spot in ahead.spots:
            why = unknown_in(spot) or _unknown_limit(spot.min_out) or _unknown_limit(spot.max_in)
            if why is not None:
                draft.unknown(seen, spot.field, why)
                continue
            scene = Scene(self._chain_of, ahead.wallet.address, override, draft.usd_units, ahead.wallet.id)
            try:
                entry, _ = await self._duster.scale_spot(spot, scene)
            except DustrunError as error:
                draft.note(seen, error, spot.field)
                continue
            entries.append(entry)
            draft.usd_units += entry.dusted.usd_units or 0
        return entries

    async def _fee(self, ahead: ForecastSpend, amounts: int) -> Fee | None:
        """The fee; None if the chain or its coin's price cannot be read."""
        spot = ahead.spots[0]
        try:
            chain = self._chain_of(int(spot.chain))
            fees = await chain.fees()
        except DustrunError:
            return None
        gas = typical_gas(ahead.action.type, amounts)
        units = gas * fees.expected_units
        return Fee(chain.network.chain_id, gas, units, await usd_of_coin(self._prices, chain.network.chain_id, units))

    def _writes(
        self,
        draft: _Draft,
        scope: ForecastScope,
        readers: Mapping[str, list[tuple[str, str]]],
        found: dict[tuple[str | None, str], Write],
    ) -> None:
        """Adds the writes of one workflow to `found`, each node once."""
        nodes = scope.program.nodes
        wanted = [name for name, node in nodes.items() if node.spec.effect == "write" and node.spec.kind == "action"]
        for seen in scope.forecast_nodes(wanted):
            node, action = seen.node, self._forecasts.catalog.actions[seen.node.node.type]
            key = (scope.workflow_id, node.id)
            if node.node.dust == "skip" or key in found or _is_read(action, seen):
                continue
            if node.node.dust == "refuse":
                message = 'The node says dust: "refuse": it does not run in a dust test.'
                draft.refusals.append(DustFinding(seen.path, node.id, None, message, "REFUSED"))
                continue
            reads = tuple(dict.fromkeys(what for _, what in readers.get(node.id, ())))
            found[key] = Write(node.id, node.node.type, reads, seen.path, scope.workflow_id)


def _note_calls(closure: Closure, scaled: dict[str, set[str]]) -> None:
    """Counts a call as scaled when what it calls is: its result may have those values."""
    for scope in reversed(closure.scopes):
        if scope.caller is not None and scope.call is not None and scaled[scope.path]:
            scaled[scope.caller.path].add(scope.call.node.id)


def _unknown_limit(value: Any) -> str | None:
    return value.why if isinstance(value, Unknown) else None


def _is_read(action: Action, seen: Forecast) -> bool:
    """Whether the known part of the input makes the node read-only."""
    if action.effect_of is None or seen.unknowns:
        return False
    try:
        return action.effect_for(action.input.model_validate(dict(seen.wire))) is not Effect.WRITE
    except ValidationError:
        return False


def _conditions(scope: ForecastScope, readers: Mapping[str, list[tuple[str, str]]]) -> Iterator[Reading]:
    """The conditions and loops of one workflow that read scaled values."""
    nodes = scope.program.nodes
    for node_id, places in readers.items():
        if nodes[node_id].node.type in _BRANCHING:
            path = f"{scope.path}/{node_id}" if scope.path else node_id
            for field, what in places:
                yield Reading(node_id, nodes[node_id].node.type, field, what, path, scope.workflow_id)


async def usd_of_coin(prices: PriceBook, chain_id: int, units: int) -> int | None:
    """Base units of a chain's coin in 1e-18 dollars; None if no source prices it."""
    try:
        valued = await prices.value(Asset(chain_id), surveys=False)
    except DustrunError:
        return None
    return Worth(valued.price.usd, valued.decimals).of(units)


def without_addresses(plan: DustPlan) -> DustPlan:
    """The plan for a key that may not read wallets."""
    return replace(plan, spends=tuple(replace(one, ahead=_without_address(one.ahead)) for one in plan.spends))


def _without_address(ahead: ForecastSpend) -> ForecastSpend:
    return ahead if ahead.wallet is None else replace(ahead, wallet=replace(ahead.wallet, address=""))


def _show_spend(spend: PlannedSpend) -> dict[str, Any]:
    seen, wallet = spend.ahead.seen, spend.ahead.wallet
    return {
        "path": seen.path,
        "workflowId": spend.ahead.workflow_id,
        "nodeId": seen.node.id,
        "type": seen.node.node.type,
        "walletId": wallet.id if wallet is not None else None,
        "walletAddress": (wallet.address or None) if wallet is not None else None,
        "repeats": seen.repeats,
        "entries": [entry.public() for entry in spend.entries],
        "fee": _show_fee(spend.fee) if spend.fee is not None else None,
    }


def _show_fee(fee: Fee) -> dict[str, Any]:
    usd = None if fee.usd_units is None else format_units(fee.usd_units, 18)
    return {"chainId": fee.chain_id, "gas": str(fee.gas), "fee": str(fee.units), "usd": usd}


def _show_finding(found: DustFinding) -> dict[str, Any]:
    return {
        "path": found.path,
        "nodeId": found.node_id,
        "field": found.field,
        "message": found.message,
        "code": found.code,
    }
