"""What a compiled expression is, and what it is given when it runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dustrun.core.expression.runtime.limits import Meter
from dustrun.core.expression.runtime.values import Roots


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
