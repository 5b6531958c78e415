"""Swaps tokens on Uniswap V3.

Use it with `amountIn` to give an exact amount, or with `amountOut` to get one. The quote comes from the exchange's
quoter. The swap fails if the result would be worse than `slippageBps` or your own limit (`amountOutMin`,
`amountInMax`), or after `deadlineSeconds`; it is rejected if its own price impact would exceed `maxPriceImpactBps`. A
limit computed from an independent price source protects more than a quote of the same pools, which may be manipulated.

Without `fees`, the pools of all usual fee tiers are quoted and the best one is used; for more than one pool set the
intermediate tokens (`via`) and the fee of each pool (`fees`, in hundredths of a basis point: 500 is 0.05 %). Native
coin is wrapped and unwrapped automatically. Tokens need an approval: it is made in a separate transaction first, for
the exact amount, and only if the allowance is too small. Tokens that take a fee on transfer do not work here; use
`swap-uniswap-v2`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Self

from pydantic import Field, model_validator

from dustrun.actions.evm.coins import read_token
from dustrun.actions.evm.swap_order import FUNDS, Order, SwapFields, SwapOutput, read_order
from dustrun.actions.evm.swaps import (
    Quote,
    SwapLimits,
    compute_limits,
    finish_swap,
    no_pool,
    plan_swap,
    read_swap_balances,
    small_part,
)
from dustrun.core.evm.abi import Function
from dustrun.core.evm.abi_signatures import parse_function
from dustrun.core.money.intent import Spend, Spent
from dustrun.core.values.addresses import ZERO_ADDRESS
from dustrun.records import dataclass
from dustrun.sdk import Context, Effect, action
from dustrun.sdk.action import refuse
from dustrun.sdk.chain import CallResult, ChainCall
from dustrun.sdk.threads import side_by_side

_USUAL_FEES: Final = (100, 500, 3000, 10_000)
_QUOTED: Final = "uint160[] prices, uint32[] ticks, uint256 gas"
_QUOTE_IN: Final = parse_function(f"quoteExactInput(bytes path, uint256 amountIn) returns (uint256 amount, {_QUOTED})")
_QUOTE_OUT: Final = parse_function(
    f"quoteExactOutput(bytes path, uint256 amountOut) returns (uint256 amount, {_QUOTED})"
)
_UNWRAP: Final = parse_function("unwrapWETH9(uint256 amountMinimum, address recipient) payable")
_REFUND: Final = parse_function("refundETH() payable")
_HEAD: Final = "((bytes path, address recipient,"
_TAIL_IN: Final = "uint256 amountIn, uint256 amountOutMinimum) params) payable"
_TAIL_OUT: Final = "uint256 amountOut, uint256 amountInMaximum) params) payable"
_ROUTER_ITSELF: Final = {"swap-router": ZERO_ADDRESS, "swap-router-02": f"0x{2:040x}"}


class Input(SwapFields):
    """The tokens, amounts and pools of a swap."""

    via: list[str] = Field(
        [], max_length=4, description="Intermediate tokens, in order.", json_schema_extra={"x-group": "Route"}
    )
    fees: list[int] | None = Field(
        None,
        max_length=5,
        description="The fee of each pool in hundredths of a basis point: 500 is 0.05 %.",
        json_schema_extra={"x-group": "Route"},
    )

    @model_validator(mode="after")
    def _check_fees(self) -> Self:
        if self.fees is None and self.via:
            raise ValueError("with via, fees must give the fee of each pool")
        if self.fees is not None and len(self.fees) != len(self.via) + 1:
            raise ValueError(f"there are {len(self.via) + 1} pools between the tokens, so fees needs as many numbers")
        if self.fees is not None and not all(0 < fee < 1_000_000 for fee in self.fees):
            raise ValueError("a fee must be from 1 to 999999 hundredths of a basis point")
        return self


class Output(SwapOutput):
    """The result of the swap, from the tokens' events."""

    fees: list[int] = Field(description="The fees of the pools used.")


@dataclass(frozen=True, slots=True)
class _Route:
    tokens: tuple[str, ...]
    fees: tuple[int, ...]

    def path(self, *, is_exact_in: bool) -> str:
        """The encoded path: from the input token for exact in, from the output token for exact out."""
        tokens, fees = (self.tokens, self.fees) if is_exact_in else (self.tokens[::-1], self.fees[::-1])
        steps = [f"{fee:06x}{token[2:]}" for fee, token in zip(fees, tokens[1:], strict=True)]
        return "0x" + tokens[0][2:] + "".join(steps)


async def _routes(order: Order, input: Input) -> list[_Route]:
    coins = [await read_token(order.chain, text, f"via[{place}]") for place, text in enumerate(input.via)]
    tokens = (order.token_in, *(coin.address for coin in coins), order.token_out)
    choices: Sequence[tuple[int, ...]] = [tuple(input.fees)] if input.fees else [(fee,) for fee in _USUAL_FEES]
    return [_Route(tokens, fees) for fees in choices]


async def _quote(order: Order, input: Input) -> tuple[Quote, _Route]:
    """The best quote of the routes."""
    quoter = order.chain.network.dex.v3_quoter
    if quoter is None:
        raise refuse(f"{order.chain.network.name} has no Uniswap V3 quoter in its file", "chainId")
    is_in, routes = order.amount_in is not None, await _routes(order, input)
    function, amount = (_QUOTE_IN, order.amount_in) if is_in else (_QUOTE_OUT, order.amount_out)
    assert amount is not None
    part = small_part(amount)
    asked = [(route.path(is_exact_in=is_in), units) for route in routes for units in (amount, part)]
    calls = [ChainCall(quoter, function.encode(path, units)) for path, units in asked]
    answered = [_amount(function, answer) for answer in await order.chain.call_many(calls)]
    found = [
        (_as_quote(route, is_in, (amount, whole), (part, small)), route)
        for route, whole, small in zip(routes, answered[::2], answered[1::2], strict=True)
        if whole is not None
    ]
    if not found:
        raise no_pool(order, "Uniswap V3")
    if is_in:
        return max(found, key=lambda pair: pair[0].amount_out)
    return min(found, key=lambda pair: pair[0].amount_in)


