"""A loop's spends are judged together before its first item begins: refused, asked about or allowed as one batch, the
same in every mode, and once."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import sqlalchemy as sa

from dustrun.core.run.plan import Start
from dustrun.engine.node.outcome import OpenedLoop
from dustrun.engine.spend.loop_spends import LoopSpends, LoopStart
from dustrun.errors import CommitUnknown
from dustrun.settings import Settings
from dustrun.storage.db.ledger_tables import transactions as transaction_rows
from dustrun.storage.db.ledger_tables import wallet_recipients
from dustrun.storage.db.statement import Statement, Tx
from engine.spend.test_whole_nodes import HOUR_MS, NATIVE, transactions
from outbox import ALICE, address
from rehearsals import Run, Studio, error, hand, open_studio, pay, result, say, told
from testkit.approving import question_of
from testkit.chain.anvil import ACCOUNTS, CHAIN_ID
from testkit.chain.contracts import World
from testkit.chain.faulty_node import LOST, ChainProxy
from testkit.sharing import until

Json = dict[str, Any]
LIMIT = {"limits": [{"asset": NATIVE, "maxUnits": "10", "windowMs": HOUR_MS}]}
TOTAL = {"approvalAbove": {"totals": [{"per": "run", "asset": NATIVE, "units": "10"}]}}


@pytest.fixture(scope="module")
def chain(world: World) -> Any:
    with world.node() as chain:
        yield chain


@pytest.fixture
async def studio(tmp_path: Path, world: World, chain: Any, store_url: str) -> AsyncIterator[Studio]:
    async with open_studio(tmp_path, world, chain, store_url=store_url) as studio:
        yield studio


_fresh = itertools.count(1_000)


def rows(*units: int) -> list[Json]:
    """Payments to recipients that nobody has paid."""
    return [{"to": address(next(_fresh)), "units": str(one)} for one in units]


def each(items: Any, *body: str, **payload: Any) -> Json:
    return {"type": "for-each", "payload": {"array": items, **payload}, "loopBody": [*body]}


def paying(items: Any, **payload: Any) -> Json:
    """Pays each row by a node of its own."""
    return {"each": each(items, "pay", **payload), "pay": pay("{{$item.units}}", to="{{$item.to}}")}


async def both(studio: Studio, nodes: Json) -> tuple[Run, Run]:
    """The nodes simulated, then run."""
    simulated = await studio.simulate(nodes)
    return simulated, await studio.bench.run(nodes)


async def decide(studio: Studio, approval_id: str, decision: str) -> None:
    reply = await studio.api.post("/v1/api-keys", {"name": "other", "permissions": ["admin"]})
    other = studio.outbox.composition.client(reply.data["key"])
    shown = (await studio.api.get(f"/v1/approvals/{approval_id}")).data
    body = {"binding": shown["binding"]} if decision == "approve" else {}
    reply = await other.post(f"/v1/approvals/{approval_id}/{decision}", body)
    assert reply.status == 200, reply.body


async def questions(studio: Studio, run_id: str) -> list[str]:
    found: list[Json] = (await studio.api.get("/v1/approvals?status=pending,approved,rejected")).data["items"]
    return [one["id"] for one in found if one["runId"] == run_id]


def paid(studio: Studio, items: list[Json]) -> list[int]:
    return [studio.outbox.balance(one["to"]) for one in items]


@pytest.mark.both_stores
async def test_a_refused_item_stops_its_loop_before_the_first_is_signed(studio: Studio) -> None:
    await studio.let(**LIMIT)
    nonce, items = studio.outbox.nonce(), rows(4, 4, 5, 1, 7)
    simulated, live = await both(studio, paying(items))
    assert (paid(studio, items), studio.outbox.nonce()) == ([0] * 5, nonce)
    assert error(simulated, "each") == error(live, "each"), (told(simulated), told(live))
    assert error(live, "each")["code"] == "REFUSED"
    assert [one["field"] for one in error(live, "each")["details"]] == ["each[2].pay", "each[4].pay"]
    assert error(live, "each")["message"].startswith("2 of the loop's 5 spends are refused, so none is signed.")
    assert await transactions(studio, simulated) == await transactions(studio, live) == []
    dust = await studio.bench.ended(await studio.bench.start(paying(rows(4, 4)), dustTest=True))
    assert dust["status"] == "success", told(dust)
    await studio.let(recipients=[items[0]["to"]])
    dust = await studio.bench.ended(await studio.bench.start(paying(items), dustTest=True))
    assert len(error(dust, "each")["details"]) == 4
    assert paid(studio, items) == [0] * 5


@pytest.mark.parametrize(
    "policy", [{"gas": [{"maxFeePerGas": "1"}]}, {"limits": [{"maxCount": 2, "windowMs": HOUR_MS}]}]
)
async def test_fees_and_counts_are_judged_for_the_whole_loop(studio: Studio, policy: Json) -> None:
    await studio.let(**policy)
    items = rows(4, 4, 5)
    simulated, live = await both(studio, paying(items))
    assert paid(studio, items) == [0] * 3
    assert error(simulated, "each") == error(live, "each"), (told(simulated), told(live))


async def test_a_new_recipient_that_a_loop_is_refused_for_begins_to_wait(studio: Studio) -> None:
    await studio.let(newRecipientHours=1)
    items = rows(4, 4)
    for _ in range(2):
        assert error(await studio.bench.run(paying(items)), "each")["code"] == "REFUSED"
    seen = await studio.outbox.composition.rows(
        sa.select(wallet_recipients.c.address).where(
            wallet_recipients.c.address.in_([one["to"].lower() for one in items])
        )
    )
    assert len(seen) == 2


@pytest.mark.parametrize("tolerant", ["loop", "node"])
async def test_items_that_may_fail_do_and_the_others_are_paid_alike(studio: Studio, tolerant: str) -> None:
    await studio.let(**LIMIT)
    items = rows(4, 7, 5, 2, 1)
    nodes = paying(items, concurrency=5, **({"onItemError": "continue"} if tolerant == "loop" else {}))
    nodes["pay"] |= {"onError": "continue"} if tolerant == "node" else {}
    simulated, live = await both(studio, nodes)
    assert paid(studio, items) == [4, 0, 5, 0, 1]
    assert simulated["status"] == live["status"] == "partial"
    shown = []
    for run in (simulated, live):
        failed = [one["pay"].get("error") for one in run["executionState"]["each"]["iterations"]]
        assert [one and one["code"] for one in failed] == [None, "REFUSED", None, "REFUSED", None]
        found = (await studio.effects(run))["transactions"]
        shown.append([*sorted((one["path"], one["verdict"]["outcome"]) for one in found), failed])
    assert shown[0] == shown[1]
    warned = [(await studio.effects(run))["warnings"] for run in (simulated, live)]
    first = [sorted(one["path"] for one in found if one["code"] == "FIRST_TIME_RECIPIENT") for found in warned]
    assert first[0] == first[1] == [f"each[{place}].pay" for place in range(len(items))]


async def test_a_loop_that_stops_at_an_error_pays_what_comes_before(studio: Studio) -> None:
    await studio.let(**LIMIT)
    items = rows(4, 7, 5)
    for run in await both(studio, paying(items, onItemError="stop")):
        assert run["status"] == "partial"
    assert paid(studio, items) == [4, 0, 0]


async def test_conditions_and_inner_loops_are_looked_through(studio: Studio) -> None:
    await studio.let(**LIMIT)
    items, inner = rows(4, 7, 5), rows(1, 2)
    nodes = {
        "each": each([{"rows": items, "is": False}, {"rows": inner, "is": True}], "test"),
        "test": {"type": "if", "payload": {"expression": "$item.is"}, "children": ["rows", "say"]},
        "rows": {**each("{{$item.rows}}", "pay"), "branch": "then"},
        "say": say("nothing", branch="else"),
        "pay": pay("{{$item.units}}", to="{{$item.to}}"),
    }
    simulated, live = await both(studio, nodes)
    assert live["status"] == simulated["status"] == "success", (told(simulated), told(live))
    assert (paid(studio, items), paid(studio, inner)) == ([0] * 3, [1, 2])
    nodes["test"]["payload"]["expression"] = "!$item.is"
    simulated, live = await both(studio, nodes)
    assert error(simulated, "each") == error(live, "each")
    assert [one["field"] for one in error(live, "each")["details"]] == ["each[0].rows[1].pay", "each[0].rows[2].pay"]
    assert paid(studio, items) == [0] * 3


@pytest.mark.parametrize("why", ["step", "time"])
async def test_what_is_not_known_before_is_judged_item_by_item(studio: Studio, why: str) -> None:
    await studio.let(**LIMIT)
    items = rows(4, 7)
    nodes = paying(items)
    if why == "step":
        nodes["each"]["loopBody"] = ["say"]
        nodes["say"] = say("{{$item.units}}", "pay")
        nodes["pay"]["payload"]["amount"] = "{{$nodes.say.result.message}}"
    else:
        nodes["pay"]["children"] = ["later"]
        nodes["later"] = {"type": "delay", "payload": {"delayMs": 1}}
    simulated, live = await both(studio, nodes)
    assert paid(studio, items) == [4, 0]
    assert error(simulated, "each")["code"] == error(live, "each")["code"] == "ITEM_FAILED"


async def test_a_row_that_is_not_valid_is_told_before_the_others_are_paid(studio: Studio) -> None:
    items = rows(4, 4)
    simulated, live = await both(studio, paying([*items, {"to": "nobody", "units": "1"}]))
    assert error(simulated, "each") == error(live, "each")
    assert error(live, "each")["code"] == "INVALID_INPUT"
    assert [one["field"] for one in error(live, "each")["details"]] == ["each[2].pay"]
    assert paid(studio, items) == [0, 0]


async def retried(studio: Studio, run: Run) -> Run:
    reply = await studio.api.post(f"/v1/runs/{run['id']}/retry")
    return await studio.bench.ended(reply.data["runId"])


@pytest.mark.both_stores
async def test_a_retry_tries_failed_items_again_and_keeps_those_that_are_paid(studio: Studio) -> None:
    """What they may spend is judged by the policy of now, and all that is left is asked about together."""
    await studio.let(**LIMIT)
    items = rows(4, 7, 5, 2, 1)
    first = await studio.bench.run(paying(items, onItemError="continue"))
    assert paid(studio, items) == [4, 0, 5, 0, 1]
    nonce = studio.outbox.nonce()
    again = await retried(studio, first)
    assert (again["status"], paid(studio, items), studio.outbox.nonce()) == ("partial", [4, 0, 5, 0, 1], nonce)
    await studio.let(approvalAbove={"totals": [{"per": "run", "asset": NATIVE, "units": "8"}]})
    run_id = (await studio.api.post(f"/v1/runs/{again['id']}/retry")).data["runId"]
    approval = await question_of(studio.api, run_id)
    question = (await studio.api.get(f"/v1/approvals/{approval}")).data
    assert (question["nodeId"], question["message"][:26]) == ("each", "2 transactions together. 1")
    await decide(studio, approval, "reject")
    rejected = await studio.bench.ended(run_id)
    told = [one["pay"].get("error") for one in rejected["executionState"]["each"]["iterations"]]
    assert [one and one["code"] for one in told] == [None, "REJECTED", None, "REJECTED", None]
    run_id = (await studio.api.post(f"/v1/runs/{run_id}/retry")).data["runId"]
    await decide(studio, await question_of(studio.api, run_id), "approve")
    last = await studio.bench.ended(run_id)
    assert (last["status"], paid(studio, items)) == ("success", [4, 7, 5, 2, 1])
    assert (studio.outbox.nonce() - nonce, len(await questions(studio, run_id))) == (2, 1)
    assert result(last, "each")["counts"] == {"success": 5, "partial": 0, "failure": 0, "skipped": 0}


async def test_a_retry_that_is_refused_keeps_the_items_of_its_loop(studio: Studio) -> None:
    """The first retry refuses what is left as a whole; the second pays it, though the list would be another one now."""
    items = rows(4, 10**30, 5)
    flow = await studio.workflow(paying("{{$vars.rows}}"), defs=[{"name": "rows", "type": "list", "default": items}])
    first = await studio.run(flow)
    assert (error(first, "each")["code"], paid(studio, items)) == ("ITEM_FAILED", [4, 0, 0])
    others = {"value": rows(9)}
    assert (await studio.api.post(f"/v1/workflows/{flow}/variables/rows/value", others)).status == 200
    await studio.let(recipients=[items[0]["to"]])
    refused = await retried(studio, first)
    assert [one["field"] for one in error(refused, "each")["details"]] == ["each[2].pay"]  # the funds still lack
    await studio.let()
    coins = studio.outbox.balance(ALICE)
    studio.outbox.node.rpc("anvil_setBalance", ALICE, hex(10**31))
    last = await retried(studio, refused)
    studio.outbox.node.rpc("anvil_setBalance", ALICE, hex(coins))
    assert (last["status"], paid(studio, items)) == ("success", [4, 10**30, 5]), told(last)


async def test_a_retry_whose_chain_is_away_asks_about_its_loop_later(tmp_path: Path, world: World, chain: Any) -> None:
    """The loop tries again, with the items that it had, though the list would be another one now."""
    async with (
        ChainProxy(chain.url) as proxy,
        open_studio(tmp_path, world, chain, url=proxy.url, chain_timeout_ms=500) as studio,
    ):
        items = rows(4, 10**30, 5)
        nodes = paying("{{$vars.rows}}")
        nodes["each"]["retry"] = {"maxAttempts": 10, "backoffMs": 200, "maxBackoffMs": 200}
        flow = await studio.workflow(nodes, defs=[{"name": "rows", "type": "list", "default": items}])
        first = await studio.run(flow)
        assert (error(first, "each")["code"], paid(studio, items)) == ("ITEM_FAILED", [4, 0, 0])
        await studio.api.post(f"/v1/workflows/{flow}/variables/rows/value", {"value": rows(9)})
        await studio.let(**TOTAL)
        coins = studio.outbox.balance(ALICE)
        studio.outbox.node.rpc("anvil_setBalance", ALICE, hex(10**31))
        proxy.rule = lambda _method, _params: LOST
        run_id = (await studio.api.post(f"/v1/runs/{first['id']}/retry")).data["runId"]
        await studio.bench.until(run_id, lambda run: run["executionState"]["each"]["status"] == "scheduled")
        proxy.rule = lambda _method, _params: None
        approval = await question_of(studio.api, run_id)
        question = (await studio.api.get(f"/v1/approvals/{approval}")).data
        assert (question["nodeId"], question["message"][:26]) == ("each", "2 transactions together. 1")
        await decide(studio, approval, "approve")
        last = await studio.bench.ended(run_id)
        studio.outbox.node.rpc("anvil_setBalance", ALICE, hex(coins))
        assert (last["status"], paid(studio, items)) == ("success", [4, 10**30, 5]), told(last)
        assert await questions(studio, run_id) == [approval]


async def test_a_commit_of_unknown_outcome_is_for_the_caller_to_repeat() -> None:
    async def find(_request: Any, _asked: Any) -> None:
        raise CommitUnknown("The connection died.")

    facts = SimpleNamespace(
        org_id="o", pk=1, id="r", root_run_id="r", workflow_id=None, workflow_name="", triggered_by="k"
    )
    deps, mode = SimpleNamespace(loops=SimpleNamespace(find_answer=find)), SimpleNamespace(logs_dust_plan=False)
    spends = LoopSpends(cast(Any, deps), cast(Any, facts), cast(Any, mode), cast(Any, None), Settings())
    loop = LoopStart(Start("each", "each"), OpenedLoop(["a"], 1, "fail"), asked=("apr_1",))
    with pytest.raises(CommitUnknown):
        await spends.begin(loop, 0)


async def test_a_total_asks_once_for_the_whole_loop(studio: Studio) -> None:
    await studio.let(**TOTAL)
    items = rows(4, 4, 5)
    nonce = studio.outbox.nonce()
    for decision in ("reject", "approve"):
        run_id = await studio.bench.start(paying(items))
        approval = await question_of(studio.api, run_id)
        question = (await studio.api.get(f"/v1/approvals/{approval}")).data
        assert question["nodeId"] == "each"
        assert question["message"].startswith("3 transactions together. ")
        assert studio.outbox.nonce() == nonce
        await decide(studio, approval, decision)
        run = await studio.bench.ended(run_id)
        if decision == "reject":
            assert error(run, "each")["code"] == "REJECTED"
            assert paid(studio, items) == [0] * 3
    assert run["status"] == "success", told(run)
    assert (paid(studio, items), len(await questions(studio, run_id))) == ([4, 4, 5], 1)


async def test_what_arrives_is_measured_in_the_turn_of_each_item(studio: Studio) -> None:
    """A token without events: what came is what the recipient has more than right before."""
    witness = studio.witness
    token = witness.addresses["SilentToken"] = witness.deploy("SilentToken")
    witness.send("SilentToken", "mint", ALICE, 100)
    asset = f"eip155:{CHAIN_ID}/erc20:{token}"
    above = {"totals": [{"per": "run", "asset": asset, "units": "10"}]}
    await studio.let(approvalAbove=above, allowUnpricedAssets=True)
    nodes = {"each": each(["4", "5", "6"], "pay"), "pay": hand(token, "{{$item}}", to=address(next(_fresh)))}
    run_id = await studio.bench.start(nodes)
    await decide(studio, await question_of(studio.api, run_id), "approve")
    run = await studio.bench.ended(run_id)
    assert run["status"] == "success", told(run)
    came = [one["results"]["pay"]["amountReceived"] for one in result(run, "each")["iterations"]]
    assert (came, len(await questions(studio, run_id))) == (["4", "5", "6"], 1)
    # a node by itself, while whose question is open somebody else pays the same recipient
    run_id = await studio.bench.start({"pay": hand(token, "12", to=(to := address(next(_fresh))))})
    approval = await question_of(studio.api, run_id)
    witness.send("SilentToken", "mint", to, 70)
    await decide(studio, approval, "approve")
    run = await studio.bench.ended(run_id)
    assert (result(run, "pay")["amountReceived"], len(await questions(studio, run_id))) == ("12", 1)


async def test_a_dust_test_pays_what_was_approved_whatever_the_price_does(tmp_path: Path, world: World) -> None:
    with world.node() as chain:
        async with open_studio(tmp_path, world, chain, price_keep_ms=100) as studio:
            await studio.let(**TOTAL)
            items = rows(10**18, 10**18)
            run_id = await studio.bench.start(paying(items), dustTest=True)
            approval = await question_of(studio.api, run_id)
            path = [studio.witness.addresses[name] for name in ("weth", "usdc")]
            sold = (0, path, ACCOUNTS[2], 2**40)
            studio.witness.send("v2_router", "swapExactETHForTokens", *sold, value=300 * 10**18)
            studio.witness.send("eth_usd", "set", 2000 * 10**8)
            await asyncio.sleep(0.2)
            await decide(studio, approval, "approve")
            async with asyncio.timeout(30):
                run = await studio.bench.ended(run_id)
            assert (run["status"], len(await questions(studio, run_id))) == ("success", 1), told(run)
            assert paid(studio, items) == [4 * 10**12] * 2  # a cent at the price of before


async def test_another_amount_than_the_approved_one_asks_anew(studio: Studio) -> None:
    await studio.let(**TOTAL)
    items = rows(4, 7)
    nodes = paying(items)
    nodes["pay"]["payload"]["amount"] = "{{$vars.units}}"
    flow = await studio.workflow(nodes, defs=[{"name": "units", "type": "text", "default": "6"}])
    run_id = (await studio.api.post(f"/v1/workflows/{flow}/run", {})).data["runId"]
    approval = await question_of(studio.api, run_id)
    reply = await studio.api.post(f"/v1/workflows/{flow}/variables/units/value", {"value": "9"})
    assert reply.status == 200, reply.body
    await decide(studio, approval, "approve")
    second = await question_of(studio.api, run_id)
    assert second != approval
    assert paid(studio, items)[1] == 0
    await decide(studio, second, "reject")
    assert error(await studio.bench.ended(run_id), "each")["code"] == "ITEM_FAILED"
    assert paid(studio, items) == [9, 0]


_LARGE, _RICH, _TRIES = 2 * 10**18, 10**22, {"maxAttempts": 50, "backoffMs": 200, "maxBackoffMs": 200}
_STOPS = "0x60006000fd"
"""The code of a contract that takes nothing."""


async def _refused(studio: Studio, run_id: str, most: int) -> None:
    """Waits until that many attempts were refused before anything was signed."""
    of_run = sa.select(transaction_rows.c.id).where(
        transaction_rows.c.run_id == run_id, transaction_rows.c.state == "refused"
    )

    async def look() -> bool | None:
        return len(await studio.outbox.composition.rows(of_run)) >= most or None

    await until(look, 30)


@pytest.mark.parametrize(
    ("is_loop", "restarts", "is_of_funds"),
    [(False, False, True), (False, True, False), (True, False, False), (True, True, False)],
)
async def test_another_attempt_is_covered_by_what_was_approved(
    tmp_path: Path, world: World, chain: Any, is_loop: bool, restarts: bool, is_of_funds: bool
) -> None:
    """What refused the first has passed, and nothing else has changed."""
    items = rows(4, _LARGE, 5) if is_loop else rows(_LARGE)
    late = items[len(items) // 2]
    nodes = paying(items) if is_loop else {"pay": pay(late["units"], to=late["to"])}
    nodes["pay"]["retry"] = _TRIES

    def hinder(is_hindered: bool) -> None:
        if is_of_funds:
            chain.rpc("anvil_setBalance", ALICE, hex(_LARGE + 1 if is_hindered else _RICH))  # not the fee
        else:
            chain.rpc("anvil_setCode", late["to"], _STOPS if is_hindered else "0x")

    chain.rpc("anvil_setBalance", ALICE, hex(_RICH))
    async with open_studio(tmp_path, world, chain) as studio:
        await studio.let(**TOTAL)
        nonce, run_id = studio.outbox.nonce(), await studio.bench.start(nodes)
        approval = await question_of(studio.api, run_id)
        hinder(True)
        await decide(studio, approval, "approve")
        await _refused(studio, run_id, 2)
        if not restarts:
            hinder(False)
            await _ends_as_approved(studio, run_id, approval)
    if restarts:
        hinder(False)
        async with open_studio(tmp_path, world, chain, reuse=True) as studio:
            await _ends_as_approved(studio, run_id, approval)
    assert paid(studio, items) == [int(one["units"]) for one in items]
    assert studio.outbox.nonce() == nonce + len(items)


async def _ends_as_approved(studio: Studio, run_id: str, approval: str) -> None:
    run = await studio.bench.until(run_id, lambda run: run["finishedAt"] is not None or run["status"] == "waiting")
    assert await questions(studio, run_id) == [approval]
    run = await studio.bench.ended(run_id)
    assert run["status"] == "success", told(run)


@pytest.mark.both_stores
async def test_a_retry_that_ends_before_it_has_asked_asks_about_its_loop_after_a_restart(
    tmp_path: Path, world: World, chain: Any, store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it is about is on disk then, and nobody has been asked."""
    items, planned = rows(4, 4, 5), asyncio.Event()

    async def hold(_planned: Any) -> None:
        planned.set()
        await asyncio.Event().wait()

    async with open_studio(tmp_path, world, chain, store_url=store_url) as studio:
        await studio.let(**TOTAL)
        nonce, first = studio.outbox.nonce(), await studio.bench.start(paying(items))
        await decide(studio, await question_of(studio.api, first), "reject")
        await studio.bench.ended(first)
        spend = studio.outbox.composition.engine._deps.spend
        assert spend is not None
        monkeypatch.setattr(spend.loops, "_cost_all", hold)
        run_id = (await studio.api.post(f"/v1/runs/{first}/retry")).data["runId"]
        async with asyncio.timeout(60):
            await planned.wait()
    async with open_studio(tmp_path, world, chain, store_url=store_url, reuse=True) as studio:
        approval = await question_of(studio.api, run_id)
        question = (await studio.api.get(f"/v1/approvals/{approval}")).data
        assert (question["nodeId"], question["message"][:26]) == ("each", "3 transactions together. 1")
        assert studio.outbox.nonce() == nonce
        await decide(studio, approval, "approve")
        run = await studio.bench.ended(run_id)
        assert run["status"] == "success", told(run)
        assert (paid(studio, items), len(await questions(studio, run_id))) == ([4, 4, 5], 1)


