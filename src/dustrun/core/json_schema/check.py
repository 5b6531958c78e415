"""Validates payloads against a JSON Schema: exact numbers, patterns in linear time, and a bound on total work.

Each step costs some microseconds whatever the payload holds: nothing prints values, computes with the digits of huge
numbers, or compares items by hashes that a sender can choose.
"""

from __future__ import annotations

import functools
import itertools
import operator
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final, Literal

from dustrun.core.json_schema.problems import is_number, problem
from dustrun.core.json_schema.schema import local, parts, pattern
from dustrun.core.values.exact_json import MOST, weigh
from dustrun.errors import Code, Invalid, Problem
from dustrun.records import dataclass

MOST_STEPS: Final = 125_000
"""Budget of one validation: keyword evaluations. One that applies other schemas costs four, and long lists and texts
cost more."""
_MOST_PROBLEMS: Final = 50
_COSTLY: Final = frozenset({"$ref", "allOf", "anyOf", "oneOf", "not", "if"})
_OVER_ITEMS: Final = frozenset({"items", "contains", "prefixItems", "propertyNames", "additionalProperties"})
_AGAIN: Final = ("$ref", "unevaluatedItems", "unevaluatedProperties")
"""Keywords that apply a schema to a value more than once."""
_ITEMS_OF_A_STEP: Final = 8
_CHARS_OF_A_STEP: Final = 256
_LONG_TEXT: Final = 200
_CHARS_OF_A_UNIT: Final = 64
_BITS_OF_A_UNIT: Final = 212
"""Of an integer with as many digits."""


class _TooMuch(Exception):
    """Validation exceeded its budget."""


class _Budget:
    __slots__ = ("left",)

    def __init__(self, steps: int) -> None:
        self.left = steps

    def take(self, steps: int) -> None:
        self.left -= steps
        if self.left < 0:
            raise _TooMuch


_budget: ContextVar[_Budget] = ContextVar("payload_check_budget")


class PayloadCheck:
    """A compiled schema, which must have passed `check_schema`."""

    def __init__(self, schema: dict[str, Any]) -> None:
        self._validator = _validator_class()(local(schema))
        self._units = 1 + _units(schema)
        self._repeats = any(name in part for part in parts(schema) for name in _AGAIN)

    def is_quick(self, payload: Any) -> bool:
        """Whether `check` takes at most 20 ms. Otherwise it may take most of a second: call it beside the event loop,
        never on it."""
        return not self._repeats and self._units * (1 + _units(payload)) <= MOST

    def check(self, payload: dict[str, Any]) -> None:
        """Raises `Invalid` with all problems, at most 50."""
        try:
            errors = self._errors(payload, MOST_STEPS)
        except _TooMuch:
            raise _refused(f"Validating it against its schema takes more than {MOST_STEPS} steps.") from None
        except RecursionError:
            raise _refused("Its schema is nested too deeply.") from None
        if errors:
            raise _invalid([problem(error) for error in errors])

    def find(self, payload: dict[str, Any], most_steps: int) -> list[SchemaProblem] | None:
        """The problems, at most 50; None if finding them takes more steps than that."""
        try:
            errors = self._errors(payload, most_steps)
        except (_TooMuch, RecursionError):
            return None
        return [SchemaProblem(_kind_of(error), _path_of(error), problem(error).message) for error in errors]

    def _errors(self, payload: dict[str, Any], most_steps: int) -> list[Any]:
        token = _budget.set(_Budget(most_steps))
        try:
            return list(itertools.islice(self._validator.iter_errors(_unprinted(payload)), _MOST_PROBLEMS))
        finally:
            _budget.reset(token)


@dataclass(frozen=True, slots=True)
class SchemaProblem:
    """A problem. `kind`: `missing`, `unknown` or `invalid`; `path`: of the field, also of one that is missing."""

    kind: Literal["missing", "unknown", "invalid"]
    path: tuple[str | int, ...]
    message: str


def _kind_of(error: Any) -> Literal["missing", "unknown", "invalid"]:
    if error.validator == "required":
        return "missing"
    return "unknown" if error.validator == "additionalProperties" else "invalid"


def _path_of(error: Any) -> tuple[str | int, ...]:
    path = tuple(error.absolute_path)
    return (*path, error.message) if error.validator == "required" else path


