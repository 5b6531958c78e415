"""What one caller sends holds up nobody: no step of the event loop takes more than 50 ms of processor time."""

from __future__ import annotations

import asyncio
from typing import Any

from testkit.composition import Client, Composition
from testkit.loop_watch import LoopWatch, watched

MOST_S = 0.05
LONG_SUM = "{{" + "1+" * 29_999 + "1}}"


def _definition(*payloads: Any, type: str = "log") -> dict[str, Any]:
    names = [f"n{number}" for number in range(len(payloads))]
    nodes = {name: {"type": type, "payload": payload} for name, payload in zip(names, payloads, strict=True)}
    return {"nodes": {"root": {"type": "manual", "children": names}, **nodes}, "triggerNodeIds": ["root"]}


async def _ended(owner: Client, run_id: str) -> dict[str, Any]:
    while True:
        run: dict[str, Any] = (await owner.get(f"/v1/runs/{run_id}")).data
        if run["status"] not in ("pending", "running"):
            return run
        await asyncio.sleep(0.02)


def _check(watch: LoopWatch, what: str) -> None:
    taken = watch.take()
    assert taken < MOST_S, f"{what} held the loop for {taken * 1000:.0f} ms"


async def test_a_long_chain_of_nodes_runs_in_small_steps(server: Composition) -> None:
    names = [f"n{number}" for number in range(998)]
    nodes = {
        name: {"type": "log", "payload": {"message": f"{{{{root.result.body.x}}}} {name}"}, "children": [following]}
        for name, following in zip(names, [*names[1:], "last"], strict=True)
    }
    last = {"type": "log", "payload": {"message": "x"}}
    definition = {"nodes": {"root": {"type": "manual", "children": names[:1]}, **nodes, "last": last}}
    with watched() as watch:
        for body in ({}, {"simulate": True}):
            asked = {"definition": definition, "payload": {"x": "y"}, **body}
            started = (await server.owner.post("/v1/runs", asked)).data
            run = await _ended(server.owner, started["runId"])
            _check(watch, f"a chain {body}")
            assert (run["status"], len(run["executionState"])) == ("success", 1000)


async def test_payloads_are_checked_against_schemas_beside_the_loop(server: Composition) -> None:
    """Whatever makes it long: many values, or a small schema that applies itself over and over."""
    many = {"properties": {"x": {"items": {"type": "integer", "minimum": 0}}}}
    parts = {f"p{n}": {"allOf": [{"$ref": f"#/$defs/p{n + 1}"}] * 2} for n in range(14)}
    fan = {"$defs": {**parts, "p14": {"type": "object"}}, "$ref": "#/$defs/p0"}
    with watched() as watch:
        for schema, payload in ((many, {"x": list(range(49_000))}), (fan, {"x": 1})):
            root = {"type": "manual", "payload": {"inputSchema": schema}, "children": ["say"]}
            say = {"type": "log", "payload": {"message": "x"}}
            document = {"nodes": {"root": root, "say": say}, "triggerNodeIds": ["root"]}
            await server.owner.post("/v1/workflows/validate", {"definition": document})
            watch.take()
            answer = await server.owner.post("/v1/runs", {"definition": document, "payload": payload})
            _check(watch, "checking a payload")
            assert answer.status in (200, 400)


async def test_the_first_to_read_the_catalogue_holds_nobody_up(server: Composition) -> None:
    with watched() as watch:
        await server.owner.get("/v1/actions?q=token")
        _check(watch, "building the catalogue")


async def test_long_expressions_are_compiled_beside_the_loop_and_kept(server: Composition) -> None:
    document, owner = _definition({"message": LONG_SUM}, {"message": LONG_SUM}), server.owner
    with watched() as watch:
        started = (await owner.post("/v1/runs", {"definition": document, "payload": {}})).data
        _check(watch, "starting an inline run")
        run = await _ended(owner, started["runId"])
        _check(watch, "running it and reading it")
        assert run["status"] == "success"
        many = _definition(*[{"message": LONG_SUM}] * 10)
        refused = await owner.post("/v1/runs", {"definition": many, "payload": {}})
        problems = (await owner.post("/v1/workflows/validate", {"definition": many})).data
        _check(watch, "refusing a definition")
    assert (refused.status, refused.code) == (400, 400228)
    assert [detail["code"] for detail in refused.body["details"]] == ["expressions_too_large"]
    assert "expressions_too_large" in str(problems)
