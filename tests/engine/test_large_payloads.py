"""A large payload is stored once, wherever it comes back in its run, and nobody sees that."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from dustrun.storage.db.statement import Statement, Tx
from dustrun.storage.db.tables import executions, run_values, runs
from dustrun.storage.runs import called_runs
from dustrun.storage.runs import runs as run_rows
from dustrun.storage.runs.called_runs import CalledNode
from dustrun.storage.runs.large_values import LARGE, MARK
from engine.conftest import OWN_ACTIONS, Bench, trial
from engine.test_subworkflows import call
from engine.test_variables import Flow
from testkit.composition import composed

ODD: dict[str, Any] = {
    "control": f"{MARK}0123",
    "quoted": '"NaN" \\ \n',
    "amount": "1234567890.5",
    "letters": "é 漢 🙂",
    "none": None,
    "yes": True,
}
ROWS: list[Any] = [{"n": number, **ODD} for number in range(400)]
PAYLOAD: dict[str, Any] = {"rows": ROWS, "note": "y" * (2 * LARGE), "few": {"deep": {"text": "z" * LARGE}}, **ODD}


def sort(**more: Any) -> dict[str, Any]:
    """A node that takes the rows and returns them."""
    return {"type": "sort", "payload": {"array": "{{$trigger.body.rows}}", "field": "n"}, **more}


async def _stored(bench: Bench, run_id: str) -> list[str]:
    """What the run has as values of their own."""
    of_run = run_values.c.run_pk == sa.select(runs.c.pk).where(runs.c.id == run_id).scalar_subquery()
    return [row[0] for row in await bench.composition.rows(sa.select(run_values.c.content).where(of_run))]


@pytest.mark.both_stores
async def test_a_large_payload_is_stored_once_and_shown_everywhere(bench: Bench) -> None:
    run = await bench.run({"first": sort(children=["second"]), "second": sort()}, payload=PAYLOAD)
    assert run["payload"] == PAYLOAD
    state = run["executionState"]
    assert state["root"]["result"]["body"] == PAYLOAD
    for node in ("first", "second"):
        assert state[node]["input"]["array"] == ROWS
        assert state[node]["result"] == {"items": ROWS, "count": len(ROWS)}
    stored = await _stored(bench, run["id"])
    assert sorted(map(len, stored)) == sorted(
        len(json.dumps(one, separators=(",", ":"), ensure_ascii=False)) for one in (ROWS, PAYLOAD["note"], "z" * LARGE)
    )
    assert all(json.loads(one) in (ROWS, PAYLOAD["note"], "z" * LARGE) for one in stored)
    of_run = executions.c.run_pk == sa.select(runs.c.pk).where(runs.c.id == run["id"]).scalar_subquery()
    texts = await bench.composition.rows(sa.select(executions.c.result, runs.c.payload).where(of_run))
    assert all(len(text) < LARGE for row in texts for text in row if text is not None)
    listed = (await bench.api.get("/v1/runs")).data["items"]
    assert [one["id"] for one in listed] == [run["id"]]


@pytest.mark.both_stores
async def test_what_is_large_can_be_left_out_and_asked_for_by_node(bench: Bench) -> None:
    nodes = {"first": sort(children=["say"]), "say": {"type": "log", "payload": {"message": "hi"}}}
    run_id = (await bench.run(nodes, payload=PAYLOAD))["id"]
    short = (await bench.api.get(f"/v1/runs/{run_id}?omitLargerThan=1000")).data
    size = len(json.dumps(PAYLOAD, separators=(",", ":"), ensure_ascii=False).encode())
    assert (short["payload"], short["payloadOmitted"], short["payloadBytes"]) == (None, True, size)
    first, say = short["executionState"]["first"], short["executionState"]["say"]
    assert (first["input"], first["inputOmitted"], first["result"], first["resultOmitted"]) == (None, True, None, True)
    shown = {"items": ROWS, "count": len(ROWS)}
    assert first["resultBytes"] == len(json.dumps(shown, separators=(",", ":"), ensure_ascii=False).encode())
    assert say["result"] is not None
    assert "resultOmitted" not in say
    whole = (await bench.api.get(f"/v1/runs/{run_id}?nodeIds=first")).data["executionState"]
    assert whole["first"]["result"] == shown
    assert "resultOmitted" not in whole["first"]
    reply = await bench.api.get(f"/v1/runs/{run_id}?omitLargerThan=-1")
    assert (reply.status, reply.fields) == (400, ["omitLargerThan"])


async def test_numbers_and_secrets_of_large_values_are_shown_as_those_of_small_ones(bench: Bench) -> None:
    """Both keep a value's text from being passed on as it is stored."""
    private = {"password": "open sesame", "url": "https://a.example/?sig=0123456789abcdef", "big": 2**60, "s": "ſ"}
    few, many = [
        await bench.run({"first": sort()}, payload={"rows": [{"n": 1, **private}] * count}) for count in (1, 2_000)
    ]
    for run, count in ((few, 1), (many, 2_000)):
        assert run["payload"]["rows"] == few["payload"]["rows"] * count
        assert run["executionState"]["first"]["input"]["array"] == few["payload"]["rows"] * count
        assert (
            run["executionState"]["first"]["result"]["items"]
            == few["executionState"]["first"]["result"]["items"] * count
        )
    assert "sesame" not in json.dumps(many["payload"])
    assert many["payload"]["rows"][0]["big"] == str(2**60)


