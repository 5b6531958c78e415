"""Loops that go on while a test holds: pages of an API, limits, errors, modes, restarts and retries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from engine.conftest import OWN_ACTIONS, Bench, Definition, attempts, trial
from outbound.loopback import Seen, json_answer, serving
from testkit.composition import composed

PAGES = {"/items": '{"rows": [1, 2], "next": "b"}', "/items?after=b": '{"rows": [3], "next": null}'}


def again(test: str, *body: str, **more: Any) -> Definition:
    """A `while` loop."""
    node: Definition = {name: more.pop(name) for name in ("children", "onError", "pinned") if name in more}
    return {"type": "for-each", "payload": {"while": test, **more}, "loopBody": [*body], **node}


def counting(test: str, **more: Any) -> Definition:
    """A loop whose item counts up, and a body that repeats it."""
    loop = again(test, "t", first=0, next="{{$item + 1}}", children=["after"], **more)
    return {"each": loop, "t": trial(name="t{{$item}}", value="{{$item}}"), "after": trial(name="after")}


def values(run: dict[str, Any]) -> list[Any]:
    return [item["results"]["t"]["value"] for item in run["executionState"]["each"]["result"]["iterations"]]


def page(seen: Seen) -> web.Response:
    return json_answer(PAGES[seen.path])


async def test_every_page_of_an_api_is_read_in_every_mode(tmp_path: Path, store_url: str) -> None:
    async with (
        serving(page) as server,
        composed(tmp_path, database_url=store_url, outbound_allow=("127.0.0.1",)) as composition,
    ):
        loop = again(
            "page.result.body.next != null",
            "page",
            first={"after": None},
            next={"after": "{{page.result.body.next}}"},
            maxItems=10,
        )
        query = {"after": "{{$item.after}}"}
        nodes = {
            "each": loop,
            "page": {"type": "http-request", "payload": {"url": f"{server.url}/items", "query": query}},
        }
        for mode in ({}, {"simulate": True}, {"dustTest": True}):
            run = await Bench(composition).run(nodes, **mode)
            assert run["status"] == "success", run["executionState"]
            found = run["executionState"]["each"]["result"]
            assert [item["results"]["page"]["body"]["rows"] for item in found["iterations"]] == [[1, 2], [3]]
            assert (found["iterationCount"], found["counts"]["success"]) == (2, 2)
        assert [seen.path for seen in server.seen] == [*PAGES] * 3


async def test_while_ends_goes_too_far_or_fails(bench: Bench) -> None:
    run = await bench.run(counting("$item < 3"))
    assert (run["status"], values(run)) == ("success", [0, 1, 2, 3])
    for test, code, words, more in (
        ("true", "LIMIT", "still holds after 4 iterations (maxItems", {"maxItems": 4}),
        ("$item", "INVALID_INPUT", "neither true nor false", {}),
        ("t.result.value.x.y > 1", "EXPRESSION", "", {}),
    ):
        failed = await bench.run(counting(test, **more))
        error = failed["executionState"]["each"]["error"]
        assert (failed["status"], error["code"]) == ("failure", code), failed
        assert words in error["message"]
        assert failed["executionState"]["after"]["status"] == "skipped"
    pinned = await bench.run(counting("true", pinned={"iterations": []}), simulate=True)
    assert pinned["executionState"]["each"]["result"] == {"iterations": []}


async def test_item_errors_of_a_while(bench: Bench) -> None:
    fragile = trial(name="f{{$item}}", outcomes="{{$item == 1 ? ['permanent'] : []}}")
    for policy, status, count in (("continue", "partial", 3), ("stop", "partial", 2), ("fail", "failure", None)):
        loop = again("$index < 2", "t", first=0, next="{{$item + 1}}", onItemError=policy)
        run = await bench.run(
            {"each": loop, "t": {**fragile, "payload": {**fragile["payload"], "name": policy + "{{$item}}"}}}
        )
        assert run["status"] == status, run["executionState"]
        assert count is None or run["executionState"]["each"]["result"]["iterationCount"] == count


async def test_while_reads_variables_and_outer_loops(bench: Bench) -> None:
    nodes = {
        "outer": {"type": "for-each", "payload": {"array": [1, 2]}, "loopBody": ["inner"]},
        "inner": again("$vars.n < $parent_item * 2 && $for.inner.index < 9", "add"),
        "add": {"type": "increment-variable", "payload": {"name": "n"}},
    }
    run = await bench.run(nodes)
    assert run["status"] == "success", run["executionState"]
    found = run["executionState"]["outer"]["result"]["iterations"]
    assert [item["results"]["inner"]["iterationCount"] for item in found] == [2, 2]


async def test_while_that_rests_on_an_assumed_result_ends_and_does_not_pass(bench: Bench) -> None:
    nodes = {"each": again("t.result.value == 'example'", "t"), "t": trial(name="assumed")}
    run = await bench.run(nodes, simulate=True)
    assert run["status"] == "success", run["executionState"]
    assert run["executionState"]["each"]["result"]["iterationCount"] == 1
    effects = (await bench.api.get(f"/v1/runs/{run['id']}/effects")).data
    assert effects["passed"] is False
    assert [one["path"] for one in effects["notPassed"]] == ["each"]
    assert "assumed" not in [name for name, _ in attempts()]


@pytest.mark.both_stores
async def test_restart_in_the_middle_of_a_while(tmp_path: Path, store_url: str) -> None:
    settings = {"database_url": store_url, "actions_dir": OWN_ACTIONS}
    nodes = counting("$item < 3")
    nodes["t"]["children"] = ["pause"]
    nodes["pause"] = {"type": "delay", "payload": {"delayMs": "{{$item == 1 ? 1500 : 0}}"}}
    async with composed(tmp_path, **settings) as first:
        bench = Bench(first)
        run_id = await bench.start(nodes)
        await bench.until(run_id, lambda run: run["status"] == "waiting")
    async with composed(tmp_path, **settings) as second:
        run = await Bench(second).ended(run_id)
    assert (run["status"], values(run)) == ("success", [0, 1, 2, 3])
    assert [name for name, _ in attempts()] == ["t2", "t3", "after"]  # of the second server alone


async def test_retry_goes_on_with_the_iteration_that_failed(bench: Bench) -> None:
    nodes = counting("$item < 2")
    nodes["t"]["payload"] |= {"name": "again{{$item}}", "outcomes": "{{$item == 1 ? ['permanent'] : []}}"}
    failed = await bench.run(nodes)
    assert failed["status"] == "failure"
    retried = (await bench.api.post(f"/v1/runs/{failed['id']}/retry", {})).data
    run = await bench.ended(retried.get("runId") or retried["id"])
    assert (run["status"], values(run)) == ("success", [0, 1, 2])
    assert [name for name, _ in attempts() if name.startswith("again")] == ["again0", "again1", "again1", "again2"]


async def test_validation_of_a_while(bench: Bench) -> None:
    for payload, fields in (
        ({"while": "true", "array": []}, ["payload"]),
        ({}, ["payload"]),
        ({"array": [], "next": 1}, ["payload"]),
        ({"while": "true", "concurrency": 2}, ["payload"]),
        ({"while": "true &&"}, ["payload.while"]),
        ({"while": "after.result.value"}, ["payload.while"]),
        ({"while": "$item.a && t.result.value && $index < 3", "next": "{{nobody.result}}"}, ["payload.next"]),
    ):
        nodes = {
            "root": {"type": "manual", "children": ["each"]},
            "each": {"type": "for-each", "payload": payload, "loopBody": ["t"], "children": ["after"]},
            "t": trial(),
            "after": trial(),
        }
        found = (await bench.api.post("/v1/workflows/validate", {"definition": {"nodes": nodes}})).data["errors"]
        assert [one["field"] for one in found] == [f"nodes.each.{field}" for field in fields], (payload, found)
