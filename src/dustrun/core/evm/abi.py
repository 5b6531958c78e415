"""Contract ABIs as users write them: functions and events from a signature or JSON, values by name, errors by field.

The byte codec is `expression/functions/abi.py`; this module converts between JSON values and what that codec takes and
returns. Integer types of at most 48 bits become JSON numbers, wider ones decimal strings: the type decides, not the
value, so a consumer never has to handle both.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from functools import cached_property
from typing import Any, Final

from dustrun.core.expression.fault import Fault
from dustrun.core.expression.functions import abi as codec
from dustrun.core.expression.functions.abi import AbiType
from dustrun.core.expression.values import EvaluationLimits, Meter
from dustrun.core.values.addresses import checksum, keccak256, read_address
from dustrun.records import dataclass

MAX_NUMBER_BITS: Final = 48
_LIMITS: Final = EvaluationLimits(steps=2_000_000, size=16 * 1024 * 1024)
_DIGITS: Final = re.compile(r"-?[0-9]{1,78}")
_HEX: Final = re.compile(r"0x(?:[0-9a-fA-F]{2})*")


class AbiFault(ValueError):
    """An invalid value, type or signature; `field` is its path, like `args[0].amount`."""

    def __init__(self, message: str, field: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.field = field


@dataclass(frozen=True, slots=True)
class Param:
    """One argument, return value or struct field: `type` is canonical; `parts` are the members of a tuple or tuple
    array.
    """

    name: str
    kind: AbiType
    parts: tuple[Param, ...] = ()
    indexed: bool = False

    @property
    def type(self) -> str:
        """The canonical type, as hashed in signatures."""
        return codec.canonical(self.kind)

    def public(self) -> dict[str, Any]:
        """The JSON ABI entry."""
        if not self.parts:
            return {"name": self.name, "type": self.type}
        array = self.type.rpartition(")")[2]
        return {"name": self.name, "type": f"tuple{array}", "components": [part.public() for part in self.parts]}


@dataclass(frozen=True)
class Function:
    """A contract function; `outputs` is None when the signature declares no return values."""

    name: str
    inputs: tuple[Param, ...]
    outputs: tuple[Param, ...] | None = None
    mutability: str | None = None

    @cached_property
    def signature(self) -> str:
        """The canonical signature, like `transfer(address,uint256)`."""
        return f"{self.name}({','.join(param.type for param in self.inputs)})"

    @cached_property
    def selector(self) -> bytes:
        """The 4-byte selector."""
        return keccak256(self.signature.encode())[:4]

    def encode(self, *args: Any) -> bytes:
        """Calldata for values that are already in codec form (integers, strings, lists). `read_args` converts user
        input.
        """
        return self.selector + encode(self.inputs, args)

    def decode_args(self, data: bytes) -> list[Any]:
        """Decodes the arguments of calldata; raises `AbiFault` when the data is not a call of this function."""
        if data[:4] != self.selector:
            raise AbiFault(f"the calldata does not call {self.signature}")
        return decode(self.inputs, data[4:])

    def decode_result(self, data: bytes) -> list[Any]:
        """Decodes return data; raises `AbiFault` when it does not match the declared outputs."""
        return decode(self.outputs or (), data)


@dataclass(frozen=True)
class Event:
    """A contract event."""

    name: str
    inputs: tuple[Param, ...]

    @cached_property
    def topic(self) -> bytes:
        """topic0: the hash of the signature."""
        return keccak256(f"{self.name}({','.join(param.type for param in self.inputs)})".encode())

    def decode(self, topics: Sequence[bytes], data: bytes) -> list[Any] | None:
        """The log's values in declaration order; None when the log is of another event (ERC-20 and ERC-721 `Transfer`
        share topic0). Of indexed dynamic values the log holds only the hash.
        """
        indexed = [param for param in self.inputs if param.indexed]
        if len(topics) != len(indexed) + 1 or topics[0] != self.topic:
            return None
        try:
            plain = iter(decode([param for param in self.inputs if not param.indexed], data))
            words = iter([_topic_value(param, word) for param, word in zip(indexed, topics[1:], strict=True)])
        except AbiFault:
            return None
        return [next(words if param.indexed else plain) for param in self.inputs]

    def find(self, topics: Sequence[bytes], data: bytes) -> dict[str, Any] | None:
        """The log's values by name; None when the log is of another event."""
        values = self.decode(topics, data)
        return None if values is None else {p.name: value for p, value in zip(self.inputs, values, strict=True)}

    def show(self, topics: Sequence[bytes], data: bytes) -> dict[str, Any] | None:
        """The log's values by name, as JSON; None when the log is of another event."""
        values = self.decode(topics, data)
        return None if values is None else show_all(self.inputs, values)


def _is_hashed(param: Param) -> bool:
    return param.kind.dynamic or param.kind.name in ("array", "tuple")


def _topic_value(param: Param, word: bytes) -> Any:
    return f"0x{word.hex()}" if _is_hashed(param) else decode((param,), word)[0]


def encode(params: Sequence[Param], values: Sequence[Any]) -> bytes:
    """ABI-encodes values that are already in codec form."""
    try:
        return codec.encode(Meter(_LIMITS), tuple(param.kind for param in params), list(values))
    except Fault as fault:
        raise AbiFault(_plain(fault)) from None


def decode(params: Sequence[Param], data: bytes) -> list[Any]:
    """Decodes ABI bytes to integers, strings (EIP-55 addresses, 0x-prefixed bytes) and lists."""
    try:
        found = codec.AbiReader(Meter(_LIMITS), data).sequence(tuple(param.kind for param in params), 0)
    except Fault as fault:
        raise AbiFault(_plain(fault)) from None
    return [_checksummed(param.kind, value) for param, value in zip(params, found, strict=True)]


