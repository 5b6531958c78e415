"""Resource limits of one evaluation; everything that repeats or grows is metered first."""

from __future__ import annotations

import sys
from decimal import Decimal
from typing import Final

from dustrun.core.expression.runtime.fault import Fault
from dustrun.records import dataclass

_DECIMAL_BYTES: Final = sys.getsizeof(Decimal(1))
_SHORT_DIGITS: Final = 200


@dataclass(frozen=True, slots=True)
class Limits:
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


DEFAULT_LIMITS = Limits()
TRIAL = Limits(steps=2000, is_trial=True)
"""What the event loop may evaluate at once: about a millisecond."""


class OverTrial(Exception):
    """The work is more than the event loop may do at once: it is to be repeated in a thread, with all limits."""


class Meter:
    """Counts the work of one evaluation against its limits."""

    __slots__ = ("integer_bits", "left", "limits", "patterns", "size")

    def __init__(self, limits: Limits) -> None:
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
