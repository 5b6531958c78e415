"""Assets and exact amounts: integers of base units, exact decimals for display, never a float."""

from __future__ import annotations

import re
from decimal import Context, Decimal, Inexact
from typing import Any

from dustrun.records import dataclass

MAX_UINT256 = (1 << 256) - 1
_WIDE = Context(prec=400, traps=[Inexact])
_KEY = re.compile(r"eip155:([1-9][0-9]*)/(?:native|erc20:(0x[0-9a-fA-F]{40}))")


@dataclass(frozen=True, slots=True)
class Asset:
    """A chain's native coin (`token` is None) or an ERC-20 by its checksummed address."""

    chain_id: int
    token: str | None = None

    @property
    def key(self) -> str:
        """A CAIP-19-like key: `eip155:1/native`, `eip155:1/erc20:0xA0b8…`."""
        return f"eip155:{self.chain_id}/" + ("native" if self.token is None else f"erc20:{self.token}")

    @staticmethod
    def is_key(text: str) -> bool:
        """Whether a string is a `key` of a fungible asset; ERC-721 and ERC-1155 keys are not."""
        return _KEY.fullmatch(text) is not None

    @classmethod
    def parse(cls, key: str) -> Asset:
        """The asset of a `key`; raises `ValueError` for other strings."""
        found = _KEY.fullmatch(key)
        if found is None:
            raise ValueError(f'"{key}" is not an asset; expected something like eip155:1/native or eip155:1/erc20:0x…')
        return cls(int(found[1]), found[2])


def format_units(units: int, decimals: int) -> str:
    """Base units as an exact plain number without trailing zeros: `1500000, 6` gives `1.5`."""
    text = f"{_WIDE.scaleb(Decimal(units), -decimals):f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def tell_usd(worth: Decimal) -> str:
    """US dollars for display: with cents, and below a cent with the first significant digits."""
    sign, worth = ("-" if worth < 0 else ""), abs(worth)
    if worth == 0:
        return "$0"
    if worth >= Decimal("0.01"):
        return f"{sign}${worth:,.2f}"
    if worth < Decimal("0.000001"):
        return f"{'more than -' if sign else 'less than '}$0.000001"
    return f"{sign}${worth:.6f}".rstrip("0")


def read_units(value: Any) -> int:
    """Parses a base-unit amount: an integer or a string of decimal digits, 0 to 2**256 - 1."""
    if isinstance(value, Decimal):
        raise ValueError(
            f"must be an integer of base units, not the decimal {value}; floor(), round() or ceil() in an expression "
            "make an integer of it"
        )
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError("must be a string of decimal digits in base units")
    if isinstance(value, str):
        if re.fullmatch(r"[0-9]{1,78}", value) is None:
            raise ValueError(
                "must be a string of decimal digits in base units, without sign, decimal point or exponent; "
                "toUnits(1.5, 6) in an expression gives the base units of 1.5 tokens with 6 decimals"
            )
        value = int(value)
    if not 0 <= value <= MAX_UINT256:
        raise ValueError("must be from 0 to 2**256 - 1")
    return int(value)
