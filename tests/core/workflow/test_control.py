"""What validation says of control nodes: each finding names its node and field."""

from __future__ import annotations

from typing import Any

import pytest

from dustrun.catalog import load
from dustrun.core.validate import check
from dustrun.core.workflow.control import CONTROL, DOCS
from dustrun.core.workflow.definition import Definition

SPECS = load().specs()


def problems(nodes: dict[str, Any], **more: Any) -> list[tuple[str, str, str]]:
    """(code, field, severity) of every finding; the root leads to every node that nobody names."""
    named = {child for node in nodes.values() for child in (*node.get("children", ()), *node.get("loopBody", ()))}
    root = {"type": "manual", "children": [name for name in nodes if name not in named]}
    found = check(Definition.model_validate({"nodes": {"root": root, **nodes}, **more}), SPECS)
    return [(problem.code or "", problem.field, problem.severity) for problem in found]


def test_every_control_node_is_documented_with_an_example_that_fits() -> None:
    assert CONTROL.keys() == DOCS.keys()
    for kind, doc in DOCS.items():
        CONTROL[kind].payload.model_validate(doc.example_input)
        assert set(doc.example_output) <= (CONTROL[kind].result_fields or set())


@pytest.mark.parametrize(
    ("node", "found"),
    [
        ({"type": "wait", "payload": {}}, [("payload_invalid", "nodes.n.payload.timeoutMs", "error")]),
        ({"type": "wait", "payload": {"timeoutMs": 999}}, [("payload_invalid", "nodes.n.payload.timeoutMs", "error")]),
        (
            {"type": "wait", "payload": {"timeoutMs": 604_800_001}},
            [("payload_invalid", "nodes.n.payload.timeoutMs", "error")],
        ),
        ({"type": "wait", "payload": {"timeoutMs": 604_800_000}}, []),
        ({"type": "wait", "payload": {"timeoutMs": "{{$trigger.body.ms}}"}}, []),
        (
            {"type": "wait", "payload": {"timeoutMs": 1000, "triggerType": "cron"}},
            [("trigger_not_awaitable", "nodes.n.payload.triggerType", "error")],
        ),
        (
            {"type": "wait", "payload": {"timeoutMs": 1000, "triggerType": "manual", "triggerConfig": {"x": 1}}},
            [("payload_invalid", "nodes.n.payload.triggerConfig.x", "error")],
        ),
        (
            {"type": "wait", "payload": {"timeoutMs": 1000, "triggerConfig": {}}},
            [("payload_invalid", "nodes.n.payload", "error")],
        ),
        (
            {"type": "wait", "payload": {"timeoutMs": 1000}, "timeoutMs": 5},
            [("timeout_without_effect", "nodes.n.timeoutMs", "warning")],
        ),
        ({"type": "approve", "payload": {}}, [("payload_invalid", "nodes.n.payload.message", "error")]),
        (
            {"type": "call-workflow", "payload": {"workflowId": "w", "mode": "fire"}},
            [("payload_invalid", "nodes.n.payload.mode", "error")],
        ),
        ({"type": "call-workflow", "payload": {"workflowId": "w"}, "timeoutMs": 5}, []),
        (
            {"type": "if", "payload": {"expression": "true"}, "pinned": 1},
            [("pinned_branch", "nodes.n.pinned", "error")],
        ),
        ({"type": "if", "payload": {"expression": "true"}, "pinned": {"branch": "then"}}, []),
        ({"type": "for-each", "payload": {"array": []}}, [("loop_body_missing", "nodes.n.loopBody", "warning")]),
        (
            {"type": "for-each", "payload": {"array": [], "concurrency": 51}},
            [
                ("payload_invalid", "nodes.n.payload.concurrency", "error"),
                ("loop_body_missing", "nodes.n.loopBody", "warning"),
            ],
        ),
        (
            {"type": "get-variable", "payload": {"name": "n"}},
            [("variable_undeclared", "nodes.n.payload.name", "warning")],
        ),
        (
            {"type": "log", "payload": {"message": "{{$run.resumeUrl('none')}}"}},
            [("resume_url_unknown", "nodes.n.payload.message", "error")],
        ),
        (
            {"type": "log", "payload": {"message": "{{$run.resumeUrl('n')}}"}},
            [("resume_url_unknown", "nodes.n.payload.message", "error")],
        ),
    ],
)
def test_finding(node: dict[str, Any], found: list[tuple[str, str, str]]) -> None:
    assert problems({"n": node}) == found


def test_link_to_a_wait_in_a_loop_is_made_inside_of_it() -> None:
    nodes = {
        "each": {"type": "for-each", "payload": {"array": [1]}, "loopBody": ["w"], "children": ["out"]},
        "w": {"type": "wait", "payload": {"timeoutMs": 1000}, "children": ["in"]},
        "in": {"type": "log", "payload": {"message": "{{$run.resumeUrl('w')}}"}},
        "out": {"type": "log", "payload": {"message": '{{$run.resumeUrl("w")}}'}},
    }
    assert problems(nodes) == [("resume_url_outside_loop", "nodes.out.payload.message", "error")]


def test_branches_of_waits() -> None:
    wait = {"type": "wait", "payload": {"timeoutMs": 1000}, "children": ["c"]}
    approve = {"type": "approve", "payload": {"message": "?"}, "children": ["c"]}
    for parent, branch in (
        (wait, "resumed"),
        (wait, "timed_out"),
        (approve, "approved"),
        (approve, "rejected"),
        (approve, "timed_out"),
    ):
        assert problems({"p": parent, "c": {"type": "log", "payload": {"message": "x"}, "branch": branch}}) == []
    assert [
        code
        for code, _, _ in problems({"p": wait, "c": {"type": "log", "payload": {"message": "x"}, "branch": "approved"}})
    ] == ["unknown_branch"]
