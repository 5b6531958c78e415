"""Names of EVM chains: addresses with their EIP-55 capitals, selectors of functions."""

from __future__ import annotations

import re
from functools import lru_cache

ZERO_ADDRESS = "0x" + "0" * 40
_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}")
_SELECTOR = re.compile(r"0x[0-9a-fA-F]{8}")
_SIGNATURE = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]*\([A-Za-z0-9,()\[\]]*\)")
_SHORT = re.compile(r"(?<![A-Za-z0-9])(u?int)(?=[,\[\])])")


def keccak(data: bytes) -> bytes:
    """Keccak-256."""
    from Crypto.Hash import keccak as keccak_hash  # slow import

    return keccak_hash.new(digest_bits=256, data=data).digest()


@lru_cache(maxsize=4096)
def checksum(address: str) -> str:
    """The address with its EIP-55 capitals, whatever capitals it has."""
    digits = address[2:].lower()
    digest = keccak(digits.encode()).hex()
    return "0x" + "".join(c.upper() if int(d, 16) > 7 else c for c, d in zip(digits, digest, strict=False))


def read_address(text: str) -> str:
    """An address as people write it, with its EIP-55 capitals; raises `ValueError` when it is none or its mixed
    capitals are wrong."""
    if _ADDRESS.fullmatch(text) is None:
        raise ValueError(f'"{text}" is no address; it looks like 0x and 40 hexadecimal digits')
    digits, right = text[2:], checksum(text)
    if digits not in (digits.lower(), digits.upper()) and text != right:
        raise ValueError(f'"{text}" has wrong capitals (EIP-55): one of its characters is mistyped')
    return right


@lru_cache(maxsize=4096)
def read_selector(method: str) -> str:
    """The selector of a method, lower case, given as itself or as a signature like `transfer(address,uint256)`; raises
    `ValueError` for another text."""
    if _SELECTOR.fullmatch(method):
        return method.lower()
    signature = _SHORT.sub(r"\g<1>256", method.replace(" ", ""))
    if _SIGNATURE.fullmatch(signature) is None or signature.count("(") != signature.count(")"):
        raise ValueError(f'"{method}" is no method; it looks like transfer(address,uint256) or 0xa9059cbb')
    return "0x" + keccak(signature.encode())[:4].hex()
