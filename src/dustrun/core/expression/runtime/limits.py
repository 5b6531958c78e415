"""Resource limits of one evaluation; everything that repeats or grows is metered first."""

from __future__ import annotations

from dataclasses import dataclass

from dustrun.core.expression.runtime.fault import Fault


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one evaluation.

    `steps`: tree nodes evaluated, loops included. `depth`: nesting of the expression. `size`: characters, bytes or
    elements of any intermediate value. `integer_bits`: bits of any intermediate integer.
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
        """Consumes steps of the budget; a fault when it is used up."""
        self.left -= steps
        if self.left < 0:
            raise Fault("limit", f"the expression takes more than {self.limits.steps} evaluation steps")

    def grow(self, size: int) -> None:
        """Checks the size of a string, list or map before it is created."""
        if size > self.size:
            raise Fault("limit", f"a value of size {size} is too large; the limit is {self.size}")

    def bits(self, bits: int) -> None:
        """Checks the size of an integer before it is computed."""
        if bits > self.integer_bits:
            raise Fault("limit", f"an integer of {bits} bits is too large; the limit is {self.integer_bits} bits")
