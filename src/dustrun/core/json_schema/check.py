"""Validates payloads against a JSON Schema: exact numbers, patterns in linear time, and a bound on total work."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from fractions import Fraction
from typing import Any, Final

from dustrun.core.json_schema.problems import is_number, problem
from dustrun.core.json_schema.schema import local, pattern
from dustrun.errors import Code, Invalid, Problem

MOST_STEPS: Final = 100_000
"""Budget of one validation: keyword evaluations, where a keyword that applies other schemas costs four."""
_MOST_PROBLEMS: Final = 50
_COSTLY: Final = frozenset({"$ref", "allOf", "anyOf", "oneOf", "not", "if"})


class _TooMuch(Exception):
    """Validation exceeded its budget."""


class _Budget:
    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = MOST_STEPS

    def take(self, steps: int) -> None:
        self.left -= steps
        if self.left < 0:
            raise _TooMuch


_budget: ContextVar[_Budget] = ContextVar("payload_check_budget")


class PayloadCheck:
    """A compiled schema, which must have passed `check_schema`."""

    def __init__(self, schema: dict[str, Any]) -> None:
        self._validator = _validator_class()(local(schema))

    def check(self, payload: dict[str, Any]) -> None:
        """Raises `Invalid` with all problems, at most 50."""
        token = _budget.set(_Budget())
        try:
            errors = list(itertools.islice(self._validator.iter_errors(payload), _MOST_PROBLEMS))
        except _TooMuch:
            raise _refused(f"Validating it against its schema takes more than {MOST_STEPS} steps.") from None
        except RecursionError:
            raise _refused("Its schema is nested too deeply.") from None
        finally:
            _budget.reset(token)
        if errors:
            raise _invalid([problem(error) for error in errors])


def _refused(message: str) -> Invalid:
    return _invalid([Problem("payload", message)])


def _invalid(problems: list[Problem]) -> Invalid:
    message = "The payload does not satisfy the trigger's input schema."
    return Invalid(message, code=Code.PAYLOAD_INVALID, details=problems)


@functools.cache
def _validator_class() -> Any:
    from jsonschema import Draft202012Validator, validators  # slow import

    own = {**Draft202012Validator.VALIDATORS, **_KEYWORDS}
    types = Draft202012Validator.TYPE_CHECKER.redefine_many({"integer": _is_integer, "number": _is_number})
    counted = {name: _counted(keyword, 4 if name in _COSTLY else 1) for name, keyword in own.items()}
    return validators.extend(Draft202012Validator, counted, type_checker=types)


def _counted(keyword: Callable[..., Any], steps: int) -> Callable[..., Any]:
    def check(validator: Any, value: Any, instance: Any, schema: Any) -> Any:
        _budget.get().take(steps)
        return keyword(validator, value, instance, schema)

    return check


def _is_number(_checker: Any, value: Any) -> bool:
    return is_number(value)


def _is_integer(_checker: Any, value: Any) -> bool:
    """`1.0` is an integer: the notation of a number does not matter."""
    return is_number(value) and value == int(value)


def _error(message: str, *path: str) -> Any:
    from jsonschema import ValidationError  # slow import

    return ValidationError(message, path=path)


def _pattern(_validator: Any, expression: str, instance: Any, _schema: Any) -> Iterator[Any]:
    if isinstance(instance, str) and not pattern(expression).search(instance):
        yield _error("pattern")


def _required(_validator: Any, names: list[str], instance: Any, _schema: Any) -> Iterator[Any]:
    for name in names if isinstance(instance, dict) else ():
        if name not in instance:
            yield _error(name)


def _properties(validator: Any, schemas: dict[str, Any], instance: Any, _schema: Any) -> Iterator[Any]:
    for name, schema in schemas.items() if isinstance(instance, dict) else ():
        if name not in instance:
            continue
        if schema is False:  # jsonschema would lose the field's name
            yield _error("properties", name)
        else:
            yield from validator.descend(instance[name], schema, path=name, schema_path=name)


def _pattern_properties(validator: Any, schemas: dict[str, Any], instance: Any, _schema: Any) -> Iterator[Any]:
    for expression, schema in schemas.items() if isinstance(instance, dict) else ():
        _budget.get().take(len(instance))
        for name, value in instance.items():
            if pattern(expression).search(name):
                yield from validator.descend(value, schema, path=name, schema_path=expression)


def _additional_properties(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[Any]:
    if not isinstance(instance, dict):
        return
    named, expressions = schema.get("properties", {}), schema.get("patternProperties", ())
    _budget.get().take(len(instance) * len(expressions))
    for name, inner in instance.items():
        if name in named or any(pattern(expression).search(name) for expression in expressions):
            continue
        if value is False:
            yield _error("additionalProperties", name)
        else:
            yield from validator.descend(inner, value, path=name)


def _multiple_of(_validator: Any, divisor: Any, instance: Any, _schema: Any) -> Iterator[Any]:
    if is_number(instance) and Fraction(instance) % Fraction(str(divisor)):
        yield _error("multipleOf")


def _unique_items(_validator: Any, wanted: bool, instance: Any, _schema: Any) -> Iterator[Any]:
    if wanted and isinstance(instance, list) and len({_frozen(item) for item in instance}) != len(instance):
        yield _error("uniqueItems")


def _frozen(value: Any) -> Any:
    """A hashable form of a value; equal JSON values have equal forms, and `true` is not 1."""
    _budget.get().take(1)
    if isinstance(value, dict):
        return frozenset((name, _frozen(inner)) for name, inner in value.items())
    if isinstance(value, list):
        return tuple(_frozen(inner) for inner in value)
    return (isinstance(value, bool), type(value) is str, value)


def _enum(_validator: Any, values: list[Any], instance: Any, _schema: Any) -> Iterator[Any]:
    _budget.get().take(len(values))
    if not any(_same(value, instance) for value in values):
        yield _error("enum")


def _const(_validator: Any, value: Any, instance: Any, _schema: Any) -> Iterator[Any]:
    if not _same(value, instance):
        yield _error("const")


def _same(left: Any, right: Any) -> bool:
    if isinstance(left, dict | list) or isinstance(right, dict | list):
        return type(left) is type(right) and len(left) == len(right) and bool(_frozen(left) == _frozen(right))
    return isinstance(left, bool) is isinstance(right, bool) and bool(left == right)


_KEYWORDS: Final[dict[str, Callable[..., Any]]] = {
    "pattern": _pattern,
    "required": _required,
    "properties": _properties,
    "patternProperties": _pattern_properties,
    "additionalProperties": _additional_properties,
    "multipleOf": _multiple_of,
    "uniqueItems": _unique_items,
    "enum": _enum,
    "const": _const,
}

__all__ = ["MOST_STEPS", "PayloadCheck"]
