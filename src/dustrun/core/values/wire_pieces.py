"""Large values as JSON in pieces: one call into C that encodes megabytes keeps the interpreter from other threads."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from dustrun.core.values.exact_json import dumps_wire
from dustrun.core.values.weight import is_large

_PIECE: Final = 20_000
"""Units of a value (`weight.is_large`) that are encoded at once, in about a millisecond."""
_SLICE: Final = 1_000


Encode = Callable[[Any], bytes]


def wire_pieces(value: Any, encode: Encode = dumps_wire) -> Iterator[bytes]:
    """What `encode` returns, in pieces; no string is cut."""
    if not isinstance(value, dict | list | tuple) or not is_large(value, _PIECE):
        yield encode(value)
    elif isinstance(value, dict):
        yield from _joined(b"{", b"}", (_members(part, encode) for part in _slices(value)))
    else:
        slices = (value[first : first + _SLICE] for first in range(0, len(value), _SLICE))
        yield from _joined(b"[", b"]", (_items(part, encode) for part in slices))


def _slices(value: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    rest = iter(value.items())
    while part := dict(itertools.islice(rest, _SLICE)):
        yield part


def _members(part: dict[str, Any], encode: Encode) -> Iterator[bytes]:
    if not is_large(part, _PIECE):
        yield encode(part)[1:-1]
        return
    for number, (name, item) in enumerate(part.items()):
        yield (b"," if number else b"") + encode({name: 0})[1:-2]  # the name as it is encoded, and the colon
        yield from wire_pieces(item, encode)


def _items(part: Sequence[Any], encode: Encode) -> Iterator[bytes]:
    if not is_large(part, _PIECE):
        yield encode(part)[1:-1]
        return
    for number, item in enumerate(part):
        yield from (b",",) if number else ()
        yield from wire_pieces(item, encode)


def _joined(first: bytes, last: bytes, parts: Iterator[Iterator[bytes]]) -> Iterator[bytes]:
    yield first
    for number, part in enumerate(parts):
        yield from (b",",) if number else ()
        yield from part
    yield last
