"""Funds that each wallet needs for one run of a workflow, per chain and token and for gas, against its balance."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from dustrun.core.evm.network import Network
from dustrun.core.money.intent import FundsMovement
from dustrun.core.money.movements import Spot, Unknown
from dustrun.core.money.policy import Worth
from dustrun.core.money.tokens import find_known
from dustrun.core.money.typical_gas import typical_gas
from dustrun.core.values.addresses import read_address
from dustrun.core.values.amounts import Asset
from dustrun.core.workflow.forecast import Forecast, ForecastInput
from dustrun.errors import Code, DustrunError, Invalid, Problem
from dustrun.records import dataclass
from dustrun.sdk.chain import Chain, ChainCall, WalletView
from dustrun.services.access.principal import Principal
from dustrun.services.preview.dust_scaling import ChainOf, locate, read_amount
from dustrun.services.preview.spend_forecast import (
    ForecastScope,
    ForecastSpend,
    SpendForecast,
    SpendForecasts,
    unknown_in,
)
from dustrun.services.prices import PriceBook

_BALANCE_OF: Final = "70a08231"
_SYMBOL: Final = bytes.fromhex("95d89b41")
_MAX: Final = "max"
_READS_WALLETS: Final = "wallet:read"


@dataclass(frozen=True, slots=True)
class Coin:
    """An asset with its symbol and decimals."""

    asset: Asset
    symbol: str
    decimals: int


@dataclass(frozen=True, slots=True)
class FundNeed:
    """The need of one node from one wallet. `units` is None if unknown, and `why` says why. `source` is `node` for what
    is moved, `gas` for the network fee."""

    path: str
    workflow_id: str | None
    node_id: str
    node_name: str
    node_type: str
    source: str
    wallet_address: str | None
    network: Network | None
    coin: Coin | None
    units: int | None
    why: str | None


@dataclass(frozen=True, slots=True)
class WalletHolding:
    """A wallet's balance of one asset, and all that this run takes of it. `usd_units` in 1e-18 dollars."""

    units: int
    usd_units: int | None
    needed_units: int

    @property
    def is_insufficient(self) -> bool:
        """Whether the balance is too small for the run."""
        return self.units < self.needed_units

    @property
    def is_low(self) -> bool:
        """Whether it is enough for this run but not for a second one."""
        return not self.is_insufficient and self.units < 2 * self.needed_units


@dataclass(frozen=True, slots=True)
class ComparedNeed:
    """A need, the balance if the caller may see it, and whether it is enough; None if that is not told."""

    need: FundNeed
    held: WalletHolding | None
    is_sufficient: bool | None


@dataclass(frozen=True, slots=True)
class FundNeeds:
    """All needs with the balances; `is_complete` if every balance could be read. `hidden_without`: the permission that
    shows the balances, if the caller lacks it."""

    forecast: SpendForecast
    needs: tuple[ComparedNeed, ...]
    is_complete: bool
    hidden_without: str | None = None


