"""Every function of the language, by name; each module of this package is one group."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dustrun.core.expression import times
from dustrun.core.expression.fault import Fault
from dustrun.core.expression.functions.chain import chain, hashes
from dustrun.core.expression.functions.data import data
from dustrun.core.expression.functions.money import money
from dustrun.core.expression.functions.numbers import numbers
from dustrun.core.expression.functions.standard import standard
from dustrun.core.expression.functions.table import FunctionGroup, FunctionSpec
from dustrun.core.expression.functions.text import text
from dustrun.core.expression.functions.time import time
from dustrun.core.expression.values import Timestamp, kind

GROUPS: tuple[FunctionGroup, ...] = (standard, numbers, money, text, data, time, chain, hashes)

FUNCTIONS: dict[str, FunctionSpec] = {name: spec for group in GROUPS for name, spec in group.functions.items()}


def _moment_of_now(value: Any) -> Timestamp:
    """`$now` as the host supplies it: a timestamp, RFC 3339 text, or milliseconds since 1970."""
    if isinstance(value, Timestamp):
        return value
    if isinstance(value, str):
        return times.read_moment(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return times.in_range(Timestamp(value * 1_000_000))
    raise Fault("type", f"$now is not a timestamp but a {kind(value)}")


# Functions without arguments that read a root: `now()` is `$now`; nothing reads a clock.
HOST_VALUES: dict[str, tuple[str, Callable[[Any], Any]]] = {"now": ("$now", _moment_of_now)}
