"""Formats addresses, amounts and sums for people: wallets by name, short addresses, dollars with cents."""

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
    """Shortens an address to its first and last characters."""
    text = str(address)
    return f"{text[:6]}…{text[-4:]}" if _ADDRESS.fullmatch(text) else text


def short_hash(hash: Any) -> str:
    """Shortens a transaction hash to its first and last characters."""
    return f"{str(hash)[:10]}…"


class Names:
    """Names of addresses, from the report's `names`."""

    def __init__(self, names: Json) -> None:
        self._names = {address.lower(): named for address, named in names.items()}

    def of(self, address: Any) -> str:
        """The wallet's or contract's name, else the short address."""
        named = self._names.get(str(address).lower())
        return short(address) if named is None else str(named["name"])

    def full(self, address: Any) -> str:
        """The name followed by the short address."""
        name = self.of(address)
        return name if name == short(address) else f"{name} {short(address)}"

    def is_own(self, address: Any) -> bool:
        """Whether the address is one of the organisation's wallets."""
        return bool(self._names.get(str(address).lower(), {}).get("kind") == "wallet")

    def inside(self, text: Any) -> str:
        """Replaces addresses and assets in a sentence with their names."""
        return _IN_TEXT.sub(lambda found: self.of(found[1]), str(text))


def amount(item: Json, *, worth: bool = True) -> str:
    """Formats an amount with its symbol and its value in dollars."""
    if abs(int(item["amount"])) >= UNLIMITED:
        return f"any amount of {symbol(item)}"
    number = item.get("amountFormatted")
    text = f"{item['amount'] if number is None else shorten(str(number))} {symbol(item)}"
    if number is None:
        text += " (base units)"
    return text if item.get("usd") is None or not worth else f"{text} ({usd(item['usd'])})"


def signed(item: Json) -> str:
    """Formats a balance change without its value: `+0.1 WETH`, `-5 USDC`."""
    text = amount(item, worth=False)
    return text if text.startswith("-") else f"+{text}"


def symbol(item: Json) -> str:
    """The asset's symbol, else its address; an NFT also has its token id."""
    key = str(item["asset"])
    piece = key.rpartition("/")[2] if "erc721:" in key or "erc1155:" in key else ""
    number = f" #{piece}" if piece.isdigit() else ""
    if item.get("symbol"):
        return f"{item['symbol']}{number}"
    where = re.search(r"0x[0-9a-fA-F]{40}", key)
    return f"{short(where.group())}{number}" if where else key


def shorten(number: str) -> str:
    """Truncates a decimal number to eight digits after the fraction's leading zeros and marks the cut with `…`."""
    whole, point, part = number.partition(".")
    zeros = len(part) - len(part.lstrip("0")) if whole.lstrip("-") in ("", "0") else 0
    return f"{whole}.{part[: zeros + _DIGITS]}…" if len(part) > zeros + _DIGITS else f"{whole}{point}{part}"


def usd(text: Any) -> str:
    """Formats a decimal number as US dollars."""
    return tell_usd(Decimal(str(text)))


def request_outcome(item: Mapping[str, Any], *, is_simulated: bool = False) -> str:
    """The fate of a request that writes: whether it left the server, and how it was answered."""
    status, answered = item.get("status"), item.get("answered")
    if not item.get("sent"):
        return "would send" if is_simulated else "not sent"
    if status in ("uncertain", "cancelled"):
        return "may have arrived"
    if status == "failure":
        return f"sent, answered {answered}" if answered is not None else "sent, failed"
    return "sent"
