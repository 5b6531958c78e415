"""The value types of expressions, and the interfaces of what a host provides under a root."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any, Final, Protocol

from dustrun.core.expression.fault import Fault, suggest
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


# Resource limits of one evaluation; everything that repeats or grows is metered first.


_DECIMAL_BYTES: Final = sys.getsizeof(Decimal(1))
_SHORT_DIGITS: Final = 200


@dataclass(frozen=True, slots=True)
class EvaluationLimits:
    """Limits of one evaluation, which all templates of a payload share.

    `steps`: tree nodes evaluated, loops included. `depth`: nesting of the expression. `size`: characters, bytes or
    elements of any intermediate value. `integer_bits`: bits of any intermediate integer. `is_trial`: `OverTrial` is
    raised when the steps are used up.
    """

    steps: int = 100_000
    depth: int = 64
    size: int = 1_048_576
    integer_bits: int = 8192
    is_trial: bool = False


DEFAULT_LIMITS = EvaluationLimits()
TRIAL = EvaluationLimits(steps=2000, is_trial=True)
"""The work that the event loop may evaluate at once: about a millisecond."""


class OverTrial(Exception):
    """The work is more than the event loop may do at once: it is to be repeated in a thread, with all limits."""


class Meter:
    """Counts the work of one evaluation against its limits."""

    __slots__ = ("integer_bits", "left", "limits", "patterns", "size")

    def __init__(self, limits: EvaluationLimits) -> None:
        self.limits = limits
        self.left = limits.steps
        self.size = limits.size
        self.integer_bits = limits.integer_bits
        self.patterns: set[str] = set()
        """The regular expressions that were charged already."""

    def charge(self, steps: int) -> None:
        """Consumes steps of the budget; a fault when it is used up."""
        self.left -= steps
        if self.left < 0:
            if self.limits.is_trial:
                raise OverTrial
            raise Fault("limit", f"the expression takes more than {self.limits.steps} evaluation steps")

    def number(self, value: int | Decimal) -> None:
        """Consumes steps for a long number: conversions take time in proportion to the square of its digits."""
        if isinstance(value, Decimal):
            digits = max(abs(value.adjusted()), sys.getsizeof(value) - _DECIMAL_BYTES)
        else:
            digits = value.bit_length() // 3
        if digits > _SHORT_DIGITS:
            self.charge(digits * digits >> 15)

    def grow(self, size: int) -> None:
        """Checks the size of a string, list or map before it is created."""
        if size > self.size:
            raise Fault("limit", f"a value of size {size} is too large; the limit is {self.size}")

    def bits(self, bits: int) -> None:
        """Checks the size of an integer before it is computed."""
        if bits > self.integer_bits:
            raise Fault("limit", f"an integer of {bits} bits is too large; the limit is {self.integer_bits} bits")


# What a compiled expression is, and what it is given when it runs.


class Frame:
    """One evaluation: the roots, the meter, the loop variables by slot."""

    __slots__ = ("meter", "roots", "variables")

    def __init__(self, roots: Roots, meter: Meter, slots: int) -> None:
        self.roots = roots
        self.meter = meter
        self.variables: list[Any] = [None] * slots


Run = Callable[[Frame], Any]
# A step of a path: takes the value before it.
Take = Callable[[Frame, Any], Any]


# Member, index and root access; the only place that reports "missing".


Text = Callable[[], str]


def take_root(frame: Frame, name: str, at: int) -> Any:
    """The value of a root."""
    try:
        return frame.roots.root(name)
    except KeyError:
        what = "root" if name.startswith("$") else "node, root or loop variable"
        raise Fault("missing", f'"{name}" is missing: there is no such {what} here', path=name, offset=at) from None


def take(value: Any, key: Any, whole: Text, before: Text, at: int) -> Any:
    """`value[key]`; `whole` and `before` return the path's text with and without this step."""
    if isinstance(value, Lazy):
        return _take_lazy(value, key, whole, before, at)
    if isinstance(value, dict):
        mapped = map_key(key)
        if mapped is not None and mapped in value:
            return value[mapped]
        keys = [key_text(known) for known in value]
        raise missing(whole, before, key, keys, at)
    if isinstance(value, list):
        return _take_item(value, key, whole, before, at)
    if value is None:
        raise Fault("missing", f"{whole()} is missing: {before()} is null", path=whole(), offset=at)
    raise Fault("missing", f"{whole()} is missing: {before()} is a {kind(value)}", path=whole(), offset=at)


def _take_lazy(value: Lazy, key: Any, whole: Text, before: Text, at: int) -> Any:
    if isinstance(key, str):
        try:
            return value.get(key)
        except KeyError:
            pass
    raise missing(whole, before, key, value.keys(), at)


def _take_item(value: list[Any], key: Any, whole: Text, before: Text, at: int) -> Any:
    if isinstance(key, str):
        message = f"{whole()} is missing: {before()} is a list; use an index, or map()"
        raise Fault("missing", message, path=whole(), offset=at)
    if isinstance(key, bool) or not isinstance(key, int | Decimal) or key != int(key):
        raise Fault("type", f"an index of {before()} must be a whole number, not a {kind(key)}", offset=at)
    if not 0 <= key < len(value):
        message = f"{whole()} is missing: {before()} has {len(value)} items, counted from 0"
        raise Fault("missing", message, path=whole(), offset=at)
    return value[int(key)]


def missing(whole: Text, before: Text, key: Any, keys: Iterable[str], at: int) -> Fault:
    """The fault of a missing map key; similar names are computed only if the message is read."""
    path = whole()
    hint = (lambda: suggest(key, keys)) if isinstance(key, str) else None
    return Fault("missing", f"{path} is missing: {before()} has no such key", path=path, offset=at, hint=hint)
