"""Lists and maps. Keys given as text may be paths: `"user.name"`."""

from __future__ import annotations

from typing import Any

from dustrun.core.expression.functions.query import run_query
from dustrun.core.expression.functions.table import Group
from dustrun.core.expression.runtime.border import compact, to_json
from dustrun.core.expression.runtime.fault import Fault
from dustrun.core.expression.runtime.limits import Meter
from dustrun.core.expression.runtime.operators import MAX_VALUE_DEPTH
from dustrun.core.expression.runtime.values import from_key, kind, map_key
from dustrun.core.values import exact_json

data = Group("Data")

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
