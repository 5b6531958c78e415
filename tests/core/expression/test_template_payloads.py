"""Whole payloads: every text at any depth, static parts shared, all errors at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dustrun.core.expression import ExpressionError, ExpressionErrors, compile_value, read_value


def test_payload_is_filled_at_any_depth(world: Callable[..., Any]) -> None:
    payload = {"to": "{{$trigger.body.name}}", "rows": [{"n": "{{1 + 1}}"}, "x {{a.status}}"], "fixed": {"k": [1]}}
    filled = compile_value(payload).evaluate(world())
    assert filled == {"to": "Ann", "rows": [{"n": 2}, "x success"], "fixed": {"k": [1]}}
    assert filled["fixed"] is payload["fixed"]
    assert payload["to"] == "{{$trigger.body.name}}"


def test_payload_without_templates_is_shared(world: Callable[..., Any]) -> None:
    payload = {"a": [1, {"b": "x"}]}
    compiled = compile_value(payload)
    assert compiled.is_static
    assert compiled.evaluate(world()) is payload


def test_raw_field_is_left_alone(world: Callable[..., Any]) -> None:
    payload = {"code": "return `{{ not ours`", "value": "{{1}}", "inner": {"code": "{{2}}"}}
    compiled = compile_value(payload, frozenset({"code"}))
    assert compiled.evaluate(world()) == {"code": "return `{{ not ours`", "value": 1, "inner": {"code": 2}}


def test_references_carry_their_field() -> None:
    compiled = compile_value({"rows": [{"amount": "{{$nodes.a.result.price}}"}], "to": "{{b.x ?? 1}}"})
    found = [(field, r.root, r.path, r.guarded) for field, r in compiled.references]
    assert found == [
        ("rows[0].amount", "$nodes", ("a", "result", "price"), False),
        ("to", "b", ("x",), True),
    ]


def test_every_unreadable_template_is_reported() -> None:
    payload = {"a": "{{", "b": ["ok", "{{1 +}}"], "c": "{{nope(1)}}"}
    assert [(e.field, e.kind) for e in read_value(payload)[0]] == [("a", "syntax"), ("b[1]", "syntax"), ("c", "syntax")]
    with pytest.raises(ExpressionErrors) as caught:
        compile_value(payload)
    assert len(caught.value.errors) == 3


def test_failing_evaluation_names_the_field(world: Callable[..., Any]) -> None:
    with pytest.raises(ExpressionError) as caught:
        compile_value({"rows": [{"amount": "{{a.result.nope}}"}]}).evaluate(world())
    assert (caught.value.field, caught.value.path) == ("rows[0].amount", "a.result.nope")


def test_scalar_payload_is_its_own_value(world: Callable[..., Any]) -> None:
    assert compile_value("{{2 * 3}}").evaluate(world()) == 6
    assert compile_value(None).evaluate(world()) is None


def test_endless_nesting_is_refused() -> None:
    deep: Any = "{{1}}"
    for _ in range(2000):
        deep = [deep]
    assert [error.kind for error in read_value(deep)[0]] == ["limit"]
