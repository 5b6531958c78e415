"""Variables: what nodes write and read, how long it lives, that it happens once, and the overlay of simulations."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from dustrun.storage.db.statement import Statement
from dustrun.storage.db.tables import variable_writes, variables
from engine.conftest import OWN_ACTIONS, Bench, Definition, trial
from testkit.composition import composed


def put(name: str, value: Any, *children: str, **more: Any) -> Definition:
    return {"type": "set-variable", "payload": {"name": name, "value": value}, "children": [*children], **more}


def add(name: str, *children: str, by: Any = 1, **more: Any) -> Definition:
    return {"type": "increment-variable", "payload": {"name": name, "by": by}, "children": [*children], **more}


def get(name: str, *children: str, **more: Any) -> Definition:
    return {"type": "get-variable", "payload": {"name": name, **more}, "children": [*children]}


def say(message: str, *children: str) -> Definition:
    return {"type": "log", "payload": {"message": message}, "children": [*children]}


class Flow:
    """A stored workflow."""

    def __init__(self, bench: Bench, workflow_id: str) -> None:
        self.bench, self.id = bench, workflow_id

    @classmethod
    async def make(cls, bench: Bench, nodes: Definition, *defs: Definition) -> Flow:
        named = {child for node in nodes.values() for child in (*node.get("children", ()), *node.get("loopBody", ()))}
        root = {"type": "manual", "children": [node_id for node_id in nodes if node_id not in named]}
        definition = {"nodes": {"root": root, **nodes}, "variableDefs": list(defs)}
        return cls(bench, (await bench.api.create_workflow(definition))["id"])

    async def start(self, **body: Any) -> str:
        reply = await self.bench.api.post(f"/v1/workflows/{self.id}/run", body)
        return str(reply.data["runId"])

    async def run(self, **body: Any) -> dict[str, Any]:
        return await self.bench.ended(await self.start(**body))

    async def variables(self) -> dict[str, Any]:
        items = (await self.bench.api.get(f"/v1/workflows/{self.id}/variables")).data["items"]
        return {item["name"]: item["value"] for item in items}


def result(run: dict[str, Any], node_id: str) -> Any:
    assert run["executionState"][node_id]["status"] == "success", run["executionState"][node_id]
    return run["executionState"][node_id]["result"]


@pytest.mark.both_stores
async def test_value_is_kept_between_runs_and_read_both_ways(bench: Bench) -> None:
    nodes = {
        "old": get("n", "set", default=0),
        "set": put("n", "{{$trigger.body.n}}", "new"),
        "new": say("{{$vars.n}}"),
    }
    flow = await Flow.make(bench, nodes)
    first = await flow.run(payload={"n": 10**30})
    assert result(first, "old") == {"name": "n", "value": 0, "exists": False}
    assert result(first, "set") == {"name": "n", "value": str(10**30), "previous": None}
    second = await flow.run(payload={"n": 2})
    assert result(second, "old") == {"name": "n", "value": str(10**30), "exists": True}
    assert result(second, "new")["message"] == "2"
    assert await flow.variables() == {"n": 2}


async def test_reset_variable_starts_from_its_default_in_each_run(bench: Bench) -> None:
    defined = {"name": "n", "type": "number", "default": 5, "lifetime": "reset"}
    flow = await Flow.make(bench, {"a": add("n", "b"), "b": add("n", "c", by="{{$vars.n}}"), "c": get("n")}, defined)
    for _ in range(2):
        assert result(await flow.run(), "c")["value"] == 12
    assert await flow.variables() == {"n": 5}


@pytest.mark.both_stores
async def test_increments_of_many_runs_lose_no_step(bench: Bench) -> None:
    loop = {"type": "for-each", "payload": {"array": [1, 2, 3, 4], "concurrency": 4}, "loopBody": ["a"]}
    flow = await Flow.make(bench, {"each": loop, "a": add("n", by="{{$item}}")})
    runs = await asyncio.gather(*(flow.run() for _ in range(10)))
    assert {run["status"] for run in runs} == {"success"}
    assert await flow.variables() == {"n": 100}
    history = (await bench.api.get(f"/v1/workflows/{flow.id}/variables/n/history?limit=100")).data["items"]
    steps = sorted((write["oldValue"] or 0, write["newValue"]) for write in history)
    assert len(steps) == 40
    assert all(before[1] == after[0] for before, after in itertools.pairwise(steps))


@pytest.mark.parametrize(("before", "by", "after"), [("0.1", "0.2", 0.3), (1, -3, -2), ("1.5", "0.5", 2)])
async def test_increment_is_exact(bench: Bench, before: Any, by: Any, after: Any) -> None:
    nodes = {"s": put("n", f"{{{{{before}}}}}", "a"), "a": add("n", by=f"{{{{{by}}}}}")}
    flow = await Flow.make(bench, nodes)
    assert result(await flow.run(), "a")["value"] == after


async def test_what_does_not_fit_fails_with_its_name(bench: Bench) -> None:
    defined = {"name": "n", "type": "number"}
    flow = await Flow.make(bench, {"s": put("n", "{{$trigger.body.v}}")}, defined)
    run = await flow.run(payload={"v": "text"})
    assert run["error"]["message"] == 'The variable "n" is declared as number; text does not fit.'
    flow = await Flow.make(bench, {"s": put("t", "text", "a"), "a": add("t")})
    assert (await flow.run())["error"]["message"] == 'The variable "t": an increment needs numbers, not text.'
    flow = await Flow.make(bench, {"s": put("big", "{{$trigger.body.v}}")})
    run = await flow.run(payload={"v": "x" * 300_000})
    assert "at most 262144" in run["error"]["message"]
    assert await flow.variables() == {}
    missing = await bench.run({"s": say("{{$vars.none}}")})
    assert missing["executionState"]["s"]["error"]["code"] == "EXPRESSION"


async def test_simulation_writes_to_an_overlay_that_it_reads_back(bench: Bench) -> None:
    nodes = {"a": add("n", "b", by=5), "b": get("n", "c"), "c": say("{{$vars.n}}")}
    flow = await Flow.make(bench, nodes, {"name": "n", "type": "number", "default": 1})
    await flow.run()
    before = await bench.composition.rows(sa.select(variables))
    run = await flow.run(simulate=True)
    assert (result(run, "b")["value"], result(run, "c")["message"], run["passed"]) == (11, "11", True)
    assert await bench.composition.rows(sa.select(variables)) == before
    report = (await bench.api.get(f"/v1/runs/{run['id']}/effects")).data["variableWrites"]
    assert report == [
        {
            "runId": run["id"],
            "nodeId": "a",
            "path": "a",
            "name": "n",
            "op": "increment",
            "scope": "workflow",
            "oldValue": 6,
            "newValue": 11,
            "written": False,
        }
    ]
    history = (await bench.api.get(f"/v1/workflows/{flow.id}/variables/n/history")).data["items"]
    assert [write["newValue"] for write in history] == [6]
    [write] = (await bench.api.get(f"/v1/runs/{run['id']}/variable-writes")).data["items"]
    assert (write["simulated"], write["newValue"], write["writtenByNode"]) == (True, 11, "a")
    live = (await bench.api.get(f"/v1/runs/{(await flow.run())['id']}/effects")).data["variableWrites"]
    assert (live[0]["written"], live[0]["newValue"]) == (True, 11)


async def test_assumed_value_marks_the_variable_and_what_reads_it(bench: Bench) -> None:
    nodes = {
        "w": trial(children=["s"]),
        "s": put("v", "{{w.result.value}}", "q"),
        "q": {"type": "if", "payload": {"expression": "$vars.v == 'example'"}, "children": ["y"]},
        "y": {**say("{{$vars.v}}"), "branch": "then"},
    }
    run = await (await Flow.make(bench, nodes)).run(simulate=True)
    state = run["executionState"]
    assert (run["passed"], state["s"]["assumed"], state["q"]["assumed"], state["y"]["assumed"]) == (
        False,
        True,
        True,
        True,
    )


async def test_write_of_an_inline_run_lives_in_the_run(bench: Bench) -> None:
    run = await bench.run({"a": add("n", "b"), "b": add("n")})
    assert result(run, "b") == {"name": "n", "value": 2, "previous": 1}
    assert await bench.composition.rows(sa.select(variables)) == []


async def test_dust_run_writes_unless_the_node_says_otherwise(bench: Bench) -> None:
    flow = await Flow.make(bench, {"a": add("n"), "b": add("m", dust="skip")})
    run = await flow.run(dustTest=True)
    assert (run["status"], await flow.variables()) == ("success", {"n": 1})
    flow = await Flow.make(bench, {"a": add("n", dust="refuse")})
    assert (await flow.run(dustTest=True))["error"]["code"] == "REFUSED"


async def test_retry_of_a_run_does_not_write_again(bench: Bench) -> None:
    flow = await Flow.make(bench, {"a": add("n", "b"), "b": trial(name="again", outcomes=["permanent"])})
    run = await flow.run()
    assert run["status"] == "failure"
    retried = (await bench.api.post(f"/v1/runs/{run['id']}/retry")).data["runId"]
    assert (await bench.ended(retried))["status"] == "success"
    assert await flow.variables() == {"n": 1}


@pytest.mark.parametrize("mode", ["live", "dustTest"])
async def test_a_retry_sees_what_the_run_has_set_for_itself(bench: Bench, mode: str) -> None:
    """In a loop too, whose other items the retry does; and what an item has counted it does not count again."""
    name = f"own {mode}"
    loop = {"type": "for-each", "payload": {"array": [1, 2, 3], "onItemError": "continue"}, "loopBody": ["count"]}
    nodes = {
        "amount": put("amount", 50, "each"),
        "each": {**loop, "children": ["fails"]},
        "count": add("n", "item"),
        "item": trial(name=f"item {name}", outcomes=["permanent", "ok"]),
        "fails": trial(name=name, outcomes=["permanent", "ok"], children=["say"]),
        "say": say("{{$vars.amount}} {{$vars.n}}"),
    }
    defs = [{"name": one, "type": "number", "default": 1, "lifetime": "reset"} for one in ("amount", "n")]
    flow, how = await Flow.make(bench, nodes, *defs), {} if mode == "live" else {mode: True}
    run = await flow.run(**how)
    for _ in range(3):
        if run["status"] == "success":
            break
        run = await bench.ended((await bench.api.post(f"/v1/runs/{run['id']}/retry")).data["runId"])
    assert (run["status"], result(run, "say")["message"]) == ("success", "50 4")
    assert result(await flow.run(**how), "say")["message"] == "50 4", "which another run does not see"


async def test_what_a_called_run_sets_for_itself_the_next_one_sets_again(bench: Bench) -> None:
    nodes = {
        "set": put("n", 50, "fails"),
        "fails": trial(name="called own", outcomes=["permanent", "ok"], children=["say"]),
        "say": say("{{$vars.n}}"),
    }
    callee = await Flow.make(bench, nodes, {"name": "n", "type": "number", "default": 1, "lifetime": "reset"})
    run = await bench.run({"call": {"type": "call-workflow", "payload": {"workflowId": callee.id}}})
    assert run["status"] == "failure"
    again = await bench.ended((await bench.api.post(f"/v1/runs/{run['id']}/retry")).data["runId"])
    assert result(again, "call")["result"]["message"] == "50"


async def test_a_retried_simulation_writes_anew(bench: Bench) -> None:
    columns = [{"name": "id", "type": "text"}, {"name": "n", "type": "integer"}]
    made = await bench.api.post("/v1/tables", {"name": "kept", "columns": columns, "primaryKey": "id"})
    assert made.status == 200, made.body
    nodes = {
        "set": put("n", 50, "count"),
        "count": add("n", "row"),
        "row": {"type": "write-table", "payload": {"table": "kept", "rows": {"id": "a", "n": 7}}, "children": ["read"]},
        "read": {"type": "read-table", "payload": {"table": "kept"}, "children": ["say"]},
        "say": say("{{$vars.n}} {{read.result.rows[0].n}}", "end"),
        "end": {"type": "stop", "payload": {"status": "failure"}},
    }
    flow = await Flow.make(bench, nodes, {"name": "n", "type": "number", "default": 1})
    run = await flow.run(simulate=True)
    again = await bench.ended((await bench.api.post(f"/v1/runs/{run['id']}/retry")).data["runId"])
    assert [result(one, "say")["message"] for one in (run, again)] == ["51 7"] * 2
    assert await flow.variables() == {"n": 1}


@pytest.mark.parametrize("lifetime", ["persist", "reset", "reset, by an earlier version"])
async def test_write_that_was_done_before_the_server_ended_is_not_done_again(tmp_path: Path, lifetime: str) -> None:
    """As after a crash between the write and its record: the node has begun, and its write is there. An earlier version
    recorded each write under the node's own key."""
    from dustrun.services.data.variables import Variables

    async with composed(tmp_path, actions_dir=OWN_ACTIONS) as first:
        bench = Bench(first)
        defs = [{"name": "n", "type": "number", "lifetime": lifetime.partition(",")[0]}]
        flow = await Flow.make(bench, {"a": add("n", "b"), "b": say("{{$vars.n}}")}, *defs)
        engine = first.engine
        real: Variables = engine._deps.variables
        gone = asyncio.Event()

        class Breaking(Variables):
            async def write_for(self, *given: Any) -> Any:
                await real.write_for(*given)
                gone.set()
                await asyncio.sleep(60)

        breaking = Breaking(first.parts.database, first.parts.writer, real._keeping)
        object.__setattr__(engine._deps, "variables", breaking)
        run_id = await flow.start()
        await gone.wait()
        await engine.stop(0)
        if "earlier" in lifetime:
            key = sa.func.replace(variable_writes.c.write_key, "/" + sa.cast(variable_writes.c.run_pk, sa.Text), "")
            await first.parts.writer.write(
                lambda tx: tx.run(Statement(sa.update(variable_writes).values(write_key=key)))
            )
    async with composed(tmp_path, actions_dir=OWN_ACTIONS) as second:
        bench = Bench(second)
        run = await bench.ended(run_id)
        assert result(run, "a") == {"name": "n", "value": 1, "previous": None}
        assert result(run, "b")["message"] == "1"
        assert len(await second.rows(sa.select(variable_writes))) == 1


