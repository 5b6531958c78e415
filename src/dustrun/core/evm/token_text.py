"""Decodes a token's name or symbol from the contract's answer."""

from __future__ import annotations

from typing import Final

from dustrun.core.evm.abi import AbiFault
from dustrun.core.evm.abi_signatures import parse_function

_TEXT: Final = parse_function("name() view returns (string)")


def read_text(data: bytes) -> str | None:
    """Decodes a string, or bytes32 as early tokens return it; None when the result has no printable text."""
    try:
        text = data.rstrip(b"\0").decode() if len(data) == 32 else _TEXT.decode_result(data)[0]
    except (AbiFault, UnicodeDecodeError):
        return None
    return text if text.isprintable() and 0 < len(text) <= 100 else None
