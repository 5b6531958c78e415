"""RLP, the encoding of transactions: byte strings and lists of them, each in one way only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Item = bytes | Sequence[Any]


def encode(item: Item) -> bytes:
    """A byte string, or a list of items."""
    if isinstance(item, bytes):
        if len(item) == 1 and item[0] < 0x80:
            return item
        return _head(len(item), 0x80) + item
    body = b"".join(map(encode, item))
    return _head(len(body), 0xC0) + body


def encode_integer(value: int) -> bytes:
    """An integer as the byte string that stands for it: big-endian without zeros before it."""
    return value.to_bytes((value.bit_length() + 7) // 8, "big")


def decode(data: bytes) -> Any:
    """The one item that `data` is, lists as Python lists; raises `ValueError` for anything but its one encoding."""
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
        raise ValueError("an item is missing, or they nest too deep")
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
    """Where an item begins, and its length."""
    if short < 56:
        return at + 1, short
    start = at + 1 + short - 55
    length = int.from_bytes(data[at + 1 : start], "big")
    if start > end or length < 56 or data[at + 1] == 0:
        raise ValueError("a length is not in its shortest form")
    return start, length
