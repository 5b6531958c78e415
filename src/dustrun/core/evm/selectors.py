"""Function selectors: the first four bytes of calldata."""

from __future__ import annotations

import re
from functools import lru_cache

from dustrun.core.values.addresses import keccak256

_SELECTOR = re.compile(r"0x[0-9a-fA-F]{8}")
_SIGNATURE = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]*\([A-Za-z0-9,()\[\]]*\)")
_SHORT = re.compile(r"(?<![A-Za-z0-9])(u?int)(?=[,\[\])])")


@lru_cache(maxsize=4096)
def read_selector(method: str) -> str:
    """The lower-case selector of a method given as `0xa9059cbb` or `transfer(address,uint256)`; raises `ValueError`
    otherwise.
    """
    if _SELECTOR.fullmatch(method):
        return method.lower()
    signature = _SHORT.sub(r"\g<1>256", method.replace(" ", ""))
    if _SIGNATURE.fullmatch(signature) is None or signature.count("(") != signature.count(")"):
        raise ValueError(f'"{method}" is not a method; expected transfer(address,uint256) or 0xa9059cbb')
    return "0x" + keccak256(signature.encode())[:4].hex()


def selector_of(data: bytes) -> str | None:
    """The selector of calldata; None when it is shorter than four bytes."""
    return f"0x{data[:4].hex()}" if len(data) >= 4 else None
