"""A simulated node that fails, is retried, runs out of time or is cancelled: as live, and nothing is done twice."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from dustrun.storage.db.tables import events
from engine.conftest import OWN_ACTIONS, trial
from outbox import ALICE, address
from rehearsals import SHOP, Studio, balance, call, error, node, open_studio, pay, result, runs, say, told
from testkit.chain.contracts import World
from testkit.chain.rpc_proxy import proxy

PLACES = [address(60 + place) for place in range(8)]


@pytest.fixture
async def studio(tmp_path: Path, world: World) -> AsyncIterator[Studio]:
    with world.node() as chain:
        async with open_studio(tmp_path, world, chain, actions_dir=OWN_ACTIONS) as studio:
            yield studio
            assert studio.held == 0


@pytest.fixture
async def far(tmp_path: Path, world: World) -> AsyncIterator[Studio]:
    """A chain whose endpoint takes its time."""
    with world.node() as chain:
        async with (
            proxy(chain.url, delay_s=0.06) as endpoint,
            open_studio(tmp_path, world, chain, url=endpoint.url) as studio,
        ):
            yield studio
            assert studio.held == 0


def payout(*recipients: str, **more: Any) -> dict[str, Any]:
    """Pays each of them one base unit, one transaction after the other."""
    rows = [{"recipient": one, "amount": "1", "key": one} for one in recipients]
    return node("batch-transfer", payload={"rows": rows}, **more)


def reads(*places: str) -> dict[str, Any]:
    """Reads balances, for nodes named like their places."""
    return {f"has{number}": balance(place) for number, place in enumerate(places)}


async def test_a_retry_judges_all_again_and_waits_by_the_simulated_clock(studio: Studio) -> None:
    """The second row can never be paid, so the first one is not either, by any of the three attempts."""
    rejector = studio.witness.addresses["rejector"]
    hour = 3_600_000
    retry = {"maxAttempts": 3, "backoffMs": hour, "maxBackoffMs": hour, "jitter": False}
    pair = {"recipient": PLACES[0], "then": rejector, "amount": 1}
    many = node("spoilt", payload=pair, retry=retry, onError="continue")
    zoo, block = studio.witness.addresses["zoo"], "blockFacts() returns (uint256 number, uint256 time, uint256 fee)"
    look = node("read-contract", "has0", payload={"contract": zoo, "function": block})
    early = {**look, "children": ["many"]}
    nodes = {"early": early, "many": {**many, "children": ["late"]}, "late": look, "has0": balance(PLACES[0])}
    run = await studio.simulate(nodes)
    assert run["status"] == "partial", told(run)
    assert [one["attempt"] for one in run["executionState"]["many"]["attempts"]][-1] in (2, 3)
    assert error(run, "many")["code"] == "REVERTED"
    assert {one["status"] for one in (await studio.effects(run))["transactions"]} == {"cancelled", "rejected"}
    assert result(run, "has0")["balance"] == "0"
    late, early_time = (int(result(run, name)["values"]["time"]) for name in ("late", "early"))
    assert 2 * hour // 1000 <= late - early_time <= 4 * hour // 1000


async def test_a_failure_takes_its_branch_and_leaves_nothing_behind(studio: Studio) -> None:
    zoo = studio.witness.addresses["zoo"]
    nodes = {
        "bad": call(zoo, "custom()", "good", "never", onError="branch"),
        "good": pay("{{bad.error.code == 'REVERTED' ? 5 : 6}}", "see", branch="error"),
        "never": pay(9),
        "see": balance(SHOP),
    }
    run = await studio.simulate(nodes)
    assert run["executionState"]["never"]["status"] == "skipped"
    assert result(run, "see")["balance"] == "5"
    report = await studio.effects(run)
    assert report["passed"] is (run["status"] == "success")
    live = await studio.bench.run(nodes)
    assert (live["status"], result(live, "see")["balance"]) == (run["status"], "5")


async def test_a_node_that_runs_out_of_time_shows_what_it_did(far: Studio) -> None:
    for timeout_ms in range(500, 12_000, 250):  # until the limit falls in the middle, however fast the machine is
        many = payout(*PLACES, timeoutMs=timeout_ms, onError="continue", children=["sees"])
        nodes = {"many": many, "sees": say("x", "has0"), "has0": balance(PLACES[0], "has7"), "has7": balance(PLACES[7])}
        run = await far.simulate(nodes)
        report = await far.effects(run)
        done = [one["to"] for one in report["transactions"] if one["status"] == "simulated"]
        assert done == PLACES[: len(done)]
        if done:
            break
    assert 0 < len(done) < 8, "the time limit did not fall in the middle"
    assert error(run, "many")["code"] in ("TIMEOUT", "TEMPORARY"), told(run)
    assert (result(run, "has0")["balance"], result(run, "has7")["balance"]) == ("1", "0")
    assert {change["address"] for change in report["balanceChanges"]} == {ALICE, *done}


@pytest.mark.long
async def test_attempts_that_run_out_of_time_come_to_the_end_together(far: Studio) -> None:
    """Wherever the limit falls: what an attempt has done is not done again."""
    retry = {"maxAttempts": 20, "backoffMs": 1000}
    attempts = []
    for timeout_ms in (500, 700, 900, 1100, 1300, 1500, 3000, 6000):
        many = payout(*PLACES, timeoutMs=timeout_ms, retry=retry, children=[f"has{n}" for n in range(8)])
        run = await far.simulate({"many": many, **reads(*PLACES)})
        if run["status"] != "success":
            continue  # too short for anything
        attempts.append(run["executionState"]["many"].get("attempts"))
        assert [result(run, f"has{number}")["balance"] for number in range(8)] == ["1"] * 8
        report = await far.effects(run)
        assert len({one["to"] for one in report["transactions"]}) == 8
        if not attempts[-1]:
            break
    assert any(attempts), "no time limit fell in the middle"


async def test_a_cancel_in_the_middle_ends_it_and_shows_what_it_did(far: Studio) -> None:
    run_id = await far.bench.start({"first": pay(1, "many"), "many": payout(*PLACES)}, simulate=True)

    async def rows_done() -> int:
        query = sa.select(sa.func.count()).select_from(events).where(events.c.type == "transaction")
        return int((await far.outbox.composition.rows(query))[0][0])

    await far.bench.until(run_id, runs("many"))
    while await rows_done() < 3:
        pass
    assert (await far.api.post(f"/v1/runs/{run_id}/cancel")).status == 200
    run = await far.bench.ended(run_id)
    assert (run["status"], run["executionState"]["many"]["status"]) == ("cancelled", "cancelled")
    assert "may have happened" not in error(run, "many")["message"]
    report = await far.effects(run)
    assert report["passed"] is False
    done = [one["to"] for one in report["transactions"] if one["nodeId"] == "many"]
    assert 0 < len(done) < 8
    assert done == PLACES[: len(done)]


async def test_a_retry_of_a_simulated_run_begins_anew(studio: Studio) -> None:
    """Its nodes meet the present, not chains that are gone: what the first run simulated is simulated again."""
    nodes = {"first": pay(5, "second"), "second": pay(2 * 10**22, "see"), "see": balance(SHOP)}
    failed = await studio.simulate(nodes)
    assert (failed["status"], failed["executionState"]["first"]["status"]) == ("failure", "success")
    studio.outbox.node.set_balance(ALICE, 3 * 10**22)
    retried = (await studio.api.post(f"/v1/runs/{failed['id']}/retry")).data["runId"]
    run = await studio.bench.ended(retried)
    assert run["status"] == "success", told(run)
    assert result(run, "see")["balance"] == str(2 * 10**22 + 5)
    report = await studio.effects(run)
    assert ([one["nodeId"] for one in report["transactions"]], report["passed"]) == (["first", "second"], True)


@pytest.mark.parametrize("fails", ["run", "finish"])
async def test_a_defect_of_an_action_fails_its_node(studio: Studio, fails: str) -> None:
    bad = node("spoilt", "see", payload={"recipient": SHOP, "amount": 3, "fails": fails}, onError="continue")
    run = await studio.simulate({"bad": bad, "see": balance(SHOP)})
    assert error(run, "bad")["code"] == "INTERNAL", run["executionState"]
    assert result(run, "see")["balance"] == {"run": "0", "finish": "3"}[fails]
    assert len((await studio.effects(run))["transactions"]) == {"run": 0, "finish": 1}[fails]


async def test_a_cancel_ends_what_the_simulation_has_called(studio: Studio) -> None:
    slow = trial(name="slow", effect="read", sleepMs=20_000)
    callee = await studio.workflow({"pay": pay(1, "slow"), "slow": slow})
    nodes = {"call": {"type": "call-workflow", "payload": {"workflowId": callee}, "children": ["pay"]}, "pay": pay(2)}
    run_id = await studio.bench.start(nodes, simulate=True)
    waits = await studio.bench.until(run_id, lambda run: run["status"] == "waiting")
    assert "pay" not in waits["executionState"] or waits["executionState"]["pay"]["status"] == "pending"
    found = (await studio.api.get("/v1/runs?limit=100")).data["items"]
    (child_id,) = [one["id"] for one in found if one["parentRunId"] == run_id]
    await studio.bench.until(child_id, runs("slow"))
    assert studio.held == 1
    assert (await studio.api.post(f"/v1/runs/{run_id}/cancel")).status == 200
    assert (await studio.bench.ended(run_id))["status"] == "cancelled"
    child = await studio.bench.ended(child_id)
    assert child["status"] == "cancelled"
    assert [one["nodeId"] for one in (await studio.effects(child))["transactions"]] == ["pay"]


async def test_a_called_run_that_ends_early_is_partial_and_does_not_pass(studio: Studio) -> None:
    wait = {"type": "wait", "payload": {"timeoutMs": 60_000}}
    callee = await studio.workflow({"pay": pay(1, "wait"), "wait": wait})
    nodes = {"call": {"type": "call-workflow", "payload": {"workflowId": callee}, "children": ["pay"]}, "pay": pay(2)}
    run = await studio.simulate(nodes)
    assert run["executionState"]["call"]["status"] == "partial"
    assert run["passed"] is False
