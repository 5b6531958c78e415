"""What becomes of runs: retry, uncertainty, cancel, waiting, limits, modes. Against the whole composed server."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from dustrun.core.values.exact_json import dumps_text
from engine.conftest import OWN_ACTIONS, Bench, attempts, let_go, trial
from testkit.composition import composed

RETRY = {"maxAttempts": 3, "backoffMs": 10, "jitter": False}


async def test_types_are_kept_and_text_is_plain(bench: Bench) -> None:
    nodes = {
        "a": trial(value={"big": 10**30, "exact": "{{$trigger.body.price}}"}, children=["b"]),
        "b": {"type": "log", "payload": {"message": "{{$nodes.a.result.value.exact}} of {{a.result.value.big}}"}},
    }
    body = {"definition": {"nodes": {"root": {"type": "manual", "children": ["a"]}, **nodes}}}
    text = dumps_text({**body, "payload": {"price": Decimal("1.10")}})
    reply = await bench.api.post("/v1/runs", raw=text.encode(), headers={"Content-Type": "application/json"})
    run = await bench.ended(reply.data["runId"])
    assert run["executionState"]["b"]["result"] == {"message": f"1.10 of {10**30}"}
    assert run["executionState"]["a"]["result"]["value"] == {"big": str(10**30), "exact": 1.1}


async def test_temporary_failure_is_tried_again_and_shown(bench: Bench) -> None:
    run = await bench.run({"a": trial(name="r", outcomes=["temporary", "temporary"], retry=RETRY)})
    state = run["executionState"]["a"]
    assert (run["status"], state["attempt"], state["result"]["attempts"]) == ("success", 3, 3)
    assert [attempt["error"]["code"] for attempt in state["attempts"]] == ["TEMPORARY", "TEMPORARY"]
    kinds = [kind for kind, _ in await bench.events(run["id"])]
    assert kinds.count("node_retrying") == 2
    assert len({key for name, key in attempts() if name == "r"}) == 1


async def test_permanent_failure_is_not_tried_again(bench: Bench) -> None:
    run = await bench.run(
        {"a": trial(name="p", outcomes=["permanent"], retry=RETRY, children=["b"]), "b": trial(name="pb")}
    )
    assert run["status"] == "failure"
    assert run["error"]["nodeId"] == "a"
    assert run["executionState"]["b"]["status"] == "skipped"
    assert [name for name, _ in attempts() if name in ("p", "pb")] == ["p"]


async def test_error_branch_makes_a_success(bench: Bench) -> None:
    nodes = {
        "a": trial(name="e", outcomes=["permanent"], onError="branch", children=["ok", "bad"]),
        "ok": trial(name="e-ok"),
        "bad": {"type": "log", "branch": "error", "payload": {"message": "{{$nodes.a.error.code}}"}},
    }
    run = await bench.run(nodes)
    assert run["status"] == "success"
    assert run["executionState"]["bad"]["result"]["message"] == "PERMANENT"
    assert run["executionState"]["ok"]["status"] == "skipped"


async def test_continue_makes_a_partial_run(bench: Bench) -> None:
    nodes = {"a": trial(name="c", outcomes=["permanent"], onError="continue", children=["b"]), "b": trial(name="cb")}
    run = await bench.run(nodes)
    assert (run["status"], run["executionState"]["b"]["status"]) == ("partial", "success")


@pytest.mark.both_stores
async def test_uncertain_node_waits_for_a_person_who_says_that_it_happened(bench: Bench) -> None:
    run_id = await bench.start({"a": trial(name="u1", outcomes=["uncertain"], children=["b"]), "b": trial(name="u1b")})
    run = await bench.until(run_id, lambda run: run["status"] == "waiting")
    assert run["executionState"]["a"]["status"] == "uncertain"
    path = f"/v1/runs/{run_id}/nodes/a/resolve"
    await bench.api.post(path, {"outcome": "happened", "result": {"value": 5, "attempts": 1}})
    run = await bench.ended(run_id)
    assert run["status"] == "success"
    assert run["executionState"]["a"]["result"] == {"value": 5, "attempts": 1}
    assert [name for name, _ in attempts() if name.startswith("u1")] == ["u1", "u1b"]
    assert (await bench.api.post(path, {"outcome": "happened"})).body["code"] == 409004
    noted = [one for one in (await bench.api.get("/v1/audit")).data["items"] if one["subject"] == run_id]
    assert [(one["action"], one["detail"]) for one in noted] == [("run.resolve", {"path": "a", "outcome": "happened"})]


async def test_uncertain_node_is_done_again_when_it_had_not_happened(bench: Bench) -> None:
    run_id = await bench.start({"a": trial(name="u2", outcomes=["uncertain"])})
    await bench.until(run_id, lambda run: run["status"] == "waiting")
    await bench.api.post(f"/v1/runs/{run_id}/nodes/a/resolve", {"outcome": "notHappened"})
    run = await bench.ended(run_id)
    assert (run["status"], run["executionState"]["a"]["attempt"]) == ("success", 2)


async def test_a_repeated_answer_about_an_attempt_does_not_reach_the_next_one(bench: Bench) -> None:
    run_id = await bench.start({"a": trial(name="u5", outcomes=["uncertain", "uncertain"])})
    await bench.until(run_id, lambda run: run["status"] == "waiting")
    path, first = f"/v1/runs/{run_id}/nodes/a/resolve", {"outcome": "notHappened", "attempt": 1}
    assert (await bench.api.post(path, {**first, "attempt": 2})).body["code"] == 409004
    assert (await bench.api.post(path, first)).status == 200
    await bench.until(run_id, lambda run: run["status"] == "waiting" and run["executionState"]["a"]["attempt"] == 2)
    again = await bench.api.post(path, first)
    assert (again.body["code"], "attempt 2" in again.body["message"]) == (409004, True)
    assert (await bench.api.post(path, {"outcome": "happened", "attempt": 2})).status == 200
    run = await bench.ended(run_id)
    assert (run["status"], run["executionState"]["a"]["attempt"]) == ("success", 2)
    assert [name for name, _ in attempts() if name == "u5"] == ["u5", "u5"]


async def test_on_uncertain_decides_without_a_person(bench: Bench) -> None:
    failed = await bench.run({"a": trial(name="u3", outcomes=["uncertain"], onUncertain="fail")})
    assert (failed["status"], failed["executionState"]["a"]["error"]["code"]) == ("failure", "UNCERTAIN")
    again = await bench.run({"a": trial(name="u4", outcomes=["uncertain"], onUncertain="retry")})
    assert (again["status"], again["executionState"]["a"]["attempt"]) == ("success", 2)


async def test_a_defect_in_a_write_is_uncertain_and_in_a_read_a_failure(bench: Bench) -> None:
    run_id = await bench.start({"a": trial(name="b1", outcomes=["bug"])})
    await bench.until(run_id, lambda run: run["status"] == "waiting")
    read = await bench.run({"a": trial(name="b2", outcomes=["bug"], effect="read")})
    error = read["executionState"]["a"]["error"]
    assert (error["code"], "attempt" in error["message"]) == ("INTERNAL", False)


async def test_time_limit_of_a_node(bench: Bench) -> None:
    read = await bench.run({"a": trial(name="t1", effect="read", sleep_ms=60_000, timeoutMs=30)})
    assert read["executionState"]["a"]["error"]["code"] == "TIMEOUT"
    run_id = await bench.start({"a": trial(name="t2", sleep_ms=60_000, timeoutMs=30)})
    waiting = await bench.until(run_id, lambda run: run["status"] == "waiting")
    assert waiting["executionState"]["a"]["status"] == "uncertain"


async def test_time_limits_of_nodes_side_by_side(bench: Bench) -> None:
    slow = {"effect": "read", "sleep_ms": 60_000, "onError": "continue"}
    limits = {"a": 300_000, "b": 2_500, "c": 30, "d": 1_000}
    nodes = {name: trial(name=f"side-{name}", timeoutMs=limit, **slow) for name, limit in limits.items()}
    nodes["a"]["payload"]["sleep_ms"] = 1
    read = await bench.run(nodes)
    states = {name: read["executionState"][name] for name in limits}
    assert {name: state["status"] for name, state in states.items()} == {
        "a": "success",
        "b": "failure",
        "c": "failure",
        "d": "failure",
    }
    ended = sorted((states[name]["finishedAt"], name) for name in "bcd")
    assert [name for _, name in ended] == ["c", "d", "b"]


async def test_cancel_interrupts_and_starts_nothing_new(bench: Bench) -> None:
    run_id = await bench.start({"a": trial(name="k1", sleepMs=30_000, children=["b"]), "b": trial(name="k2")})
    await bench.until(run_id, lambda run: run["executionState"]["a"]["status"] == "running")
    await bench.api.post(f"/v1/runs/{run_id}/cancel")
    run = await bench.ended(run_id)
    assert run["status"] == "cancelled"
    assert run["executionState"]["a"]["error"]["code"] == "CUT_OFF"
    assert [name for name, _ in attempts() if name in ("k1", "k2")] == ["k1"]
    assert (await bench.api.post(f"/v1/runs/{run_id}/cancel")).body["code"] == 409002
    noted = [one["action"] for one in (await bench.api.get("/v1/audit")).data["items"] if one["subject"] == run_id]
    assert noted == ["run.cancel"]


async def test_cancel_ends_a_waiting_run(bench: Bench) -> None:
    run_id = await bench.start({"d": {"type": "delay", "payload": {"delayMs": 60_000}}})
    await bench.until(run_id, lambda run: run["status"] == "waiting")
    await bench.api.post(f"/v1/runs/{run_id}/cancel")
    run = await bench.ended(run_id)
    assert (run["status"], run["executionState"]["d"]["status"]) == ("cancelled", "cancelled")


async def test_delay_holds_nothing_and_goes_on(bench: Bench) -> None:
    run = await bench.run(
        {"d": {"type": "delay", "payload": {"delayMs": 50}, "children": ["a"]}, "a": trial(name="d1")}
    )
    kinds = [kind for kind, _ in await bench.events(run["id"])]
    assert run["status"] == "success"
    assert kinds.index("run_waiting") < kinds.index("run_resumed") < kinds.index("run_finished")


async def test_simulation_sends_nothing_and_marks_what_it_assumed(bench: Bench) -> None:
    condition = {"$and": [{"{{$nodes.a.result.value}}": {"$eq": "example"}}]}
    nodes = {
        "a": trial(name="s1", value=1, children=["i", "p"]),
        "p": {"type": "log", "payload": {"message": "{{$nodes.a.result.value}}"}},
        "i": {"type": "if", "payload": {"condition": condition}, "children": ["d"]},
        "d": {"type": "delay", "branch": "then", "payload": {"delayMs": 3_600_000}},
    }
    run = await bench.run(nodes, simulate=True)
    state = run["executionState"]
    assert (run["status"], run["mode"], run["isSimulation"], run["passed"]) == ("success", "simulate", True, False)
    assert [state[name]["assumed"] for name in ("a", "p", "i", "d")] == [True, True, True, False]
    assert "s1" not in [name for name, _ in attempts()]
    report = (await bench.api.get(f"/v1/runs/{run['id']}/effects")).data
    assert report["requests"] == [
        {
            "runId": run["id"],
            "nodeId": "a",
            "path": "a",
            "attempt": 1,
            "action": "trial",
            "request": {"name": "s1", "value": 1},
            "sent": False,
            "answered": None,
            "status": "success",
        }
    ]
    assert {entry["path"] for entry in report["assumed"]} == {"a", "p", "i"}
    assert [warning["code"] for warning in report["warnings"]] == ["ASSUMED_BRANCH"]


async def test_pinned_result_makes_a_simulation_pass_and_reads_run_for_real(bench: Bench) -> None:
    nodes = {
        "r": trial(name="s2", effect="read", value=3, children=["a"]),
        "a": trial(name="s3", pinned={"value": 9}, children=["i"]),
        "i": {"type": "if", "payload": {"expression": "$nodes.a.result.value > $nodes.r.result.value"}},
    }
    run = await bench.run(nodes, simulate=True)
    assert (run["status"], run["passed"]) == ("success", True)
    assert run["executionState"]["i"]["result"] == {"branch": "then"}
    names = [name for name, _ in attempts()]
    assert "s2" in names
    assert "s3" not in names


async def test_dust_run_says_that_nothing_was_scaled_and_heeds_the_nodes(bench: Bench) -> None:
    run = await bench.run({"a": trial(name="q1", children=["b"]), "b": trial(name="q2", dust="skip")}, dustTest=True)
    report = (await bench.api.get(f"/v1/runs/{run['id']}/effects")).data
    assert (run["status"], run["mode"], run["isDustTest"]) == ("success", "dust", True)
    assert report["dust"]["scaled"] == []
    assert [(entry["path"], entry["sent"]) for entry in report["requests"]] == [("a", True), ("b", False)]
    assert "q2" not in [name for name, _ in attempts()]
    refused = await bench.run({"a": trial(name="q3", dust="refuse")}, dustTest=True)
    assert refused["executionState"]["a"]["error"]["code"] == "REFUSED"


async def test_nothing_leaves_a_dust_test_that_depends_on_an_example(bench: Bench) -> None:
    """A skipped node has the example of its action as its result: no request or variable may say such a thing."""
    nodes = {
        "skipped": trial(name="x1", dust="skip", children=["tell"]),
        "tell": trial(name="x2", value="{{skipped.result.value}}", children=["keep"]),
        "keep": {
            "type": "set-variable",
            "payload": {"name": "v", "value": "{{tell.result.value}}"},
            "children": ["other"],
        },
        "other": trial(name="x3"),
    }
    defs = [{"name": "v", "type": "any", "default": "old"}]
    root = {"type": "manual", "children": ["skipped"]}
    flow = await bench.api.create_workflow({"nodes": {"root": root, **nodes}, "variableDefs": defs})
    started = await bench.api.post(f"/v1/workflows/{flow['id']}/run", {"dustTest": True})
    run = await bench.ended(started.data["runId"])
    report = (await bench.api.get(f"/v1/runs/{run['id']}/effects")).data
    assert run["status"] == "success"
    assert [(entry["path"], entry["sent"]) for entry in report["requests"]] == [
        ("skipped", False),
        ("tell", False),
        ("other", True),
    ]
    assert {one["path"] for one in report["assumed"]} == {"skipped", "tell", "keep"}  # in no order
    assert [name for name, _ in attempts() if name.startswith("x")] == ["x3"]
    assert (await bench.api.get(f"/v1/workflows/{flow['id']}/variables")).data["items"][0]["value"] == "old"
    await bench.run({**nodes, "skipped": {**nodes["skipped"], "pinned": {"value": 7}}}, dustTest=True)
    assert [name for name, _ in attempts() if name.startswith("x")] == ["x3", "x2", "x3"]


async def test_retry_keeps_what_succeeded(bench: Bench) -> None:
    nodes = {"a": trial(name="y1", children=["b"]), "b": trial(name="y2", outcomes=["permanent"])}
    first = await bench.run(nodes)
    reply = await bench.api.post(f"/v1/runs/{first['id']}/retry")
    second = await bench.ended(reply.data["runId"])
    assert (second["status"], second["sourceRunId"], second["rootRunId"]) == ("success", first["id"], first["id"])
    assert [second["executionState"][name].get("keptFrom") for name in ("root", "a", "b")] == [
        first["id"],
        first["id"],
        None,
    ]
    assert [name for name, _ in attempts() if name in ("y1", "y2")] == ["y1", "y2", "y2"]
    assert (await bench.api.post(f"/v1/runs/{second['id']}/retry")).body["code"] == 409003


async def test_loop_runs_its_items_and_reports_them_in_order(bench: Bench) -> None:
    nodes = {
        "each": {
            "type": "for-each",
            "payload": {"array": [30, 1, 10], "concurrency": 3, "onItemError": "continue"},
            "loopBody": ["x"],
            "children": ["z"],
        },
        "x": trial(name="{{'l' + string($index)}}", sleepMs="{{$item}}", value="{{$item * 2}}"),
        "z": {"type": "log", "payload": {"message": "{{each.result.iterationCount}}"}},
    }
    run = await bench.run(nodes)
    iterations = run["executionState"]["each"]["result"]["iterations"]
    assert [entry["results"]["x"]["value"] for entry in iterations] == [60, 2, 20]
    assert run["executionState"]["each"]["iterations"][1]["x"]["result"]["value"] == 2


async def test_limits_name_their_setting(tmp_path: Path, store_url: str) -> None:
    small = {"max_result_bytes": 1024, "max_executions": 5, "max_loop_items": 10}
    async with composed(tmp_path, database_url=store_url, actions_dir=OWN_ACTIONS, **small) as composition:
        bench = Bench(composition)
        large = await bench.run({"a": trial(name="z1", value="x" * 2000)})
        assert "max_result_bytes" in large["executionState"]["a"]["error"]["message"]
        loop: dict[str, Any] = {"type": "for-each", "payload": {"array": list(range(11))}, "loopBody": ["x"]}
        items = await bench.run({"each": loop, "x": trial(name="z2")})
        assert "max_loop_items" in items["executionState"]["each"]["error"]["message"]
        loop["payload"]["array"] = list(range(10))
        many = await bench.run({"each": loop, "x": trial(name="z3")})
        assert many["status"] == "failure"
        assert "max_executions" in many["error"]["message"]


@pytest.mark.both_stores
async def test_restart_goes_on_where_the_run_stood(tmp_path: Path, store_url: str) -> None:
    nodes = {
        "a": trial(name="w1", children=["d"]),
        "d": {"type": "delay", "payload": {"delayMs": 3_000}, "children": ["b"]},
        "b": trial(name="w2"),
    }
    async with composed(tmp_path, database_url=store_url, actions_dir=OWN_ACTIONS) as composition:
        bench = Bench(composition)
        run_id = await bench.start(nodes)
        await bench.until(run_id, lambda run: run["status"] == "waiting")
        assert [name for name, _ in attempts() if name in ("w1", "w2")] == ["w1"]
    async with composed(tmp_path, database_url=store_url, actions_dir=OWN_ACTIONS) as composition:
        run = await Bench(composition).ended(run_id)
        assert run["status"] == "success"
        assert [name for name, _ in attempts() if name in ("w1", "w2")] == ["w2"]


@pytest.mark.both_stores
async def test_restart_in_the_middle_of_a_write(tmp_path: Path, store_url: str) -> None:
    nodes = {
        "plain": trial(name="v1", sleepMs=60_000),
        "keyed": trial(name="v2", sleepMs=60_000, idempotent=True),
        "read": trial(name="v3", sleepMs=60_000, effect="read"),
    }
    async with composed(tmp_path, database_url=store_url, actions_dir=OWN_ACTIONS, shutdown_grace_s=0) as composition:
        bench = Bench(composition)
        run_id = await bench.start(nodes)
        await bench.until(run_id, lambda run: len(attempts()) == 3)
        keys = dict(attempts())
    async with composed(tmp_path, database_url=store_url, actions_dir=OWN_ACTIONS, shutdown_grace_s=0) as composition:
        bench = Bench(composition)
        run = await bench.until(run_id, lambda run: run["executionState"]["plain"]["status"] == "uncertain")
        await bench.until(run_id, lambda run: len(attempts()) == 2)
        assert dict(attempts()) == {"v2": keys["v2"], "v3": keys["v3"]}
        assert run["executionState"]["keyed"]["status"] == "running"


@pytest.mark.both_stores
async def test_workflow_limit_queues_skips_or_cancels(bench: Bench) -> None:
    for on_limit in ("queue", "skip", "cancel-oldest"):
        nodes = {"root": {"type": "manual", "children": ["a"]}, "a": trial(name=on_limit, held=True)}
        concurrency = {"max": 1, "onLimit": on_limit}
        flow = await bench.api.create_workflow({"nodes": nodes}, concurrency=concurrency)
        path = f"/v1/workflows/{flow['id']}/run"
        first = (await bench.api.post(path)).data["runId"]
        second = await bench.api.post(path)
        let_go(on_limit)
        if on_limit == "skip":
            assert second.body["code"] == 409006
            await bench.ended(first)
            continue
        one, other = await asyncio.gather(bench.ended(first), bench.ended(second.data["runId"]))
        assert other["status"] == "success"
        assert one["status"] == ("cancelled" if on_limit == "cancel-oldest" else "success")
        if on_limit == "queue":
            assert other["executionState"]["a"]["startedAt"] >= one["finishedAt"]


async def test_a_retry_keeps_to_the_limit_of_its_workflow(bench: Bench) -> None:
    for on_limit in ("queue", "skip", "cancel-oldest"):
        name = f"retried {on_limit}"
        fails = trial(name=f"first {name}", outcomes=["permanent", "ok"], children=["b"])
        nodes = {"root": {"type": "manual", "children": ["a"]}, "a": fails, "b": trial(name=name, held=True)}
        concurrency = {"max": 1, "onLimit": on_limit}
        flow = await bench.api.create_workflow({"nodes": nodes}, concurrency=concurrency)
        path = f"/v1/workflows/{flow['id']}/run"
        failed = await bench.ended((await bench.api.post(path)).data["runId"])
        first = (await bench.api.post(path)).data["runId"]
        await bench.until(first, lambda run: run["executionState"]["b"]["status"] == "running")
        retried = await bench.api.post(f"/v1/runs/{failed['id']}/retry")
        let_go(name)
        if on_limit == "skip":
            assert retried.body["code"] == 409006
            await bench.ended(first)
            continue
        one, other = await asyncio.gather(bench.ended(first), bench.ended(retried.data["runId"]))
        assert other["status"] == "success"
        assert one["status"] == ("cancelled" if on_limit == "cancel-oldest" else "success")
        if on_limit == "queue":
            assert other["executionState"]["b"]["startedAt"] >= one["finishedAt"]


async def test_a_run_of_an_archived_workflow_is_not_retried(bench: Bench) -> None:
    """As it is not run: archiving retires it."""
    nodes = {"root": {"type": "manual", "children": ["a"]}, "a": trial(name="retired", outcomes=["permanent", "ok"])}
    path = f"/v1/workflows/{(await bench.api.create_workflow({'nodes': nodes}))['id']}"
    failed = await bench.ended((await bench.api.post(f"{path}/run")).data["runId"])
    assert (await bench.api.delete(path)).status == 200
    assert (await bench.api.post(f"/v1/runs/{failed['id']}/retry")).code == 400080
    assert (await bench.api.post(f"{path}/unarchive")).status == 200
    retried = (await bench.api.post(f"/v1/runs/{failed['id']}/retry")).data["runId"]
    assert (await bench.ended(retried))["status"] == "success"


@pytest.mark.both_stores
async def test_many_runs_at_once_all_end(bench: Bench) -> None:
    async def one(number: int) -> str:
        run = await bench.run({"a": trial(name=f"m{number}", children=["b"]), "b": trial(name=f"n{number}")})
        return str(run["status"])

    assert await asyncio.gather(*(one(number) for number in range(60))) == ["success"] * 60


async def test_uncertain_write_whose_receiver_deduplicates_is_done_again(bench: Bench) -> None:
    node = trial(name="i1", outcomes=["uncertain"], idempotent=True, retry=RETRY)
    run = await bench.run({"a": node})
    assert (run["status"], run["executionState"]["a"]["attempt"]) == ("success", 2)
    assert len({key for name, key in attempts() if name == "i1"}) == 1


async def test_retry_keeps_what_succeeded_after_what_failed(bench: Bench) -> None:
    nodes = {
        "a": trial(name="k1", outcomes=["permanent"], onError="continue", children=["b"]),
        "b": trial(name="k2", children=["c"]),
        "c": {"type": "log", "payload": {"message": "{{b.result.attempts}}"}},
    }
    first = await bench.run(nodes)
    assert first["status"] == "partial"
    again = (await bench.api.post(f"/v1/runs/{first['id']}/retry")).data["runId"]
    second = await bench.ended(again)
    assert second["status"] == "success"
    assert [name for name, _ in attempts() if name in ("k1", "k2")] == ["k1", "k2", "k1"]


async def test_retry_keeps_the_items_of_a_loop_after_what_failed(bench: Bench) -> None:
    nodes = {
        "a": trial(name="l1", outcomes=["permanent"], onError="continue", children=["each"]),
        "each": {"type": "for-each", "payload": {"array": [1, 2]}, "loopBody": ["in"], "onError": "continue"},
        "in": trial(name="l2", value="{{$item}}", outcomes=["ok", "permanent"]),
    }
    first = await bench.run(nodes)
    assert first["status"] == "partial"
    second = await bench.ended((await bench.api.post(f"/v1/runs/{first['id']}/retry")).data["runId"])
    assert second["status"] == "success"
    assert [name for name, _ in attempts() if name in ("l1", "l2")] == ["l1", "l2", "l2", "l1", "l2"]


async def test_skip_limit_with_starts_at_the_same_moment_lets_only_one_in(bench: Bench) -> None:
    nodes = {"root": {"type": "manual", "children": ["a"]}, "a": trial(name="skipped", held=True)}
    flow = await bench.api.create_workflow({"nodes": nodes}, concurrency={"max": 1, "onLimit": "skip"})
    path = f"/v1/workflows/{flow['id']}/run"
    answers = await asyncio.gather(*(bench.api.post(path) for _ in range(5)))
    let_go("skipped")
    refused = [answer.body["code"] for answer in answers if answer.status == 409]
    started = [answer.data["runId"] for answer in answers if answer.status != 409]
    assert (refused, len(started)) == ([409006] * 4, 1)
    assert (await bench.ended(started[0]))["status"] == "success"


async def test_a_retry_of_a_called_simulation_knows_that_its_payload_is_assumed(bench: Bench) -> None:
    ends = {"root": {"type": "manual", "children": ["end"]}, "end": {"type": "stop", "payload": {"status": "failure"}}}
    flow = await bench.api.create_workflow({"nodes": ends})
    call = {"type": "call-workflow", "payload": {"workflowId": flow["id"], "payload": {"v": "{{a.result.value}}"}}}
    await bench.run({"a": trial(name="r1", children=["call"]), "call": call}, simulate=True)
    (called,) = (await bench.api.get(f"/v1/runs?workflowId={flow['id']}")).data["items"]
    again = await bench.ended((await bench.api.post(f"/v1/runs/{called['id']}/retry")).data["runId"])
    report = (await bench.api.get(f"/v1/runs/{again['id']}/effects")).data
    assert [one["path"] for one in report["assumed"]] == ["root"]
