"""Serialises transactions for signing and broadcast, and checks transactions returned by remote signers.

Supports EIP-1559 (type 2, EIP-2718 envelope) and legacy transactions with a chain id (EIP-155).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from dustrun.core.values.addresses import keccak256
from dustrun.core.values.amounts import MAX_UINT256
from dustrun.errors import Bug
from dustrun.wallets.secp256k1 import SecretKey, find_signer
from dustrun.wallets.signer import SignedTransaction, UnsignedTransaction

# RLP, the encoding of transactions: byte strings and nested lists, with exactly one encoding each.


Item = bytes | Sequence[Any]


def encode(item: Item) -> bytes:
    """Encodes a byte string or a list of items."""
    if isinstance(item, bytes):
        if len(item) == 1 and item[0] < 0x80:
            return item
        return _head(len(item), 0x80) + item
    body = b"".join(map(encode, item))
    return _head(len(body), 0xC0) + body


def encode_integer(value: int) -> bytes:
    """Encodes an integer as a big-endian byte string without leading zeros."""
    return value.to_bytes((value.bit_length() + 7) // 8, "big")


def decode(data: bytes) -> Any:
    """Decodes exactly one item, lists as Python lists; raises `ValueError` unless it is the canonical encoding."""
    item, end = _decode(data, 0, len(data), 0)
    if end != len(data):
        raise ValueError("trailing bytes after the item")
    return item


_DEEPEST = 16


def _head(length: int, base: int) -> bytes:
    if length < 56:
        return bytes([base + length])
    size = encode_integer(length)
    return bytes([base + 55 + len(size)]) + size


def _decode(data: bytes, at: int, end: int, depth: int) -> tuple[Any, int]:
    if at >= end or depth > _DEEPEST:
        raise ValueError("an item is missing, or items are nested too deeply")
    first = data[at]
    if first < 0x80:
        return data[at : at + 1], at + 1
    base = 0x80 if first < 0xC0 else 0xC0
    start, length = _extent(data, at, end, first - base)
    stop = start + length
    if stop > end:
        raise ValueError("an item is truncated")
    if base == 0x80:
        if length == 1 and data[start] < 0x80:
            raise ValueError("a byte is not in its shortest form")
        return data[start:stop], stop
    items = []
    while start < stop:
        item, start = _decode(data, start, stop, depth + 1)
        items.append(item)
    return items, stop


def _extent(data: bytes, at: int, end: int, short: int) -> tuple[int, int]:
    """Offset and length of an item's content."""
    if short < 56:
        return at + 1, short
    start = at + 1 + short - 55
    length = int.from_bytes(data[at + 1 : start], "big")
    if start > end or length < 56 or data[at + 1] == 0:
        raise ValueError("a length is not in its shortest form")
    return start, length


_TYPE: Final = b"\x02"
_MOST_NONCE: Final = (1 << 64) - 2  # EIP-2681


def digest_of(unsigned: UnsignedTransaction) -> bytes:
    """The 32-byte digest to sign."""
    fields = _fields(unsigned)
    if unsigned.is_legacy:
        return keccak256(encode([*fields, encode_integer(unsigned.chain_id), b"", b""]))
    return keccak256(_TYPE + encode(fields))


def assemble(unsigned: UnsignedTransaction, r: int, s: int, parity: int) -> SignedTransaction:
    """The transaction with its signature, ready to broadcast."""
    v = parity + 35 + 2 * unsigned.chain_id if unsigned.is_legacy else parity
    body = encode([*_fields(unsigned), *map(encode_integer, (v, r, s))])
    raw = body if unsigned.is_legacy else _TYPE + body
    return SignedTransaction(raw, "0x" + keccak256(raw).hex())


def sign(unsigned: UnsignedTransaction, key: SecretKey) -> SignedTransaction:
    """Signs a transaction with a key."""
    return assemble(unsigned, *key.sign(digest_of(unsigned)))


def check_signed(raw: bytes, unsigned: UnsignedTransaction, address: str) -> SignedTransaction:
    """Parses a signed transaction; raises `ValueError` unless it is exactly `unsigned`, signed by `address`."""
    r, s, parity = _signature_of(raw, unsigned)
    signed = assemble(unsigned, r, s, parity)
    if signed.raw != raw:
        raise ValueError("a field differs from the request")
    if find_signer(digest_of(unsigned), r, s, parity) != address:
        raise ValueError("it is not signed by the wallet's key")
    return signed


def _signature_of(raw: bytes, unsigned: UnsignedTransaction) -> tuple[int, int, int]:
    body = raw
    if not unsigned.is_legacy:
        if raw[:1] != _TYPE:
            raise ValueError("it is not of type 2 (EIP-1559)")
        body = raw[1:]
    items = decode(body)
    if not isinstance(items, list) or len(items) != len(_fields(unsigned)) + 3:
        raise ValueError("it has a wrong number of fields")
    v, r, s = (_integer(item) for item in items[-3:])
    return r, s, v - 35 - 2 * unsigned.chain_id if unsigned.is_legacy else v


def _integer(item: Any) -> int:
    if not isinstance(item, bytes) or len(item) > 32:
        raise ValueError("a part of the signature is not an integer")
    return int.from_bytes(item, "big")


def _fields(unsigned: UnsignedTransaction) -> list[Any]:
    """The fields before the signature, in wire order."""
    _check(unsigned)
    number = encode_integer
    to = b"" if unsigned.to is None else bytes.fromhex(unsigned.to[2:])
    call: list[Any] = [number(unsigned.gas_limit), to, number(unsigned.value_units), unsigned.data]
    if unsigned.is_legacy:
        return [number(unsigned.nonce), number(unsigned.max_fee_units), *call]
    fees = [number(unsigned.tip_units), number(unsigned.max_fee_units)]
    return [number(unsigned.chain_id), number(unsigned.nonce), *fees, *call, []]


def _check(unsigned: UnsignedTransaction) -> None:
    """Raises `Bug` for a field out of range: callers validate user input, so it is a defect and must not be signed."""
    amounts = (unsigned.value_units, unsigned.gas_limit, unsigned.max_fee_units, unsigned.tip_units)
    is_sound = (
        all(0 <= amount <= MAX_UINT256 for amount in amounts)
        and 0 <= unsigned.nonce <= _MOST_NONCE
        and unsigned.chain_id >= 1
        and (unsigned.is_legacy or unsigned.tip_units <= unsigned.max_fee_units)
        and (unsigned.to is None or len(unsigned.to) == 42)
    )
    if not is_sound:
        raise Bug("A transaction to be signed has a field out of range.")