class Funds:
    """Compares what workflows take with what wallets have. Reads chains and changes nothing."""

    def __init__(self, forecasts: SpendForecasts, prices: PriceBook, chain_of: ChainOf) -> None:
        self._forecasts = forecasts
        self._prices = prices
        self._chain_of = chain_of

    async def of_workflow(self, principal: Principal, workflow_id: str, version: int | None) -> FundNeeds:
        """The needs of a version; raises `NotFound`, or `Invalid` if it does not validate."""
        forecast = await self._forecasts.of_workflow(principal, workflow_id, version)
        return await self._analyze(principal, forecast, None)

    async def of_definition(self, principal: Principal, document: Any, default_address: str | None) -> FundNeeds:
        """The needs of a definition that is not stored; `default_address` stands in for nodes that name no wallet."""
        if default_address is not None:
            try:
                default_address = read_address(default_address)
            except ValueError as error:
                found = [Problem("defaultWalletAddress", str(error))]
                raise Invalid("The address is not valid.", code=Code.BODY_INVALID, details=found) from None
        return await self._analyze(principal, await self._forecasts.of_definition(principal, document), default_address)

    async def _analyze(self, principal: Principal, forecast: SpendForecast, default_address: str | None) -> FundNeeds:
        needs: list[FundNeed] = []
        closure = await self._forecasts.closure(principal, forecast, ForecastInput())
        for scope in closure.scopes:
            for ahead in await self._forecasts.spends(principal, scope):
                if default_address is not None and ahead.seen.node.node.connector is None:
                    ahead = replace(ahead, wallet=WalletView("", "", default_address), no_wallet=None)
                needs += await self._needs_of(ahead)
        needs += [_unknown_call(scope, call, why) for scope, call, why in closure.unknown]
        holdings = await self._holdings(needs)
        compared = tuple(_compare(need, holdings.get(_key(need))) for need in needs)
        is_complete = all(one.held is not None for one in compared if _key(one.need) is not None)
        if principal.may(_READS_WALLETS):
            return FundNeeds(forecast, compared, is_complete)
        is_stored = forecast.workflow_id is not None
        return FundNeeds(forecast, tuple(_hide(one, is_stored) for one in compared), is_complete, _READS_WALLETS)

    async def _needs_of(self, ahead: ForecastSpend) -> list[FundNeed]:
        """The need of one execution: of each asset that leaves the wallet, and for gas."""
        spots = ahead.spots
        needs = [await self._need(ahead, spot) for spot in spots if spot.movement.direction == "send"]
        if not spots and (ahead.action.funds_movement == () or not ahead.seen.unknowns):
            needs.append(_unresolved(ahead, "the action does not declare what it moves"))
        elif not spots:
            needs += [_unresolved(ahead, f"{field} {why}") for field, why in ahead.seen.unknowns]
        if ahead.seen.repeats is not None:
            needs = [replace(need, why=need.why or ahead.seen.repeats) for need in needs]
        chain_id = ahead.seen.wire.get("chainId")
        if isinstance(chain_id, Unknown):
            return [*needs, _unresolved(ahead, chain_id.why, "gas")]
        return [*needs, await self._gas(ahead, chain_id, len(spots))]

    async def _need(self, ahead: ForecastSpend, spot: Spot) -> FundNeed:
        if spot.movement.max_in_field is not None:
            spot = _paid_side(ahead, spot)
        why = unknown_in(spot)
        if why is not None:
            return _unresolved(ahead, f"{spot.field} {why}")
        try:
            chain, asset = locate(spot, self._chain_of)
            coin = await self._coin(chain, asset)
            need = _need(ahead, "node", chain.network, coin)
            if spot.amount == _MAX:
                return replace(need, why="it takes the whole balance")
            return replace(need, units=read_amount(spot))
        except DustrunError as error:
            return _unresolved(ahead, error.message)

    async def _gas(self, ahead: ForecastSpend, chain_id: Any, amounts: int) -> FundNeed:
        try:
            chain = self._chain_of(int(chain_id))
            coin, fees = await self._coin(chain, Asset(chain.network.chain_id)), await chain.fees()
        except (TypeError, ValueError):
            return _unresolved(ahead, "it names no chain", "gas")
        except DustrunError as error:
            return _unresolved(ahead, error.message, "gas")
        units = typical_gas(ahead.action.type, amounts) * fees.max_fee_units
        need = _need(ahead, "gas", chain.network, coin)
        return replace(need, units=units, why=need.why or ahead.seen.repeats)

    async def _coin(self, chain: Chain, asset: Asset) -> Coin:
        """Symbol and decimals, from the network's file or else from the contract."""
        if asset.token is None:
            return Coin(asset, chain.network.native.symbol, chain.network.native.decimals)
        decimals = await self._prices.decimals(asset)
        known = find_known(chain.network, asset.token)
        if known is not None:
            return Coin(asset, known.symbol, decimals)
        answer = (await chain.call_many([ChainCall(asset.token, _SYMBOL)]))[0]
        symbol = _text(answer.data) if answer.is_success else None
        return Coin(asset, symbol or f"{asset.token[:6]}…{asset.token[-4:]}", decimals)

    async def _holdings(self, needs: Sequence[FundNeed]) -> Mapping[tuple[str, Asset] | None, WalletHolding]:
        """The balances of needed assets, by wallet and asset; unreadable ones are left out."""
        totals: dict[tuple[str, Asset], int] = {}
        coins: dict[tuple[str, Asset], Coin] = {}
        for need in needs:
            key = _key(need)
            if key is not None and need.coin is not None:
                totals[key] = totals.get(key, 0) + (need.units or 0)
                coins[key] = need.coin
        found = await asyncio.gather(*(self._hold(key, coins[key], total) for key, total in totals.items()))
        return {key: holding for key, holding in zip(totals, found, strict=True) if holding is not None}

    async def _hold(self, key: tuple[str, Asset], coin: Coin, needed: int) -> WalletHolding | None:
        address, asset = key
        try:
            units = await read_balance(self._chain_of(asset.chain_id), asset, address)
        except DustrunError:
            return None
        try:
            usd = Worth((await self._prices.price(asset)).usd, coin.decimals).of(units)
        except DustrunError:
            return WalletHolding(units, None, needed)
        return WalletHolding(units, usd, needed)


