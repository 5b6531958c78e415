"""RLP, the encoding of transactions: byte strings and nested lists, with exactly one encoding each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

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