def _units(value: Any) -> int:
    """The weight of a schema, with the digits of its numbers and the letters of its names: keywords go through both."""
    units, seen = weigh(value), [value]
    if units > MOST:
        return units
    for one in seen:  # which grows meanwhile, by less than `MOST`
        if isinstance(one, dict):
            units += sum(len(name) // _CHARS_OF_A_UNIT for name in one)
            seen += one.values()
        elif isinstance(one, list | tuple):
            seen += one
        elif isinstance(one, int):
            units += one.bit_length() // _BITS_OF_A_UNIT
        elif isinstance(one, Decimal):
            _, digits, exponent = one.as_tuple()
            units += (len(digits) + abs(int(exponent))) // _CHARS_OF_A_UNIT
    return units


def _refused(message: str) -> Invalid:
    return _invalid([Problem("payload", message)])


def _invalid(problems: list[Problem]) -> Invalid:
    message = "The payload does not satisfy the trigger's input schema."
    return Invalid(message, code=Code.PAYLOAD_INVALID, details=problems)


@functools.cache
def _validator_class() -> Any:
    from jsonschema import Draft202012Validator, validators  # slow import

    own = {**Draft202012Validator.VALIDATORS, **_KEYWORDS}
    kinds = {name: (lambda _, value, test=test: test(value)) for name, test in _KINDS.items()}
    types = Draft202012Validator.TYPE_CHECKER.redefine_many(kinds)
    counted = {name: _counted(name, keyword) for name, keyword in own.items()}
    return validators.extend(Draft202012Validator, counted, type_checker=types)


def _counted(name: str, keyword: Callable[..., Any]) -> Callable[..., Any]:
    steps = 4 if name in _COSTLY else 1
    if name not in _OVER_ITEMS:

        def check(validator: Any, value: Any, instance: Any, schema: Any) -> Any:
            _budget.get().take(steps)
            return keyword(validator, value, instance, schema)

        return check

    def check_items(validator: Any, value: Any, instance: Any, schema: Any) -> Any:
        _budget.get().take(steps + (len(instance) // _ITEMS_OF_A_STEP if isinstance(instance, list | dict) else 0))
        return keyword(validator, value, instance, schema)

    return check_items


class _List(list[Any]):
    def __repr__(self) -> str:
        return "a list"


class _Object(dict[str, Any]):
    def __repr__(self) -> str:
        return "an object"


class _Text(str):
    __slots__ = ()

    def __repr__(self) -> str:
        return "a text"


def _unprinted(value: Any) -> Any:
    """The value, such that the library's messages, which nobody sees, do not contain it: each would print the whole."""
    if isinstance(value, dict):
        return _Object((name, _unprinted(inner)) for name, inner in value.items())
    if isinstance(value, list):
        return _List(map(_unprinted, value))
    return _Text(value) if isinstance(value, str) and len(value) > _LONG_TEXT else value


def _is_integer(value: Any) -> bool:
    """`1.0` is an integer: the notation of a number does not matter."""
    if isinstance(value, Decimal):
        return bool(value == value.to_integral_value())
    return isinstance(value, int) and not isinstance(value, bool)


_KINDS: Final[dict[str, Callable[[Any], bool]]] = {
    "null": lambda value: value is None,
    "boolean": lambda value: isinstance(value, bool),
    "string": lambda value: isinstance(value, str),
    "array": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
    "number": is_number,
    "integer": _is_integer,
}


def _error(message: str, *path: str) -> Any:
    from jsonschema import ValidationError  # slow import

    return ValidationError(message, path=path)


def _pattern(_validator: Any, expression: str, instance: Any, _schema: Any) -> Iterator[Any]:
    if not isinstance(instance, str):
        return
    _budget.get().take(len(instance) // _CHARS_OF_A_STEP)
    if not pattern(expression).search(instance):
        yield _error("pattern")


def _type(_validator: Any, wanted: Any, instance: Any, _schema: Any) -> tuple[Any, ...]:
    is_good = _KINDS[wanted](instance) if isinstance(wanted, str) else any(_KINDS[kind](instance) for kind in wanted)
    return () if is_good else (_error("type"),)


def _bound(is_good: Callable[[Any, Any], bool]) -> Callable[..., Any]:
    def check(_validator: Any, bound: Any, instance: Any, _schema: Any) -> tuple[Any, ...]:
        return () if not is_number(instance) or is_good(instance, bound) else (_error("bound"),)

    return check


def _items(validator: Any, items: Any, instance: Any, schema: Any) -> Iterator[Any]:
    """As the library's, but what the items have in common is prepared once."""
    before = len(schema.get("prefixItems", ()))
    if not isinstance(instance, list) or len(instance) <= before or items is True or items == {}:
        return
    if items is False:
        yield _error("items")
        return
    each = validator.evolve(schema=items)
    for index in range(before, len(instance)):
        for error in each.iter_errors(instance[index]):
            error.path.appendleft(index)
            yield error


def _required(_validator: Any, names: list[str], instance: Any, _schema: Any) -> Iterator[Any]:
    _budget.get().take(len(names) // _ITEMS_OF_A_STEP)
    for name in names if isinstance(instance, dict) else ():
        if name not in instance:
            yield _error(name)


def _properties(validator: Any, schemas: dict[str, Any], instance: Any, _schema: Any) -> Iterator[Any]:
    _budget.get().take(len(schemas) // _ITEMS_OF_A_STEP)
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
    if is_number(instance) and not _is_multiple(Decimal(instance), Fraction(str(divisor))):
        yield _error("multipleOf")


def _is_multiple(number: Decimal, divisor: Fraction) -> bool:
    """Without writing out the zeros of `1e1000`."""
    _, digits, exponent = number.as_tuple()
    whole = int("".join(map(str, digits))) * divisor.denominator
    assert isinstance(exponent, int)
    if exponent >= 0:
        return bool(whole * pow(10, exponent, divisor.numerator) % divisor.numerator == 0)
    return bool(whole % (divisor.numerator * 10**-exponent) == 0)


def _unique_items(_validator: Any, wanted: bool, instance: Any, _schema: Any) -> Iterator[Any]:
    if wanted and isinstance(instance, list) and len({_canonical(item) for item in instance}) != len(instance):
        yield _error("uniqueItems")


def _canonical(value: Any) -> str:
    """A text that two values share if, and only if, they are equal JSON values; `true` is not 1, and 1.0 is. Texts have
    hashes that no sender can foresee; numbers have not."""
    _budget.get().take(1)
    if isinstance(value, dict):
        return f"{{{','.join(f'{_canonical(name)}:{_canonical(value[name])}' for name in sorted(value))}}}"
    if isinstance(value, list):
        return f"[{','.join(map(_canonical, value))}]"
    if isinstance(value, str):
        _budget.get().take(len(value) // _CHARS_OF_A_STEP)
        return f'{len(value)}"{value!s}"'
    return _number(value) if is_number(value) else str(value)


def _number(value: int | Decimal) -> str:
    sign, digits, exponent = Decimal(value).as_tuple()
    text = "".join(map(str, digits)).lstrip("0")
    bare = text.rstrip("0")
    assert isinstance(exponent, int)
    return f"{'-' * sign}{bare}e{exponent + len(text) - len(bare)}" if bare else "0"


def _enum(_validator: Any, values: list[Any], instance: Any, _schema: Any) -> Iterator[Any]:
    _budget.get().take(len(values))
    if not any(_same(value, instance) for value in values):
        yield _error("enum")


def _const(_validator: Any, value: Any, instance: Any, _schema: Any) -> Iterator[Any]:
    if not _same(value, instance):
        yield _error("const")


def _same(left: Any, right: Any) -> bool:
    if isinstance(left, dict | list) or isinstance(right, dict | list):
        both = isinstance(left, dict) is isinstance(right, dict) and isinstance(left, list) is isinstance(right, list)
        return both and len(left) == len(right) and _canonical(left) == _canonical(right)
    return isinstance(left, bool) is isinstance(right, bool) and bool(left == right)


_KEYWORDS: Final[dict[str, Callable[..., Any]]] = {
    "type": _type,
    "minimum": _bound(operator.ge),
    "maximum": _bound(operator.le),
    "exclusiveMinimum": _bound(operator.gt),
    "exclusiveMaximum": _bound(operator.lt),
    "items": _items,
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
