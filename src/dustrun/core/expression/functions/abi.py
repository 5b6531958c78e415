"""The EVM contract ABI codec: types, encoding, decoding. Every word read or written is metered."""

from __future__ import annotations

import re
from typing import Any

from dustrun.core.expression.fault import Fault
from dustrun.core.expression.functions.text import hex_bytes
from dustrun.core.expression.values import Meter
from dustrun.records import dataclass

MAX_TYPE_TEXT = 500
MAX_NESTING = 8
_BASE = re.compile(r"(u?int)([0-9]{1,3})?|bytes([0-9]{1,2})|bytes|string|bool|address|function")
_SUFFIX = re.compile(r"(.*)\[([0-9]{0,6})\]", re.DOTALL)


@dataclass(frozen=True, slots=True)
class AbiType:
    """One ABI type: elementary (`name`), `array` (fixed or dynamic length) or `tuple`.

    `words` is the head size in 32-byte words; the head of a dynamic type is an offset.
    """

    name: str
    dynamic: bool
    words: int
    parts: tuple[AbiType, ...] = ()
    length: int | None = None


def read_type(text: str, depth: int = 0) -> AbiType:
    """Parses `uint256`, `address[]`, `(bytes32,uint8[3])[2]`."""
    if depth > MAX_NESTING or len(text) > MAX_TYPE_TEXT:
        raise Fault("limit", "an ABI type is nested too deeply or is too long")
    text = text.strip()
    if suffix := _SUFFIX.fullmatch(text):
        return _array(read_type(suffix.group(1), depth + 1), suffix.group(2))
    if text.startswith("(") and text.endswith(")"):
        parts = tuple(read_type(part, depth + 1) for part in split_types(text[1:-1]))
        dynamic = any(part.dynamic for part in parts)
        return AbiType("tuple", dynamic, 1 if dynamic else sum(part.words for part in parts), parts)
    return _elementary(text)


def _array(inner: AbiType, length_text: str) -> AbiType:
    if not length_text:
        return AbiType("array", True, 1, (inner,))
    length = int(length_text)
    words = inner.words * length
    if not length or words > 10_000:
        raise Fault("value", "an ABI array must have from 1 to 10,000 words")
    return AbiType("array", inner.dynamic, 1 if inner.dynamic else words, (inner,), length)


def _elementary(text: str) -> AbiType:
    match = _BASE.fullmatch(text)
    if match is None:
        raise Fault("value", f'"{text[:40]}" is not an ABI type')
    integer, bits, size = match.groups()
    if integer:
        number = int(bits or 256)
        if number % 8 or not 8 <= number <= 256:
            raise Fault("value", f'"{text}" is not an ABI type')
        return AbiType(f"{integer}{number}", False, 1)
    if size and not 1 <= int(size) <= 32:
        raise Fault("value", f'"{text}" is not an ABI type')
    return AbiType("bytes24" if text == "function" else text, text in ("bytes", "string"), 1)


def split_types(text: str) -> list[str]:
    """Splits a type list at its top-level commas."""
    if not text.strip():
        return []
    parts, level, start = [], 0, 0
    for place, character in enumerate(text):
        level += {"(": 1, ")": -1}.get(character, 0)
        if character == "," and level == 0:
            parts.append(text[start:place])
            start = place + 1
    return [*parts, text[start:]]


def canonical(kind: AbiType) -> str:
    """The canonical type, as hashed in signatures: `uint` is `uint256`."""
    if kind.name == "tuple":
        return "(" + ",".join(map(canonical, kind.parts)) + ")"
    if kind.name == "array":
        return f"{canonical(kind.parts[0])}[{'' if kind.length is None else kind.length}]"
    return kind.name


def encode(meter: Meter, kinds: tuple[AbiType, ...], values: list[Any]) -> bytes:
    """Encodes heads, then the tails of dynamic values."""
    if len(kinds) != len(values):
        raise Fault("value", f"abiEncode(): {len(values)} values for {len(kinds)} types")
    heads: list[bytes] = []
    tails: list[bytes] = []
    offset = 32 * sum(kind.words for kind in kinds)
    for kind, value in zip(kinds, values, strict=True):
        meter.charge(1)
        encoded = _encode_one(meter, kind, value)
        if kind.dynamic:
            heads.append(offset.to_bytes(32, "big"))
            tails.append(encoded)
            offset += len(encoded)
            meter.grow(offset)
        else:
            heads.append(encoded)
    return b"".join(heads + tails)


