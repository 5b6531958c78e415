"""How bad a swap may be: its quote against the price, the limits of the input, and those that go into the call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from dustrun.actions.evm.swap_order import Order, SwapFields
from dustrun.sdk.refusal import refuse, refuse_small

_BPS: Final = 10_000


@dataclass(frozen=True, slots=True)
class Quote:
    """What the pools of a route want and give; `small` is the same for a thousandth, None when that came to nothing."""

    amount_in: int
    amount_out: int
    route: tuple[str, ...]
    small: tuple[int, int] | None = None

    @property
    def impact_bps(self) -> int | None:
        """How much worse it is than the small one. Both have the pools' fees in them."""
        if self.small is None or not self.amount_in or not self.small[1]:
            return None
        small_in, small_out = self.small
        return max(0, _BPS - self.amount_out * small_in * _BPS // (self.amount_in * small_out))


@dataclass(frozen=True, slots=True)
class Deal:
    """A quote and the limits that go into the call."""

    quote: Quote
    max_in: int
    min_out: int


def small_part(amount: int) -> int:
    """The amount that tells the price before a swap moves it."""
    return max(1, amount // 1000)


def make_deal(order: Order, input: SwapFields, quote: Quote) -> Deal:
    """The limits: those of the input, else the quote and the slippage; raises `Invalid` when the quote is past them."""
    _check_impact(order, input, quote)
    if order.amount_in is not None:
        return Deal(quote, order.amount_in, _least_out(order, input, quote))
    most = -(-quote.amount_in * (_BPS + input.slippage_bps) // _BPS)
    if input.amount_in_max is not None:
        most = input.amount_in_max
    if quote.amount_in > most:
        told = f"the pools want {order.coin_in.tell(quote.amount_in)} now, more than {order.coin_in.tell(most)}"
        raise refuse(told, "amountInMax")
    return Deal(quote, most, quote.amount_out)


def _least_out(order: Order, input: SwapFields, quote: Quote) -> int:
    if quote.amount_out == 0:
        raise refuse_small(f"the pools give nothing for {order.coin_in.tell(quote.amount_in)}", "amountIn")
    least = quote.amount_out * (_BPS - input.slippage_bps) // _BPS
    if input.amount_out_min is not None:
        least = input.amount_out_min
    if quote.amount_out < least:
        told = f"the pools give {order.coin_out.tell(quote.amount_out)} now, less than {order.coin_out.tell(least)}"
        raise refuse(told, "amountOutMin")
    return least


def _check_impact(order: Order, input: SwapFields, quote: Quote) -> None:
    impact = quote.impact_bps
    if impact is not None and impact > input.max_price_impact_bps:
        given, got = order.coin_in.tell(quote.amount_in), order.coin_out.tell(quote.amount_out)
        told = f"{given} would bring {got}: it moves the price by {impact} basis points"
        told = f"{told}, more than {input.max_price_impact_bps}; swap less, or set maxPriceImpactBps"
        raise refuse(told, "amountIn" if order.amount_in is not None else "amountOut")
