"""Conditions on a call's arguments: `to == wallet && amount <= units('5', 6)`. What cannot be evaluated denies.

A condition is an expression without loops and with few functions, so its work is bounded by its length.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from dustrun.core.evm.abi import AbiFault, Function, Param
from dustrun.core.evm.abi_signatures import parse_function
from dustrun.core.evm.calls import read_selector
from dustrun.core.expression import EvaluationLimits, ExpressionError, Template, parse_expression
from dustrun.core.expression.syntax import tree
from dustrun.core.expression.syntax.parse import parse
from dustrun.core.money.policy.special_methods import known_functions
from dustrun.core.values.addresses import checksum, read_address
from dustrun.records import dataclass

MAX_LENGTH: Final = 1000
OWN_NAMES: Final = ("args", "wallet", "value", "chain")
"""Names that always mean the same: the arguments in order, the wallet's address, the coin sent in base units, the
chain's id.
"""
FUNCTIONS: Final = ("units", "toUnits", "percent", "bps", "min", "max", "size")
_LIMITS: Final = EvaluationLimits(steps=5_000, depth=32, size=65_536, integer_bits=1024)
_ADDRESS: Final = re.compile(r"(?<![0-9a-zA-Z])0x[0-9a-fA-F]{40}(?![0-9a-zA-Z])")


@dataclass(frozen=True, slots=True)
class CallFacts:
    """The values that a condition can read besides the arguments: addresses checksummed, `value` in base units."""

    wallet: str
    value_units: int
    chain_id: int


@dataclass(frozen=True, slots=True)
class ConditionOutcome:
    """Whether a condition holds; `fault` says why it could not be evaluated."""

    holds: bool
    fault: str | None = None


class _Names:
    """The values that an expression reads."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values

    def root(self, name: str) -> Any:
        """The value of a name; raises `KeyError`."""
        return self._values[name]


@dataclass(frozen=True, slots=True)
class MethodCondition:
    """A compiled condition on the calls of one method."""

    function: Function
    selector: str
    text: str
    compiled: Template

    def judge(self, data: bytes, facts: CallFacts) -> ConditionOutcome:
        """Whether calldata fulfils it. Calldata in another form than the standard encoding is not evaluated: a contract
        might read it otherwise.
        """
        try:
            values = self.function.decode_args(data)
            if self.function.encode(*values) != data:
                return ConditionOutcome(False, "the calldata is not in the standard encoding of its arguments")
            result = self.compiled.evaluate(_Names(_values(self.function, values, facts)), _LIMITS)
        except (AbiFault, ExpressionError) as fault:
            return ConditionOutcome(False, str(getattr(fault, "message", fault)))
        if not isinstance(result, bool):
            return ConditionOutcome(False, "it gives no bool")
        return ConditionOutcome(result)


@functools.lru_cache(maxsize=4096)
def compile_condition(method: str, where: str) -> MethodCondition:
    """Compiles a condition; raises `ValueError` with what is wrong and how to mend it."""
    function = read_method(method)
    text = _ADDRESS.sub(lambda found: read_address(found[0]), where)
    try:
        compiled = parse_expression(text)
        _check_plain(parse(text))
    except ExpressionError as error:
        raise ValueError(f"the condition is not an expression: {error.message}") from None
    _check_names(function, compiled)
    return MethodCondition(function, read_selector(function.signature), where, compiled)


def read_method(method: str) -> Function:
    """The method with the parameter names that conditions use: its own, else those that are well known. Raises
    `ValueError`.
    """
    try:
        function = parse_function(method)
    except AbiFault as fault:
        raise ValueError(f"a condition needs the method's whole signature: {fault.message}") from None
    taken = [name for name in _names_of(function) if name in OWN_NAMES]
    if taken:
        raise ValueError(f'call the parameter "{taken[0]}" otherwise: in a condition {taken[0]} has its own meaning')
    if any(_names_of(function)):
        return function
    known = known_functions().get(read_selector(function.signature))
    return known if known is not None and known.signature == function.signature else function


def _names_of(function: Function) -> list[str]:
    return [param.name for param in function.inputs if param.name]


def _check_names(function: Function, compiled: Template) -> None:
    known = [*OWN_NAMES, *_names_of(function)]
    for reference in compiled.references:
        if reference.root not in known:
            raise ValueError(
                f'"{reference.root}" is not known here; a condition on {function.signature} can use '
                f"{', '.join(known)}. Name the parameters in the method, or use args[0]."
            )


def _check_plain(node: tree.Node) -> None:
    if node.height > _LIMITS.depth:
        raise ValueError(f"the condition is nested deeper than {_LIMITS.depth} levels")
    for called in _called(node):
        if called not in FUNCTIONS:
            raise ValueError(f"a condition cannot use {called}(); it can use {', '.join(FUNCTIONS)}")


def _called(part: Any) -> Iterator[str]:
    """The functions and macros that a tree calls."""
    if isinstance(part, tree.Call | tree.Method):
        yield part.name
    if isinstance(part, tuple):
        for one in part:
            yield from _called(one)
    elif dataclasses.is_dataclass(part):
        for field in dataclasses.fields(part):
            yield from _called(getattr(part, field.name))


def _values(function: Function, values: list[Any], facts: CallFacts) -> dict[str, Any]:
    shown = [_plain(param, value) for param, value in zip(function.inputs, values, strict=True)]
    named = {param.name: value for param, value in zip(function.inputs, shown, strict=True) if param.name}
    own = (shown, checksum(facts.wallet), facts.value_units, facts.chain_id)
    return {**named, **dict(zip(OWN_NAMES, own, strict=True))}


def _plain(param: Param, value: Any) -> Any:
    """A struct with named members as a map, everything else as it was decoded."""
    if not param.parts or not all(part.name for part in param.parts):
        return value
    if param.type.endswith(")"):
        return {part.name: _plain(part, item) for part, item in zip(param.parts, value, strict=True)}
    if param.type.count("[", param.type.rindex(")")) == 1:
        return [{part.name: _plain(part, item) for part, item in zip(param.parts, one, strict=True)} for one in value]
    return value
