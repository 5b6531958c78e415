"""Calls of any contract function: found by its signature or in a JSON ABI, and its result as JSON."""

from __future__ import annotations

import difflib
import re
from functools import lru_cache
from typing import Any

from dustrun.core.evm import abi_signatures
from dustrun.core.evm.abi import AbiFault, Function, show, show_all
from dustrun.core.values.addresses import keccak256


def find_function(function: str, abi: Any) -> Function:
    """The function of a signature, or of a name in `abi`; raises `AbiFault` with similar names. Its `field` is
    `function` or `abi`."""
    try:
        if abi is None:
            return abi_signatures.parse_function(function)
        known = [abi_signatures.read_json_function(entry) for entry in abi_signatures.entries_of(abi, "function")]
        wanted = abi_signatures.parse_function(function).signature if "(" in function else function.strip()
    except AbiFault as fault:
        raise AbiFault(fault.message, "function" if abi is None else "abi") from None
    found = [item for item in known if wanted in (item.name, item.signature)]
    if len(found) > 1:
        listed = ", ".join(item.signature for item in found)
        raise AbiFault(f'the ABI has several "{wanted}"; give the full signature of one: {listed}', "function")
    if not found:
        close = difflib.get_close_matches(wanted, [item.name for item in known], n=1)
        hint = f'; did you mean "{close[0]}"?' if close else ""
        raise AbiFault(f'the ABI has no function "{wanted}"{hint}', "function")
    return found[0]


def show_result(function: Function, data: bytes) -> tuple[Any, dict[str, Any]]:
    """A function's return data: the single value (or an object by name if there are several), and all by name or
    index. Raises `AbiFault`."""
    if function.outputs is None:
        return None, {}
    values = function.decode_result(data)
    named = show_all(function.outputs, values)
    if len(values) == 1:
        return show(function.outputs[0], values[0]), named
    return (named if values else None), named


# Function selectors: the first four bytes of calldata.


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
