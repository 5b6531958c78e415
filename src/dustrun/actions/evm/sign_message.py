"""Signs a message with the wallet (EIP-191, `personal_sign`).

Use it to log in somewhere, or to prove ownership of the wallet. Only sign what you can read: with `encoding: "hex"` the
bytes may be the hash of an order, which is why most policies deny them. The signature can do what the message says, so
it is masked in events and records, and readable only with the permission `wallet:spend`. For permits and orders use
`sign-typed-data`.
"""

from __future__ import annotations

import re
from typing import Literal, Self

from pydantic import Field, model_validator

from dustrun.actions.evm.signing import SIGN, SignatureFields, signature_facts
from dustrun.core.money.intent import SignRequest, Spend, Spent
from dustrun.core.values.addresses import keccak256
from dustrun.sdk import Context, Effect, Fields, action

_SHOWN = 80


class Input(Fields):
    """The message to sign."""

    message: str = Field(min_length=1, max_length=100_000, description="The message.")
    encoding: Literal["text", "hex"] = Field("text", description="Whether the message is text, or bytes as 0x-hex.")

    @model_validator(mode="after")
    def _check_message(self) -> Self:
        if self.encoding == "hex" and re.fullmatch(r"0x([0-9a-fA-F]{2})+", self.message) is None:
            raise ValueError("with encoding hex, message must be 0x followed by an even number of hexadecimal digits")
        try:
            self.message.encode()
        except UnicodeEncodeError:
            raise ValueError("message contains a lone surrogate, which has no UTF-8 encoding") from None
        return self

    @property
    def data(self) -> bytes:
        """The bytes to sign, without the EIP-191 prefix."""
        return self.message.encode() if self.encoding == "text" else bytes.fromhex(self.message[2:])


class Output(SignatureFields):
    """The signature."""

    signer: str = Field(description="The wallet's address.")
    hash: str = Field(description="The EIP-191 hash that was signed.")


async def finish(input: Input, spend: Spend, spent: Spent, ctx: Context) -> Output:
    """Builds the output with the signature and hash."""
    prefix = f"\x19Ethereum Signed Message:\n{len(input.data)}".encode()
    return Output(
        **signature_facts(spent.signatures[SIGN]),
        signer=ctx.wallet.address,
        hash=f"0x{keccak256(prefix + input.data).hex()}",
    )


@action(
    effect=Effect.SPEND,
    input=Input,
    output=Output,
    example_input={"message": "I am the owner of this address. 2026-01-31"},
    example_output={
        "signature": f"0x{'11' * 32}{'22' * 32}1b",
        "r": f"0x{'11' * 32}",
        "s": f"0x{'22' * 32}",
        "v": 27,
        "signer": "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266",
        "hash": "0x7bbcbfe6cc3ba0bdb5ff8ba3b8a39b0d4ba1d1c7a1d5ba1ba5d0d2ac1c1ac2b3",
    },
    finish=finish,
    tags=("evm", "signature"),
)
async def sign_message(input: Input, ctx: Context) -> Spend:
    """Returns one signature request."""
    shown = input.message if len(input.message) <= _SHOWN else f"{input.message[:_SHOWN]}…"
    request = SignRequest(
        item=SIGN,
        kind="message",
        chain_id=None,
        payload=f"0x{input.data.hex()}",
        movements=(),
        about=f"Sign the message {shown!r}",
        is_decoded=input.encoding == "text",
    )
    return Spend(signatures=(request,))
