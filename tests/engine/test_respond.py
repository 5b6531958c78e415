"""`respond`: the first one of a run answers, in every mode, once, also after a crash."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from engine.conftest import OWN_ACTIONS, Bench, Definition, trial
from engine.test_variables import Flow, result, say
from testkit.composition import composed


def respond(*children: str, **payload: Any) -> Definition:
    return {"type": "respond", "payload": payload, "children": [*children]}


async def answers(bench: Bench, run_id: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await bench.api.get(f"/v1/runs/{run_id}/effects")).data["answers"]
    return found


async def sync(bench: Bench, flow: Flow, **body: Any) -> dict[str, Any]:
    reply = await bench.api.post(f"/v1/workflows/{flow.id}/run-sync", body)
    found: dict[str, Any] = reply.body["data"]
    return {"http": reply.status, **found}


async def test_a_dust_test_answers_nothing_that_is_made_up(bench: Bench) -> None:
    """The example of a node that it skips, as anything else that it would send; what is known it answers."""
    nodes = {
        "skipped": {**trial(name="r skipped", dust="skip"), "children": ["made"]},
        "made": respond("known", headers={"X-Value": "{{skipped.result.value}}"}, body="{{skipped.result.value}}"),
        "known": respond(body="known"),
    }
    flow = await Flow.make(bench, nodes)
    found = await sync(bench, flow, dustTest=True)
    assert (found["http"], found["response"]["body"]) == (200, "known")
    run = await bench.ended(found["runId"])
    assert run["status"] == "success"
    made = result(run, "made")
    assert (made["isEffective"], made["headers"], made["body"]) == (False, {}, None)
    assert [one["path"] for one in await answers(bench, run["id"])] == ["known"]


async def test_first_respond_answers_in_every_mode(bench: Bench) -> None:
    nodes = {
        "one": respond("two", status=201, headers={"X-Order": "7"}, body={"hi": "{{$trigger.body.name}}"}),
        "two": respond(body="late"),
    }
    flow = await Flow.make(bench, nodes)
    expected = {"status": 201, "headers": {"X-Order": "7"}, "contentType": "application/json", "body": {"hi": "Ada"}}
    for mode in ({}, {"simulate": True}, {"dustTest": True}):
        found = await sync(bench, flow, payload={"name": "Ada"}, **mode)
        assert (found["http"], found["response"]) == (200, expected)
        run = await bench.ended(found["runId"])
        assert (run["status"], run["passed"]) == ("success", True)
        assert result(run, "one") == {**expected, "isEffective": True}
        assert result(run, "two") == {
            "status": 200,
            "headers": {},
            "contentType": "text/plain; charset=utf-8",
            "body": None,
            "isEffective": False,
        }
        [answer] = await answers(bench, run["id"])
        assert answer == {
            "runId": run["id"],
            "nodeId": "one",
            "path": "one",
            "bodyOmitted": False,
            "assumed": False,
            **expected,
        }
        kinds = [kind for kind, _ in await bench.events(run["id"])]
        assert kinds.count("run_responded") == 1
        assert kinds.index("run_responded") == kinds.index("node_succeeded") + 1


async def test_run_goes_on_behind_its_answer(bench: Bench) -> None:
    nodes = {"now": respond("wait", body="soon"), "wait": {"type": "wait", "payload": {"timeoutMs": 60_000}}}
    found = await sync(bench, await Flow.make(bench, nodes))
    assert found["response"]["body"] == "soon"
    assert found["status"] in ("running", "waiting")
    run = await bench.until(found["runId"], lambda one: one["status"] == "waiting")
    await bench.api.post(f"/v1/runs/{run['id']}/nodes/wait/resume", {"data": {}})
    assert (await bench.ended(run["id"]))["status"] == "success"


async def test_run_without_respond_answers_with_its_result(bench: Bench) -> None:
    found = await sync(bench, await Flow.make(bench, {"a": say("hello {{$trigger.body.name}}")}), payload={"name": "A"})
    assert (found["status"], found["response"], found["result"]) == ("success", None, {"message": "hello A"})
    two = await sync(bench, await Flow.make(bench, {"a": say("1"), "b": say("2")}))
    assert (two["result"], two["results"]) == (None, {"a": {"message": "1"}, "b": {"message": "2"}})
    bad = await sync(bench, await Flow.make(bench, {"a": trial(name="sync", outcomes=["permanent"])}))
    assert (bad["http"], bad["status"], bad["result"]) == (200, "failure", None)
    assert bad["error"]["code"] == "PERMANENT"


async def test_time_over_answers_202(bench: Bench) -> None:
    flow = await Flow.make(bench, {"wait": {"type": "wait", "payload": {"timeoutMs": 60_000}}, "b": say("x")})
    found = await sync(bench, flow, waitMs=30)
    assert (found["http"], found["status"] in ("running", "waiting"), found["response"]) == (202, True, None)
    assert found["results"] == {}
    await bench.api.post(f"/v1/runs/{found['runId']}/cancel")


async def test_results_are_for_keys_that_read_runs(bench: Bench) -> None:
    flow = await Flow.make(bench, {"a": say("secret")})
    caller = await bench.composition.client_with("workflow:execute")
    found = (await caller.post(f"/v1/workflows/{flow.id}/run-sync")).data
    assert found == {"runId": found["runId"], "status": "success", "durationMs": found["durationMs"], "response": None}


async def test_one_of_a_loop_answers(bench: Bench) -> None:
    nodes = {
        "each": {"type": "for-each", "payload": {"array": [1, 2, 3], "concurrency": 3}, "loopBody": ["say"]},
        "say": {"type": "respond", "payload": {"body": "{{$item}}"}},
    }
    found = await sync(bench, await Flow.make(bench, nodes))
    run = await bench.ended(found["runId"])
    items = [one["say"]["result"] for one in run["executionState"]["each"]["iterations"]]
    assert [one["isEffective"] for one in items].count(True) == 1
    assert found["response"]["body"] == next(one["body"] for one in items if one["isEffective"])


async def test_answer_of_a_called_run_is_its_own(bench: Bench) -> None:
    callee = await Flow.make(bench, {"r": respond(status=418, body="callee")})
    call = {"type": "call-workflow", "payload": {"workflowId": callee.id}, "children": ["mine"]}
    found = await sync(bench, await Flow.make(bench, {"call": call, "mine": respond(body="caller")}))
    assert (found["response"]["status"], found["response"]["body"]) == (200, "caller")
    run = await bench.ended(found["runId"])
    assert result(run, "call")["result"]["body"] == "callee"
    assert [one["path"] for one in await answers(bench, run["id"])] == ["call/r", "mine"]


async def test_too_large_an_answer_fails_and_the_next_one_counts(bench: Bench) -> None:
    nodes = {
        "big": {**respond(body="{{$trigger.body.text + $trigger.body.text}}"), "onError": "branch", "children": ["no"]},
        "no": {**respond(status=500, body="too large"), "branch": "error"},
    }
    found = await sync(bench, await Flow.make(bench, nodes), payload={"text": "x" * 600_000})
    assert (found["response"]["status"], found["response"]["body"]) == (500, "too large")


async def test_bad_values_of_expressions_are_refused_when_they_are_known(bench: Bench) -> None:
    flow = await Flow.make(
        bench, {"r": respond(headers={"X-A": "{{$trigger.body.a}}"}, contentType="{{$trigger.body.t}}")}
    )
    good = await sync(bench, flow, payload={"a": "b", "t": "text/plain"})
    assert good["response"]["headers"] == {"X-A": "b"}
    for payload in ({"a": "b\r\nSet-Cookie: c=d", "t": "text/plain"}, {"a": "b", "t": 'text/javascript;x="{{"'}):
        bad = await sync(bench, flow, payload=payload)
        assert (bad["status"], bad["response"], bad["error"]["code"]) == ("failure", None, "INVALID_INPUT")


async def test_saving_checks_what_is_constant(bench: Bench) -> None:
    definition = {"nodes": {"root": {"type": "manual", "children": ["r"]}, "r": respond(headers={"Set-Cookie": "a"})}}
    found = (await bench.api.post("/v1/workflows/validate", {"definition": definition})).data
    assert [one["field"] for one in found["errors"]] == ["nodes.r.payload.headers"]


async def test_retry_answers_nothing_again(bench: Bench) -> None:
    nodes = {
        "r": respond("bad", body=1),
        "bad": trial(name="again", outcomes=["permanent", "ok"], children=["s"]),
        "s": respond(body=2),
    }
    run = await bench.run(nodes)
    assert run["status"] == "failure"
    again = await bench.ended((await bench.api.post(f"/v1/runs/{run['id']}/retry")).data["id"])
    assert (result(again, "r")["isEffective"], result(again, "s")["isEffective"]) == (True, False)


@pytest.mark.both_stores
async def test_restart_between_two_answers(tmp_path: Path, store_url: str) -> None:
    nodes = {
        "first": respond("wait", body=1),
        "wait": {"type": "wait", "payload": {"timeoutMs": 60_000}, "children": ["second"]},
        "second": respond(body=2),
    }
    async with composed(tmp_path, database_url=store_url, actions_dir=OWN_ACTIONS) as server:
        bench = Bench(server)
        run_id = await bench.start(nodes)
        await bench.until(run_id, lambda one: one["status"] == "waiting")
    async with composed(tmp_path, database_url=store_url, actions_dir=OWN_ACTIONS) as server:
        bench = Bench(server)
        await bench.api.post(f"/v1/runs/{run_id}/nodes/wait/resume", {"data": {}})
        run = await bench.ended(run_id)
        assert [result(run, node)["isEffective"] for node in ("first", "second")] == [True, False]


async def test_stopping_server_lets_nobody_wait(bench: Bench) -> None:
    flow = await Flow.make(bench, {"wait": {"type": "wait", "payload": {"timeoutMs": 60_000}}})
    waiting = asyncio.create_task(sync(bench, flow))
    async with asyncio.timeout(60):
        while not (await bench.api.get("/v1/runs")).data["items"]:
            await asyncio.sleep(0.01)
        bench.composition.parts.streams.stop()
        assert (await waiting)["http"] == 202
