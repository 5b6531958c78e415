"""Starts a run when the balance of an address goes above or below a level: of the chain's coin, or of a token.

Use it to top up wallets that run low, or to sweep those that have collected enough. Each address counts for itself. It
fires on the crossing, not while the balance stays there, and again only after it was back on the other side, by at
least `hysteresisPercent` of the level. Changes between two polls are not seen. The first poll starts nothing, unless
`fireOnFirst` is true and the balance is already there.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final, Literal

from pydantic import Field

from dustrun.clock import to_rfc3339
from dustrun.core.evm.abi import AbiFault
from dustrun.core.evm.calls import find_function, show_result
from dustrun.core.triggers.polling import Level
from dustrun.core.values.amounts import format_units
from dustrun.errors import DustrunError, Invalid, Temporary
from dustrun.records import dataclass
from dustrun.sdk import Finding, Polled, PolledConfig, PolledEvent, TriggerContext
from dustrun.sdk.chain import ChainCall
from dustrun.sdk.trigger import WatchedChain, polled
from dustrun.triggers._event_output import EventOutput, example_output
from dustrun.triggers.chain.chain_config import USDC, Address, Addresses, ChainId, check_chain
from dustrun.triggers.polled.poll_interval import too_often
from dustrun.triggers.polled.token_price import Exact

_BALANCE: Final = find_function("balanceOf(address) view returns (uint256)", None)
_DECIMALS: Final = find_function("decimals() view returns (uint8)", None)
_SYMBOL: Final = find_function("symbol() view returns (string)", None)


class Config(PolledConfig):
    """Whose balance of what, and the level."""

    chain_id: ChainId
    address: Addresses = Field(description="The address, or up to 100.")
    token_address: Address | None = Field(None, description="The token; null: the chain's coin.")
    operation: Literal["above", "below"] = Field(description="On which side of the level it fires; the level counts.")
    level: Exact = Field(description="The level in whole coins or tokens, exact, like `0.05`.")
    hysteresis_percent: Exact = Field(
        Decimal(0),
        le=100,
        description="How far the balance must go back before it can fire again, in percent of the level.",
    )

    @property
    def watched(self) -> Level:
        """The level, ready to be compared with."""
        return Level(self.operation == "above", self.level, self.hysteresis_percent, self.fire_on_first)


class Output(EventOutput):
    """A crossing."""

    chain_id: int = Field(description="The chain.")
    address: str = Field(description="Whose balance it is.")
    token_address: str | None = Field(description="The token; null: the chain's coin.")
    symbol: str = Field(description="Its symbol.")
    decimals: int = Field(description="Its decimals.")
    operation: str = Field(description="What the balance did.")
    balance: str = Field(description="The balance in base units.")
    balance_formatted: str = Field(description="The balance in whole coins or tokens.")
    previous_formatted: str | None = Field(description="At the previous poll; null at the first.")
    level: str = Field(description="The level.")
    block_number: int = Field(description="The newest block when it was seen.")
    seen_at: str = Field(description="When it was seen, RFC 3339.")


@dataclass(frozen=True, slots=True)
class _Coin:
    symbol: str
    decimals: int


async def _call(chain: WatchedChain, token: str, function: Any, *args: Any, at: str = "latest") -> Any:
    answer = await chain.call(ChainCall(token, function.encode(*args), is_view=True), at)
    try:
        return show_result(function, answer)[0]
    except AbiFault:
        raise Invalid(f"The contract {token} does not answer {function.signature} as a token does.") from None


async def _coin(chain: WatchedChain, token: str | None) -> _Coin:
    if token is None:
        return _Coin(chain.network.native.symbol, chain.network.native.decimals)
    decimals = int(await _call(chain, token, _DECIMALS))
    try:
        symbol = str(await _call(chain, token, _SYMBOL))[:40]
    except (Invalid, DustrunError):
        symbol = "tokens"  # some answer 32 bytes instead of a text
    return _Coin(symbol, decimals)


async def _balances(ctx: TriggerContext, config: Config, seen: int = 0) -> tuple[dict[str, int], int]:
    """The balances in base units, and the newest block. Raises `DustrunError`, also if a newer block was `seen`."""
    chain = ctx.chain(config.chain_id)
    block = await chain.block()
    if block.number < seen and not chain.network.is_local:
        raise Temporary(f"The endpoint's newest block is {block.number}; block {seen} was seen before.")
    found: dict[str, int] = {}
    for address in config.address:
        if config.token_address is None:
            found[address] = await chain.balance(address)
        else:
            found[address] = int(await _call(chain, config.token_address, _BALANCE, address, at=block.hash))
    return found, block.number


async def _check(ctx: TriggerContext, config: Config) -> list[Finding]:
    token = [] if config.token_address is None else [("tokenAddress", config.token_address)]
    found = too_often(ctx, config) + await check_chain(ctx, config.chain_id, token)
    if any(one.severity == "error" for one in found):
        return found
    try:
        await _coin(ctx.chain(config.chain_id), config.token_address)
        await _balances(ctx, config)
    except Temporary as error:
        found.append(Finding("chainId", f"could not be asked now: {error.message}", "warning"))
    except DustrunError as error:
        found.append(Finding("tokenAddress", error.message))
    return found


@dataclass(frozen=True, slots=True)
class _Seen:
    """A balance that was seen, and the text of the one before."""

    address: str
    units: int
    previous: str | None
    block: int
    at: int


def _payload(config: Config, coin: _Coin, seen: _Seen) -> dict[str, Any]:
    return {
        "chainId": config.chain_id,
        "address": seen.address,
        "tokenAddress": config.token_address,
        "symbol": coin.symbol,
        "decimals": coin.decimals,
        "operation": config.operation,
        "balance": str(seen.units),
        "balanceFormatted": format_units(seen.units, coin.decimals),
        "previousFormatted": seen.previous,
        "level": f"{config.level:f}",
        "blockNumber": seen.block,
        "seenAt": to_rfc3339(seen.at),
    }


async def _recent(ctx: TriggerContext, config: Config) -> dict[str, Any] | None:
    coin = await _coin(ctx.chain(config.chain_id), config.token_address)
    found, block = await _balances(ctx, config)
    address, units = next(iter(found.items()))
    return _payload(config, coin, _Seen(address, units, None, block, ctx.now_ms))


_EXAMPLE = {
    "chainId": 1,
    "address": "0x70997970C51812dc3A010C7d01b50e0d17dc79C8",
    "tokenAddress": None,
    "symbol": "ETH",
    "decimals": 18,
    "operation": "below",
    "balance": "48000000000000000",
    "balanceFormatted": "0.048",
    "previousFormatted": "0.0512",
    "level": "0.05",
    "blockNumber": 22000000,
    "seenAt": "2026-01-31T12:00:00.000Z",
}


@polled(
    config=Config,
    output=Output,
    check=_check,
    recent=_recent,
    example_config={
        "chainId": 1,
        "address": ["0x70997970C51812dc3A010C7d01b50e0d17dc79C8", USDC],
        "operation": "below",
        "level": "0.05",
        "hysteresisPercent": "20",
        "pollMs": 60000,
    },
    example_output=example_output(_EXAMPLE, "balance-level"),
)
async def poll(ctx: TriggerContext, config: Config, cursor: Any) -> Polled:
    """Reads the balances, and compares each with the level."""
    before: dict[str, Any] = {} if cursor is None else cursor["of"]
    known = None if cursor is None else _Coin(cursor["symbol"], cursor["decimals"])
    coin = known or await _coin(ctx.chain(config.chain_id), config.token_address)
    (found, block), now = await _balances(ctx, config, 0 if cursor is None else cursor["block"]), ctx.now_ms
    events, after = [], {}
    for address, units in found.items():
        was_ready, previous = before.get(address, (None, None))
        value = format_units(units, coin.decimals)
        ready, fires = config.watched.observe(was_ready, Decimal(value))
        after[address] = [ready, value]
        if fires:
            payload = _payload(config, coin, _Seen(address, units, previous, block, now))
            events.append(PolledEvent(f"{address}:{now}", payload, now))
    if cursor is not None and after == before:
        return Polled((), cursor)
    return Polled(events, {"of": after, "block": block, "symbol": coin.symbol, "decimals": coin.decimals})
