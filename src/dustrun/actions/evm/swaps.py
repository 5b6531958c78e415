"""What swaps share, whatever exchange they go to: the order, its limits, its approval, and what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, Self

from pydantic import Field, model_validator

from dustrun.actions.evm import erc20
from dustrun.actions.evm.approvals import Approval, plan_approval, read_allowance
from dustrun.actions.evm.coins import Coin, check_recipient, read_balance, read_coin
from dustrun.actions.evm.fields import MAX, Address, Amount, ChainId, Party, Positive, Units
from dustrun.actions.evm.gas import fee_reserve
from dustrun.actions.evm.receipts import TransactionFields, name_of, transaction_facts
from dustrun.actions.evm.wrapping import told_amount
from dustrun.core.amounts import MAX_UINT256
from dustrun.core.intent import FundsMovement, Intent, Movement, Receipt, Spend, Spent
from dustrun.errors import Permanent
from dustrun.sdk import Context, Fields
from dustrun.sdk.chain import Chain, ChainCall
from dustrun.sdk.refusal import refuse

SWAP: Final = "swap"
_BPS: Final = 10_000
_GAS: Final = 400_000
_GAS_ON_ARBITRUM: Final = 2_500_000  # its gas counts the data on L1 too
FUNDS: Final = (
    FundsMovement("send", "amountIn", token_field="tokenIn", recipient_field="recipient", min_out_field="amountOutMin"),
    FundsMovement("send", "amountOut", token_field="tokenOut", recipient_field="recipient", max_in_field="amountInMax"),
)
"""Exact in: `amountIn` of `tokenIn` scales. Exact out: `amountOut` of `tokenOut` scales, and with it what is paid."""


class SwapFields(Fields):
    """What is swapped for what."""

    chain_id: ChainId
    token_in: str = Field(max_length=100, description="What is given: `native`, an address, or a known symbol.")
    token_out: str = Field(max_length=100, description="What is wanted: `native`, an address, or a known symbol.")
    amount_in: Amount | None = Field(None, description="Exact in: how much is given, in base units, or `max`.")
    amount_out: Positive | None = Field(None, description="Exact out: how much is wanted, in base units.")
    amount_out_min: Units | None = Field(
        None, description="Exact in: the least to get; without it the quote less `slippageBps`."
    )
    amount_in_max: Positive | None = Field(
        None, description="Exact out: the most to give; without it the quote and `slippageBps`."
    )
    slippage_bps: int = Field(
        50, ge=0, le=5000, description="How much worse than the quote it may get, in hundredths of a percent."
    )
    deadline_seconds: int = Field(1200, ge=1, le=86_400, description="After so many seconds the swap fails.")
    recipient: Party | None = Field(None, description="Who gets what comes out; without it the wallet.")
    approval: Literal["exact", "unlimited"] = Field(
        "exact", description="How much the router may take, when an approval is needed."
    )
    router: Address | None = Field(None, description="Another router of this kind than the chain's file names.")

    @model_validator(mode="after")
    def _check_amounts(self) -> Self:
        if (self.amount_in is None) == (self.amount_out is None):
            raise ValueError("give amountIn (exact in) or amountOut (exact out), and not both")
        if self.amount_in is None and self.amount_out_min is not None:
            raise ValueError("amountOutMin goes with amountIn; with amountOut the limit is amountInMax")
        if self.amount_out is None and self.amount_in_max is not None:
            raise ValueError("amountInMax goes with amountOut; with amountIn the limit is amountOutMin")
        return self


class SwapOutput(TransactionFields):
    """What came of the swap, by the events of the tokens."""

    token_in: str = Field(description="What was given: an address, or `native`.")
    token_out: str = Field(description="What came out: an address, or `native`.")
    symbol_in: str = Field(description="Symbol of what was given.")
    symbol_out: str = Field(description="Symbol of what came out.")
    amount_in: str = Field(description="What the wallet gave, in base units.")
    amount_in_formatted: str = Field(description="The same for people.")
    amount_out: str = Field(description="What the recipient got, in base units.")
    amount_out_formatted: str = Field(description="The same for people.")
    quoted_in: str = Field(description="What the quote said would be given.")
    quoted_out: str = Field(description="What the quote said would come out.")
    route: list[str] = Field(description="The tokens that it went through.")
    recipient: str = Field(description="Who got it.")
    approval_hash: str | None = Field(description="Hash of the approval that it needed; null without one.")


@dataclass(frozen=True, slots=True)
class Order:
    """A swap whose words are resolved: one of the amounts is None until the quote."""

    chain: Chain
    coin_in: Coin
    coin_out: Coin
    wallet: str
    recipient: str
    router: str
    deadline: int
    amount_in: int | None
    amount_out: int | None

    @property
    def token_in(self) -> str:
        """The token that the pools take: the wrapped form for native coin."""
        return self.coin_in.token or self._wrapped()

    @property
    def token_out(self) -> str:
        """The token that the pools give."""
        return self.coin_out.token or self._wrapped()

    def _wrapped(self) -> str:
        wrapped = self.chain.network.wrapped_native
        if wrapped is None:
            raise refuse(f"{self.chain.network.name} has no wrapped native coin in its file", "chainId")
        return wrapped


@dataclass(frozen=True, slots=True)
class Deal:
    """A quote and the limits that go into the call."""

    quoted_in: int
    quoted_out: int
    max_in: int
    min_out: int
    route: tuple[str, ...]


async def read_order(ctx: Context, input: SwapFields, router: str | None) -> Order:
    """Coins, amounts and parties of a swap; raises `Invalid` by field."""
    chain, wallet = ctx.chain(input.chain_id), ctx.wallet.address
    target = input.router or router
    if target is None:
        raise refuse(f"{chain.network.name} has no such exchange in its file; give its router", "router")
    if not await chain.code(target):
        raise refuse(f"there is no contract at the router {target} on {chain.network.name}", "router")
    coin_in = await read_coin(chain, input.token_in, "tokenIn")
    coin_out = await read_coin(chain, input.token_out, "tokenOut")
    now = max((await chain.block()).time, ctx.now_ms // 1000)
    recipient = input.recipient or wallet
    order = Order(
        chain=chain,
        coin_in=coin_in,
        coin_out=coin_out,
        wallet=wallet,
        recipient=recipient,
        router=target,
        deadline=now + input.deadline_seconds,
        amount_in=await _amount_in(chain, coin_in, wallet, input),
        amount_out=input.amount_out,
    )
    if order.token_in == order.token_out:
        told = f"{coin_in.symbol} and {coin_out.symbol} are the same" if coin_in.token == coin_out.token else None
        raise refuse(told or "native and wrapped coin are not swapped: use wrap-native or unwrap-native", "tokenOut")
    if recipient != wallet:
        await check_recipient(chain, coin_out, recipient)
    return order


async def _amount_in(chain: Chain, coin: Coin, wallet: str, input: SwapFields) -> int | None:
    if input.amount_in is None or input.amount_in != MAX:
        return None if input.amount_in is None else int(input.amount_in)
    balance = await read_balance(chain, coin, wallet)
    gas = _GAS_ON_ARBITRUM if chain.network.data_fee == "arbitrum" else _GAS
    amount = balance - (await fee_reserve(chain, gas) if coin.token is None else 0)
    if amount <= 0:
        raise refuse(f"the wallet {wallet} has {coin.tell(balance)}: nothing is left to swap", "amountIn")
    return amount


def make_deal(order: Order, input: SwapFields, quoted_in: int, quoted_out: int, route: Sequence[str]) -> Deal:
    """The limits: those of the input, else the quote and the slippage; raises `Invalid` when the quote is past them."""
    if order.amount_in is not None:
        if quoted_out == 0:
            raise refuse(f"the pools give nothing for {order.coin_in.tell(quoted_in)}", "amountIn")
        least = (
            quoted_out * (_BPS - input.slippage_bps) // _BPS if input.amount_out_min is None else input.amount_out_min
        )
        if quoted_out < least:
            told = f"the pools give {order.coin_out.tell(quoted_out)} now, less than {order.coin_out.tell(least)}"
            raise refuse(told, "amountOutMin")
        return Deal(quoted_in, quoted_out, order.amount_in, least, tuple(route))
    most = -(-quoted_in * (_BPS + input.slippage_bps) // _BPS) if input.amount_in_max is None else input.amount_in_max
    if quoted_in > most:
        told = f"the pools want {order.coin_in.tell(quoted_in)} now, more than {order.coin_in.tell(most)}"
        raise refuse(told, "amountInMax")
    return Deal(quoted_in, quoted_out, most, quoted_out, tuple(route))


def no_pool(order: Order, exchange: str) -> Exception:
    """What to raise when no pool can do it."""
    pair = f"{order.coin_in.symbol} and {order.coin_out.symbol}"
    told = f"no pool of {exchange} on {order.chain.network.name} swaps so much of {pair}"
    return refuse(f"{told}; check tokens and amount, or name tokens to go through (via)", "tokenOut")


async def plan_swap(order: Order, deal: Deal, input: SwapFields, call: ChainCall, method: str) -> Spend:
    """The wishes: the approval when the allowance is too small, and the swap after it."""
    await _check_balance(order, deal, input)
    approvals = await _approvals(order, deal, input)
    if not approvals:
        await order.chain.call(call)
    ends_at_wallet = order.recipient == order.wallet
    counterparty = order.router if ends_at_wallet else order.recipient
    given = order.coin_in.tell(deal.max_in)
    got = order.coin_out.tell(deal.min_out)
    told = f"Swap {given} for at least {got}" if order.amount_in else f"Swap at most {given} for {got}"
    whose = "" if ends_at_wallet else f" for {order.recipient}"
    swap = Intent(
        item=SWAP,
        chain_id=order.chain.network.chain_id,
        to=call.to,
        value_units=call.value_units,
        data=call.data,
        movements=(Movement("send", order.coin_in.asset, deal.max_in, counterparty),),
        about=f"{told}{whose} on {order.chain.network.name}",
        method=method,
        after=tuple(intent.item for intent in approvals[-1:]),
        errors=erc20.ERRORS,
    )
    had = await read_balance(order.chain, order.coin_out, order.recipient)
    notes = {
        "in": order.coin_in.note(),
        "out": order.coin_out.note(),
        "router": order.router,
        "recipient": order.recipient,
        "recipientHad": str(had),
        "quotedIn": str(deal.quoted_in),
        "quotedOut": str(deal.quoted_out),
        "route": list(deal.route),
    }
    return Spend((*approvals, swap), notes=notes)


async def _check_balance(order: Order, deal: Deal, input: SwapFields) -> None:
    balance = await read_balance(order.chain, order.coin_in, order.wallet)
    if deal.max_in > balance:
        coin, field = order.coin_in, "amountIn" if input.amount_in is not None else "amountOut"
        needs = f"the swap may take {coin.tell(deal.max_in)}"
        raise refuse(f"the wallet {order.wallet} has {coin.tell(balance)}, {needs}", field)


async def _approvals(order: Order, deal: Deal, input: SwapFields) -> tuple[Intent, ...]:
    if order.coin_in.token is None:
        return ()
    allowance = await read_allowance(order.chain, order.coin_in, order.wallet, order.router)
    if allowance >= deal.max_in:
        return ()
    amount = deal.max_in if input.approval == "exact" else MAX_UINT256
    approval = Approval(order.coin_in, order.wallet, order.router, amount, of_swap=True)
    return await plan_approval(order.chain, approval, allowance, "tokenIn")


async def finish_swap(input: SwapFields, spend: Spend, spent: Spent, ctx: Context) -> SwapOutput:
    """What went and what came, by the events of the tokens."""
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
        route=notes["route"],
        recipient=notes["recipient"],
        approval_hash=None if approval is None else approval.hash,
    )


def _given(chain: Chain, receipt: Receipt, coin: Coin, router: str, wallet: str) -> int:
    """Native coin goes into the pools as its wrapped form; what the router sends back was never wrapped."""
    if coin.token is not None:
        back = erc20.total(receipt.logs, coin.token, recipient=wallet)
        return erc20.total(receipt.logs, coin.token, sender=wallet) - back
    return told_amount(receipt, str(chain.network.wrapped_native), erc20.DEPOSITED, router)


async def _got(chain: Chain, receipt: Receipt, coin: Coin, notes: Any) -> int:
    if coin.token is None:
        return told_amount(receipt, str(chain.network.wrapped_native), erc20.WITHDRAWN, notes["router"])
    got = erc20.total(receipt.logs, coin.token, recipient=notes["recipient"])
    if got == 0:  # a token that emits nothing: all that is left is what the recipient has more now
        got = await read_balance(chain, coin, notes["recipient"]) - int(notes["recipientHad"])
    if got <= 0:
        raise Permanent(f"{name_of(receipt)} succeeded, but {coin.symbol} says that nothing came of the swap.")
    return got
