"""The values an expression knows, their names, and what a host may put behind a root."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Protocol


class Lazy:
    """A read-only map that the host fills on demand (`$nodes`). The evaluator calls these two methods, no others."""

    def get(self, key: str) -> Any:
        """The value of a key; raises `KeyError` when there is none."""
        raise KeyError(key)

    def keys(self) -> Iterable[str]:
        """Every key, for near matches and loops."""
        return ()


@dataclass(frozen=True, slots=True)
class Function:
    """A host function behind a key of a `Lazy`; only the evaluator calls it, with exactly `arity` arguments."""

    call: Callable[..., Any]
    arity: int
    name: str = "function"


class Roots(Protocol):
    """What an evaluation sees of the world."""

    def root(self, name: str) -> Any:
        """The value of `$nodes`, `root` or a bare node id; raises `KeyError` when unknown."""
        ...


@dataclass(frozen=True, slots=True, order=True)
class Timestamp:
    """A moment in UTC, in nanoseconds since 1970."""

    nanos: int


@dataclass(frozen=True, slots=True, order=True)
class Duration:
    """A span of time in nanoseconds."""

    nanos: int


@dataclass(frozen=True, slots=True)
class TypeName:
    """The type of a value, as `type(x)` answers it."""

    name: str


class BoolKey:
    """A boolean as a map key: Python would take `true` and `1` for the same key."""

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
    """The name of a value's type in messages; `other` for what the host should not have let in."""
    found = _KINDS.get(type(value))
    if found is not None:
        return found
    return next((name for base, name in _KINDS.items() if isinstance(value, base)), "other")


def map_key(value: Any) -> Any:
    """A value as the key of our maps, or None when it cannot be one. Numbers that are equal are one key."""
    if isinstance(value, bool):
        return TRUE_KEY if value else FALSE_KEY
    return value if isinstance(value, str | int | Decimal) else None


def from_key(key: Any) -> Any:
    """A key of our maps as the value it stands for."""
    return key.value if type(key) is BoolKey else key


def key_text(key: Any) -> str:
    """A key as JSON has it: text."""
    if type(key) is BoolKey:
        return "true" if key.value else "false"
    return str(key)


def read_all(lazy: Lazy) -> dict[str, Any]:
    """The map behind a `Lazy`, one level deep, without what can only be called."""
    found: dict[str, Any] = {}
    for key in list(lazy.keys()):
        try:
            value = lazy.get(key)
        except KeyError:
            continue
        if type(value) is not Function:
            found[key] = value
    return found
