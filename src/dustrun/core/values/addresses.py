"""EVM addresses: 20 bytes in hexadecimal, with a mixed-case checksum (EIP-55)."""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from typing import Any, Final

ZERO_ADDRESS: Final = "0x" + "0" * 40
_OF_NOTHING: Final = bytes.fromhex("c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470")
_ADDRESS: Final = re.compile(r"0x[0-9a-fA-F]{40}")
_KEY: Final = re.compile(r"(?:0x)?[0-9a-fA-F]{64}")


def keccak256(data: bytes) -> bytes:
    """Keccak-256 as Ethereum uses it (not SHA3-256)."""
    return (_by_openssl if _openssl_has_it() else _by_pycryptodome)(data)


def _by_openssl(data: bytes) -> bytes:
    return hashlib.new("KECCAK-256", data).digest()


def _by_pycryptodome(data: bytes) -> bytes:
    from dustrun.core.values.pycryptodome import keccak  # slow import

    return keccak.new(digest_bits=256, data=data).digest()


@lru_cache(maxsize=1)
def _openssl_has_it() -> bool:
    """Since OpenSSL 3.2, if its distributor left it in; it takes a tenth of the time, and no import."""
    try:
        return _by_openssl(b"") == _OF_NOTHING
    except ValueError:
        return False


@lru_cache(maxsize=10_000)
def checksum(address: str) -> str:
    """The EIP-55 form of a well-formed address in any case."""
    digits = address[2:].lower()
    digest = keccak256(digits.encode()).hex()
    return "0x" + "".join(c.upper() if int(d, 16) > 7 else c for c, d in zip(digits, digest, strict=False))


def is_address(value: Any) -> bool:
    """Whether it is an address; mixed case must match the checksum."""
    return _fault_of(value) is None


def read_address(value: Any) -> str:
    """Parses and checksums an address; raises `ValueError` that says how to correct it."""
    fault = _fault_of(value)
    if fault is not None:
        raise ValueError(fault)
    return checksum(value)


def address_of_word(word: bytes) -> str:
    """The address in the last 20 of 32 bytes, as in topics and return data."""
    return checksum("0x" + word[-20:].hex())


def _fault_of(value: Any) -> str | None:
    if not isinstance(value, str) or _ADDRESS.fullmatch(value) is None:
        # Never repeats the value: it may be a private key given by mistake.
        shown = f'"{value[:60]}"' if isinstance(value, str) and not _KEY.fullmatch(value.strip()) else "this"
        return f"{shown} is not an address: an address is 0x and 40 hexadecimal digits{_mended(value)}"
    digits = value[2:]
    if digits in (digits.lower(), digits.upper()) or value == checksum(value):
        return None
    return (
        f'the checksum of "{value}" is wrong (EIP-55), so a digit may be mistyped: copy the address again from its '
        "source, or write it in lower case if you are sure of it"
    )


def _mended(value: Any) -> str:
    """A hint at the likely mistake."""
    if not isinstance(value, str):
        return ""
    text = value.strip()
    if re.fullmatch(r"[0-9a-fA-F]{40}", text):
        return "; add 0x in front"
    if text != value and _ADDRESS.fullmatch(text):
        return "; remove the white space around it"
    if re.fullmatch(r"0x[0-9a-fA-F]+", text):
        return f", this one has {len(text) - 2}"
    if "." in text and "/" not in text and not text.startswith("0x"):
        return "; names like alice.eth are not resolved here"
    return ""
