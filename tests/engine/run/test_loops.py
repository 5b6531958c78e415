"""Loops: order, errors of items, nesting, and a result that always fits."""

from __future__ import annotations

import json
from typing import Any

import pytest

from engine.conftest import Bench, Definition, attempts, let_go, trial
from engine.test_variables import result, say


def each(array: Any, *body: str, **more: Any) -> Definition:
    node: Definition = {name: more.pop(name) for name in ("children", "onError") if name in more}
    return {"type": "for-each", "payload": {"array": array, **more}, "loopBody": [*body], **node}


async def test_results_are_in_the_order_of_the_items(bench: Bench) -> None:
    slow = trial(name="n{{$item}}", value="{{$item}}", sleepMs="{{(5 - $index) * 10}}")
    run = await bench.run({"each": each([4, 3, 2, 1, 0], "t", concurrency=5), "t": slow})
    found = result(run, "each")
    assert [item["results"]["t"]["value"] for item in found["iterations"]] == [4, 3, 2, 1, 0]
    assert (found["iterationCount"], found["counts"]) == (5, {"success": 5, "partial": 0, "failure": 0, "skipped": 0})


@pytest.mark.parametrize(
    ("on_item_error", "status", "node", "counts"),
    [
        ("continue", "partial", "partial", {"success": 3, "partial": 0, "failure": 1, "skipped": 0}),
        ("stop", "partial", "partial", {"success": 1, "partial": 0, "failure": 1, "skipped": 2}),
        ("fail", "failure", "failure", None),
    ],
)
async def test_an_item_fails(bench: Bench, on_item_error: str, status: str, node: str, counts: Any) -> None:
    nodes = {
        "each": each([0, 1, 2, 3], "check", onItemError=on_item_error),
        "check": {"type": "if", "payload": {"expression": "{'a': true}[$index == 1 ? 'b' : 'a']"}},
    }
    run = await bench.run(nodes)
    state = run["executionState"]["each"]
    assert (run["status"], state["status"]) == (status, node)
    if counts is None:
        assert state["error"]["message"].startswith("An item of the loop failed. Item 1 failed first:")
    else:
        assert state["result"]["counts"] == counts
        assert "error" in state["result"]["iterations"][1]


@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize(
    "payload", [{"array": [1, 2]}, {"while": "$index < 1"}], ids=lambda payload: next(iter(payload))
)
async def test_a_loop_without_a_body_does_nothing_per_item(bench: Bench, payload: Definition, later: bool) -> None:
    """Validation warns of it; half-finished loops are run while a workflow is being built."""
    loop = {"type": "for-each", "payload": payload, "children": ["after"]}
    first: Definition = {"pause": {"type": "delay", "payload": {"delayMs": 1}, "children": ["each"]}} if later else {}
    run = await bench.run({**first, "each": loop, "after": say("{{each.result.iterationCount}}")})
    assert (run["status"], result(run, "after")["message"]) == ("success", "2")
    assert [item["results"] for item in result(run, "each")["iterations"]] == [{}, {}]


def nested(depth: int) -> Definition:
    nodes: Definition = {"leaf": say("{{$for.l0.index}}" + "{{$index}}")}
    for level in range(depth):
        nodes[f"l{level}"] = each(
            [0, 1] if level in (0, depth - 1) else [0], f"l{level + 1}" if level < depth - 1 else "leaf"
        )
    return nodes


async def test_loops_nest_to_ten(bench: Bench) -> None:
    run = await bench.run(nested(10))
    found = result(run, "l0")
    for level in range(1, 10):
        found = found["iterations"][1 if level == 1 else 0]["results"][f"l{level}"]
    assert [item["results"]["leaf"]["message"] for item in found["iterations"]] == ["10", "11"]
    named = {child for node in nested(11).values() for child in node.get("loopBody", ())}
    document = {"root": {"type": "manual", "children": ["l0"]}, **nested(11)}
    assert "l0" not in named
    reply = await bench.api.post("/v1/runs", {"definition": {"nodes": document}})
    assert reply.code == 400228
    assert [detail["code"] for detail in reply.body["details"]] == ["loops_too_deep"]


async def test_loop_with_large_results_keeps_its_counts(bench: Bench) -> None:
    """Thirty items of 100 KiB are more than a node's result may hold."""
    nodes = {
        "each": each(list(range(30)), "t", children=["end"]),
        "t": trial(value="{{'" + "x" * 1024 + "' + $trigger.body.long}}"),
        "end": say("{{each.result.iterationCount}} {{size(each.result.iterations)}} {{each.result.resultsOmitted}}"),
    }
    run = await bench.run(nodes, payload={"long": "é" * 50_000})
    found = result(run, "each")
    size = len(json.dumps(found, ensure_ascii=False, separators=(",", ":")).encode())
    assert 800_000 < size <= 1_048_576
    assert (found["counts"]["success"], found["resultsOmitted"]) == (30, 20)
    assert found["iterations"][0]["results"]["t"]["value"].endswith("é")
    assert found["iterations"][29] == {"index": 29, "status": "success", "resultsOmitted": True}
    assert result(run, "end")["message"] == "30 30 20"