@pytest.mark.both_stores
@pytest.mark.parametrize("was_recorded", [True, False])
async def test_a_restart_asks_nobody_twice(
    tmp_path: Path, world: World, chain: Any, store_url: str, was_recorded: bool
) -> None:
    """Not recorded: the process ended after the question was on disk, and before its run knew."""
    items = rows(4, 4, 5)
    async with open_studio(tmp_path, world, chain, store_url=store_url) as studio:
        await studio.let(**TOTAL)
        nonce, run_id = studio.outbox.nonce(), await studio.bench.start(paying(items))
        approval = await question_of(studio.api, run_id)
        await studio.bench.until(run_id, lambda run: run["status"] == "waiting")
        if not was_recorded:
            await studio.outbox.outbox.deps.writer.write(_forget)
    async with open_studio(tmp_path, world, chain, store_url=store_url, reuse=True) as studio:
        await studio.bench.until(run_id, lambda run: run["status"] in ("running", "waiting"))
        assert await questions(studio, run_id) == [approval]
        assert studio.outbox.nonce() == nonce
        await decide(studio, approval, "approve")
        run = await studio.bench.ended(run_id)
        assert run["status"] == "success", told(run)
        assert (paid(studio, items), len(await questions(studio, run_id))) == ([4, 4, 5], 1)


_FORGET = Statement(sa.text("UPDATE executions SET status = 'running', facts = NULL WHERE node_id = 'each'"))


def _forget(tx: Tx) -> None:
    tx.do(_FORGET)