# --- by hand ---


async def test_declare_set_reset_delete(bench: Bench) -> None:
    flow = await Flow.make(bench, {"a": add("n")})
    base = f"/v1/workflows/{flow.id}/variables"
    declared = (await bench.api.put(f"{base}/n", {"type": "number", "default": 10})).data
    assert (declared["value"], declared["hasValue"], declared["def"]["type"]) == (10, False, "number")
    assert result(await flow.run(), "a")["value"] == 11
    assert (await bench.api.post(f"{base}/n/value", {"value": 100})).data["value"] == 100
    assert result(await flow.run(), "a")["value"] == 101
    reset = (await bench.api.post(f"{base}/n/reset")).data
    assert (reset["value"], reset["hasValue"], reset["version"]) == (10, False, 4)
    ops = [(w["op"], w["oldValue"], w["newValue"]) for w in (await bench.api.get(f"{base}/n/history")).data["items"]]
    assert ops == [("manual_reset", 101, None), ("increment", 100, 101), ("manual_set", 11, 100), ("increment", 10, 11)]
    assert (await bench.api.delete(f"{base}/n")).data["def"] is None
    assert (await bench.api.get(base)).data["items"] == []
    assert len((await bench.api.get(f"{base}/n/history")).data["items"]) == 4


async def test_refusals_by_hand(bench: Bench) -> None:
    fixed = {"name": "fixed", "type": "text"}
    resets = {"name": "resets", "lifetime": "reset"}
    flow = await Flow.make(bench, {"a": say("x")}, fixed, resets)
    base = f"/v1/workflows/{flow.id}/variables"
    assert (await bench.api.put(f"{base}/fixed", {"type": "number"})).code == 409006
    assert (await bench.api.delete(f"{base}/fixed")).code == 409006
    assert (await bench.api.post(f"{base}/fixed/value", {"value": 5})).code == 400087
    assert (await bench.api.post(f"{base}/resets/value", {"value": 5})).code == 409006
    assert (await bench.api.post(f"{base}/none/value", {"value": 5})).code == 404013
    assert (await bench.api.post(f"{base}/none/reset")).code == 404013
    assert (await bench.api.delete(f"{base}/none")).code == 404013
    assert (await bench.api.get(f"{base}/none/history")).code == 404013
    assert (await bench.api.put(f"{base}/n", {"type": "number", "default": "x"})).code == 400087
    assert (await bench.api.put(f"{base}/n", {"type": "decimal"})).code == 400001
    assert (await bench.api.put(f"{base}/n", {"name": "m"})).code == 400001
    assert (await bench.api.put(f"{base}/9n", {})).code == 400087
    assert (await bench.api.post(f"{base}/fixed/value", {"value": "x" * 300_000})).code == 400087
    assert (await bench.api.get("/v1/workflows/wf_none/variables")).code == 404001
    assert (await bench.api.get("/v1/runs/run_none/variable-writes")).code == 404003
    other = await bench.composition.other_owner()
    assert (await other.get(base)).code == 404001


