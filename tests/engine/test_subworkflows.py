"""`call-workflow`: results, failures, modes, circles, cancels, and restarts at every moment."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from dustrun.services.runs.engine_port import ChildCall, RunFacts
from dustrun.services.runs.subworkflow import Submit
from dustrun.storage.db.tables import runs
from engine.conftest import OWN_ACTIONS, Bench, Definition, attempts, trial
from engine.test_variables import Flow, add, result, say
from testkit.composition import composed


def call(workflow_id: str, *children: str, **more: Any) -> Definition:
    payload = {"workflowId": workflow_id, **more.pop("payload", {})}
    return {"type": "call-workflow", "payload": payload, "children": [*children], **more}


async def child_of(bench: Bench, run_id: str, path: str = "call") -> dict[str, Any]:
    """The run that a node has called."""
    async with asyncio.timeout(60):
        while True:
            found = [r for r in (await bench.api.get("/v1/runs?limit=100")).data["items"] if r["parentRunId"] == run_id]
            for run in found:
                if run["parentPath"] == path:
                    return dict(run)
            await asyncio.sleep(0.01)


async def test_result_of_the_called_run_is_the_nodes(bench: Bench) -> None:
    callee = await Flow.make(bench, {"a": say("hello {{$trigger.body.name}}", "b"), "b": say("{{a.result.message}}!")})
    run = await bench.run(
        {
            "call": call(callee.id, "after", payload={"payload": {"name": "Ada"}}),
            "after": say("{{call.result.result.message}}"),
        }
    )
    child = await child_of(bench, run["id"])
    assert result(run, "call") == {
        "runId": child["id"],
        "workflowId": callee.id,
        "status": "success",
        "result": {"message": "hello Ada!"},
        "results": {"b": {"message": "hello Ada!"}},
    }
    assert result(run, "after")["message"] == "hello Ada!"
    assert (child["triggerSource"], child["mode"], child["status"]) == ("workflow", "live", "success")
    report = (await bench.api.get(f"/v1/runs/{run['id']}/effects")).data["children"]
    assert [entry["runId"] for entry in report] == [child["id"]]


async def test_started_run_is_not_waited_for(bench: Bench) -> None:
    callee = await Flow.make(bench, {"w": {"type": "wait", "payload": {"timeoutMs": 600_000}}})
    run = await bench.run({"call": call(callee.id, payload={"mode": "start"})})
    child = await child_of(bench, run["id"])
    assert (run["status"], result(run, "call")["status"], child["finishedAt"]) == ("success", "started", None)


async def test_failure_of_the_called_run(bench: Bench) -> None:
    callee = await Flow.make(bench, {"a": trial(name="callee", outcomes=["permanent"])})
    nodes = {"call": call(callee.id, "bad", onError="branch"), "bad": {**say("{{call.error.code}}"), "branch": "error"}}
    run = await bench.run(nodes)
    child = await child_of(bench, run["id"])
    assert result(run, "bad")["message"] == "CHILD_FAILED"
    error = run["executionState"]["call"]["error"]
    assert error["message"] == f"The called run {child['id']} failed: attempt 1 is permanent"
    assert error["details"] == [{"field": "runId", "message": child["id"]}]


async def test_partial_run_makes_a_partial_node(bench: Bench) -> None:
    callee = await Flow.make(
        bench, {"a": trial(name="part", outcomes=["permanent"], onError="continue", children=["b"]), "b": say("x")}
    )
    run = await bench.run({"call": call(callee.id)})
    assert (run["status"], run["executionState"]["call"]["status"]) == ("partial", "partial")


async def test_circles_are_refused(bench: Bench) -> None:
    first = await Flow.make(bench, {"a": say("x")})
    second = await Flow.make(bench, {"call": call(first.id)})
    body = {"definition": {"nodes": {"root": {"type": "manual", "children": ["call"]}, "call": call(second.id)}}}
    await bench.api.put(f"/v1/workflows/{first.id}", body)
    run = await first.run()
    deepest = (await bench.api.get("/v1/runs?limit=100&status=failure")).data["items"][0]
    assert run["status"] == "failure"
    assert deepest["error"]["code"] == "REFUSED"
    assert f"{first.id} → {second.id} → {first.id}" in deepest["error"]["message"]


async def test_calls_go_ten_levels_deep(bench: Bench) -> None:
    below = await Flow.make(bench, {"a": say("bottom")})
    for _ in range(9):
        below = await Flow.make(bench, {"call": call(below.id)})
    run = await bench.run({"call": call(below.id)})
    assert run["status"] == "success"
    too_deep = await Flow.make(bench, {"call": call(below.id)})
    run = await bench.run({"call": call(too_deep.id)})
    assert run["status"] == "failure"
    assert "at most 10 levels deep" in run["error"]["message"]


async def test_what_cannot_be_called(bench: Bench) -> None:
    schema = {"type": "object", "required": ["n"]}
    picky = (
        await bench.api.create_workflow(
            {
                "nodes": {
                    "root": {"type": "manual", "payload": {"inputSchema": schema}, "children": ["a"]},
                    "a": say("x"),
                }
            }
        )
    )["id"]
    run = await bench.run({"call": call(picky)})
    assert run["error"]["code"] == "INVALID_INPUT"
    assert run["error"]["details"][0]["field"].startswith("payload")
    run = await bench.run({"call": call("{{'wf_none'}}")})
    assert 'no workflow "wf_none"' in run["error"]["message"]
    run = await bench.run({"call": call(picky, payload={"version": "{{7}}", "payload": {"n": 1}})})
    assert "no version 7" in run["error"]["message"]
    await bench.api.delete(f"/v1/workflows/{picky}")
    run = await bench.run({"call": call(f"{{{{'{picky}'}}}}", payload={"payload": {"n": 1}})})
    assert "is archived" in run["error"]["message"]
    foreign = await (await bench.composition.other_owner()).create_workflow()
    run = await bench.run({"call": call(f"{{{{'{foreign['id']}'}}}}")})
    assert "no workflow" in run["error"]["message"]


async def test_cancel_of_the_caller_cancels_what_it_waits_for(bench: Bench) -> None:
    inner = await Flow.make(bench, {"w": {"type": "wait", "payload": {"timeoutMs": 600_000}}})
    outer = await Flow.make(bench, {"call": call(inner.id)})
    run_id = await bench.start({"call": call(outer.id)})
    middle = await child_of(bench, run_id)
    innermost = await child_of(bench, middle["id"])
    await bench.until(innermost["id"], lambda run: run["status"] == "waiting")
    await bench.api.post(f"/v1/runs/{run_id}/cancel")
    for each in (run_id, middle["id"], innermost["id"]):
        assert (await bench.ended(each))["status"] == "cancelled"


async def test_cancel_of_the_called_run_fails_the_node(bench: Bench) -> None:
    callee = await Flow.make(bench, {"w": {"type": "wait", "payload": {"timeoutMs": 600_000}}})
    run_id = await bench.start({"call": call(callee.id)})
    child = await child_of(bench, run_id)
    await bench.api.post(f"/v1/runs/{child['id']}/cancel")
    assert (await bench.ended(run_id))["error"]["code"] == "CHILD_CANCELLED"


async def test_time_limit_of_a_call_cancels_the_called_run(bench: Bench) -> None:
    callee = await Flow.make(bench, {"w": {"type": "wait", "payload": {"timeoutMs": 600_000}}})
    run = await bench.run({"call": call(callee.id, timeoutMs=2_000)})
    assert run["error"]["code"] == "TIMEOUT"
    child = await child_of(bench, run["id"])
    assert (await bench.ended(child["id"]))["status"] == "cancelled"


async def test_calls_in_a_loop_keep_the_order(bench: Bench) -> None:
    callee = await Flow.make(
        bench,
        {
            "d": {"type": "delay", "payload": {"delayMs": "{{$trigger.body.ms}}"}, "children": ["s"]},
            "s": say("{{$trigger.body.ms}}"),
        },
    )
    loop = {"type": "for-each", "payload": {"array": [90, 10, 50], "concurrency": 3}, "loopBody": ["call"]}
    run = await bench.run({"each": loop, "call": call(callee.id, payload={"payload": {"ms": "{{$item}}"}})})
    items = run["executionState"]["each"]["result"]["iterations"]
    assert [item["results"]["call"]["result"]["message"] for item in items] == ["90", "10", "50"]


async def test_called_workflows_are_simulated_on_the_same_clock_and_overlay(bench: Bench) -> None:
    callee = await Flow.make(
        bench,
        {
            "d": {"type": "delay", "payload": {"delayMs": 86_400_000}, "children": ["t"]},
            "t": trial(name="never sent", children=["n"], pinned={"value": 1, "attempts": 1}),
            "n": add("n", "s"),
            "s": say("{{$now}}"),
        },
    )
    nodes = {"one": call(callee.id, "two"), "two": call(callee.id, "end"), "end": say("{{$now}}")}
    run = await bench.run(nodes, simulate=True)
    assert (run["status"], run["passed"]) == ("success", True)
    first, second = await child_of(bench, run["id"], "one"), await child_of(bench, run["id"], "two")
    assert first["mode"] == second["mode"] == "simulate"
    state = [(await bench.api.get(f"/v1/runs/{each['id']}")).data["executionState"] for each in (first, second)]
    assert [child["n"]["result"]["value"] for child in state] == [1, 2]
    times = [state[0]["s"]["result"]["message"], state[1]["s"]["result"]["message"], result(run, "end")["message"]]
    days = [int(time[8:10]) for time in times]
    assert times[2] >= times[1] > times[0]
    assert days[1] != days[0]
    assert await callee.variables() == {}
    assert not [name for name, _ in attempts() if name == "never sent"]


async def test_simulated_call_that_assumes_does_not_pass(bench: Bench) -> None:
    callee = await Flow.make(
        bench,
        {"w": trial(children=["i"]), "i": {"type": "if", "payload": {"expression": "w.result.value == 'example'"}}},
    )
    run = await bench.run({"call": call(callee.id)}, simulate=True)
    assert (run["status"], run["passed"], run["executionState"]["call"]["assumed"]) == ("success", False, True)
    run = await bench.run({"call": call(callee.id, pinned={"result": 1})}, simulate=True)
    assert (run["passed"], result(run, "call")) == (True, {"result": 1})


async def test_called_simulation_that_ends_at_a_wait_makes_the_caller_partial(bench: Bench) -> None:
    callee = await Flow.make(bench, {"w": {"type": "wait", "payload": {"timeoutMs": 1000}}})
    run = await bench.run({"call": call(callee.id)}, simulate=True)
    assert (run["status"], run["passed"]) == ("partial", False)


@pytest.mark.both_stores
async def test_retry_of_the_caller_calls_anew_only_what_failed(bench: Bench) -> None:
    good = await Flow.make(bench, {"a": trial(name="good callee")})
    bad = await Flow.make(bench, {"a": trial(name="bad callee", outcomes=["permanent"])})
    run = await bench.run({"one": call(good.id, "two"), "two": call(bad.id)})
    assert run["status"] == "failure"
    retried = (await bench.api.post(f"/v1/runs/{run['id']}/retry")).data["runId"]
    assert (await bench.ended(retried))["status"] == "success"
    names = [name for name, _ in attempts()]
    assert (names.count("good callee"), names.count("bad callee")) == (1, 2)


async def test_caller_and_called_run_survive_a_restart(tmp_path: Path) -> None:
    async with composed(tmp_path, actions_dir=OWN_ACTIONS) as first:
        bench = Bench(first)
        callee = await Flow.make(
            bench,
            {
                "w": {"type": "wait", "payload": {"timeoutMs": 600_000}, "children": ["s"]},
                "s": say("{{w.result.triggerResult.n}}"),
            },
        )
        run_id = await bench.start({"call": call(callee.id, "end"), "end": say("{{call.result.result.message}}")})
        child = await child_of(bench, run_id)
        await bench.until(run_id, lambda run: run["status"] == "waiting")
    async with composed(tmp_path, actions_dir=OWN_ACTIONS) as second:
        bench = Bench(second)
        await bench.api.post(f"/v1/runs/{child['id']}/nodes/w/resume", {"data": {"n": 5}})
        assert result(await bench.ended(run_id), "end")["message"] == "5"


async def test_caller_whose_called_run_ended_while_it_was_away_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a crash between the end of the called run and the caller's next step."""
    async with composed(tmp_path, actions_dir=OWN_ACTIONS) as first:
        bench = Bench(first)
        callee = await Flow.make(bench, {"a": trial(sleep_ms=200)})
        monkeypatch.setattr(first.engine, "wake", lambda run_pk: None)
        run_id = await bench.start({"call": call(callee.id)})
        child = await child_of(bench, run_id)
        await bench.ended(child["id"])
        run = (await bench.api.get(f"/v1/runs/{run_id}")).data
        assert run["status"] == "waiting"
    async with composed(tmp_path, actions_dir=OWN_ACTIONS) as second:
        bench = Bench(second)
        assert (await bench.ended(run_id))["status"] == "success"