def _encode_one(meter: Meter, kind: AbiType, value: Any) -> bytes:
    if kind.name in ("array", "tuple"):
        if not isinstance(value, list):
            raise Fault("type", f"abiEncode(): {canonical(kind)} takes a list")
        if kind.name == "tuple":
            return encode(meter, kind.parts, value)
        if kind.length not in (None, len(value)):
            raise Fault("value", f"abiEncode(): {canonical(kind)} takes {kind.length} items, not {len(value)}")
        body = encode(meter, kind.parts * len(value), value)
        return body if kind.length is not None else len(value).to_bytes(32, "big") + body
    if kind.name in ("bytes", "string"):
        data = (
            value.encode("utf-8", "replace")
            if kind.name == "string" and isinstance(value, str)
            else _bytes(kind, value)
        )
        return len(data).to_bytes(32, "big") + data + bytes(-len(data) % 32)
    return _word(kind, value)


def _word(kind: AbiType, value: Any) -> bytes:
    if kind.name == "bool" and isinstance(value, bool):
        return int(value).to_bytes(32, "big")
    if kind.name == "address" or kind.name.startswith("bytes"):
        data, size = _bytes(kind, value), 20 if kind.name == "address" else int(kind.name[5:])
        if len(data) > size or (kind.name == "address" and len(data) != size):
            raise Fault("value", f"abiEncode(): {kind.name} does not take {len(data)} bytes")
        return data.rjust(32, b"\0") if kind.name == "address" else data.ljust(32, b"\0")
    if "int" in kind.name and isinstance(value, int) and not isinstance(value, bool):
        low, high = _range(kind)
        if not low <= value <= high:
            raise Fault("value", f"abiEncode(): the number is out of range for {kind.name}")
        return value.to_bytes(32, "big", signed=True) if low else value.to_bytes(32, "big")
    raise Fault("type", f"abiEncode(): a value is not {kind.name}; integers must be numbers, not text")


def _range(kind: AbiType) -> tuple[int, int]:
    if kind.name.startswith("u"):
        return 0, 2 ** int(kind.name[4:]) - 1
    half = 2 ** (int(kind.name[3:]) - 1)
    return -half, half - 1


def _bytes(kind: AbiType, value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, str) and value.startswith("0x"):
        return hex_bytes("abiEncode", value)
    raise Fault("type", f"abiEncode(): {kind.name} takes bytes or text that begins with 0x")


class AbiReader:
    """Decodes one blob. The meter bounds data whose offsets overlap or repeat."""

    def __init__(self, meter: Meter, data: bytes) -> None:
        self.meter = meter
        self.data = data

    def sequence(self, kinds: tuple[AbiType, ...], start: int) -> list[Any]:
        """Decodes consecutive values; offsets are relative to `start`."""
        found, place = [], start
        for kind in kinds:
            self.meter.charge(2)
            target = start + self._number(place) if kind.dynamic else place
            found.append(self._one(kind, target))
            place += 32 * kind.words
        return found

    def _chunk(self, place: int, size: int) -> bytes:
        if place + size > len(self.data):
            raise Fault("value", "abiDecode(): the data ends too early")
        return self.data[place : place + size]

    def _number(self, place: int) -> int:
        return int.from_bytes(self._chunk(place, 32), "big")

    def _one(self, kind: AbiType, place: int) -> Any:
        if kind.name == "tuple":
            return self.sequence(kind.parts, place)
        if kind.name == "array":
            return self._array(kind, place)
        if kind.name in ("bytes", "string"):
            return self._text(kind, place)
        return self._word(kind, self._chunk(place, 32))

    def _array(self, kind: AbiType, place: int) -> list[Any]:
        count = self._number(place) if kind.length is None else kind.length
        start = place + 32 if kind.length is None else place
        if kind.parts[0].words * 32 * count > len(self.data) - start:
            raise Fault("value", "abiDecode(): the data ends too early")
        self.meter.charge(count)
        return self.sequence(kind.parts * count, start)

    def _text(self, kind: AbiType, place: int) -> str:
        data = self._chunk(place + 32, self._number(place))
        self.meter.charge(len(data) >> 5)
        if kind.name == "bytes":
            return "0x" + data.hex()
        try:
            return data.decode()
        except UnicodeDecodeError:
            raise Fault("value", "abiDecode(): a string is not UTF-8") from None

    def _word(self, kind: AbiType, word: bytes) -> Any:
        if kind.name == "address" and not any(word[:12]):
            return "0x" + word[12:].hex()
        if kind.name.startswith("bytes"):
            size = int(kind.name[5:])
            if not any(word[size:]):
                return "0x" + word[:size].hex()
        number = int.from_bytes(word, "big", signed=kind.name.startswith("int"))
        if kind.name == "bool" and number in (0, 1):
            return number == 1
        if "int" in kind.name and _range(kind)[0] <= number <= _range(kind)[1]:
            return number
        raise Fault("value", f"abiDecode(): a word is not {kind.name}")