async def test_value_that_does_not_fit_a_new_declaration(bench: Bench) -> None:
    flow = await Flow.make(bench, {"a": put("n", "text")})
    await flow.run()
    reply = await bench.api.put(f"/v1/workflows/{flow.id}/variables/n", {"type": "number"})
    assert (reply.status, "Reset the variable first" in reply.body["message"]) == (409, True)


async def test_definition_is_checked(bench: Bench) -> None:
    defs = [
        {"name": "n", "type": "number", "default": "x"},
        {"name": "n"},
        {"name": "t", "type": "text", "lifetime": "reset"},
    ]
    nodes = {
        "root": {"type": "manual", "children": ["a", "b", "c", "d"]},
        "a": put("t", 5),
        "b": add("t"),
        "c": {"type": "set-variable", "payload": {"name": "t", "value": "x", "scope": "persist"}},
        "d": {"type": "increment-variable", "payload": {"name": "9", "by": "x"}},
    }
    found = (
        await bench.api.post("/v1/workflows/validate", {"definition": {"nodes": nodes, "variableDefs": defs}})
    ).data
    problems = sorted((error["code"], error.get("nodeId", ""), error["field"]) for error in found["errors"])
    assert problems == [
        ("payload_invalid", "d", "nodes.d.payload.by"),
        ("payload_invalid", "d", "nodes.d.payload.name"),
        ("variable_scope_mismatch", "c", "nodes.c.payload.scope"),
        ("variable_twice", "", "variableDefs[1].name"),
        ("variable_type_mismatch", "", "variableDefs[0].default"),
        ("variable_type_mismatch", "a", "nodes.a.payload.value"),
        ("variable_type_mismatch", "b", "nodes.b.payload.name"),
    ]
