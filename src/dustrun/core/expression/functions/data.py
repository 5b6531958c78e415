"""Lists and maps. Keys given as text may be paths: `"user.name"`."""

from __future__ import annotations

import functools
import re
import warnings
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from dustrun.core.expression import operators
from dustrun.core.expression.border import compact, to_json
from dustrun.core.expression.fault import Fault
from dustrun.core.expression.functions.table import FunctionGroup
from dustrun.core.expression.operators import MAX_VALUE_DEPTH, NO, OPERATORS, contained, is_number, same
from dustrun.core.expression.values import Meter, from_key, kind, map_key
from dustrun.core.values import exact_json

# JMESPath with exact numbers and limits: every visit is metered, every list bounded, no floats.


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
            return operators.divide(self.meter, self._func_sum(items), len(items)) if items else None

        @functions.signature({"types": ["array-number"]})  # type: ignore[untyped-decorator]
        def _func_sum(self, items: list[Any]) -> Any:
            return functools.reduce(functools.partial(operators.add_numbers, self.meter), items, 0)

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


data = FunctionGroup("Data")

Keyed = list[tuple[Any, Any]]


@data.function("keys(m: map) -> list", "The keys of a map.", 'keys({"a": 1, "b": 2})', '["a", "b"]')
def keys(meter: Meter, m: dict[Any, Any]) -> list[Any]:
    return [from_key(key) for key in m]


@data.function("values(m: map) -> list", "The values of a map.", 'values({"a": 1, "b": 2})', "[1, 2]")
def values(meter: Meter, m: dict[Any, Any]) -> list[Any]:
    return list(m.values())


@data.function(
    "merge(...maps: map) -> map",
    ("Merges maps; on equal keys the later one wins."),
    'merge({"a": 1}, {"a": 2})',
    '{"a": 2}',
)
def merge(meter: Meter, *maps: dict[Any, Any]) -> dict[Any, Any]:
    meter.charge(sum(map(len, maps)) >> 2)
    return {key: value for m in maps for key, value in m.items()}


def _listed(name: str, names: list[Any]) -> list[Any]:
    found = [map_key(key) for key in names]
    if None in found:
        raise Fault("type", f"{name}(): the names must be strings, numbers or bools")
    return found


@data.function(
    "pick(m: map, names: list) -> map",
    ("Keeps only these keys, where present."),
    'pick({"a": 1, "b": 2}, ["a"])',
    '{"a": 1}',
)
def pick(meter: Meter, m: dict[Any, Any], names: list[Any]) -> dict[Any, Any]:
    return {key: m[key] for key in _listed("pick", names) if key in m}


@data.function("omit(m: map, names: list) -> map", "Removes these keys.", 'omit({"a": 1, "b": 2}, ["a"])', '{"b": 2}')
def omit(meter: Meter, m: dict[Any, Any], names: list[Any]) -> dict[Any, Any]:
    dropped = set(_listed("omit", names))
    return {key: value for key, value in m.items() if key not in dropped}


def _keyed(name: str, meter: Meter, items: list[Any], path: str) -> Keyed:
    meter.charge(len(items) * (path.count(".") + 1))
    return [(_reach(name, item, path), item) for item in items]


def _reach(name: str, item: Any, path: str) -> Any:
    for key in path.split(".") if path else ():
        if not isinstance(item, dict) or key not in item:
            raise Fault("missing", f'{name}(): an item has no "{path[:60]}"', path=path)
        item = item[key]
    return item


@data.function(
    "sortBy(items: list, key: string?, order: string?) -> list",
    'Sorts by a key (or by the items themselves), `"asc"` or `"desc"`; also `items.sortBy(x, x.key)`.',
    'sortBy([{"n": 2}, {"n": 1}], "n")',
    '[{"n": 1}, {"n": 2}]',
)
def sort_by(meter: Meter, items: list[Any], key: str = "", order: str = "asc") -> list[Any]:
    if order not in ("asc", "desc"):
        raise Fault("value", 'sortBy(): the order must be "asc" or "desc"')
    return sort_by_keys(meter, _keyed("sortBy", meter, items, key), order == "desc")


def sort_by_keys(meter: Meter, keyed: Keyed, reverse: bool = False) -> list[Any]:
    """Sorts items by their keys; stable, nulls last."""
    meter.charge(len(keyed) * 2)
    present = [pair for pair in keyed if pair[0] is not None]
    found = {"number" if kind(key) in ("int", "decimal") else kind(key) for key, _ in present}
    if len(found) > 1 or found & {"list", "map", "type", "function", "other"}:
        raise Fault("type", f"sortBy() cannot compare {' with '.join(sorted(found))} keys")
    ordered = sorted(present, key=lambda pair: pair[0], reverse=reverse)
    return [item for _, item in ordered] + [item for key, item in keyed if key is None]


