"""Approves a contract to spend an ERC-20 token of the wallet, up to an amount.

Use it before calling a contract that pulls tokens (a vault, a payment contract). The swaps of this family approve by
themselves. `amount` is in base units; `"0"` revokes an approval; `max` allows any amount without expiry, which a policy
may forbid. If the allowance already has this value, no transaction is made. A token that changes an allowance only from
or to zero (such as USDT) is first reset to 0 in a separate transaction.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

from dustrun.actions.evm.approvals import Approval, approve_call, plan_approval, read_allowance
from dustrun.actions.evm.coins import Coin, check_decimals, read_token, token_address
from dustrun.actions.evm.fields import MAX, ChainId, Party, Token, TransactionFields, transaction_facts
from dustrun.core.money.intent import FundsMovement, Spend, Spent
from dustrun.core.values.amounts import MAX_UINT256, read_units
from dustrun.sdk import Context, Effect, Fields, action
from dustrun.sdk.action import refuse
from dustrun.sdk.threads import side_by_side


def _read_amount(value: Any) -> int | str:
    return MAX if value == MAX else read_units(value)


class Input(Fields):
    """The spender, token and amount."""

    chain_id: ChainId
    token: Token
    spender: Party = Field(description="The contract that may spend it.")
    amount: Annotated[
        int | Literal["max"],
        BeforeValidator(_read_amount),
        WithJsonSchema({"anyOf": [{"type": "string", "pattern": "^([0-9]{1,78}|max)$"}, {"type": "integer"}]}),
    ] = Field(description="Base units; 0 revokes, `max` allows any amount.")
    decimals: int | None = Field(
        None, ge=0, le=77, description="The decimals you expect; the node fails if the token's differ."
    )


class Output(TransactionFields):
    """The resulting allowance."""

    token: str = Field(description="Address of the token.")
    symbol: str = Field(description="Its symbol.")
    decimals: int = Field(description="Its decimals.")
    spender: str = Field(description="The spender.")
    allowance: str = Field(description="The new allowance, in base units.")
    allowance_formatted: str = Field(description="The new allowance in whole tokens.")
    previous_allowance: str = Field(description="The previous allowance, in base units.")
    changed: bool = Field(description="Whether a transaction was needed.")


async def finish(input: Input, spend: Spend, spent: Spent, ctx: Context) -> Output:
    """Builds the output from the approved amount."""
    chain, coin = ctx.chain(input.chain_id), Coin.of(spend.notes["coin"])
    amount = int(spend.notes["amount"])
    return Output(
        **transaction_facts(spent.receipts[-1] if spent.receipts else None, chain.network),
        token=coin.address,
        symbol=coin.symbol,
        decimals=coin.decimals,
        spender=input.spender,
        allowance=str(amount),
        allowance_formatted=coin.format(amount),
        previous_allowance=spend.notes["had"],
        changed=bool(spent.receipts),
    )


@action(
    effect=Effect.SPEND,
    input=Input,
    output=Output,
    example_input={
        "chainId": 1,
        "token": "USDC",
        "spender": "0x7a250d5630B4cF539739dF2C5dAcb4c659F2488D",
        "amount": "25000000",
    },
    example_output={
        "hash": "0x5c504ed432cb51138bcf09aa5e8a410dd4a1e204ef84bfed1be16dfba1b22060",
        "blockNumber": 21000000,
        "gasUsed": "55437",
        "fee": "1108740000000000",
        "feeFormatted": "0.00110874",
        "explorerUrl": "https://etherscan.io/tx/0x5c504ed432cb51138bcf09aa5e8a410dd4a1e204ef84bfed1be16dfba1b22060",
        "token": "0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48",
        "symbol": "USDC",
        "decimals": 6,
        "spender": "0x7a250d5630B4cF539739dF2C5dAcb4c659F2488D",
        "allowance": "25000000",
        "allowanceFormatted": "25",
        "previousAllowance": "0",
        "changed": True,
    },
    funds_movement=[
        FundsMovement("approve", "amount", token_field="token", recipient_field="spender", computed=("amount",))
    ],
    finish=finish,
    tags=("evm", "approval", "erc20"),
)
async def approve_erc20(input: Input, ctx: Context) -> Spend:
    """Compares with the current allowance, then returns the intents needed."""
    chain, owner = ctx.chain(input.chain_id), ctx.wallet.address
    token = token_address(chain, input.token, "token")
    amount = MAX_UINT256 if input.amount == MAX else int(input.amount)
    coin, had, (tried,) = await side_by_side(
        read_token(chain, token, "token"),
        read_allowance(chain, token, owner, input.spender),
        chain.call_many([approve_call(token, owner, input.spender, amount)]),
    )
    check_decimals(coin, input.decimals)
    if input.spender in (coin.token, owner):
        who = "the token's own contract" if input.spender == coin.token else "the wallet itself"
        raise refuse(f"the spender is {who}; it needs no approval", "spender")
    approval = Approval(coin, owner, input.spender, amount)
    intents = () if had == amount else await plan_approval(chain, approval, had, tried=tried)
    return Spend(intents, notes={"coin": coin.note(), "amount": str(amount), "had": str(had)})