async def test_large_values_are_exact_numbers_for_who_asks(bench: Bench) -> None:
    rows = [{"n": number, "amount": 2**60 + number} for number in range(2_000)]
    for payload in (PAYLOAD, {"rows": rows}):  # of the second, only what has no such integers is passed on
        run_id = (await bench.run({"first": sort()}, payload=payload))["id"]
        reply = await bench.api.http.get(f"/v1/runs/{run_id}", headers={"Dustrun-Exact-Numbers": "true"})
        found = json.loads(reply.content)["data"]
        assert found["payload"] == payload
        assert found["executionState"]["first"]["result"]["items"] == payload["rows"]


@pytest.mark.both_stores
async def test_large_values_come_back_after_a_restart_and_in_a_retry(tmp_path: Path, store_url: str) -> None:
    settings: dict[str, Any] = {"database_url": store_url, "actions_dir": OWN_ACTIONS}
    nodes = {
        "first": sort(children=["ask"]),
        "ask": {"type": "wait", "payload": {"timeoutMs": 600_000}, "children": ["fails"]},
        "fails": trial(name="large", outcomes=["permanent"], value="{{size(first.result.items)}}", children=["last"]),
        "last": {"type": "sort", "payload": {"array": "{{first.result.items}}", "field": "n"}},
    }
    async with composed(tmp_path, **settings) as server:
        bench = Bench(server)
        run_id = await bench.start(nodes, payload=PAYLOAD)
        await bench.until(run_id, lambda run: bool(run["status"] == "waiting"))
    async with composed(tmp_path, **settings) as server:
        bench = Bench(server)
        await bench.api.post(f"/v1/runs/{run_id}/nodes/ask/resume", {"data": {}})
        assert (await bench.ended(run_id))["status"] == "failure"
        retried = (await bench.api.post(f"/v1/runs/{run_id}/retry", {})).data
        assert retried["payload"] == PAYLOAD
        again = await bench.ended(retried["runId"])
        assert again["status"] == "success", again["executionState"]["fails"]
        assert again["executionState"]["last"]["result"]["items"] == ROWS
        assert again["executionState"]["first"]["keptFrom"] == run_id
        assert sorted(await _stored(bench, again["id"])) == sorted(await _stored(bench, run_id))


@pytest.mark.both_stores
async def test_large_values_pass_through_loops_and_called_workflows_into_reports(bench: Bench) -> None:
    child = await Flow.make(bench, {"first": sort()})
    nodes = {
        "each": {"type": "for-each", "payload": {"array": [1, 2]}, "loopBody": ["call"]},
        "call": call(child.id, payload={"payload": {"rows": "{{$trigger.body.rows}}"}}),
    }
    parent = await Flow.make(bench, nodes)
    ended = []
    for simulate in (True, False):
        body = {"payload": PAYLOAD, "simulate": simulate}
        run_id = (await bench.api.post(f"/v1/workflows/{parent.id}/run", body)).data["runId"]
        ended.append(await bench.ended(run_id))
    for run in ended:
        items = run["executionState"]["each"]["iterations"]
        assert [one["call"]["input"]["payload"]["rows"] for one in items] == [ROWS, ROWS]
        assert [one["call"]["result"]["results"]["first"]["items"] for one in items] == [ROWS, ROWS]
        assert (await bench.api.get(f"/v1/runs/{run['id']}/effects?include=sources")).status == 200
        assert len(await _stored(bench, run["id"])) == 3
    simulated, live = (run["id"] for run in ended)
    assert (await bench.api.get(f"/v1/runs/{simulated}/compare/{live}")).data["differences"] == []
    changed = {"payload": {**PAYLOAD, "rows": ROWS[1:]}}
    other = (await bench.api.post(f"/v1/workflows/{parent.id}/run", changed)).data["runId"]
    await bench.ended(other)
    assert (await bench.api.get(f"/v1/runs/{simulated}/compare/{other}")).data["differences"] != []

    def inputs(tx: Tx) -> set[str | None] | None:
        top = run_rows.get(tx, _pk_of(tx, live))
        return called_runs.list_inputs(tx, top, CalledNode(child.id, 1, "first", in_loop=False), 5)

    found = await bench.composition.parts.database.read(inputs)
    assert [json.loads(one or "")["array"] for one in found or ()] == [ROWS]


def _pk_of(tx: Tx, run_id: str) -> int:
    row = tx.one(Statement(sa.select(runs.c.pk).where(runs.c.id == run_id)))
    assert row is not None
    return int(row[0])
