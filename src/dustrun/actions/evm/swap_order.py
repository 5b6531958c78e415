"""What is swapped for what: the fields of every swap, and the order that they come to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, Self

from pydantic import Field, model_validator

from dustrun.actions.evm.coins import Coin, check_recipient, read_balance, read_coin
from dustrun.actions.evm.fields import MAX, Address, Amount, ChainId, Party, Positive, Units
from dustrun.actions.evm.gas import fee_reserve
from dustrun.actions.evm.receipts import TransactionFields
from dustrun.core.money.intent import FundsMovement
from dustrun.sdk import Context, Fields
from dustrun.sdk.chain import Chain
from dustrun.sdk.gather import side_by_side
from dustrun.sdk.refusal import refuse

_GAS: Final = 400_000
_GAS_ON_ARBITRUM: Final = 2_500_000  # its gas counts the data on L1 too
FUNDS: Final = (
    FundsMovement(
        "send",
        "amountIn",
        token_field="tokenIn",
        recipient_field="recipient",
        min_out_field="amountOutMin",
        approval_field="approval",
    ),
    FundsMovement(
        "send",
        "amountOut",
        token_field="tokenOut",
        recipient_field="recipient",
        max_in_field="amountInMax",
        approval_field="approval",
    ),
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
    max_price_impact_bps: int = Field(
        1000,
        ge=0,
        le=10_000,
        description="How much the swap itself may move the price, in hundredths of a percent; 10000 for any.",
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
    price_impact_bps: int | None = Field(
        description="How much worse the quote was than for a thousandth of it, in hundredths of a percent; "
        "null for amounts too small to tell."
    )
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


async def read_order(ctx: Context, input: SwapFields, router: str | None) -> Order:
    """Coins, amounts and parties of a swap; raises `Invalid` by field."""
    chain, wallet = ctx.chain(input.chain_id), ctx.wallet.address
    target = input.router or router
    if target is None:
        raise refuse(f"{chain.network.name} has no such exchange in its file; give its router", "router")
    _, coin_in, coin_out, block = await side_by_side(
        _check_router(chain, target),
        read_coin(chain, input.token_in, "tokenIn"),
        read_coin(chain, input.token_out, "tokenOut"),
        chain.block(),
    )
    now = max(block.time, ctx.now_ms // 1000)
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


async def _check_router(chain: Chain, router: str) -> None:
    if not await chain.code(router):
        raise refuse(f"there is no contract at the router {router} on {chain.network.name}", "router")


async def _amount_in(chain: Chain, coin: Coin, wallet: str, input: SwapFields) -> int | None:
    if input.amount_in is None or input.amount_in != MAX:
        return None if input.amount_in is None else int(input.amount_in)
    balance = await read_balance(chain, coin, wallet)
    gas = _GAS_ON_ARBITRUM if chain.network.data_fee == "arbitrum" else _GAS
    amount = balance - (await fee_reserve(chain, gas) if coin.token is None else 0)
    if amount <= 0:
        raise refuse(f"the wallet {wallet} has {coin.tell(balance)}: nothing is left to swap", "amountIn")
    return amount
