"""How much one evaluation may do and make; everything that repeats or grows asks the meter first."""

from __future__ import annotations

from dataclasses import dataclass

from dustrun.core.expression.runtime.fault import Fault


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one evaluation.

    `steps`: nodes of the tree evaluated, loops included. `depth`: nesting of the expression. `size`: characters,
    bytes or elements of any value made on the way. `integer_bits`: the largest integer made on the way.
    """

    steps: int = 100_000
    depth: int = 64
    size: int = 1_048_576
    integer_bits: int = 8192


DEFAULT_LIMITS = Limits()


class Meter:
    """Counts the work of one evaluation against its limits."""

    __slots__ = ("integer_bits", "left", "limits", "size")

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.left = limits.steps
        self.size = limits.size
        self.integer_bits = limits.integer_bits

    def charge(self, steps: int) -> None:
        """Takes steps off the budget."""
        self.left -= steps
        if self.left < 0:
            raise Fault("limit", f"the expression does more than {self.limits.steps} steps of work")

    def grow(self, size: int) -> None:
        """Asks, before it is made, whether a string, list or map of this size may be."""
        if size > self.size:
            raise Fault("limit", f"a value of size {size} is too large; the limit is {self.size}")

    def bits(self, bits: int) -> None:
        """Asks, before it is made, whether an integer of this many bits may be."""
        if bits > self.integer_bits:
            raise Fault("limit", f"an integer of {bits} bits is too large; the limit is {self.integer_bits} bits")
