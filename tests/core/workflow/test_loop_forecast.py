"""Which spends of a loop are known before its first item begins, and why others are not."""

from __future__ import annotations

from typing import Any

import pytest

from core.workflow.test_forecast import log, program
from dustrun.core.workflow.loop_forecast import LoopForecast, begins, forecast_loop

MEANWHILE = '"more" lets time pass, or may spend too, between items'
PAID: dict[str, Any] = {
    "type": "send-native",
    "payload": {"chainId": 1, "recipient": "{{$item.to}}", "amount": "{{$item.units}}"},
}


def each(*body: str, array: Any = "{{$inputs.rows}}", **more: Any) -> dict[str, Any]:
    return {"type": "for-each", "payload": {"array": array}, "loopBody": [*body], **more}


def pay(amount: str = "{{$item.units}}", **more: Any) -> dict[str, Any]:
    return {**PAID, "payload": {**PAID["payload"], "amount": amount}, **more}


def forecast(**nodes: dict[str, Any]) -> LoopForecast:
    return forecast_loop(program(**nodes), "each")


@pytest.mark.parametrize(
    "amount",
    [
        "5",
        "{{$item.a + $index}}",
        "{{$trigger.body.x}}",
        "{{$props.p}}",
        "{{$vars.v}}",
        "{{first.result.x}}",
        "{{$nodes.first.result.x}}",
    ],
)
def test_what_is_there_before_the_loop_is_known(amount: str) -> None:
    found = forecast(first=log("x", children=["each"]), each=each("pay"), pay=pay(amount))
    assert ({*found.spends}, found.unknown) == ({"pay"}, {})
    assert found.reads_variables == ("$vars" in amount)
    assert found.reads == ({"first"} if "first" in amount else set())


@pytest.mark.parametrize(
    ("amount", "why"),
    [
        ("{{before.result.x}}", 'it depends on "before"'),
        ("{{$nodes.before.result.x}}", 'it depends on "before"'),
        ("{{$nodes[$item.name].result}}", "it depends on $nodes"),
        ("{{$now}}", "it depends on $now"),
        ("{{each.input.array}}", 'it depends on "each"'),
    ],
)
def test_what_the_body_or_the_time_gives_is_not(amount: str, why: str) -> None:
    found = forecast(each=each("before"), before=log("x", children=["pay"]), pay=pay(amount))
    assert ({*found.spends}, found.unknown) == (set[str](), {"pay": why})


@pytest.mark.parametrize(
    ("node", "why"),
    [
        ({"type": "delay", "payload": {"delayMs": 5}}, MEANWHILE),
        ({"type": "call-workflow", "payload": {"workflowId": "wf"}}, MEANWHILE),
        ({**log("x"), "rate": {"count": 1, "perMs": 1}}, 'the rate of "more" lets time pass between items'),
    ],
)  # fmt: skip
def test_a_loop_that_takes_its_time_is_not_known(node: dict[str, Any], why: str) -> None:
    found = forecast(each=each("inner", "pay"), inner=each("more"), more=node, pay=pay())
    assert ({*found.spends}, found.unknown) == (set[str](), {"pay": why})


def test_a_variable_that_the_body_writes_is_not_known() -> None:
    add = {"type": "increment-variable", "payload": {"name": "v"}}
    assert forecast(each=each("add", "pay"), add=add, pay=pay("{{$vars.v}}")).unknown
    assert forecast(each=each("add", "pay"), add=add, pay=pay()).spends == {"pay"}


def test_inner_loops_and_decisions_are_known_if_their_inputs_are() -> None:
    test = {"type": "if", "payload": {"expression": "$item.ok"}, "children": ["pay"]}
    found = forecast(each=each("rows"), rows=each("test", array="{{$item}}"), test=test, pay=pay(branch="then"))
    assert ({*found.spends}, {*found.loops}, {*found.deciders}) == ({"pay"}, {"rows"}, {"test"})
    assert found.orders == {"each": ("rows",), "rows": ("test", "pay")}
    asked = {**test, "payload": {"expression": "ask.result.ok"}}
    found = forecast(each=each("ask"), ask=log("x", children=["test"]), test=asked, pay=pay(branch="then"))
    assert ({*found.spends}, {*found.deciders}) == ({"pay"}, set[str]())  # whether an item comes there is not
    hidden = forecast(
        each=each("ask"), ask=log("x", children=["rows"]), rows=each("pay", array="{{ask.result}}"), pay=pay()
    )
    assert hidden.unknown == {"pay": 'the items of "rows" are not known before'}


def test_a_node_behind_an_unknown_decision_may_begin_or_not() -> None:
    made = program(
        each=each("test"),
        test={"type": "if", "payload": {"expression": "$item"}, "children": ["pay"]},
        pay=pay(branch="then"),
    )
    edges = made.graph.edges_into["pay"]
    assert [begins(edges, {"test": True}, branches) for branches in ({"test": "then"}, {"test": "else"}, {})] == [
        True,
        False,
        None,
    ]
    assert [begins(edges, {"test": parent}, {"test": "then"}) for parent in (False, None)] == [False, None]
    assert begins((), {}, {}) is True
