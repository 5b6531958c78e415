"""Reports see through calls: what a called run did is in the report of the run that called it, at any depth."""

from __future__ import annotations

from collections.abc import AsyncIterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from rich.console import Console

from dustrun.cli.render import report as drawn_report
from dustrun.cli.render import side_by_side
from dustrun.storage.db.tables import runs
from engine.conftest import Bench, trial
from engine.test_subworkflows import call, child_of
from engine.test_variables import Flow, put, say
from outbox import ALICE
from rehearsals import SHOP, Run, Studio, open_studio, pay, told
from testkit.chain.contracts import ETHER, World

Json = dict[str, Any]


@pytest.fixture
async def studio(tmp_path: Path, world: World) -> AsyncIterator[Studio]:
    with world.node() as chain:
        async with open_studio(tmp_path, world, chain) as studio:
            yield studio


def places(entries: list[Json]) -> list[tuple[str, str]]:
    """Run and path of each entry."""
    return [(entry["runId"], entry["path"]) for entry in entries]


async def effects(bench: Bench, run_id: str) -> Json:
    """The report of a run."""
    found: Json = (await bench.api.get(f"/v1/runs/{run_id}/effects")).data
    return found


def drawn(*parts: Any) -> str:
    """What the CLI prints, on one line."""
    console = Console(width=200, record=True, file=StringIO())
    for part in parts:
        console.print(part)
    return " ".join(console.export_text().split())


def _called(report: Json) -> dict[str, str]:
    """The id of each called run by the path of its call."""
    return {one["path"]: one["runId"] for one in report["children"]}


async def _three_levels(studio: Studio) -> str:
    """Top pays and calls the middle one for each of two items; the middle calls the bottom, which pays one coin."""
    bottom = await studio.workflow({"pay": pay("{{$trigger.units}}", "note"), "note": put("paid", 1)})
    middle = await studio.workflow({"low": call(bottom, payload={"payload": {"units": "{{$trigger.units}}"}})})
    each = {"type": "for-each", "payload": {"array": [1, 2]}, "loopBody": ["mid"]}
    return await studio.workflow(
        {"own": pay(5, "each"), "each": each, "mid": call(middle, payload={"payload": {"units": str(ETHER)}})}
    )


PATHS = ["own", "each[0].mid/low/pay", "each[1].mid/low/pay"]


async def test_everything_that_called_runs_do_is_in_the_callers_report(studio: Studio) -> None:
    top = await _three_levels(studio)
    done: dict[str, Run] = {}
    reports: dict[str, Json] = {}
    for mode, body in (("simulate", {"simulate": True}), ("live", {}), ("dust", {"dustTest": True})):
        done[mode] = run = await studio.run(top, **body)
        assert run["status"] == "success", told(run)
        reports[mode] = report = await studio.effects(run)
        inner = _called(report)
        at = [run["id"], inner["each[0].mid/low"], inner["each[1].mid/low"]]
        assert places(report["transactions"]) == list(zip(at, PATHS, strict=True))
        assert places(report["policyVerdicts"]) == list(zip(at, PATHS, strict=True))
        assert places(report["variableWrites"]) == list(
            zip(at[1:], ["each[0].mid/low/note", "each[1].mid/low/note"], strict=True)
        )
        assert (report["called"]["total"], report["called"]["shown"], report["called"]["isComplete"]) == (4, 4, True)
        assert {(one["isShown"], one["isOpen"], one["runStatus"]) for one in report["children"]} == {
            (True, False, "success")
        }
        fees = sum(int(one["fee"]) for one in report["transactions"])
        assert [(fee["address"], fee["amount"]) for fee in report["totalFees"]] == [(ALICE, str(fees))]
    for mode in ("simulate", "live"):
        report = reports[mode]
        changed = {one["address"]: int(one["amount"]) for one in report["balanceChanges"]}
        assert (changed[ALICE], changed[SHOP]) == (-2 * ETHER - 5, 2 * ETHER + 5)
        large = [one for one in report["warnings"] if one["code"] == "LARGE_VALUE"]
        assert [one["path"] for one in large] == PATHS[1:]
        text = drawn(*drawn_report.draw(report))
        assert "each[1].mid/low/pay" in text
        assert "Nothing would be sent" not in text
    assert [one["path"] for one in reports["dust"]["dust"]["scaled"]] == PATHS
    assert "note" not in reports["dust"]["dust"]
    table = drawn(*side_by_side.draw([reports[mode] for mode in ("simulate", "dust", "live")]))
    assert "each[0].mid/low/pay" in table
    compared = (await studio.api.get(f"/v1/runs/{done['simulate']['id']}/compare/{done['live']['id']}")).data
    assert ([one["message"] for one in compared["differences"]], compared["verdict"]) == ([], "same")
    assert [one["path"] for one in compared["estimates"]] == PATHS


