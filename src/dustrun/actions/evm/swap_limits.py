"""Swap limits: price impact, the limits of the input, and the limits passed to the router."""

from __future__ import annotations

from typing import Final

from dustrun.actions.evm.swap_order import Order, SwapFields
from dustrun.records import dataclass
from dustrun.sdk.refusal import refuse, refuse_small

_BPS: Final = 10_000


@dataclass(frozen=True, slots=True)
class Quote:
    """A quote of a route; `small` is the quote for a thousandth of the amount, None if it came to nothing."""

    amount_in: int
    amount_out: int
    route: tuple[str, ...]
    small: tuple[int, int] | None = None

    @property
    def impact_bps(self) -> int | None:
        """Price impact in basis points against the small quote. Pool fees are in both."""
        if self.small is None or not self.amount_in or not self.small[1]:
            return None
        small_in, small_out = self.small
        return max(0, _BPS - self.amount_out * small_in * _BPS // (self.amount_in * small_out))


@dataclass(frozen=True, slots=True)
class SwapLimits:
    """A quote and the limits passed to the router."""

    quote: Quote
    max_in: int
    min_out: int


def small_part(amount: int) -> int:
    """The small amount whose quote gives the price before impact."""
    return max(1, amount // 1000)


def compute_limits(order: Order, input: SwapFields, quote: Quote) -> SwapLimits:
    """The limits: those of the input, otherwise quote and slippage; raises `Invalid` if the quote exceeds them."""
    _check_impact(order, input, quote)
    if order.amount_in is not None:
        return SwapLimits(quote, order.amount_in, _least_out(order, input, quote))
    most = -(-quote.amount_in * (_BPS + input.slippage_bps) // _BPS)
    if input.amount_in_max is not None:
        most = input.amount_in_max
    if quote.amount_in > most:
        text = f"the pools now take {order.coin_in.tell(quote.amount_in)}, more than {order.coin_in.tell(most)}"
        raise refuse(text, "amountInMax")
    return SwapLimits(quote, most, quote.amount_out)


def _least_out(order: Order, input: SwapFields, quote: Quote) -> int:
    if quote.amount_out == 0:
        raise refuse_small(f"the pools give nothing for {order.coin_in.tell(quote.amount_in)}", "amountIn")
    least = quote.amount_out * (_BPS - input.slippage_bps) // _BPS
    if input.amount_out_min is not None:
        least = input.amount_out_min
    if quote.amount_out < least:
        text = f"the pools now give {order.coin_out.tell(quote.amount_out)}, less than {order.coin_out.tell(least)}"
        raise refuse(text, "amountOutMin")
    return least


def _check_impact(order: Order, input: SwapFields, quote: Quote) -> None:
    impact = quote.impact_bps
    if impact is not None and impact > input.max_price_impact_bps:
        given, got = order.coin_in.tell(quote.amount_in), order.coin_out.tell(quote.amount_out)
        text = f"{given} would bring {got}: it moves the price by {impact} basis points"
        text = f"{text}, more than {input.max_price_impact_bps}; swap less, or set maxPriceImpactBps"
        raise refuse(text, "amountIn" if order.amount_in is not None else "amountOut")