async def test_call_that_had_begun_its_run_before_the_server_ended_begins_no_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with composed(tmp_path, actions_dir=OWN_ACTIONS) as first:
        bench = Bench(first)
        callee = await Flow.make(
            bench, {"d": {"type": "delay", "payload": {"delayMs": 50}, "children": ["s"]}, "s": say("once")}
        )
        engine, begun = first.engine, asyncio.Event()
        start = engine._deps.called_runs.start

        async def start_and_hang(parent: RunFacts, call: ChildCall, submit: Submit) -> Any:
            await start(parent, call, submit)
            begun.set()
            await asyncio.sleep(60)

        monkeypatch.setattr(engine._deps.called_runs, "start", start_and_hang)
        run_id = await bench.start({"call": call(callee.id)})
        await begun.wait()
        await engine.stop(0)
    async with composed(tmp_path, actions_dir=OWN_ACTIONS) as second:
        bench = Bench(second)
        run = await bench.ended(run_id)
        assert result(run, "call")["result"] == {"message": "once"}
        assert len(await second.rows(sa.select(runs.c.id))) == 2


async def test_cancel_reaches_a_run_that_its_caller_had_no_time_to_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The caller is cancelled and the server ends between the start of the called run and its record."""
    async with composed(tmp_path, actions_dir=OWN_ACTIONS) as first:
        bench = Bench(first)
        callee = await Flow.make(bench, {"w": {"type": "wait", "payload": {"timeoutMs": 600_000}}})
        engine, begun = first.engine, asyncio.Event()
        start = engine._deps.called_runs.start

        async def start_and_hang(parent: RunFacts, call: ChildCall, submit: Submit) -> Any:
            await start(parent, call, submit)
            begun.set()
            await asyncio.sleep(60)

        monkeypatch.setattr(engine._deps.called_runs, "start", start_and_hang)
        run_id = await bench.start({"call": call(callee.id)})
        await begun.wait()
        await bench.api.post(f"/v1/runs/{run_id}/cancel")
        await engine.stop(0)
    async with composed(tmp_path, actions_dir=OWN_ACTIONS) as second:
        bench = Bench(second)
        assert (await bench.ended(run_id))["status"] == "cancelled"
        child = await child_of(bench, run_id)
        assert (await bench.ended(child["id"]))["status"] == "cancelled"
