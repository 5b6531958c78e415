"""A `while` loop with a rate limit, in called workflows, that pays from the wallet of each call: every mode, reports
and tables, a comparison, a plan, a refusal in the middle and its retry."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from dustrun.cli.render import report as drawn_report
from dustrun.cli.render import side_by_side
from engine.test_reports_of_calls import drawn
from engine.test_subworkflows import call
from engine.test_wallets_by_expression import by, let, wallets
from outbox import address
from rehearsals import SHOP, Run, Studio, open_studio, pay, told
from testkit.chain.contracts import ETHER, World

Json = dict[str, Any]
TIMES, PER_MS = 3, 400
LAST = address(2)
PATHS = [f"each[{wallet}].call/pages[{time}].pay" for wallet in range(2) for time in range(TIMES)]


@pytest.fixture
async def studio(tmp_path: Path, world: World, store_url: str) -> AsyncIterator[Studio]:
    with world.node() as chain:
        async with open_studio(tmp_path, world, chain, store_url=store_url) as studio:
            yield studio


async def _flows(studio: Studio) -> tuple[str, str]:
    """A workflow that calls another for each row, and the called one, which pays three times, the last time somebody
    else."""
    recipient = f"{{{{$item.left > 1 ? '{SHOP}' : '{LAST}'}}}}"
    loop = {
        "type": "for-each",
        "payload": {
            "while": "$item.left > 1",
            "first": {"left": TIMES},
            "next": {"left": "{{$item.left - 1}}"},
            "maxItems": 10,
        },
        "loopBody": ["pay"],
    }
    paying = pay(str(ETHER), to=recipient, connector=by("{{$inputs.wallet}}"), rate={"count": 1, "perMs": PER_MS})
    child = await studio.workflow({"pages": loop, "pay": paying})
    each = {
        "type": "for-each",
        "payload": {"array": "{{$inputs.wallets}}", "concurrency": 2, "onItemError": "continue"},
        "loopBody": ["call"],
    }
    calling = call(child, payload={"payload": {"wallet": "{{$item}}"}})
    return await studio.workflow({"each": each, "call": calling}), child


async def _starts(studio: Studio, run: Run) -> list[list[int]]:
    """When each called run's payments began, in milliseconds."""
    found = []
    for item in run["executionState"]["each"]["iterations"]:
        called = (await studio.api.get(f"/v1/runs/{item['call']['result']['runId']}")).data
        payments = [iteration["pay"] for iteration in called["executionState"]["pages"]["iterations"]]
        found.append([round(datetime.fromisoformat(one["startedAt"]).timestamp() * 1000) for one in payments])
    return found


async def test_a_rated_while_loop_pays_in_called_runs_alike_in_every_mode(studio: Studio) -> None:
    alice, bob, bobs = await wallets(studio)
    parent, _ = await _flows(studio)
    payload = {"wallets": [alice, bob]}
    plan = (await studio.api.post(f"/v1/workflows/{parent}/dust-plan", {"payload": payload})).data
    assert {one["repeats"] for one in plan["spends"]} == {
        'it happens once per item of "pages", whose items are unknown'
    }
    assert [one["walletId"] for one in plan["spends"]] == [alice, bob]
    before = studio.outbox.nonce(), studio.outbox.nonce(bobs)
    done, reports = {}, {}
    for mode, body in (("simulate", {"simulate": True}), ("live", {}), ("dust", {"dustTest": True})):
        run = done[mode] = await studio.run(parent, payload=payload, **body)
        assert (run["status"], run["passed"]) == ("success", True), told(run)
        report = reports[mode] = await studio.effects(run)
        assert sorted(one["path"] for one in report["transactions"]) == PATHS
        assert {one["walletId"]: one["path"][:7] for one in report["transactions"]} == {
            alice: "each[0]",
            bob: "each[1]",
        }
        for starts in await _starts(studio, run):
            assert all(later - earlier >= PER_MS for earlier, later in pairwise(starts)), starts
        text = drawn(*drawn_report.draw(report))
        assert [path for path in PATHS if path not in text] == []
    assert (studio.outbox.nonce(), studio.outbox.nonce(bobs)) == (before[0] + 2 * TIMES, before[1] + 2 * TIMES)
    for report in (reports["simulate"], reports["live"]):
        changed = {one["address"]: int(one["amount"]) for one in report["balanceChanges"]}
        assert (changed[SHOP], changed[LAST], changed[bobs]) == (4 * ETHER, 2 * ETHER, -TIMES * ETHER)
    table = drawn(*side_by_side.draw([reports[mode] for mode in ("simulate", "dust", "live")]))
    assert [path for path in PATHS if path not in table] == []
    compared = (await studio.api.get(f"/v1/runs/{done['simulate']['id']}/compare/{done['live']['id']}")).data
    assert ([one["message"] for one in compared["differences"]], compared["verdict"]) == ([], "same")
    assert sorted(one["path"] for one in compared["estimates"]) == PATHS


async def test_a_refusal_in_the_middle_is_the_same_in_simulation_and_its_retry_pays_the_rest(studio: Studio) -> None:
    alice, bob, bobs = await wallets(studio)
    await let(studio, bob, recipients=[SHOP])
    parent, _ = await _flows(studio)
    payload = {"wallets": [alice, bob]}
    reports = []
    for body in ({"simulate": True}, {}):
        run = await studio.run(parent, payload=payload, **body)
        assert run["status"] == "partial", told(run)
        reports.append(await studio.effects(run))
        refused = [one for one in reports[-1]["transactions"] if one["status"] == "refused"]
        assert [(one["path"], one["walletId"]) for one in refused] == [(PATHS[-1], bob)]
    before = studio.outbox.nonce(), studio.outbox.nonce(bobs)
    await let(studio, bob)
    again = await studio.api.post(f"/v1/runs/{run['id']}/retry")
    retried = await studio.bench.ended(again.data["runId"])
    assert retried["status"] == "success", told(retried)
    assert (studio.outbox.nonce(), studio.outbox.nonce(bobs)) == (before[0], before[1] + 1)
    report = await studio.effects(retried)
    assert [(one["path"], one["status"]) for one in report["transactions"]] == [(PATHS[-1], "final")]
    assert (studio.outbox.balance(SHOP), studio.outbox.balance(LAST)) == (4 * ETHER, 2 * ETHER)