async def test_plans_and_needed_funds_are_told_through_calls(studio: Studio) -> None:
    top = await _three_levels(studio)
    plan = (await studio.api.post(f"/v1/workflows/{top}/dust-plan", {})).data
    assert [(one["path"], one["entries"][0]["original"]) for one in plan["spends"]] == [
        ("own", "5"),
        ("mid[0]/low/pay", str(ETHER)),
        ("mid[1]/low/pay", str(ETHER)),
    ]
    assert float(plan["totalUsd"]) == pytest.approx(0.02, rel=0.01)
    assert (plan["unknowns"], plan["refusals"]) == ([], [])
    funds = (await studio.api.get(f"/v1/workflows/{top}/analyze-funds")).data
    needed = {(one["path"], one["source"]): one["requiredAmount"] for one in funds["requirements"]}
    assert {path: units for (path, source), units in needed.items() if source == "node"} == {
        "own": "5",
        "mid[0]/low/pay": str(ETHER),
        "mid[1]/low/pay": str(ETHER),
    }
    assert {path for path, source in needed if source == "gas"} == {"own", "mid[0]/low/pay", "mid[1]/low/pay"}
    blind = await studio.workflow(
        {"which": call("{{$trigger.which}}"), "self": call("{{'wf_none'}}"), "all": call(top)}
    )
    plan = (await studio.api.post(f"/v1/workflows/{blind}/dust-plan", {"payload": {"which": top}})).data
    paths = ("own", "mid[0]/low/pay", "mid[1]/low/pay")
    assert [one["path"] for one in plan["spends"]] == [f"{at}/{path}" for at in ("which", "all") for path in paths]
    assert [(one["path"], one["field"]) for one in plan["unknowns"]] == [("self", "workflowId")]
    plan = (await studio.api.post(f"/v1/workflows/{blind}/dust-plan", {})).data
    assert [one["path"] for one in plan["unknowns"]] == ["which", "self"]
    assert "payload" in plan["unknowns"][0]["message"]
    made = await studio.api.post(
        "/v1/api-keys", {"name": "limited", "permissions": ["workflow:read"], "workflowIds": [blind]}
    )
    limited = studio.outbox.composition.client(made.data["key"])
    hidden = (await limited.get(f"/v1/workflows/{blind}/analyze-funds")).data
    assert hidden["requirements"] == []
    assert [one["path"] for one in hidden["unresolved"]] == ["which", "self", "all"]


async def test_why_a_called_simulation_did_not_pass_is_told_by_the_caller(bench: Bench) -> None:
    bottom = await Flow.make(bench, {"ask": trial(name="ask", children=["so"]), "so": _choice("ask")})
    middle = await Flow.make(bench, {"low": call(bottom.id)})
    run = await bench.run({"mid": call(middle.id)}, simulate=True)
    report = await effects(bench, run["id"])
    low = next(one["runId"] for one in report["children"] if one["path"] == "mid/low")
    assert report["passed"] is False
    assert (low, "mid/low/so") in [(one["runId"], one["path"]) for one in report["notPassed"]]
    assert (low, "mid/low/ask") in places(report["requests"])
    assert (low, "mid/low/ask", "example") in [(o["runId"], o["path"], o["source"]) for o in report["assumed"]]
    assert (low, "mid/low/so") in places([one for one in report["warnings"] if one["code"] == "ASSUMED_BRANCH"])


def _choice(node: str) -> Json:
    return {"type": "if", "payload": {"expression": f"{node}.result.attempts > 1"}}


async def test_a_run_that_was_only_started_is_told_as_far_as_it_has_come(bench: Bench) -> None:
    wait = {"type": "wait", "payload": {"timeoutMs": 60_000}}
    callee = await Flow.make(bench, {"first": trial(name="started first", children=["w"]), "w": wait})
    run = await bench.run({"call": call(callee.id, payload={"mode": "start"})})
    child = await child_of(bench, run["id"])
    await bench.until(child["id"], lambda found: found["executionState"].get("w", {}).get("status") == "waiting")
    report = await effects(bench, run["id"])
    assert (report["status"], report["called"]["openRunIds"]) == ("success", [child["id"]])
    assert places(report["requests"]) == [(child["id"], "call/first")]
    (entry,) = report["children"]
    assert (entry["isOpen"], entry["runStatus"]) == (True, "waiting")
    assert f"call: run {child['id']} has not ended" in drawn(*drawn_report.draw(report))


