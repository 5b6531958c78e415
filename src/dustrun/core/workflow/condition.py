"""Conditions of `if` and `filter`: `{"$and": [{"{{left}}": {"$gt": right}}]}`, compiled once.

Both sides may be templates. There is no implicit conversion: a number and a non-numeric text do not compare.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

from dustrun.core.expression import CompiledValue, EvaluationLimits, ExpressionError, ExpressionErrors, Reference, Roots
from dustrun.core.expression.fault import Fault, Kind, suggest
from dustrun.core.expression.operators import is_number, same
from dustrun.core.expression.template import compile_value
from dustrun.core.expression.values import DEFAULT_LIMITS, Meter, kind
from dustrun.records import dataclass

MAX_DEPTH = 32
MAX_DIGITS = 1000

_NUMERIC = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?", re.ASCII)
_MISSING: Any = object()

Compare = Callable[[Meter, Any, Any], bool]
Test = Callable[[Roots, EvaluationLimits], bool]


def _number(value: Any) -> int | Decimal | None:
    """A number, or a text of plain digits as one; `007` is a name, not a number."""
    if is_number(value):
        return value  # type: ignore[no-any-return]
    if isinstance(value, str) and len(value) <= MAX_DIGITS and _NUMERIC.fullmatch(value):
        return Decimal(value) if "." in value else int(value)
    return None


def _equal(meter: Meter, left: Any, right: Any) -> bool:
    """Equality of list items: different types are unequal."""
    a, b = _number(left), _number(right)
    return bool(a == b) if a is not None and b is not None else same(meter, left, right)


def _eq(meter: Meter, left: Any, right: Any) -> bool:
    if left is not None and right is not None and _kind(left) != _kind(right):
        a, b = _number(left), _number(right)
        if a is None or b is None:
            raise _unfit("$eq", left, right)
    return _equal(meter, left, right)


def _kind(value: Any) -> str:
    return "number" if is_number(value) else kind(value)


def _unfit(operator: str, left: Any, right: Any) -> Fault:
    hint = "; text compares with a number only if it is plain digits" if "number" in _kinds(left, right) else ""
    return Fault("type", f"{operator} cannot compare a {_kind(left)} with a {_kind(right)}{hint}")


def _kinds(left: Any, right: Any) -> tuple[str, str]:
    return _kind(left), _kind(right)


def _order(operator: str, holds: Callable[[Any, Any], bool]) -> Compare:
    def compare(meter: Meter, left: Any, right: Any) -> bool:
        a, b = _number(left), _number(right)
        if a is not None and b is not None:
            return holds(a, b)
        if isinstance(left, str) and isinstance(right, str) and a is None and b is None:
            return holds(left, right)
        if isinstance(left, str) and isinstance(right, str):
            raise Fault("type", f"{operator} cannot compare a text of digits with a text that is not a number")
        raise _unfit(operator, left, right)

    return compare


def _in(meter: Meter, left: Any, right: Any) -> bool:
    if not isinstance(right, list):
        raise Fault("type", f"$in needs a list on its right, not a {kind(right)}")
    meter.charge(len(right))
    return any(_equal(meter, left, item) for item in right)


def _contains(meter: Meter, left: Any, right: Any) -> bool:
    if isinstance(left, list):
        return _in(meter, right, left)
    if isinstance(left, dict):
        return isinstance(right, str) and right in left
    return _text("$contains", lambda a, b: b in a)(meter, left, right)


def _text(operator: str, holds: Callable[[str, str], bool]) -> Compare:
    def compare(meter: Meter, left: Any, right: Any) -> bool:
        if isinstance(left, str) and isinstance(right, str):
            return holds(left, right)
        raise Fault("type", f"{operator} needs text on both sides, not a {kind(left)} and a {kind(right)}")

    return compare


def _exists(meter: Meter, left: Any, right: Any) -> bool:
    if right is not None and not isinstance(right, bool):
        raise Fault("type", f"$exists takes true or false, not a {kind(right)}")
    return (left is not _MISSING and left is not None) is (right is not False)


def _negated(compare: Compare) -> Compare:
    return lambda meter, left, right: not compare(meter, left, right)


OPERATORS: dict[str, Compare] = {
    "$eq": _eq,
    "$ne": _negated(_eq),
    "$gt": _order("$gt", lambda a, b: a > b),
    "$gte": _order("$gte", lambda a, b: a >= b),
    "$lt": _order("$lt", lambda a, b: a < b),
    "$lte": _order("$lte", lambda a, b: a <= b),
    "$in": _in,
    "$nin": _negated(_in),
    "$contains": _contains,
    "$notContains": _negated(_contains),
    "$startsWith": _text("$startsWith", str.startswith),
    "$endsWith": _text("$endsWith", str.endswith),
    "$exists": _exists,
    "$notExists": _negated(_exists),
}
_EXISTENCE = frozenset({"$exists", "$notExists"})
_CONNECTIVES = ("$and", "$or")


@dataclass(frozen=True, slots=True)
class Condition:
    """A compiled condition. `references` is what it refers to, found without evaluating it."""

    references: tuple[Reference, ...]
    _test: Test

    def evaluate(self, roots: Roots, limits: EvaluationLimits = DEFAULT_LIMITS) -> bool:
        """Whether it holds for these roots; an `ExpressionError` carries the field within the condition."""
        return self._test(roots, limits)


class _Reader:
    def __init__(self) -> None:
        self.errors: list[ExpressionError] = []
        self.references: list[Reference] = []

    def fail(self, field: str, message: str) -> None:
        self.errors.append(ExpressionError(message, kind="syntax", field=field))

    def read(self, value: Any, field: str, depth: int = 0) -> Test:
        """Compiles one object: all of its entries must hold."""
        if depth > MAX_DEPTH:
            self.fail(field, f"the condition is nested deeper than {MAX_DEPTH} levels")
        elif not isinstance(value, Mapping):
            self.fail(field, 'a condition must be an object like {"{{left}}": {"$gt": 1}}')
        elif not value:
            self.fail(field, "the condition is empty")
        else:
            return _every([self._entry(key, item, field, depth) for key, item in value.items()])
        return _never

    def _entry(self, key: str, value: Any, field: str, depth: int) -> Test:
        inner = _joined(field, key)
        if key not in _CONNECTIVES:
            if key in OPERATORS:
                self.fail(inner, f'"{key}" needs a left side: {{"{{{{left}}}}": {{"{key}": …}}}}')
                return _never
            return self._comparisons(key, value, inner)
        if not isinstance(value, list) or not value:
            self.fail(inner, f'"{key}" takes a list of conditions')
            return _never
        tests = [self.read(item, f"{inner}[{number}]", depth + 1) for number, item in enumerate(value)]
        return _every(tests) if key == "$and" else _any(tests)

    def _comparisons(self, left: str, value: Any, field: str) -> Test:
        if not isinstance(value, Mapping) or not value:
            self.fail(field, 'a left side must be followed by an object of operators like {"$eq": 1}')
            return _never
        tests = []
        for operator, right in value.items():
            inner = f"{field}.{operator}"
            if operator not in OPERATORS:
                self.fail(inner, f'"{operator}" is not an operator{suggest(operator, OPERATORS)}')
                continue
            sides = self._side(left, field, operator in _EXISTENCE), self._side(right, inner, False)
            tests.append(_comparison(operator, *sides, inner))
        return _every(tests)

    def _side(self, value: Any, field: str, guarded: bool) -> CompiledValue:
        try:
            compiled = compile_value(value)
        except ExpressionErrors as errors:
            for error in errors.errors:
                error.field = _joined(field, error.field or "")
                self.errors.append(error)
            return compile_value(None)
        for _, found in compiled.references:
            self.references.append(replace(found, guarded=guarded or found.guarded))
        return compiled


def _joined(field: str, key: str) -> str:
    return f"{field}{'' if key.startswith('[') else '.'}{key}" if field and key else field or key


def _never(roots: Roots, limits: EvaluationLimits) -> bool:
    return False


def _every(tests: list[Test]) -> Test:
    return tests[0] if len(tests) == 1 else lambda roots, limits: all(test(roots, limits) for test in tests)


def _any(tests: list[Test]) -> Test:
    return lambda roots, limits: any(test(roots, limits) for test in tests)


def _comparison(operator: str, left: CompiledValue, right: CompiledValue, field: str) -> Test:
    compare = OPERATORS[operator]
    fetch = _present if operator in _EXISTENCE else CompiledValue.evaluate

    def test(roots: Roots, limits: EvaluationLimits) -> bool:
        try:
            return compare(Meter(limits), fetch(left, roots, limits), right.evaluate(roots, limits))
        except Fault as fault:
            raise _failed(fault.kind, fault.message, field) from None
        except ExpressionError as error:
            error.field = field
            raise

    return test


def _present(value: CompiledValue, roots: Roots, limits: EvaluationLimits) -> Any:
    try:
        return value.evaluate(roots, limits)
    except ExpressionError as error:
        if error.kind != "missing":
            raise
        return _MISSING


def _failed(kind: Kind, message: str, field: str) -> ExpressionError:
    return ExpressionError(message, kind=kind, field=field)


def _read(value: Any) -> tuple[Test, _Reader]:
    reader = _Reader()
    return reader.read(value, ""), reader


def parse_condition(value: Any) -> Condition:
    """Compiles a condition; raises the first `ExpressionError`, whose `field` is the position within it."""
    test, reader = _read(value)
    if reader.errors:
        raise reader.errors[0]
    return Condition(tuple(reader.references), test)


def find_condition_errors(value: Any) -> list[ExpressionError]:
    """Every error of a condition, each with its position within it."""
    return _read(value)[1].errors
