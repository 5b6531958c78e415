"""Shared by all swaps: the intents (approval and swap) and the evaluation of their results."""

from __future__ import annotations

from typing import Any, Final

from dustrun.actions.evm import erc20
from dustrun.actions.evm.approvals import Approval, plan_approval, read_allowance
from dustrun.actions.evm.coins import Coin, read_balance
from dustrun.actions.evm.fields import name_of, transaction_facts
from dustrun.actions.evm.swap_order import Order, SwapFields, SwapOutput
from dustrun.actions.evm.wrapping import event_amount
from dustrun.core.money.intent import Intent, Movement, Receipt, Spend, Spent
from dustrun.core.values.amounts import MAX_UINT256
from dustrun.errors import Permanent
from dustrun.records import dataclass
from dustrun.sdk import Context
from dustrun.sdk.action import refuse, refuse_small
from dustrun.sdk.chain import Chain, ChainCall
from dustrun.sdk.threads import side_by_side

# Swap limits: price impact, the limits of the input, and the limits passed to the router.


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


SWAP: Final = "swap"


def no_pool(order: Order, exchange: str) -> Exception:
    """The error when no pool can do the swap."""
    pair = f"{order.coin_in.symbol} and {order.coin_out.symbol}"
    text = f"no pool of {exchange} on {order.chain.network.name} can swap this amount of {pair}"
    return refuse(f"{text}; check tokens and amount, or set intermediate tokens (via)", "tokenOut")


@dataclass(frozen=True, slots=True)
class SwapBalances:
    """Balances before a swap: the wallet's input token and its allowance for the router, and the recipient's output
    token. Native coin needs no allowance.
    """

    balance: int
    allowance: int
    recipient_had: int


async def read_swap_balances(order: Order) -> SwapBalances:
    """Reads the balances before the swap."""
    chain = order.chain
    balance, allowance, had = await side_by_side(
        read_balance(chain, order.coin_in, order.wallet),
        _allowance(order),
        read_balance(chain, order.coin_out, order.recipient),
    )
    return SwapBalances(balance, allowance, had)


async def _allowance(order: Order) -> int:
    token = order.coin_in.token
    return 0 if token is None else await read_allowance(order.chain, token, order.wallet, order.router)


async def plan_swap(
    order: Order, limits: SwapLimits, balances: SwapBalances, input: SwapFields, call: ChainCall, method: str
) -> Spend:
    """The intents: the approval if the allowance is too small, followed by the swap."""
    _check_balance(order, limits, balances.balance, input)
    approvals = await _approvals(order, limits, balances.allowance, input)
    if not approvals:
        await order.chain.call(call)
    ends_at_wallet = order.recipient == order.wallet
    counterparty = order.router if ends_at_wallet else order.recipient
    given = order.coin_in.tell(limits.max_in)
    got = order.coin_out.tell(limits.min_out)
    text = f"Swap {given} for at least {got}" if order.amount_in else f"Swap at most {given} for {got}"
    whose = "" if ends_at_wallet else f" for {order.recipient}"
    swap = Intent(
        item=SWAP,
        chain_id=order.chain.network.chain_id,
        to=call.to,
        value_units=call.value_units,
        data=call.data,
        movements=(Movement("send", order.coin_in.asset, limits.max_in, counterparty),),
        about=f"{text}{whose} on {order.chain.network.name}",
        method=method,
        after=tuple(intent.item for intent in approvals[-1:]),
        errors=erc20.ERRORS,
    )
    notes = {
        "in": order.coin_in.note(),
        "out": order.coin_out.note(),
        "router": order.router,
        "recipient": order.recipient,
        "recipientHad": str(balances.recipient_had),
        "quotedIn": str(limits.quote.amount_in),
        "quotedOut": str(limits.quote.amount_out),
        "impactBps": limits.quote.impact_bps,
        "route": list(limits.quote.route),
    }
    return Spend((*approvals, swap), notes=notes)


def _check_balance(order: Order, limits: SwapLimits, balance: int, input: SwapFields) -> None:
    if limits.max_in > balance:
        coin, field = order.coin_in, "amountIn" if input.amount_in is not None else "amountOut"
        needs = f"the swap may take {coin.tell(limits.max_in)}"
        raise refuse(f"the wallet {order.wallet} has {coin.tell(balance)}, {needs}", field)


async def _approvals(order: Order, limits: SwapLimits, allowance: int, input: SwapFields) -> tuple[Intent, ...]:
    if order.coin_in.token is None or allowance >= limits.max_in:
        return ()
    amount = limits.max_in if input.approval == "exact" else MAX_UINT256
    approval = Approval(order.coin_in, order.wallet, order.router, amount, of_swap=True, needed=limits.max_in)
    return await plan_approval(order.chain, approval, allowance, "tokenIn")


async def finish_swap(input: SwapFields, spend: Spend, spent: Spent, ctx: Context) -> SwapOutput:
    """The amounts given and received, from the tokens' events."""
    chain, notes, receipt = ctx.chain(input.chain_id), spend.notes, spent.receipts[-1]
    coin_in, coin_out = Coin.of(notes["in"]), Coin.of(notes["out"])
    given = _given(chain, receipt, coin_in, notes["router"], ctx.wallet.address)
    got = await _got(chain, receipt, coin_out, notes)
    approval = next((receipt for receipt in spent.receipts if receipt.item != SWAP), None)
    return SwapOutput(
        **transaction_facts(receipt, chain.network),
        token_in=coin_in.address,
        token_out=coin_out.address,
        symbol_in=coin_in.symbol,
        symbol_out=coin_out.symbol,
        amount_in=str(given),
        amount_in_formatted=coin_in.format(given),
        amount_out=str(got),
        amount_out_formatted=coin_out.format(got),
        quoted_in=notes["quotedIn"],
        quoted_out=notes["quotedOut"],
        price_impact_bps=notes["impactBps"],
        route=notes["route"],
        recipient=notes["recipient"],
        approval_hash=None if approval is None else approval.hash,
    )


def _given(chain: Chain, receipt: Receipt, coin: Coin, router: str, wallet: str) -> int:
    """Native coin enters the pools as its wrapped token; what the router refunds was never wrapped."""
    if coin.token is not None:
        back = erc20.total(receipt.logs, coin.token, recipient=wallet)
        return erc20.total(receipt.logs, coin.token, sender=wallet) - back
    return event_amount(receipt, str(chain.network.wrapped_native), erc20.DEPOSITED, router)


async def _got(chain: Chain, receipt: Receipt, coin: Coin, notes: Any) -> int:
    if coin.token is None:
        return event_amount(receipt, str(chain.network.wrapped_native), erc20.WITHDRAWN, notes["router"])
    got = erc20.total(receipt.logs, coin.token, recipient=notes["recipient"])
    if got == 0:  # a token without events: only the recipient's balance change is left
        got = await read_balance(chain, coin, notes["recipient"]) - int(notes["recipientHad"])
    if got <= 0:
        raise Permanent(f"{name_of(receipt)} succeeded, but {coin.symbol} reports no output of the swap.")
    return got
