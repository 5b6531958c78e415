"""Which money fields of a spend a person has seen before approving it."""

from __future__ import annotations

from typing import Any

from dustrun import catalog
from dustrun.core.sources.spend_slice import shown_fields
from dustrun.core.workflow.definition import Definition
from dustrun.core.workflow.program import compile_program

SPECS = catalog.load().specs()


def shown(message: str, amount: str, **changes: dict[str, Any]) -> set[str]:
    """The fields that `ask` shows of `pay`, which follows it."""
    nodes: dict[str, dict[str, Any]] = {
        "root": {"type": "manual", "children": ["set"]},
        "set": {"type": "set-variable", "payload": {"name": "v", "value": 1}, "children": ["ask"]},
        "ask": {"type": "approve", "payload": {"message": message}, "children": ["pay"]},
        "pay": {
            "type": "send-native",
            "payload": {"chainId": 1, "recipient": "{{$trigger.body.to}}", "amount": amount},
            "branch": "approved",
        },
    }
    nodes = {name: node | changes.get(name, {}) for name, node in nodes.items()}
    document = Definition.model_validate({"nodes": nodes, "triggerNodeIds": ["root"]})
    return set(shown_fields(compile_program(document, SPECS), "pay").get("ask", ()))


def test_a_field_is_shown_by_its_own_references() -> None:
    amount = "{{string(2 * $inputs.n)}}"
    assert shown("Pay {{ $trigger.body.n }} to {{root.result.body.to}}?", amount) == {"amount", "recipient"}
    assert shown("Pay {{$trigger.body}}?", amount) == {"amount", "recipient"}
    assert shown("Pay {{$trigger.body.n}}?", amount) == {"amount"}


def test_what_only_hints_at_a_value_does_not_show_it() -> None:
    assert shown("{{$trigger.body.n > 100 ? 'Much' : 'Little'}}?", "{{string(1 + $inputs.n)}}") == set()
    assert shown("Pay {{$trigger.body.n}}?", "{{$inputs.n}}") == set(), "it may be `max`, which the chain answers"
    assert shown("Pay {{$vars.v}}?", "{{string(1 + $vars.v)}}") == set(), "a variable may change after the answer"


def test_a_spend_that_runs_without_the_approval_has_none() -> None:
    amount = "{{string(1 + $inputs.n)}}"
    assert shown("Pay {{$trigger.body.n}}?", amount, pay={"branch": "rejected"}) == set()
    assert shown("Pay {{$trigger.body.n}}?", amount, set={"children": ["ask", "pay"]}) == set()
