"""Warnings where somebody outside shapes a spend."""

from __future__ import annotations

from typing import Any

import pytest

from dustrun import catalog
from dustrun.core.validate.whole import check_sources
from dustrun.core.workflow.definition import Definition

SPECS = catalog.load().specs()
SOMEBODY = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
HTTP = {"type": "http-request", "payload": {"url": "https://api.example.com/x"}}
MODEL = {"type": "llm", "connector": {"type": "llm-openai", "id": "c1"}, "payload": {"prompt": "?"}}


def warned(
    to: str, amount: str = "5", first: dict[str, Any] | None = None, trigger: str = "manual"
) -> list[tuple[str, str | None]]:
    """(code, field) of what is warned of: the trigger, a first node, a branch on it, then `pay`."""
    nodes: dict[str, dict[str, Any]] = {
        "root": {"type": trigger, "children": ["a"]},
        "a": (first or {"type": "log", "payload": {"message": "x"}}) | {"children": ["v"]},
        "v": {"type": "set-variable", "payload": {"name": "v", "value": "{{a.result}}"}, "children": ["i"]},
        "i": {"type": "if", "payload": {"expression": "a.result.body == 1"}, "children": ["pay"]},
        "pay": {
            "type": "send-native",
            "payload": {"chainId": 1, "recipient": to, "amount": amount},
            "branch": "then",
        },
    }
    definition = Definition.model_validate({"nodes": nodes, "triggerNodeIds": ["root"]})
    return [(str(one.code), one.field) for one in check_sources(definition, SPECS)]


@pytest.mark.parametrize("to", ["{{a.result.body.to}}", "{{$vars.v.body.to}}", "{{$nodes.a.error ?? $vars.v}}"])
def test_an_answer_that_names_who_is_paid_is_warned_of(to: str) -> None:
    assert warned(to, "{{a.result.body.n}}", HTTP) == [("SOURCE_NAMES_RECIPIENT", "nodes.pay.payload.recipient")]


def test_a_webhook_that_names_who_is_paid_is_warned_of() -> None:
    assert [code for code, _ in warned("{{$inputs.to}}", trigger="webhook")] == ["SOURCE_NAMES_RECIPIENT"]
    assert warned("{{$inputs.to}}") == []
    assert warned(SOMEBODY, "{{$inputs.n}}", trigger="webhook") == []


def test_a_model_may_shape_no_field() -> None:
    found = warned("{{$vars.v.text}}", "{{a.result.text}}", MODEL)
    assert [code for code, _ in found] == ["MODEL_DECIDES_SPEND"] * 2
    assert warned(SOMEBODY, "5", MODEL) == []
