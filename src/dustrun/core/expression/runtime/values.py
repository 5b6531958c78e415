"""The value types of expressions, and the interfaces of what a host provides under a root."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any, Protocol

from dustrun.records import dataclass


class Lazy:
    """A read-only map that the host fills on demand (`$nodes`). The evaluator calls only these two methods."""

    def get(self, key: str) -> Any:
        """The value of a key; raises `KeyError` when there is none."""
        raise KeyError(key)

    def keys(self) -> Iterable[str]:
        """Every key, for error hints and loops."""
        return ()


@dataclass(frozen=True, slots=True)
class Function:
    """A host function under a key of a `Lazy`; only the evaluator calls it, with exactly `arity` arguments."""

    call: Callable[..., Any]
    arity: int
    name: str = "function"


class Roots(Protocol):
    """The data that an evaluation can read."""

    def root(self, name: str) -> Any:
        """The value of `$nodes`, `root` or a bare node id; raises `KeyError` when unknown."""
        ...


@dataclass(frozen=True, slots=True, order=True)
class Timestamp:
    """An instant: nanoseconds since 1970-01-01T00:00:00Z."""

    nanos: int


@dataclass(frozen=True, slots=True, order=True)
class Duration:
    """A duration in nanoseconds."""

    nanos: int


@dataclass(frozen=True, slots=True)
class TypeName:
    """The type of a value, as `type(x)` returns it."""

    name: str


class BoolKey:
    """A boolean map key: Python would treat `true` and `1` as the same key."""

    __slots__ = ("value",)

    def __init__(self, value: bool) -> None:
        self.value = value


TRUE_KEY = BoolKey(True)
FALSE_KEY = BoolKey(False)

_KINDS: dict[type, str] = {
    type(None): "null",
    bool: "bool",
    int: "int",
    Decimal: "decimal",
    str: "string",
    bytes: "bytes",
    list: "list",
    dict: "map",
    Timestamp: "timestamp",
    Duration: "duration",
    TypeName: "type",
    Lazy: "map",
    Function: "function",
}


def kind(value: Any) -> str:
    """The name of a value's type in messages; `other` for types that a host must not supply."""
    found = _KINDS.get(type(value))
    if found is not None:
        return found
    return next((name for base, name in _KINDS.items() if isinstance(value, base)), "other")


def map_key(value: Any) -> Any:
    """The normalised map key of a value, or None when it cannot be a key. Equal numbers are one key."""
    if isinstance(value, bool):
        return TRUE_KEY if value else FALSE_KEY
    return value if isinstance(value, str | int | Decimal) else None


def from_key(key: Any) -> Any:
    """The value of a normalised map key."""
    return key.value if type(key) is BoolKey else key


def key_text(key: Any) -> str:
    """The JSON form of a map key: a string."""
    if type(key) is BoolKey:
        return "true" if key.value else "false"
    return str(key)


def read_all(lazy: Lazy) -> dict[str, Any]:
    """Reads a `Lazy` into a dict, one level deep, without its functions."""
    found: dict[str, Any] = {}
    for key in list(lazy.keys()):
        try:
            value = lazy.get(key)
        except KeyError:
            continue
        if type(value) is not Function:
            found[key] = value
    return found