async def test_retry_of_a_run_keeps_the_items_that_were_done(bench: Bench) -> None:
    outcomes = "{{$index == 1 ? ['permanent'] : []}}"
    nodes = {
        "each": each("{{[$now, 'b', 'c']}}", "t"),
        "t": trial(name="kept-{{$index}}", value="{{$item}}", outcomes=outcomes),
    }
    run = await bench.run(nodes)
    assert run["status"] == "failure"
    retried = await bench.ended((await bench.api.post(f"/v1/runs/{run['id']}/retry")).data["runId"])
    assert retried["status"] == "success"
    names = [name for name, _ in attempts() if name.startswith("kept-")]
    assert (names.count("kept-0"), names.count("kept-1"), names.count("kept-2")) == (1, 2, 1)
    before = run["executionState"]["each"]["iterations"][0]["t"]["input"]["value"]
    assert retried["executionState"]["each"]["iterations"][0]["t"]["result"]["value"] == before


@pytest.mark.both_stores
async def test_retry_does_what_a_cancel_cut_off_in_items(bench: Bench) -> None:
    """All items had begun, so the loop closed, although none was done."""
    wait = {"type": "wait", "payload": {"timeoutMs": 600_000}, "children": ["then"]}
    nodes = {"each": each([0, 1], "w", concurrency=2), "w": wait, "then": trial(name="cut{{$item}}")}
    run_id = await bench.start(nodes)
    await bench.until(run_id, lambda run: run["status"] == "waiting")
    await bench.api.post(f"/v1/runs/{run_id}/cancel", {})
    first = await bench.ended(run_id)
    cut = first["executionState"]["each"]
    assert (first["status"], cut["status"]) == ("cancelled", "partial")
    assert cut["result"]["counts"] == {"success": 0, "partial": 2, "failure": 0, "skipped": 0}
    second = (await bench.api.post(f"/v1/runs/{run_id}/retry")).data["runId"]
    for item in (0, 1):
        where = {"forEachContext": {"stack": [{"parentNodeId": "each", "index": item}]}}
        await bench.until(second, lambda run: run["status"] == "waiting")
        await bench.api.post(f"/v1/runs/{second}/nodes/w/resume", {"data": {}, **where})
    again = await bench.ended(second)
    assert (again["status"], result(again, "each")["counts"]["success"]) == ("success", 2)
    assert sorted(name for name, _ in attempts() if name.startswith("cut")) == ["cut0", "cut1"]


async def test_retry_does_what_a_failure_beside_the_loop_cut_off_in_items(bench: Bench) -> None:
    nodes = {
        "each": each([0, 1], "first", concurrency=2),
        "first": trial(name="beside", held=True, children=["then"]),
        "then": trial(name="after{{$item}}"),
        "bad": trial(name="bad", outcomes=["permanent"]),
    }
    run_id = await bench.start(nodes)
    await bench.until(run_id, lambda run: run["executionState"].get("bad", {}).get("status") == "failure")
    let_go("beside")
    first = await bench.ended(run_id)
    assert (first["status"], first["executionState"]["each"]["status"]) == ("failure", "partial")
    again = await bench.ended((await bench.api.post(f"/v1/runs/{run_id}/retry")).data["runId"])
    assert (again["status"], result(again, "each")["counts"]["success"]) == ("success", 2)
    assert sorted(name for name, _ in attempts() if name.startswith("after")) == ["after0", "after1"]
    assert [name for name, _ in attempts() if name == "beside"] == ["beside", "beside"]  # kept, not done again


async def test_retry_goes_on_with_a_while_that_a_cancel_ended_between_iterations(bench: Bench) -> None:
    nodes = {
        "each": {"type": "for-each", "payload": {"while": "$index < 2"}, "loopBody": ["step"]},
        "step": trial(name="turn{{$index}}", held=True),
    }
    run_id = await bench.start(nodes)
    await bench.until(run_id, lambda run: "turn0" in [name for name, _ in attempts()])
    await bench.api.post(f"/v1/runs/{run_id}/cancel", {})
    for turn in range(3):
        let_go(f"turn{turn}")
    first = await bench.ended(run_id)
    assert (first["status"], first["executionState"]["each"]["status"]) == ("cancelled", "partial")
    again = await bench.ended((await bench.api.post(f"/v1/runs/{run_id}/retry")).data["runId"])
    assert (again["status"], result(again, "each")["iterationCount"]) == ("success", 3)


async def test_pinned_control_nodes_in_a_simulation(bench: Bench) -> None:
    nodes = {
        "if": {"type": "if", "payload": {"expression": "true"}, "pinned": {"branch": "else"}, "children": ["y", "n"]},
        "y": {**say("y"), "branch": "then"},
        "n": {**say("n"), "branch": "else"},
        "each": {**each([1, 2], "body"), "pinned": {"iterations": [], "iterationCount": 0}},
        "body": trial(name="pinned body"),
    }
    run = await bench.run(nodes, simulate=True)
    state = run["executionState"]
    assert (state["y"]["status"], state["n"]["status"], state["each"]["result"]["iterationCount"]) == (
        "skipped",
        "success",
        0,
    )
    assert (await bench.run(nodes))["executionState"]["y"]["status"] == "success"
