"""Hashes a value.

A text is hashed as UTF-8, or as the bytes that it encodes with `inputEncoding`; any other value as canonical JSON with
sorted keys, so that equal objects have equal hashes. To sign with a key, use the function `hmacSha256` in an
expression: the inputs of a node are stored with its run, and a key would be stored with them.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable
from typing import Any, Final, Literal

from pydantic import Field

from dustrun.actions.data.items import refuse
from dustrun.core.values.addresses import keccak256
from dustrun.core.values.exact_json import dumps
from dustrun.sdk import Context, Effect, Fields, action

Encoding = Literal["utf8", "hex", "base64"]
_NAMES: Final = {"sha3-256": "sha3_256"}


class Input(Fields):
    """The value to hash, and the algorithm."""

    value: Any = Field(description="A text, or any other value as canonical JSON.")
    algorithm: Literal["sha256", "sha384", "sha512", "sha3-256", "keccak256", "sha1", "md5"] = Field(
        "sha256", description="The hash function; use `sha1` and `md5` only for systems that require them."
    )
    encoding: Literal["hex", "base64", "base64url"] = Field("hex", description="Encoding of the result.")
    input_encoding: Encoding = Field("utf8", description="Encoding of a text.")


class Output(Fields):
    """The hash."""

    hash: str = Field(description="The hash; hexadecimal is lower case without 0x.")


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
        return keccak256(data)
    name = _NAMES.get(input.algorithm, input.algorithm)
    return hashlib.new(name, data, usedforsecurity=False).digest()


@action(
    effect=Effect.PURE,
    input=Input,
    output=Output,
    example_input={"value": "abc"},
    example_output={"hash": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
    idempotent=True,
    tags=("hash", "crypto"),
)
def hash_value(input: Input, ctx: Context) -> Output:
    """Hashes and encodes the value."""
    digest = _digest(input)
    if input.encoding == "hex":
        return Output(hash=digest.hex())
    if input.encoding == "base64":
        return Output(hash=base64.b64encode(digest).decode())
    return Output(hash=base64.urlsafe_b64encode(digest).rstrip(b"=").decode())
