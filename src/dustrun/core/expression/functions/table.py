"""The function registry: a signature, a description, an example. Validation, documentation and tests all read it."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal, DecimalException
from typing import Any

from dustrun.core.expression import times
from dustrun.core.expression.fault import Fault
from dustrun.core.expression.values import Lazy, Meter, kind, read_all
from dustrun.records import dataclass

# parameter type → the kinds it accepts; empty: any value
_TYPES: dict[str, frozenset[str]] = {
    "any": frozenset(),
    "number": frozenset({"int", "decimal"}),
    "time": frozenset({"timestamp", "string"}),
    "span": frozenset({"duration", "string"}),
    "data": frozenset({"string", "bytes"}),
}
# types that also accept text, which is parsed first
_READERS: dict[str, Callable[[str], Any]] = {"time": times.read_moment, "span": times.read_span}
_FAULT_STEPS = 40
_NOT_VALUES = frozenset({"function", "other"})
_SIGNATURE = re.compile(r"(\w+)\((.*)\) -> (\S+)")
_PARAMETER = re.compile(r"(\.\.\.)?(\w+): ([\w|]+)(\?)?")


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a function."""

    name: str
    type: str
    kinds: frozenset[str]
    optional: bool
    repeated: bool


@dataclass(frozen=True, slots=True)
class FunctionExample:
    """An example and its JSON result."""

    example: str
    result: str


@dataclass(frozen=True, slots=True)
class FunctionSpec:
    """One function: signature, documentation and implementation."""

    name: str
    signature: str
    group: str
    line: str
    expected: FunctionExample
    parameters: tuple[Parameter, ...]
    work: Callable[..., Any]

    def check_count(self, count: int, at: int) -> None:
        """Rejects a wrong number of arguments when a template is compiled."""
        least = sum(not (p.optional or p.repeated) for p in self.parameters)
        most = None if any(p.repeated for p in self.parameters) else len(self.parameters)
        if count < least or (most is not None and count > most):
            message = f"{self.signature} does not take {count} argument{'s' if count != 1 else ''}"
            raise Fault("syntax", message, offset=at)


class FunctionGroup:
    """The functions of one module."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.functions: dict[str, FunctionSpec] = {}

    def function(
        self, signature: str, line: str, example: str, result: str
    ) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Registers a function; its implementation gets the meter as first argument."""

        def declare(work: Callable[..., Any]) -> Callable[..., Any]:
            match = _SIGNATURE.fullmatch(signature)
            assert match, signature
            name, parameters, _ = match.groups()
            self.functions[name] = FunctionSpec(
                name, signature, self.name, line, FunctionExample(example, result), _parameters(parameters), work
            )
            return work

        return declare


def _parameters(text: str) -> tuple[Parameter, ...]:
    return tuple(_parameter(part) for part in text.split(", ") if part)


def _parameter(text: str) -> Parameter:
    match = _PARAMETER.fullmatch(text)
    assert match, text
    dots, name, type_text, optional = match.groups()
    kinds: set[str] = set()
    for part in type_text.split("|"):
        kinds |= _TYPES.get(part, {part})
    return Parameter(name, type_text, frozenset(kinds), bool(optional), bool(dots))


def call(function: FunctionSpec, meter: Meter, values: list[Any], at: int) -> Any:
    """Calls a function with arguments of the declared kinds, meters their size, and bounds the result."""
    try:
        parameters = function.parameters
        for number, value in enumerate(values):
            parameter = parameters[number] if number < len(parameters) else parameters[-1]
            values[number] = _accept(function, parameter, value, meter)
        result = function.work(meter, *values)
    except Fault as fault:
        meter.charge(_FAULT_STEPS)  # a loop may go on after it
        raise fault.at(at) from None
    except DecimalException:
        raise Fault("limit", f"{function.name}(): number out of range", offset=at) from None
    except OverflowError:
        raise Fault("value", f"{function.name}(): an argument is out of range", offset=at) from None
    if isinstance(result, str | bytes | list | dict):
        meter.grow(len(result))
    return result


def _accept(function: FunctionSpec, parameter: Parameter, value: Any, meter: Meter) -> Any:
    found = kind(value)
    if (parameter.kinds and found not in parameter.kinds) or found in _NOT_VALUES:
        message = f"{function.name}(): {parameter.name} must be {_article(parameter.type)}, not a {found}"
        if found == "string" and parameter.kinds & {"int", "decimal"}:
            message += "; use int() or dec() to turn text into a number"
        raise Fault("type", message)
    if type(value) is int or isinstance(value, Decimal):
        meter.number(value)
        return value
    if isinstance(value, str | bytes):
        meter.charge(len(value) >> 6)
        reader = _READERS.get(parameter.type)
        return reader(value) if reader and isinstance(value, str) else value
    if isinstance(value, Lazy):
        value = read_all(value)
    if isinstance(value, list | dict):
        meter.charge(len(value) >> 1)
    return value


def _article(type_text: str) -> str:
    named = {"time": "a moment", "span": "a duration", "data": "text or bytes", "int": "an integer"}
    return named.get(type_text) or "a " + type_text.replace("|", " or a ")


def is_digits(text: str) -> bool:
    """Whether a text is a whole number: digits with an optional sign."""
    return re.fullmatch(r"[+-]?[0-9]+", text) is not None


def numbers_of(name: str, values: list[Any]) -> list[int | Decimal]:
    """Returns the values if all are numbers; a fault otherwise."""
    for value in values:
        if kind(value) not in ("int", "decimal"):
            message = f"{name}() needs numbers; the list contains a {kind(value)}"
            raise Fault("type", message + ("; use int() or dec()" if kind(value) == "string" else ""))
    return values
