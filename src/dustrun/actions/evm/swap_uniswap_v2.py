"""Swaps tokens on Uniswap V2 or a compatible exchange.

Use it with `amountIn` to give an exact amount, or with `amountOut` to get one. The quote is read from the pools. The
swap fails if the result would be worse than `slippageBps` or your own limit (`amountOutMin`, `amountInMax`), or after
`deadlineSeconds`; it is rejected if its own price impact would exceed `maxPriceImpactBps`. A limit computed from an
independent price source protects more than a quote of the same pools, which may be manipulated.

Native coin is wrapped and unwrapped automatically. Tokens need an approval: it is made in a separate transaction first,
for the exact amount, and only if the allowance is too small. Without `via`, the direct pool is compared with the route
through the wrapped native coin. Tokens that take a fee on transfer work with `amountIn`, if the slippage leaves room
for the fee. `amountOut` of the result is the amount that arrived.
"""

from __future__ import annotations

from typing import Final

from pydantic import Field

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
from dustrun.sdk import Context, Effect, action
from dustrun.sdk.chain import CallResult, ChainCall
from dustrun.sdk.threads import side_by_side

_TAIL: Final = "address[] path, address to, uint256 deadline"
_IN: Final = f"(uint256 amountIn, uint256 amountOutMin, {_TAIL})"
_OUT: Final = f"(uint256 amountOut, uint256 amountInMax, {_TAIL})"
_FEES: Final = "SupportingFeeOnTransferTokens"
_AMOUNTS_OUT: Final = parse_function("getAmountsOut(uint256 amountIn, address[] path) view returns (uint256[])")
_AMOUNTS_IN: Final = parse_function("getAmountsIn(uint256 amountOut, address[] path) view returns (uint256[])")
_NATIVE_IN: Final = parse_function(f"swapExactETHForTokens{_FEES}(uint256 amountOutMin, {_TAIL}) payable")
_NATIVE_OUT: Final = parse_function(f"swapExactTokensForETH{_FEES}{_IN}")
_TOKENS: Final = parse_function(f"swapExactTokensForTokens{_FEES}{_IN}")
_EXACT_FOR_NATIVE: Final = parse_function(f"swapETHForExactTokens(uint256 amountOut, {_TAIL}) payable")
_EXACT_NATIVE: Final = parse_function(f"swapTokensForExactETH{_OUT}")
_EXACT_TOKENS: Final = parse_function(f"swapTokensForExactTokens{_OUT}")


class Input(SwapFields):
    """The tokens, amounts and route of a swap."""

    via: list[str] | None = Field(
        None,
        max_length=4,
        description="Intermediate tokens, in order; an empty list for the direct pool only.",
        json_schema_extra={"x-group": "Route"},
    )


class Output(SwapOutput):
    """The result of the swap, from the tokens' events."""


async def _routes(order: Order, input: Input) -> list[list[str]]:
    if input.via is not None:
        coins = [await read_token(order.chain, text, f"via[{place}]") for place, text in enumerate(input.via)]
        return [[order.token_in, *(coin.address for coin in coins), order.token_out]]
    wrapped = order.chain.network.wrapped_native
    direct = [order.token_in, order.token_out]
    return [direct] if wrapped is None or wrapped in direct else [direct, [direct[0], wrapped, direct[1]]]


async def _quote(order: Order, input: Input) -> Quote:
    """The best quote of the routes."""
    routes = await _routes(order, input)
    function, amount = _AMOUNTS_OUT, order.amount_in
    if amount is None:
        function, amount = _AMOUNTS_IN, order.amount_out
    assert amount is not None
    asked = [(route, part) for route in routes for part in (amount, small_part(amount))]
    answers = await order.chain.call_many(
        [ChainCall(order.router, function.encode(part, route)) for route, part in asked]
    )
    amounts = [_amounts(function, answer) for answer in answers]
    found = [
        Quote(whole[0], whole[-1], tuple(route), (small[0], small[-1]) if small else None)
        for route, whole, small in zip(routes, amounts[::2], amounts[1::2], strict=True)
        if whole
    ]
    if not found:
        raise no_pool(order, "Uniswap V2")
    if order.amount_in is not None:
        return max(found, key=lambda quote: quote.amount_out)
    return min(found, key=lambda quote: quote.amount_in)


def _amounts(function: Function, answer: CallResult) -> list[int]:
    """The amounts along a route; empty if one of its pools is missing or too small."""
    return list(function.decode_result(answer.data)[0]) if answer.is_success and answer.data else []


def _call(order: Order, limits: SwapLimits) -> tuple[ChainCall, Function]:
    tail = (list(limits.quote.route), order.recipient, order.deadline)
    is_exact_in = order.amount_in is not None
    if order.coin_in.token is None:
        function = _NATIVE_IN if is_exact_in else _EXACT_FOR_NATIVE
        return ChainCall(order.router, function.encode(limits.min_out, *tail), order.wallet, limits.max_in), function
    if order.coin_out.token is None:
        function = _NATIVE_OUT if is_exact_in else _EXACT_NATIVE
    else:
        function = _TOKENS if is_exact_in else _EXACT_TOKENS
    amounts = (limits.max_in, limits.min_out) if is_exact_in else (limits.min_out, limits.max_in)
    return ChainCall(order.router, function.encode(*amounts, *tail), order.wallet), function


async def finish(input: Input, spend: Spend, spent: Spent, ctx: Context) -> Output:
    """Builds the output from the tokens' events."""
    return Output(**(await finish_swap(input, spend, spent, ctx)).model_dump())


@action(
    effect=Effect.SPEND,
    input=Input,
    output=Output,
    example_input={
        "chainId": 1,
        "tokenIn": "native",
        "tokenOut": "USDC",
        "amountIn": "1000000000000000000",
        "slippageBps": 50,
    },
    example_output={
        "hash": "0x5c504ed432cb51138bcf09aa5e8a410dd4a1e204ef84bfed1be16dfba1b22060",
        "blockNumber": 21000000,
        "gasUsed": "116321",
        "fee": "2326420000000000",
        "feeFormatted": "0.00232642",
        "explorerUrl": "https://etherscan.io/tx/0x5c504ed432cb51138bcf09aa5e8a410dd4a1e204ef84bfed1be16dfba1b22060",
        "tokenIn": "native",
        "tokenOut": "0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48",
        "symbolIn": "ETH",
        "symbolOut": "USDC",
        "amountIn": "1000000000000000000",
        "amountInFormatted": "1",
        "amountOut": "2467895085",
        "amountOutFormatted": "2467.895085",
        "quotedIn": "1000000000000000000",
        "quotedOut": "2467895085",
        "priceImpactBps": 98,
        "route": ["0xC02aaA39b223FE8D0A0e5C4F27eAD9083C756Cc2", "0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48"],
        "recipient": "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266",
        "approvalHash": None,
    },
    funds_movement=FUNDS,
    finish=finish,
    tags=("evm", "swap", "uniswap", "buy", "sell", "trade"),
)
async def swap_uniswap_v2(input: Input, ctx: Context) -> Spend:
    """Quotes, then returns the intents of the swap and, if needed, its approval."""
    order = await read_order(ctx, input, ctx.chain(input.chain_id).network.dex.v2_router)
    quote, balances = await side_by_side(_quote(order, input), read_swap_balances(order))
    limits = compute_limits(order, input, quote)
    call, function = _call(order, limits)
    return await plan_swap(order, limits, balances, input, call, function.signature)
