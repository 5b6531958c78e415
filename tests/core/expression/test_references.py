"""References found without running."""

from __future__ import annotations

from typing import Any

import pytest

from dustrun.core.expression import parse_template


def found(text: str) -> list[tuple[Any, ...]]:
    return [(r.root, *r.path, "?") if r.guarded else (r.root, *r.path) for r in parse_template(text).references]


@pytest.mark.parametrize(
    ("text", "references"),
    [
        ("{{$nodes.a.result.rows[0].x}}", [("$nodes", "a", "result", "rows", 0, "x")]),
        ('{{$nodes["my-node"].result}}', [("$nodes", "my-node", "result")]),
        ("{{$nodes.a.result[$index].x}}", [("$nodes", "a", "result"), ("$index",)]),
        ("{{a.x ?? b.y ?? c.z}}", [("a", "x", "?"), ("b", "y", "?"), ("c", "z")]),
        ("{{a.x || b.y}}", [("a", "x", "?"), ("b", "y")]),
        ("{{(a.x ?? b.y) + c}}", [("a", "x", "?"), ("b", "y"), ("c",)]),
        ("{{has(a.x) && a.x.y > 1}}", [("a", "x", "?"), ("a", "x", "y", "?")]),
        ("{{has(a.x) ? a.x : b}}", [("a", "x", "?"), ("a", "x", "?"), ("b",)]),
        ("{{has(a.x) || a.x > 1}}", [("a", "x", "?"), ("a", "x")]),
        ("{{rows.map(r, r.x + $item)}}", [("rows",), ("$item",)]),
        ("{{rows.filter(r, r.n > limit.n).size()}}", [("rows",), ("limit", "n")]),
        ("{{[1].map(x, [2].map(x, x)) + x}}", [("x",)]),
        ("{{type(a) == int}}", [("a",)]),
        ("{{cel.bind(x, a.b, x + c)}}", [("a", "b"), ("c",)]),
        ("{{rows.transformMap(k, v, k + v + w)}}", [("rows",), ("w",)]),
        ("{{rows.sortBy($key, 'desc')}}", [("rows",), ("$key",)]),
        ("{{type(a) == google.protobuf.Timestamp}}", [("a",)]),
        ("{{now()}}", [("$now",)]),
        ("{{$run.resumeUrl('w')}}", [("$run", "resumeUrl")]),
        ("{{a.result.trim().size()}}", [("a", "result")]),
        ("{{ {'k': a.b, c: [d]} }}", [("a", "b"), ("c",), ("d",)]),
    ],
)
def test_references_are_found(text: str, references: list[tuple[Any, ...]]) -> None:
    assert found(text) == references


def test_reference_has_its_place_in_the_template() -> None:
    first, second = parse_template("x\n {{ 1 + a.b }} {{c}}").references
    assert (first.line, first.column) == (2, 9)
    assert (second.line, second.column) == (2, 18)
