"""Pinned results that a node could not have are warned of, each with its place."""

from __future__ import annotations

from typing import Any

import pytest

from dustrun.catalog import load
from dustrun.core.validate import check
from dustrun.core.workflow.definition import Definition

CATALOG = load()
SPECS = CATALOG.specs()


def warnings(type_: str, pinned: Any, **payload: Any) -> list[tuple[str, str]]:
    """(field, message) of what is said of a pin."""
    nodes = {"root": {"type": "manual", "children": ["a"]}, "a": {"type": type_, "payload": payload, "pinned": pinned}}
    found = [one for one in check(Definition.model_validate({"nodes": nodes}), SPECS) if one.code == "pinned_result"]
    assert {one.severity for one in found} <= {"warning"}
    return [(one.field.removeprefix("nodes.a."), one.message) for one in found]


@pytest.mark.parametrize(
    ("type_", "pinned", "field", "says"),
    [
        ("http-request", {"status": "ok"}, "pinned.status", "whole number"),
        ("http-request", {"sattus": 200}, "pinned.sattus", 'Did you mean "status"'),
        ("http-request", None, "pinned", "is an object with status, "),
        ("http-request", "200", "pinned", "this one is not"),
        ("for-each", {"iterations": 3}, "pinned.iterations", "list"),
        ("call-workflow", [], "pinned", "is an object with "),
        ("approve", "yes", "pinned", "is one of timed_out, approved, rejected"),
        ("approve", {"decision": ["approved"]}, "pinned", "is one of timed_out, approved, rejected"),
    ],
)
def test_what_a_node_could_not_give(type_: str, pinned: Any, field: str, says: str) -> None:
    ((place, message),) = warnings(type_, pinned)
    assert place == field
    assert says in message


@pytest.mark.parametrize("type_", sorted(CATALOG.actions))
def test_an_example_result_is_a_good_pin(type_: str) -> None:
    assert warnings(type_, CATALOG.actions[type_].example_output) == []


@pytest.mark.parametrize(
    ("type_", "pinned"),
    [
        ("http-request", {"status": 200}),
        ("http-request", {}),
        ("approve", "rejected"),
        ("approve", {"branch": "timed_out"}),
        ("wait", {"anything": 1}),
        ("wait", 7),
    ],
)
def test_what_may_be_left_out_or_is_free(type_: str, pinned: Any) -> None:
    assert warnings(type_, pinned) == []
