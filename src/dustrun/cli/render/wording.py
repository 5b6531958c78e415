"""Addresses, amounts and sums as people read them: wallets by name, short addresses, dollars with cents."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from dustrun.core.values.amounts import tell_usd

Json = Mapping[str, Any]
_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}(?![0-9a-fA-F])")
_IN_TEXT = re.compile(r"(?:eip155:\d+/erc(?:20|721|1155):)?(0x[0-9a-fA-F]{40})(?![0-9a-fA-F])")
UNLIMITED = 2**255
_DIGITS = 8


def short(address: Any) -> str:
    """An address as people compare it."""
    text = str(address)
    return f"{text[:6]}…{text[-4:]}" if _ADDRESS.fullmatch(text) else text


def short_hash(hash: Any) -> str:
    """A transaction's hash as people compare it."""
    return f"{str(hash)[:10]}…"


class Names:
    """What addresses are called, by the report's `names`."""

    def __init__(self, names: Json) -> None:
        self._names = {address.lower(): named for address, named in names.items()}

    def of(self, address: Any) -> str:
        """A wallet's or contract's name, else the short address."""
        named = self._names.get(str(address).lower())
        return short(address) if named is None else str(named["name"])

    def full(self, address: Any) -> str:
        """The name with the short address."""
        name = self.of(address)
        return name if name == short(address) else f"{name} {short(address)}"

    def is_own(self, address: Any) -> bool:
        """Whether it is one of the organisation's wallets."""
        return bool(self._names.get(str(address).lower(), {}).get("kind") == "wallet")

    def inside(self, text: Any) -> str:
        """A sentence with its addresses, and the assets that they are, replaced."""
        return _IN_TEXT.sub(lambda found: self.of(found[1]), str(text))


def amount(item: Json, *, worth: bool = True) -> str:
    """An amount with its symbol and its worth."""
    if abs(int(item["amount"])) >= UNLIMITED:
        return f"any amount of {symbol(item)}"
    number = item.get("amountFormatted")
    text = f"{item['amount'] if number is None else shorten(str(number))} {symbol(item)}"
    if number is None:
        text += " (base units)"
    return text if item.get("usd") is None or not worth else f"{text} ({usd(item['usd'])})"


def signed(item: Json) -> str:
    """A change without its worth: `+0.1 WETH`, `-5 USDC`."""
    text = amount(item, worth=False)
    return text if text.startswith("-") else f"+{text}"


def symbol(item: Json) -> str:
    """The asset's symbol, else what is known of it; of a single piece its number."""
    key = str(item["asset"])
    piece = key.rpartition("/")[2] if "erc721:" in key or "erc1155:" in key else ""
    number = f" #{piece}" if piece.isdigit() else ""
    if item.get("symbol"):
        return f"{item['symbol']}{number}"
    where = re.search(r"0x[0-9a-fA-F]{40}", key)
    return f"{short(where.group())}{number}" if where else key


def shorten(number: str) -> str:
    """A plain number with at most eight digits after the point's leading zeros; `…` stands for the rest."""
    whole, point, part = number.partition(".")
    zeros = len(part) - len(part.lstrip("0")) if whole.lstrip("-") in ("", "0") else 0
    return f"{whole}.{part[: zeros + _DIGITS]}…" if len(part) > zeros + _DIGITS else f"{whole}{point}{part}"


def usd(text: Any) -> str:
    """US dollars, from a plain number."""
    return tell_usd(Decimal(str(text)))
