"""Revokes what the wallet has allowed others to take: token approvals, approvals of whole collections, and Permit2.

It finds what the wallet has granted by its own transactions and signatures, reads from the chain what still stands, and
sets each to zero in a transaction of its own. `token` and `spender` narrow it down; `unlimitedOnly` keeps allowances
with a bound. If nothing stands, no transaction is made. Every policy allows it, since it only takes back; the network
fee counts against the policy's fee rules and limits.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from dustrun.actions.evm.fields import ChainId, Party
from dustrun.core.money.allowances import Allowance
from dustrun.core.money.intent import FundsMovement, Spend, Spent
from dustrun.core.money.policy.scope import is_endless
from dustrun.sdk import Context, Effect, Fields, action
from dustrun.sdk.chain import read_allowances

MOST = 50


class Input(Fields):
    """Which allowances to revoke; without `token` and `spender` all of the chain."""

    chain_id: ChainId
    token: Party | None = Field(None, description="Only allowances of this token or collection, by its address.")
    spender: Party | None = Field(None, description="Only what this address may take.")
    unlimited_only: bool = Field(False, description="Whether allowances with a bound stay.")


class RevokedAllowance(Fields):
    """One allowance that was set to zero."""

    kind: Literal["erc20", "collection", "permit2"] = Field(description="What kind of allowance it was.")
    token: str = Field(description="The token or collection.")
    spender: str = Field(description="Who could take it.")
    amount: str = Field(description="What could be taken, in base units.")
    hash: str | None = Field(description="Hash of the transaction; null in a simulation.")


class Output(Fields):
    """The revoked allowances, and those left."""

    revoked: list[RevokedAllowance] = Field(description="The allowances that were set to zero.")
    count: int = Field(description="How many.")
    left: int = Field(description=f"Matching allowances beyond the {MOST} of one node; run it again.")
    unread: list[str] = Field(description="Contracts that did not say what they allow.")


async def finish(input: Input, spend: Spend, spent: Spent, ctx: Context) -> Output:
    """Adds the hashes to what was planned."""
    hashes = [receipt.hash for receipt in spent.receipts]
    revoked = [RevokedAllowance(**one, hash=hash) for one, hash in zip(spend.notes["revoked"], hashes, strict=True)]
    left, unread = spend.notes["left"], spend.notes["unread"]
    return Output(revoked=revoked, count=len(revoked), left=left, unread=unread)


@action(
    effect=Effect.SPEND,
    input=Input,
    output=Output,
    example_input={"chainId": 1, "unlimitedOnly": True},
    example_output={
        "revoked": [
            {
                "kind": "erc20",
                "token": "0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48",
                "spender": "0x7a250d5630B4cF539739dF2C5dAcb4c659F2488D",
                "amount": "115792089237316195423570985008687907853269984665640564039457584007913129639935",
                "hash": "0x5c504ed432cb51138bcf09aa5e8a410dd4a1e204ef84bfed1be16dfba1b22060",
            }
        ],
        "count": 1,
        "left": 0,
        "unread": [],
    },
    funds_movement=[FundsMovement("approve", None, token_field="token", recipient_field="spender", scales=False)],
    finish=finish,
    tags=("evm", "approval", "allowance", "revoke", "erc20", "permit2"),
)
async def revoke_allowances(input: Input, ctx: Context) -> Spend:
    """Reads what stands, then returns an intent for each."""
    chain, owner = ctx.chain(input.chain_id), ctx.wallet.address
    found, silent = await read_allowances(chain, owner, await _candidates(input, ctx))
    chosen = [(one, now) for one, now in found if not input.unlimited_only or is_endless(now.units)]
    revoked = [
        {"kind": one.kind, "token": one.token, "spender": one.spender, "amount": str(now.units)}
        for one, now in chosen[:MOST]
    ]
    intents = tuple(one.revocation(f"revoke-{place}") for place, (one, _) in enumerate(chosen[:MOST], 1))
    notes = {"revoked": revoked, "left": len(chosen[MOST:]), "unread": sorted({one.contract for one in silent})}
    return Spend(intents, notes=notes)


async def _candidates(input: Input, ctx: Context) -> list[Allowance]:
    """The allowances that were granted, and those that the input names, even if nobody here has granted them."""
    found = set(await ctx.granted(input.chain_id))
    if input.token is not None and input.spender is not None:
        found.add(Allowance(input.chain_id, "erc20", input.token, input.spender))
    return sorted(
        one
        for one in found
        if (input.token is None or one.token == input.token) and (input.spender is None or one.spender == input.spender)
    )