def _plain(fault: Fault) -> str:
    return re.sub(r"^abi(En|De)code\(\): ", "", fault.message)


def _checksummed(kind: AbiType, value: Any) -> Any:
    if kind.name == "address":
        return checksum(value)
    if kind.name == "tuple":
        return [_checksummed(part, item) for part, item in zip(kind.parts, value, strict=True)]
    return [_checksummed(kind.parts[0], item) for item in value] if kind.name == "array" else value


def read_args(params: Sequence[Param], values: Any, field: str = "args") -> list[Any]:
    """Converts user-supplied arguments (a list, or an object by name) to codec form."""
    places = [f"{field}[{place}]" for place in range(len(params))]
    if isinstance(values, Mapping):
        places = [f"{field}.{param.name}" for param in params]
        values = _by_name(params, values, field)
    if not isinstance(values, list | tuple):
        raise AbiFault("must be a list, or an object keyed by argument name", field)
    if len(values) != len(params):
        wanted = ", ".join(f"{param.type} {param.name}".strip() for param in params) or "none"
        raise AbiFault(f"has {len(values)} values, expected {len(params)}: {wanted}", field)
    return [
        read_value(param.kind, param.parts, value, place)
        for param, value, place in zip(params, values, places, strict=True)
    ]


def _by_name(params: Sequence[Param], values: Mapping[str, Any], field: str) -> list[Any]:
    names = [param.name for param in params]
    if "" in names or len({*names}) != len(names):
        raise AbiFault("must be a list, because the ABI leaves some arguments unnamed", field)
    if unknown := [name for name in values if name not in names]:
        raise AbiFault(f'has no "{unknown[0]}"; the names are {", ".join(names)}', f"{field}.{unknown[0]}")
    if missing := [name for name in names if name not in values]:
        raise AbiFault("is missing", f"{field}.{missing[0]}")
    return [values[name] for name in names]


def read_value(kind: AbiType, parts: tuple[Param, ...], value: Any, field: str) -> Any:
    """Converts one user-supplied value to codec form; raises `AbiFault` with its field."""
    if kind.name == "tuple":
        fields = parts or tuple(Param("", part) for part in kind.parts)
        return read_args(fields, value, field)
    if kind.name == "array":
        if not isinstance(value, list | tuple):
            raise AbiFault(f"must be a list, for {codec.canonical(kind)}", field)
        if kind.length not in (None, len(value)):
            raise AbiFault(f"has {len(value)} items, expected {kind.length}", field)
        return [read_value(kind.parts[0], parts, item, f"{field}[{place}]") for place, item in enumerate(value)]
    try:
        return _read_word(kind, value)
    except ValueError as error:
        raise AbiFault(str(error), field) from None


def _read_word(kind: AbiType, value: Any) -> Any:
    if kind.name == "address":
        return read_address(value)
    if kind.name == "bool":
        if not isinstance(value, bool):
            raise ValueError("must be true or false")
        return value
    if kind.name == "string":
        if not isinstance(value, str):
            raise ValueError("must be a string")
        return value
    return _read_bytes(kind, value) if kind.name.startswith("bytes") else _read_integer(kind, value)


def _read_bytes(kind: AbiType, value: Any) -> str:
    if not isinstance(value, str) or _HEX.fullmatch(value) is None:
        raise ValueError(f"must be 0x followed by an even number of hexadecimal digits, for {kind.name}")
    size = kind.name[5:]
    if size and len(value) != 2 + 2 * int(size):
        raise ValueError(f"has {len(value) // 2 - 1} bytes, {kind.name} takes {size}")
    return value


def _read_integer(kind: AbiType, value: Any) -> int:
    if isinstance(value, str) and _DIGITS.fullmatch(value):
        value = int(value)
    elif isinstance(value, str) and re.fullmatch(r"0x[0-9a-fA-F]{1,64}", value):
        value = int(value, 16)
    elif isinstance(value, Decimal) and value == value.to_integral_value():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"must be an integer or a string of digits, for {kind.name}")
    bits, is_signed = int(kind.name.removeprefix("u")[3:]), kind.name.startswith("i")
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if is_signed else (0, (1 << bits) - 1)
    if not low <= value <= high:
        raise ValueError(f"is out of range for {kind.name}: {low} to {high}")
    return value


def show(param: Param, value: Any) -> Any:
    """A decoded value as JSON: wide integers as decimal strings, named tuples as objects."""
    return _show(param.kind, param.parts, value)


def _show(kind: AbiType, parts: tuple[Param, ...], value: Any) -> Any:
    if kind.name == "array":
        return [_show(kind.parts[0], parts, item) for item in value]
    if kind.name == "tuple":
        fields = parts or tuple(Param("", part) for part in kind.parts)
        shown = [show(field, item) for field, item in zip(fields, value, strict=True)]
        return dict(zip((field.name for field in fields), shown, strict=True)) if _are_named(fields) else shown
    if "int" in kind.name and int(kind.name.removeprefix("u")[3:]) > MAX_NUMBER_BITS:
        return str(value)
    return value


def show_all(params: Sequence[Param], values: Sequence[Any]) -> dict[str, Any]:
    """Decoded values by name; unnamed ones by index, as `0`, `1`."""
    return {
        param.name or str(place): value if param.indexed and _is_hashed(param) else show(param, value)
        for place, (param, value) in enumerate(zip(params, values, strict=True))
    }


def _are_named(params: Sequence[Param]) -> bool:
    names = [param.name for param in params]
    return "" not in names and len({*names}) == len(names)
