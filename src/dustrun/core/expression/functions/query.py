"""JMESPath with exact numbers and limits: every visit is metered, every list bounded, no floats."""

from __future__ import annotations

import functools
import re
import warnings
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from dustrun.core.expression.runtime import arithmetic
from dustrun.core.expression.runtime.border import compact, to_json
from dustrun.core.expression.runtime.fault import Fault
from dustrun.core.expression.runtime.limits import Meter
from dustrun.core.expression.runtime.operators import NO, OPERATORS, contained, is_number, same
from dustrun.core.values import exact_json

MAX_QUERY = 1000
MAX_NESTING = 50
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def run_query(meter: Meter, data: Any, path: str) -> Any:
    """Evaluates a JMESPath expression over a JSON value."""
    from jmespath.exceptions import JMESPathError, ParseError  # slow import

    try:
        tree = _parse(path)
        return to_json(meter, _interpreter()(meter).visit(tree, data))
    except ParseError as error:
        raise Fault("value", f"query(): {str(error).splitlines()[0][:200]}") from None
    except (JMESPathError, TypeError, ValueError, AttributeError, LookupError, RecursionError):
        raise Fault("value", "query(): the expression cannot be applied to this data") from None


@functools.lru_cache(maxsize=256)
def _parse(path: str) -> Any:
    from jmespath import parser  # slow import

    if _SURROGATE.search(path):
        raise Fault("value", "query(): escaped surrogates are not supported; write the character itself")
    if len(path) > MAX_QUERY:
        raise Fault("limit", f"query(): an expression of {len(path)} characters is too long; the limit is {MAX_QUERY}")
    with warnings.catch_warnings():
        # The deprecated `name` literal syntax is still common; its warning is not worth a line in the server's log.
        warnings.simplefilter("ignore", PendingDeprecationWarning)
        return _exact(parser.Parser().parse(path).parsed, 0)


def _exact(node: Any, depth: int) -> Any:
    """Replaces literals with exact numbers, because JMESPath reads them as floats; rejects deep nesting."""
    if depth > MAX_NESTING:
        raise Fault("limit", f"query(): nested deeper than {MAX_NESTING} levels")
    if node["type"] == "literal":
        return {**node, "value": _without_floats(node["value"])}
    return {**node, "children": [_exact(c, depth + 1) if isinstance(c, dict) else c for c in node["children"]]}


def _without_floats(value: Any) -> Any:
    if isinstance(value, float):
        return Decimal(repr(value))
    if isinstance(value, list):
        return [_without_floats(item) for item in value]
    if isinstance(value, dict):
        return {key: _without_floats(item) for key, item in value.items()}
    return value


_ORDER = {"lt": "<", "lte": "<=", "gt": ">", "gte": ">="}


def _with_decimal(names: Iterable[str]) -> list[str]:
    return [*names, "Decimal"] if "int" in names else list(names)


@functools.cache
def _interpreter() -> Any:
    """Builds the interpreter class on first use, because its base class is slow to import."""
    from jmespath import functions, visitor  # slow import

    class Exact(functions.Functions):  # type: ignore[misc]
        """JMESPath functions, overridden where they would use floats or grow without bound."""

        meter: Meter

        def _convert_to_jmespath_type(self, name: str) -> str:
            return "number" if name == "Decimal" else str(super()._convert_to_jmespath_type(name))

        def _get_allowed_pytypes(self, types: list[str]) -> Any:
            allowed, inner = super()._get_allowed_pytypes(types)
            return _with_decimal(allowed), [_with_decimal(names) for names in inner]

        @functions.signature({"types": ["array", "string"]}, {"types": []})  # type: ignore[untyped-decorator]
        def _func_contains(self, subject: Any, search: Any) -> bool:
            if isinstance(subject, str):
                return isinstance(search, str) and search in subject
            return bool(contained(self.meter, search, subject))

        @functions.signature({"types": []})  # type: ignore[untyped-decorator]
        def _func_type(self, value: Any) -> str:
            return self._convert_to_jmespath_type(type(value).__name__)

        @functions.signature({"types": ["array-number"]})  # type: ignore[untyped-decorator]
        def _func_avg(self, items: list[Any]) -> Any:
            return arithmetic.divide(self.meter, self._func_sum(items), len(items)) if items else None

        @functions.signature({"types": ["array-number"]})  # type: ignore[untyped-decorator]
        def _func_sum(self, items: list[Any]) -> Any:
            return functools.reduce(functools.partial(arithmetic.add, self.meter), items, 0)

        @functions.signature({"types": []})  # type: ignore[untyped-decorator]
        def _func_to_number(self, value: Any) -> Any:
            if isinstance(value, str):
                try:
                    value = exact_json.loads(value)
                except exact_json.JsonError:
                    return None
            return value if is_number(value) else None

        @functions.signature({"types": []})  # type: ignore[untyped-decorator]
        def _func_to_string(self, value: Any) -> str:
            return value if isinstance(value, str) else compact(self.meter, to_json(self.meter, value))

        @functions.signature({"types": ["string"]}, {"types": ["array-string"]})  # type: ignore[untyped-decorator]
        def _func_join(self, separator: str, items: list[str]) -> str:
            self.meter.grow(sum(map(len, items)) + len(separator) * len(items))
            return separator.join(items)

    class Metered(visitor.TreeInterpreter):  # type: ignore[misc]
        """Meters every visit by the size of its operand, and bounds every result."""

        def __init__(self, meter: Meter) -> None:
            own = Exact()
            own.meter = meter
            super().__init__(options=visitor.Options(custom_functions=own))
            self.meter = meter

        def visit(self, node: Any, *arguments: Any, **named: Any) -> Any:
            value = arguments[0] if arguments else None
            self.meter.charge(1 + (len(value) >> 2 if isinstance(value, list | dict | str) else 0))
            result = super().visit(node, *arguments, **named)
            if isinstance(result, list | dict | str):
                self.meter.grow(len(result))
            return result

        def visit_comparator(self, node: Any, value: Any) -> Any:
            sides = [self.visit(child, value) for child in node["children"]]
            if node["value"] in ("eq", "ne"):
                return same(self.meter, *sides) is (node["value"] == "eq")
            found = OPERATORS[_ORDER[node["value"]]][1](self.meter, *sides)
            return None if found is NO else found

        def visit_flatten(self, node: Any, value: Any) -> Any:
            base = self.visit(node["children"][0], value)
            if not isinstance(base, list):
                return None
            size = sum(len(item) if isinstance(item, list) else 1 for item in base)
            self.meter.grow(size)
            self.meter.charge(size)
            return [part for item in base for part in (item if isinstance(item, list) else (item,))]

    return Metered