@pytest.mark.both_stores
async def test_a_retry_tells_what_it_sent_and_apart_what_earlier_runs_had(bench: Bench) -> None:
    callee = await Flow.make(bench, {"a": trial(name="{{$trigger.body.name}}", outcomes=["ok"])})
    bad = await Flow.make(bench, {"b": trial(name="bad then good", outcomes=["permanent"])})
    each = {"type": "for-each", "payload": {"array": [1, 2, 3]}, "loopBody": ["item"], "children": ["last"]}
    item = call(callee.id, payload={"payload": {"name": "item"}})
    first = await bench.run(
        {"own": trial(name="own", children=["each"]), "each": each, "item": item, "last": call(bad.id)}
    )
    assert first["status"] == "failure"
    before = await effects(bench, first["id"])
    assert [path for _, path in places(before["requests"])] == [
        "own",
        *(f"each[{n}].item/a" for n in range(3)),
        "last/b",
    ]
    assert before["earlier"] is None
    again = (await bench.api.post(f"/v1/runs/{first['id']}/retry")).data["runId"]
    assert (await bench.ended(again))["status"] == "success"
    report = await effects(bench, again)
    child = await child_of(bench, again, "last")
    assert places(report["requests"]) == [(child["id"], "last/b")]
    assert report["earlier"]["runIds"] == [first["id"]]
    assert places(report["earlier"]["requests"]) == places(before["requests"])
    text = drawn(*drawn_report.draw(report))
    assert f"Earlier runs of this retry chain ({first['id']})" in text
    compared = (await bench.api.get(f"/v1/runs/{first['id']}/compare/{again}")).data
    assert {one["path"] for one in compared["differences"]} == {"last", "last/b"}


async def test_a_limited_key_is_told_how_many_called_runs_it_does_not_see(bench: Bench) -> None:
    bottom = await Flow.make(bench, {"a": trial(name="below hidden")})
    hidden = await Flow.make(bench, {"h": trial(name="hidden", children=["call"]), "call": call(bottom.id)})
    seen = await Flow.make(bench, {"s": trial(name="seen")})
    top = await Flow.make(bench, {"one": call(hidden.id, "two"), "two": call(seen.id)})
    run = await top.run()
    body = {"name": "limited", "permissions": ["run:read"], "workflowIds": [top.id, seen.id, bottom.id]}
    made = await bench.api.post("/v1/api-keys", body)
    limited = bench.composition.client(made.data["key"])
    report = (await limited.get(f"/v1/runs/{run['id']}/effects")).data
    assert [path for _, path in places(report["requests"])] == ["two/s"]
    shown = {one["path"]: one["isShown"] for one in report["children"]}
    assert shown == {"one": False, "two": True}
    called = report["called"]
    assert (called["total"], called["shown"], called["hidden"], called["isComplete"]) == (3, 1, 2, False)
    assert [(one["code"], one["path"]) for one in report["warnings"]] == [("CALLED_RUNS_HIDDEN", None)]
    assert "2 called runs" in drawn(*drawn_report.draw(report))
    compared = (await limited.get(f"/v1/runs/{run['id']}/compare/{run['id']}")).data
    assert [note["code"] for note in compared["notes"]] == ["CALLED_RUNS_HIDDEN", "CALLED_RUNS_HIDDEN"]
    whole = await effects(bench, run["id"])
    assert [path for _, path in places(whole["requests"])] == ["one/h", "one/call/a", "two/s"]


async def test_a_run_with_very_many_called_runs_says_how_many_it_shows(bench: Bench) -> None:
    callee = await Flow.make(bench, {"a": say("x")})
    run = await bench.run({"call": call(callee.id)})
    columns = [column for column in runs.c if column.name not in ("pk", "id")]
    for number in range(11):  # each time twice as many
        copy = sa.select(runs.c.id + f"_{number}", *columns).where(runs.c.parent_run_id == run["id"])
        await bench.composition.execute(sa.insert(runs).from_select(["id", *(column.name for column in columns)], copy))
    report = await effects(bench, run["id"])
    called = report["called"]
    assert (called["total"], called["shown"], called["isComplete"]) == (2_048, 1_000, False)
    assert [one["code"] for one in report["warnings"]] == ["CALLED_RUNS_LEFT_OUT"]
    assert "1048 of 2048 called runs" in drawn(*drawn_report.draw(report))