async def read_balance(chain: Chain, asset: Asset, holder: str) -> int:
    """The balance of an address in an asset, in base units."""
    if asset.token is None:
        return await chain.balance(holder)
    data = bytes.fromhex(_BALANCE_OF + holder[2:].lower().rjust(64, "0"))
    return int.from_bytes((await chain.call(ChainCall(asset.token, data)))[:32])


def _paid_side(ahead: ForecastSpend, spot: Spot) -> Spot:
    """Who pays for an amount that is bought: the asset that is given, at most its limit; without a limit only the quote
    tells."""
    given: FundsMovement | None = next(
        (one for one in ahead.action.funds_movement if one.min_out_field is not None), None
    )
    amount = spot.max_in if spot.max_in is not None else Unknown("is only known from the quote")
    token = ahead.seen.wire.get(given.token_field or "") if given is not None else Unknown("is not declared")
    return replace(spot, movement=given or spot.movement, amount=amount, token=token)


def _need(ahead: ForecastSpend, source: str, network: Network, coin: Coin) -> FundNeed:
    found = _unresolved(ahead, None, source)
    return replace(found, network=network, coin=coin, why=ahead.no_wallet)


def _unresolved(ahead: ForecastSpend, why: str | None, source: str = "node") -> FundNeed:
    node = ahead.seen.node
    address = ahead.wallet.address if ahead.wallet is not None else None
    name = node.node.title_override or node.id
    place = (ahead.seen.path, ahead.workflow_id, node.id, name, node.node.type)
    return FundNeed(*place, source, address, None, None, None, why)


def _unknown_call(scope: ForecastScope, call: Forecast, why: str) -> FundNeed:
    """A call that could not be followed: what it takes is not known."""
    node = call.node
    name = node.node.title_override or node.id
    return FundNeed(call.path, scope.workflow_id, node.id, name, node.node.type, "node", None, None, None, None, why)


def _compare(need: FundNeed, held: WalletHolding | None) -> ComparedNeed:
    return ComparedNeed(need, held, None if held is None else not held.is_insufficient)


def _hide(one: ComparedNeed, is_stored: bool) -> ComparedNeed:
    """The view of a key without the permission to read wallets. Whoever chooses the amounts could find a balance by
    asking again and again whether it is enough, so this is told of stored workflows alone."""
    need = replace(one.need, wallet_address=None)
    return ComparedNeed(need, None, one.is_sufficient if is_stored else None)


def _key(need: FundNeed) -> tuple[str, Asset] | None:
    if need.coin is None or need.wallet_address is None:
        return None
    return need.wallet_address, need.coin.asset


def _text(data: bytes) -> str | None:
    """A symbol: a string, or bytes32 as early tokens return it."""
    if len(data) >= 96:
        length = int.from_bytes(data[32:64])
        raw = data[64 : 64 + min(length, 64)]
    else:
        raw = data[:32].rstrip(b"\0")
    text = raw.decode("utf-8", errors="replace")
    return text if text.isprintable() and text else None
