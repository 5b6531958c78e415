"""Hashes a value, or signs it with a key (HMAC).

A text is hashed as its UTF-8, or as the bytes that it spells with `inputEncoding`; any other value as canonical JSON
with sorted keys, so that equal objects have equal hashes. `key` makes it an HMAC, with which webhooks are signed.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable
from typing import Any, Final, Literal

from pydantic import Field, model_validator

from dustrun.actions.data.items import refuse
from dustrun.core.exact_json import dumps
from dustrun.sdk import Context, Effect, Fields, action
from dustrun.sdk.fields import secret

Encoding = Literal["utf8", "hex", "base64"]
_NAMES: Final = {"sha3-256": "sha3_256"}


class Input(Fields):
    """What is hashed, and how."""

    value: Any = Field(description="A text, or any other value as canonical JSON.")
    algorithm: Literal["sha256", "sha384", "sha512", "sha3-256", "keccak256", "sha1", "md5"] = Field(
        "sha256", description="The hash; `sha1` and `md5` only for systems that still ask for them."
    )
    encoding: Literal["hex", "base64", "base64url"] = Field("hex", description="How the result is written.")
    input_encoding: Encoding = Field("utf8", description="How a text is read.")
    key: str | None = secret(None, description="A key; makes the result an HMAC.")
    key_encoding: Encoding = Field("utf8", description="How the key is read.")

    @model_validator(mode="after")
    def _fits(self) -> Input:
        if self.key is not None and self.algorithm == "keccak256":
            raise ValueError("there is no HMAC with keccak256; chains do not use one")
        return self


class Output(Fields):
    """The hash."""

    hash: str = Field(description="The hash or HMAC; hexadecimal in lower case without 0x.")


def _keccak256(data: bytes) -> bytes:
    from Crypto.Hash import keccak  # slow import

    return keccak.new(digest_bits=256, data=data).digest()


def _unhex(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("0x"))


def _unbase64(text: str) -> bytes:
    return base64.b64decode(
        text + "=" * (-len(text) % 4), altchars=b"-_" if {*text} & {"-", "_"} else None, validate=True
    )


_READ: Final[dict[str, Callable[[str], bytes]]] = {"utf8": str.encode, "hex": _unhex, "base64": _unbase64}


def _bytes(value: Any, encoding: Encoding, field: str) -> bytes:
    if not isinstance(value, str):
        return dumps(value, canonical=True)
    try:
        return _READ[encoding](value)
    except (ValueError, binascii.Error):
        raise refuse(f"The {field} is not {encoding}", field) from None


def _digest(input: Input) -> bytes:
    data = _bytes(input.value, input.input_encoding, "value")
    if input.algorithm == "keccak256":
        return _keccak256(data)
    name = _NAMES.get(input.algorithm, input.algorithm)
    if input.key is not None:
        return hmac.digest(_bytes(input.key, input.key_encoding, "key"), data, name)
    return hashlib.new(name, data, usedforsecurity=False).digest()


@action(
    effect=Effect.PURE,
    input=Input,
    output=Output,
    example_input={"value": "abc"},
    example_output={"hash": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
    idempotent=True,
    tags=("hash", "hmac", "crypto"),
)
def hash_value(input: Input, ctx: Context) -> Output:
    """Hashes, then writes the result as asked."""
    digest = _digest(input)
    if input.encoding == "hex":
        return Output(hash=digest.hex())
    if input.encoding == "base64":
        return Output(hash=base64.b64encode(digest).decode())
    return Output(hash=base64.urlsafe_b64encode(digest).rstrip(b"=").decode())
