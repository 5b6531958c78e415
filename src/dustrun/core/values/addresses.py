"""Addresses of EVM chains: 20 bytes as hexadecimal, whose capitals are a checksum (EIP-55)."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, Final

ZERO_ADDRESS: Final = "0x" + "0" * 40
_ADDRESS: Final = re.compile(r"0x[0-9a-fA-F]{40}")
_KEY: Final = re.compile(r"(?:0x)?[0-9a-fA-F]{64}")


def keccak256(data: bytes) -> bytes:
    """Keccak-256, as Ethereum has it (not SHA3-256)."""
    from Crypto.Hash import keccak  # slow import

    return keccak.new(digest_bits=256, data=data).digest()


@lru_cache(maxsize=10_000)
def checksum(address: str) -> str:
    """An address of right form with its EIP-55 capitals, whatever capitals it has now."""
    digits = address[2:].lower()
    digest = keccak256(digits.encode()).hex()
    return "0x" + "".join(c.upper() if int(d, 16) > 7 else c for c, d in zip(digits, digest, strict=False))


def is_address(value: Any) -> bool:
    """Whether it is an address; mixed capitals must be the right ones."""
    return _fault_of(value) is None


def read_address(value: Any) -> str:
    """An address as it comes in, checksummed; raises `ValueError` that says how to mend it."""
    fault = _fault_of(value)
    if fault is not None:
        raise ValueError(fault)
    return checksum(value)


def address_of_word(word: bytes) -> str:
    """The address in the last 20 of 32 bytes, as topics and returned words have it."""
    return checksum("0x" + word[-20:].hex())


def _fault_of(value: Any) -> str | None:
    if not isinstance(value, str) or _ADDRESS.fullmatch(value) is None:
        # a private key given by mistake is not repeated
        shown = f'"{value[:60]}"' if isinstance(value, str) and not _KEY.fullmatch(value.strip()) else "this"
        return f"{shown} is no address: an address is 0x and 40 hexadecimal digits{_mended(value)}"
    digits = value[2:]
    if digits in (digits.lower(), digits.upper()) or value == checksum(value):
        return None
    return (
        f'the capitals of "{value}" are wrong (EIP-55), so a digit may be mistyped: '
        "copy the address again from its source, or write it in lower case when you are sure of it"
    )


def _mended(value: Any) -> str:
    """What probably happened to a text that is no address."""
    if not isinstance(value, str):
        return ""
    text = value.strip()
    if re.fullmatch(r"[0-9a-fA-F]{40}", text):
        return "; put 0x before it"
    if text != value and _ADDRESS.fullmatch(text):
        return "; take away the spaces around it"
    if re.fullmatch(r"0x[0-9a-fA-F]+", text):
        return f", this one has {len(text) - 2}"
    if "." in text and "/" not in text and not text.startswith("0x"):
        return "; names like alice.eth are not looked up here"
    return ""
