"""Expressions of polled triggers: over an answer, one of its items, or an old and a new value."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from dustrun.core.expression import DEFAULT_LIMITS, ExpressionError, Template, parse_expression
from dustrun.records import dataclass


@dataclass(frozen=True, slots=True)
class _Roots:
    values: Mapping[str, Any]

    def root(self, name: str) -> Any:
        return self.values[name]


@dataclass(frozen=True, slots=True)
class Condition:
    """A compiled expression over named values."""

    template: Template

    def value(self, **named: Any) -> Any:
        """Its value; raises `ExpressionError`."""
        return self.template.evaluate(_Roots(named), DEFAULT_LIMITS)


@lru_cache(maxsize=1000)
def compile_over(text: str, names: Sequence[str]) -> Condition:
    """Compiles an expression over values of these names; raises `ValueError` if it uses others."""
    try:
        template = parse_expression(text)
    except ExpressionError as error:
        raise ValueError(f"does not parse: {error}") from None
    for found in template.references:
        if found.root not in names:
            close = difflib.get_close_matches(found.root, names, n=1)
            hint = f'did you mean "{close[0]}"?' if close else f"It can use {', '.join(names)}."
            raise ValueError(f'there is no "{found.root}" here. {hint[:1].upper()}{hint[1:]}')
    return Condition(template)