def _amount(function: Function, answer: CallResult) -> int | None:
    """The other amount of a quote; None if one of its pools is missing or too small."""
    return int(function.decode_result(answer.data)[0]) if answer.is_success and answer.data else None


def _as_quote(route: _Route, is_in: bool, whole: tuple[int, int], small: tuple[int, int | None]) -> Quote:
    """Orders the given and the quoted amount as (in, out)."""
    (asked, answered), (small_asked, small_answered) = whole, small
    given, got = (asked, answered) if is_in else (answered, asked)
    if small_answered is None:
        return Quote(given, got, route.tokens)
    return Quote(given, got, route.tokens, (small_asked, small_answered) if is_in else (small_answered, small_asked))


def _call(order: Order, limits: SwapLimits, route: _Route) -> tuple[ChainCall, Function]:
    """One router call, or a multicall if native coin must be unwrapped or refunded."""
    kind = order.chain.network.dex.v3_router_kind
    is_in, is_native_out = order.amount_in is not None, order.coin_out.token is None
    deadline = "uint256 deadline, " if kind == "swap-router" else ""
    name, tail = ("exactInput", _TAIL_IN) if is_in else ("exactOutput", _TAIL_OUT)
    function = parse_function(f"{name}{_HEAD} {deadline}{tail}")
    to = _ROUTER_ITSELF[kind] if is_native_out else order.recipient
    amounts = (limits.max_in, limits.min_out) if is_in else (limits.min_out, limits.max_in)
    times = (order.deadline,) if kind == "swap-router" else ()
    calls = [function.encode([route.path(is_exact_in=is_in), to, *times, *amounts])]
    if is_native_out:
        calls.append(_UNWRAP.encode(limits.min_out, order.recipient))
    if order.coin_in.token is None and not is_in:
        calls.append(_REFUND.encode())
    value = limits.max_in if order.coin_in.token is None else 0
    if kind == "swap-router" and len(calls) == 1:
        return ChainCall(order.router, calls[0], order.wallet, value), function
    data, outer = _batching(calls, times or (order.deadline,), kind)
    return ChainCall(order.router, data, order.wallet, value), outer


def _batching(calls: Sequence[bytes], times: tuple[int, ...], kind: str) -> tuple[bytes, Function]:
    texts = [f"0x{call.hex()}" for call in calls]
    if kind == "swap-router":
        outer = parse_function("multicall(bytes[] data) payable")
        return outer.encode(texts), outer
    outer = parse_function("multicall(uint256 deadline, bytes[] data) payable")
    return outer.encode(*times, texts), outer


async def finish(input: Input, spend: Spend, spent: Spent, ctx: Context) -> Output:
    """Builds the output from the tokens' events."""
    done = await finish_swap(input, spend, spent, ctx)
    return Output(**done.model_dump(), fees=spend.notes["fees"])


@action(
    effect=Effect.SPEND,
    input=Input,
    output=Output,
    example_input={
        "chainId": 1,
        "tokenIn": "USDC",
        "tokenOut": "native",
        "amountIn": "2500000000",
        "fees": [500],
        "slippageBps": 30,
    },
    example_output={
        "hash": "0x5c504ed432cb51138bcf09aa5e8a410dd4a1e204ef84bfed1be16dfba1b22060",
        "blockNumber": 21000000,
        "gasUsed": "143212",
        "fee": "2864240000000000",
        "feeFormatted": "0.00286424",
        "explorerUrl": "https://etherscan.io/tx/0x5c504ed432cb51138bcf09aa5e8a410dd4a1e204ef84bfed1be16dfba1b22060",
        "tokenIn": "0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48",
        "tokenOut": "native",
        "symbolIn": "USDC",
        "symbolOut": "ETH",
        "amountIn": "2500000000",
        "amountInFormatted": "2500",
        "amountOut": "998001996003992015",
        "amountOutFormatted": "0.998001996003992015",
        "quotedIn": "2500000000",
        "quotedOut": "998001996003992015",
        "priceImpactBps": 3,
        "route": ["0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48", "0xC02aaA39b223FE8D0A0e5C4F27eAD9083C756Cc2"],
        "recipient": "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266",
        "approvalHash": "0x1c504ed432cb51138bcf09aa5e8a410dd4a1e204ef84bfed1be16dfba1b22061",
        "fees": [500],
    },
    funds_movement=FUNDS,
    finish=finish,
    tags=("evm", "swap", "uniswap", "buy", "sell", "trade"),
)
async def swap_uniswap_v3(input: Input, ctx: Context) -> Spend:
    """Quotes, then returns the intents of the swap and, if needed, its approval."""
    order = await read_order(ctx, input, ctx.chain(input.chain_id).network.dex.v3_router)
    (quote, route), balances = await side_by_side(_quote(order, input), read_swap_balances(order))
    limits = compute_limits(order, input, quote)
    call, function = _call(order, limits, route)
    spend = await plan_swap(order, limits, balances, input, call, function.signature)
    return Spend(spend.intents, notes={**spend.notes, "fees": list(route.fees)})
