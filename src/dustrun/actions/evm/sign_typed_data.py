"""Signs typed data (EIP-712): permits, orders, authorizations.

Use it with the whole document: `types`, `primaryType`, `domain`, `message`. What the signature lets others move counts
like a transaction: token permits (EIP-2612, DAI), Permit2, transfers by authorization (EIP-3009), and orders of CoW,
1inch and Seaport are decoded and judged by the wallet's policy. Most policies deny documents of other types, since
their effect is unknown.

Every field of the document must fit its type, and unsigned fields are rejected. So is a permit whose owner is not the
wallet. The signature is masked in events and records, and readable only with the permission `wallet:spend`; a
transaction of a later node may use it.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from dustrun.actions.evm.signing import SIGN, SignatureFields, signature_facts
from dustrun.core.evm import typed_data
from dustrun.core.money import permits
from dustrun.core.money.intent import SignRequest, Spend, Spent
from dustrun.core.money.permits import Understood
from dustrun.errors import Code, Invalid, Problem
from dustrun.sdk import Context, Effect, Fields, action
from dustrun.sdk.action import refuse


class Input(Fields):
    """The document to sign."""

    typed_data: dict[str, Any] = Field(description="The document: `types`, `primaryType`, `domain`, `message`.")
    chain_id: int | None = Field(
        None,
        ge=1,
        description="The expected chain; the node fails if the domain has another.",
        json_schema_extra={"x-widget": "chain"},
    )


class Output(SignatureFields):
    """The signature."""

    signer: str = Field(description="The wallet's address.")
    digest: str = Field(description="The EIP-712 hash that was signed.")
    primary_type: str = Field(description="The document's primary type.")


def _digest(document: dict[str, Any]) -> bytes:
    """The digest; raises `Invalid` with field paths of this node's payload."""
    try:
        return typed_data.digest_of(document)
    except Invalid as error:
        found = [item for item in error.details if isinstance(item, Problem)]
        problems = [Problem(f"payload.typedData.{item.field}", item.message) for item in found]
        text = f"typedData.{found[0].field} {found[0].message}" if found else error.message
        raise Invalid(f"{text}.", code=Code.ACTION_INPUT_INVALID, details=problems) from None


def _chain_of(input: Input) -> int | None:
    stated = input.typed_data["domain"].get("chainId")
    if stated is None:
        return None
    chain_id = int(stated, 16) if isinstance(stated, str) and stated.startswith("0x") else int(stated)
    if input.chain_id not in (None, chain_id):
        text = f"the document is for chain {chain_id}, the node expects {input.chain_id}"
        raise refuse(text, "typedData.domain.chainId")
    return chain_id


def _about(input: Input, understood: Understood | None) -> str:
    if understood is not None:
        return understood.about
    domain = input.typed_data["domain"]
    where = domain.get("name") or domain.get("verifyingContract") or "an unspecified contract"
    return f"Sign a {input.typed_data['primaryType']} of unknown effect for {str(where)[:80]!r}"


async def finish(input: Input, spend: Spend, spent: Spent, ctx: Context) -> Output:
    """Builds the output with the signature and hash."""
    return Output(
        **signature_facts(spent.signatures[SIGN]),
        signer=ctx.wallet.address,
        digest=f"0x{_digest(input.typed_data).hex()}",
        primary_type=input.typed_data["primaryType"],
    )


@action(
    effect=Effect.SPEND,
    input=Input,
    output=Output,
    example_input={
        "chainId": 1,
        "typedData": {
            "types": {
                "Permit": [
                    {"name": "owner", "type": "address"},
                    {"name": "spender", "type": "address"},
                    {"name": "value", "type": "uint256"},
                    {"name": "nonce", "type": "uint256"},
                    {"name": "deadline", "type": "uint256"},
                ]
            },
            "primaryType": "Permit",
            "domain": {
                "name": "USD Coin",
                "version": "2",
                "chainId": 1,
                "verifyingContract": "0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48",
            },
            "message": {
                "owner": "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266",
                "spender": "0x7a250d5630B4cF539739dF2C5dAcb4c659F2488D",
                "value": "25000000",
                "nonce": 0,
                "deadline": 1769864400,
            },
        },
    },
    example_output={
        "signature": f"0x{'11' * 32}{'22' * 32}1b",
        "r": f"0x{'11' * 32}",
        "s": f"0x{'22' * 32}",
        "v": 27,
        "signer": "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266",
        "digest": "0x7bbcbfe6cc3ba0bdb5ff8ba3b8a39b0d4ba1d1c7a1d5ba1ba5d0d2ac1c1ac2b3",
        "primaryType": "Permit",
    },
    finish=finish,
    tags=("evm", "signature", "permit"),
)
async def sign_typed_data(input: Input, ctx: Context) -> Spend:
    """Decodes what the document allows, then returns one signature request."""
    _digest(input.typed_data)
    chain_id = _chain_of(input)
    wallet = ctx.wallet.address
    understood = permits.understand(input.typed_data, wallet)
    if understood is not None and understood.signer not in (None, wallet):
        text = f"the document must be signed by {understood.signer}; the node's wallet is {wallet}"
        raise refuse(text, "typedData.message")
    request = SignRequest(
        item=SIGN,
        kind="typed-data",
        chain_id=chain_id,
        payload=input.typed_data,
        movements=() if understood is None else understood.movements,
        about=_about(input, understood),
        is_decoded=understood is not None,
    )
    return Spend(signatures=(request,))
