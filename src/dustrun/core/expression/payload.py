"""Templates in a whole payload: any string may be a template; parts without templates are shared, not copied."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from dustrun.core.expression.quick_path import quick_path
from dustrun.core.expression.references import Reference
from dustrun.core.expression.runtime.fault import ExpressionError, ExpressionErrors
from dustrun.core.expression.runtime.limits import DEFAULT_LIMITS, Limits, Meter
from dustrun.core.expression.runtime.operators import MAX_VALUE_DEPTH
from dustrun.core.expression.runtime.values import Roots
from dustrun.core.expression.template import Template, parse_template
from dustrun.core.values.weight import weigh

_TEMPLATE = re.compile(r"\{\{(.*?)(?:\}\}|\Z)", re.DOTALL)
Make = Callable[[Roots, Meter], Any]


class CompiledValue:
    """A compiled payload. `references` pairs a field path (`rows[0].amount`) with each reference in that field's
    template. `weight`: the units of its value if that is constant; it may be evaluated a thousand times.
    """

    __slots__ = ("_make", "_value", "is_static", "references", "weight")

    def __init__(self, value: Any, make: Make | None, references: tuple[tuple[str, Reference], ...]) -> None:
        self._value = value
        self._make = make
        self.is_static = make is None
        self.weight = weigh(value) if self.is_static else None
        self.references = references

    def evaluate(self, roots: Roots, limits: Limits = DEFAULT_LIMITS) -> Any:
        """Evaluates the payload for these roots; an `ExpressionError` carries the field. Do not mutate the result."""
        return self._value if self._make is None else self._make(roots, Meter(limits))


class _Compiler:
    def __init__(self) -> None:
        self.references: list[tuple[str, Reference]] = []
        self.errors: list[ExpressionError] = []

    def compile(self, value: Any, field: str, depth: int) -> Make | None:
        """The evaluator of a value, or None when it is constant."""
        if isinstance(value, str):
            return self._text(value, field)
        if depth > MAX_VALUE_DEPTH:
            self.errors.append(ExpressionError("the payload is nested too deeply", kind="limit", field=field))
            return None
        if isinstance(value, dict):
            parts = ((key, self.compile(item, _joined(field, key), depth + 1)) for key, item in value.items())
            return _map_maker(value, {key: make for key, make in parts if make})
        if isinstance(value, list):
            items = [self.compile(item, f"{field}[{i}]", depth + 1) for i, item in enumerate(value)]
            return _list_maker(value, {i: make for i, make in enumerate(items) if make})
        return None

    def _text(self, text: str, field: str) -> Make | None:
        if "{{" not in text:
            return None
        try:
            template = parse_template(text)
        except ExpressionError as error:
            error.field = field
            self.errors.append(error)
            return None
        self.references.extend((field, reference) for reference in template.references)
        return _template_maker(template, field)


def _joined(field: str, key: str) -> str:
    return f"{field}.{key}" if field else str(key)


def _template_maker(template: Template, field: str) -> Make:
    evaluate = template.evaluate_within

    def make(roots: Roots, meter: Meter) -> Any:
        try:
            return evaluate(roots, meter)
        except ExpressionError as error:
            error.field = field
            raise

    return make


def _map_maker(value: dict[str, Any], makers: dict[str, Make]) -> Make | None:
    if not makers:
        return None
    pairs = tuple(makers.items())

    def make(roots: Roots, meter: Meter) -> dict[str, Any]:
        filled = dict(value)
        for key, maker in pairs:
            filled[key] = maker(roots, meter)
        return filled

    return make


def _list_maker(value: list[Any], makers: dict[int, Make]) -> Make | None:
    if not makers:
        return None
    pairs = tuple(makers.items())

    def make(roots: Roots, meter: Meter) -> list[Any]:
        filled = list(value)
        for number, maker in pairs:
            filled[number] = maker(roots, meter)
        return filled

    return make


def _compiled(value: Any, raw: frozenset[str]) -> tuple[Make | None, _Compiler]:
    compiler = _Compiler()
    if not isinstance(value, dict) or not raw:
        return compiler.compile(value, "", 0), compiler
    parts: Iterator[tuple[str, Make | None]] = (
        (key, compiler.compile(item, key, 1)) for key, item in value.items() if key not in raw
    )
    return _map_maker(value, {key: make for key, make in parts if make}), compiler


def compile_value(value: Any, raw: frozenset[str] = frozenset()) -> CompiledValue:
    """Compiles every template of a payload except under the `raw` top-level keys; raises `ExpressionErrors` with all
    errors.
    """
    make, compiler = _compiled(value, raw)
    if compiler.errors:
        raise ExpressionErrors(compiler.errors)
    return CompiledValue(value, make, tuple(compiler.references))


def read_value(
    value: Any, raw: frozenset[str] = frozenset()
) -> tuple[list[ExpressionError], list[tuple[str, Reference]]]:
    """Every compile error in a payload, each with its field; and (field, reference) of everything it refers to."""
    compiler = _compiled(value, raw)[1]
    return compiler.errors, compiler.references


def measure(value: Any) -> int:
    """Characters of the templates in a payload that the parser must read, which takes 20 microseconds each."""
    if isinstance(value, str):
        return (
            sum(len(found) for found in _TEMPLATE.findall(value) if quick_path(found) is None) if "{{" in value else 0
        )
    if isinstance(value, dict | list):
        return sum(measure(item) for item in (value.values() if isinstance(value, dict) else value))
    return 0