@data.function(
    "groupBy(items: list, key: string) -> map",
    "Maps each value of a key to its items; also `items.groupBy(x, x.key)`.",
    'groupBy([{"c": "x", "n": 1}, {"c": "x", "n": 2}], "c").x.map(i, i.n)',
    "[1, 2]",
)
def group_by(meter: Meter, items: list[Any], key: str) -> dict[Any, list[Any]]:
    return group_by_keys(meter, _keyed("groupBy", meter, items, key))


def group_by_keys(meter: Meter, keyed: Keyed) -> dict[Any, list[Any]]:
    """Key → items, both in order of first appearance."""
    groups: dict[Any, list[Any]] = {}
    for key, item in keyed:
        mapped = map_key(key)
        if mapped is None:
            raise Fault("type", f"groupBy(): a key must be a string, a number or a bool, not a {kind(key)}")
        groups.setdefault(mapped, []).append(item)
    return groups


@data.function(
    "unique(items: list, key: string?) -> list",
    "Removes duplicates, keeping the first; compares whole items or a key; also `items.unique(x, x.key)`.",
    "unique([1, 2, 1.0])",
    "[1, 2]",
)
def unique(meter: Meter, items: list[Any], key: str = "") -> list[Any]:
    return unique_by_keys(meter, _keyed("unique", meter, items, key))


def unique_by_keys(meter: Meter, keyed: Keyed) -> list[Any]:
    """The first item of each key."""
    seen: dict[Any, Any] = {}
    for key, item in keyed:
        seen.setdefault(_comparable(meter, key, 0), item)
    return list(seen.values())


def _comparable(meter: Meter, value: Any, depth: int) -> Any:
    """A hashable form of a value; equal values of the language have equal forms."""
    meter.charge(1)
    if depth > MAX_VALUE_DEPTH:
        raise Fault("limit", f"a value is nested deeper than {MAX_VALUE_DEPTH} levels")
    if isinstance(value, list):
        return tuple(_comparable(meter, item, depth + 1) for item in value)
    if isinstance(value, dict):
        return frozenset((key, _comparable(meter, item, depth + 1)) for key, item in value.items())
    name = kind(value)
    if name in ("function", "other"):
        raise Fault("type", f"unique() does not accept a {name}")
    return ("number" if name in ("int", "decimal") else name, value)


@data.function(
    "flatten(items: list, depth: int?) -> list",
    "Flattens nested lists by one level or more.",
    "flatten([[1], 2])",
    "[1, 2]",
)
def flatten(meter: Meter, items: list[Any], depth: int = 1) -> list[Any]:
    if not 0 <= depth <= MAX_VALUE_DEPTH:
        raise Fault("value", f"flatten(): the depth must be from 0 to {MAX_VALUE_DEPTH}")
    for _ in range(depth):
        if not any(isinstance(item, list) for item in items):
            break
        size = sum(len(item) if isinstance(item, list) else 1 for item in items)
        meter.charge(size)
        meter.grow(size)
        items = [part for item in items for part in (item if isinstance(item, list) else (item,))]
    return items


@data.function("first(items: list) -> any", "The first item, or null if the list is empty.", "first([1, 2])", "1")
def first(meter: Meter, items: list[Any]) -> Any:
    return items[0] if items else None


@data.function("last(items: list) -> any", "The last item, or null if the list is empty.", "last([1, 2])", "2")
def last(meter: Meter, items: list[Any]) -> Any:
    return items[-1] if items else None


@data.function(
    "slice(x: list|string, start: int, end: int?) -> any",
    "A part of a list or text; negative indexes count from the end, out-of-range indexes are clipped.",
    "slice([1, 2, 3, 4], -3, -1)",
    "[2, 3]",
)
def part(meter: Meter, x: Any, start: int, end: int | None = None) -> Any:
    return x[start:end]


@data.function("json(x: any) -> string", "Compact JSON.", 'json({"a": [1.50, null]})', '"{\\"a\\":[1.50,null]}"')
def write_json(meter: Meter, x: Any) -> str:
    return compact(meter, to_json(meter, x))


@data.function("parseJson(s: string) -> any", "Parses JSON text, with exact numbers.", 'parseJson("[0.10]")[0]', "0.10")
def read_json(meter: Meter, s: str) -> Any:
    meter.charge(len(s) >> 4)
    try:
        return exact_json.loads(s)
    except (exact_json.JsonError, UnicodeError) as error:
        raise Fault("value", f"parseJson(): {str(error)[:200]}") from None


@data.function(
    "query(data: any, path: string) -> any",
    "The result of a JMESPath expression.",
    'query({"rows": [{"n": 1}, {"n": 2}]}, "rows[?n > `1`].n")',
    "[2]",
)
def query(meter: Meter, source: Any, path: str) -> Any:
    return run_query(meter, to_json(meter, source), path)
