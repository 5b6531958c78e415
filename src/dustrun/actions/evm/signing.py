"""Output fields of a signature."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from dustrun.sdk import Fields
from dustrun.sdk.fields import secret

SIGN = "sign"


class SignatureFields(Fields):
    """A signature, whole and split into the three parts that contracts take."""

    signature: str = secret(description="The 65 bytes r, s, v as 0x-hex.")
    r: str = secret(description="r: its first 32 bytes.")
    s: str = secret(description="s: its second 32 bytes.")
    v: int = Field(description="v: its last byte, 27 or 28.")


def signature_facts(signature: str) -> dict[str, Any]:
    """The values of `SignatureFields`."""
    data = bytes.fromhex(signature[2:])
    return {"signature": signature, "r": f"0x{data[:32].hex()}", "s": f"0x{data[32:64].hex()}", "v": data[64]}
