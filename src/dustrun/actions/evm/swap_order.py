"""Input and output fields of every swap, and the order that they resolve to."""

from __future__ import annotations

from typing import Final, Literal, Self

from pydantic import Field, model_validator

from dustrun.actions.evm.coins import Coin, check_recipient, read_balance, read_coin
from dustrun.actions.evm.fields import (
    MAX,
    Address,
    Amount,
    ChainId,
    Party,
    Positive,
    TransactionFields,
    Units,
    fee_reserve,
)
from dustrun.core.money.intent import FundsMovement
from dustrun.records import dataclass
from dustrun.sdk import Context, Fields
from dustrun.sdk.action import refuse
from dustrun.sdk.chain import Chain
from dustrun.sdk.threads import side_by_side

_GAS: Final = 400_000
_GAS_ON_ARBITRUM: Final = 2_500_000  # its gas includes the data on L1
_LIMITS: Final = ("slippageBps", "maxPriceImpactBps", "deadlineSeconds")
FUNDS: Final = (
    FundsMovement(
        "send",
        "amountIn",
        token_field="tokenIn",
        recipient_field="recipient",
        min_out_field="amountOutMin",
        approval_field="approval",
        limit_fields=_LIMITS,
        takes_max=True,
        computed=("limits",),
    ),
    FundsMovement(
        "send",
        "amountOut",
        token_field="tokenOut",
        recipient_field="recipient",
        max_in_field="amountInMax",
        approval_field="approval",
        limit_fields=_LIMITS,
        computed=("amount", "limits"),
    ),
)
"""Exact in: `amountIn` of `tokenIn` scales. Exact out: `amountOut` of `tokenOut` scales, and the payment with it."""


class SwapFields(Fields):
    """The tokens, amounts and limits of a swap."""

    chain_id: ChainId
    token_in: str = Field(
        max_length=100,
        description="Input token: `native`, an address, or a known symbol.",
        json_schema_extra={"x-widget": "token"},
    )
    token_out: str = Field(
        max_length=100,
        description="Output token: `native`, an address, or a known symbol.",
        json_schema_extra={"x-widget": "token"},
    )
    amount_in: Amount | None = Field(None, description="Exact in: the input amount in base units, or `max`.")
    amount_out: Positive | None = Field(None, description="Exact out: the output amount in base units.")
    amount_out_min: Units | None = Field(
        None,
        description="Exact in: the minimum output; default is the quote minus `slippageBps`.",
        json_schema_extra={"x-group": "Limits"},
    )
    amount_in_max: Positive | None = Field(
        None,
        description="Exact out: the maximum input; default is the quote plus `slippageBps`.",
        json_schema_extra={"x-group": "Limits"},
    )
    slippage_bps: int = Field(
        50,
        ge=0,
        le=5000,
        description="Allowed slippage from the quote, in basis points.",
        json_schema_extra={"x-group": "Limits"},
    )
    max_price_impact_bps: int = Field(
        1000,
        ge=0,
        le=10_000,
        description="Allowed price impact of the swap, in basis points; 10000 allows any.",
        json_schema_extra={"x-group": "Limits"},
    )
    deadline_seconds: int = Field(
        1200,
        ge=1,
        le=86_400,
        description="The swap fails after this many seconds.",
        json_schema_extra={"x-group": "Limits"},
    )
    recipient: Party | None = Field(None, description="Recipient of the output; default is the wallet.")
    approval: Literal["exact", "unlimited"] = Field(
        "exact",
        description="How much to approve for the router, if an approval is needed.",
        json_schema_extra={"x-group": "Route"},
    )
    router: Address | None = Field(
        None,
        description="Router of the same kind to use instead of the chain's default.",
        json_schema_extra={"x-group": "Route"},
    )

    @model_validator(mode="after")
    def _check_amounts(self) -> Self:
        if (self.amount_in is None) == (self.amount_out is None):
            raise ValueError("give either amountIn (exact in) or amountOut (exact out), not both")
        if self.amount_in is None and self.amount_out_min is not None:
            raise ValueError("amountOutMin goes with amountIn; with amountOut the limit is amountInMax")
        if self.amount_out is None and self.amount_in_max is not None:
            raise ValueError("amountInMax goes with amountOut; with amountIn the limit is amountOutMin")
        return self


class SwapOutput(TransactionFields):
    """The result of the swap, from the tokens' events."""

    token_in: str = Field(description="Input token: an address, or `native`.")
    token_out: str = Field(description="Output token: an address, or `native`.")
    symbol_in: str = Field(description="Symbol of the input token.")
    symbol_out: str = Field(description="Symbol of the output token.")
    amount_in: str = Field(description="Amount that the wallet gave, in base units.")
    amount_in_formatted: str = Field(description="Amount given, in whole tokens.")
    amount_out: str = Field(description="Amount that the recipient got, in base units.")
    amount_out_formatted: str = Field(description="Amount received, in whole tokens.")
    quoted_in: str = Field(description="Quoted input amount.")
    quoted_out: str = Field(description="Quoted output amount.")
    price_impact_bps: int | None = Field(
        description=(
            "Price impact in basis points, relative to a quote for a thousandth of the amount; null if the amount is "
            "too small."
        )
    )
    route: list[str] = Field(description="The tokens of the route, in order.")
    recipient: str = Field(description="Recipient of the output.")
    approval_hash: str | None = Field(description="Hash of the approval transaction; null if none was needed.")


@dataclass(frozen=True, slots=True)
class Order:
    """A swap with resolved fields: one of the amounts is None until the quote."""

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
        """The pools' input token: the wrapped token for native coin."""
        return self.coin_in.token or self._wrapped()

    @property
    def token_out(self) -> str:
        """The pools' output token: the wrapped token for native coin."""
        return self.coin_out.token or self._wrapped()

    def _wrapped(self) -> str:
        wrapped = self.chain.network.wrapped_native
        if wrapped is None:
            raise refuse(f"{self.chain.network.name} has no wrapped native token in its file", "chainId")
        return wrapped


async def read_order(ctx: Context, input: SwapFields, router: str | None) -> Order:
    """Resolves coins, amounts and addresses of a swap; raises `Invalid` by field."""
    chain, wallet = ctx.chain(input.chain_id), ctx.wallet.address
    target = input.router or router
    if target is None:
        raise refuse(f"{chain.network.name} has no such exchange in its file; set the router", "router")
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
        text = f"{coin_in.symbol} and {coin_out.symbol} are the same" if coin_in.token == coin_out.token else None
        raise refuse(text or "native and wrapped coin cannot be swapped: use wrap-native or unwrap-native", "tokenOut")
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
