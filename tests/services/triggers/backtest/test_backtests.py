"""Back-tests over HTTP, on a chain with a past: what each event would have met, the sums, the refusals."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import testkit
from dustrun import clock
from outbox import ALICE, Outbox, address, open_outbox
from testkit.chain.anvil import ACCOUNTS, CHAIN_ID, Anvil

OWN = Path(testkit.__file__).parent / "own_triggers"
SHOP, FUNDER, DAY_S = address(88), ACCOUNTS[3], 86_400
Json = dict[str, Any]


@pytest.fixture
async def world(tmp_path: Path, store_url: str | None) -> AsyncIterator[Outbox]:
    begun = clock.now_ms() // 1000 // DAY_S * DAY_S - 30 * DAY_S
    with Anvil("--no-mining", "--timestamp", str(begun)) as node:
        node.rpc("anvil_setBalance", ALICE, hex(10**18))
        node.rpc("evm_mine")
        async with open_outbox(tmp_path, node, store_url, actions_dir=OWN) as outbox:
            yield outbox


def day(number: int) -> str:
    """Noon of a day, counted from the chain's first."""
    at_s = clock.now_ms() // 1000 // DAY_S * DAY_S - 30 * DAY_S + number * DAY_S + DAY_S // 2
    return datetime.fromtimestamp(at_s, UTC).isoformat().replace("+00:00", "Z")


def mine_on(world: Outbox, number: int, units: int) -> None:
    """Pays SHOP in a block of a day's morning."""
    at_s = clock.now_ms() // 1000 // DAY_S * DAY_S - 30 * DAY_S + number * DAY_S + 3600
    world.node.rpc("evm_setNextBlockTimestamp", at_s)
    world.node.rpc("eth_sendTransaction", {"from": FUNDER, "to": SHOP, "value": hex(units), "gas": "0x5208"})
    world.node.rpc("evm_mine")


def pays_what_the_shop_has(world: Outbox) -> Json:
    wallet = {"type": "wallet", "id": world.wallet_id}
    paid = {"chainId": CHAIN_ID, "recipient": SHOP, "amount": "{{$nodes.look.result.balance}}"}
    return {
        "nodes": {
            "tick": {"type": "tick", "payload": {"everyMs": DAY_S * 1000}, "children": ["look"]},
            "look": {"type": "get-balance", "payload": {"chainId": CHAIN_ID, "address": SHOP}, "children": ["pay"]},
            "pay": {"type": "send-native", "connector": wallet, "payload": paid},
        },
        "triggerNodeIds": ["tick"],
    }


async def test_each_event_meets_the_state_of_its_moment(world: Outbox) -> None:
    api = world.composition.owner
    flow = await api.create_workflow(pays_what_the_shop_has(world))
    mine_on(world, 1, 5)
    mine_on(world, 2, 7)
    mine_on(world, 4, 2 * 10**18)  # more than the wallet has
    before = world.balance(ALICE)
    asked = {"from": day(1), "to": day(5), "waitMs": 60_000}
    found = (await api.post(f"/v1/workflows/{flow['id']}/backtest", asked)).data
    report = found["report"]
    assert (found["status"], found["eventsFound"], found["hasMoreEvents"]) == ("done", 4, False)
    assert [(one["status"], one["skipped"]) for one in report["events"]] == [
        ("success", None), ("success", None), ("success", None), ("failure", None),
    ]  # fmt: skip
    changes = {one["address"]: one["amount"] for one in report["totals"]["balanceChanges"]}
    assert changes == {ALICE: str(-5 - 12 - 12), SHOP: str(5 + 12 + 12)}
    (refused,) = report["refused"]
    assert (refused["count"], refused["runIds"]) == (1, [report["events"][3]["runId"]])
    assert world.balance(ALICE) == before
    assert (await api.get(f"/v1/backtests/{found['id']}")).data == found
    (listed,) = (await api.get(f"/v1/workflows/{flow['id']}/backtests")).data["items"]
    assert listed == {**found, "report": None}


async def test_events_of_a_chain_are_read_from_it_again(world: Outbox) -> None:
    api = world.composition.owner
    definition = pays_what_the_shop_has(world)
    watch = {"chainId": CHAIN_ID, "address": SHOP, "minAmount": "6", "confirmations": 1}
    definition["nodes"]["tick"] = {"type": "eth-receive", "payload": watch, "children": ["look"]}
    flow = await api.create_workflow(definition)
    for number, units in [(1, 5), (2, 7), (3, 11)]:
        mine_on(world, number, units)
    head = int(world.node.rpc("eth_blockNumber"), 16)
    path, asked = f"/v1/workflows/{flow['id']}/backtest", {"fromBlock": 0, "toBlock": head, "waitMs": 60_000}
    found = (await api.post(path, asked)).data
    assert [one["blocks"] for one in found["report"]["events"]] == [{str(CHAIN_ID): head}, {str(CHAIN_ID): head}]
    runs = [(await api.get(f"/v1/runs/{one['runId']}")).data for one in found["report"]["events"]]
    assert [run["executionState"]["look"]["result"]["balance"] for run in runs] == ["23", "23"]
    assert [run["executionState"]["tick"]["result"]["amount"] for run in runs] == ["7", "11"]
    by_time = (await api.post(path, {"from": day(2), "to": day(4), "waitMs": 60_000})).data
    assert [one["key"] for one in by_time["report"]["events"]] == [found["report"]["events"][1]["key"]]
    late = await api.post(path, {"fromBlock": head + 1})
    assert (late.status, late.fields) == (400, ["fromBlock"])


async def test_what_the_limits_would_have_skipped_is_not_simulated(world: Outbox) -> None:
    api = world.composition.owner
    flow = await api.create_workflow(pays_what_the_shop_has(world), maxRuns=2, cooldownMs=DAY_S * 1500)
    asked = {"from": day(1), "to": day(6), "limit": 4, "waitMs": 60_000}
    found = (await api.post(f"/v1/workflows/{flow['id']}/backtest", asked)).data
    assert [one["skipped"] for one in found["report"]["events"]] == [None, "cooldown", None, "exhausted"]
    assert (found["hasMoreEvents"], found["report"]["skipped"]) == (True, {"cooldown": 1, "exhausted": 1})
    counts = (await api.get(f"/v1/workflows/{flow['id']}/runs")).data["items"]
    assert [run["mode"] for run in counts] == ["simulate", "simulate"]
    assert (await api.get(f"/v1/workflows/{flow['id']}")).data["remainRuns"] == 2


async def test_requests_of_a_webhook_are_met_as_they_came(world: Outbox) -> None:
    """Those that were refused were no events; one whose payload is refused starts no run and uses up no limit."""
    server, api = world.composition, world.composition.owner
    say = {"type": "log", "payload": {"message": "{{$trigger.headers['x-kind']}} {{$trigger.query.q}}"}}
    config = {"auth": {"type": "header"}, "inputSchema": {"required": ["n"]}}
    nodes = {"root": {"type": "webhook", "payload": config, "children": ["say"]}, "say": say}
    flow = await api.create_workflow({"nodes": nodes}, maxRuns=1)
    path = f"/v1/workflows/{flow['id']}"
    assert (await api.post(f"{path}/publish")).status == 200
    address = (await api.post(f"{path}/webhooks/root/rotate")).data
    url, sender = "/" + address["url"].split("/", 3)[3] + "?q=a", server.client(None).http
    good = {"X-Webhook-Token": address["signingSecret"], "X-Kind": "paid"}
    sent = [({"n": 1}, {**good, "X-Webhook-Token": "no"}), ({}, good), ({"n": 1}, good)]
    answers = [await sender.post(url, json=body, headers=headers) for body, headers in sent]
    assert [one.status_code for one in answers] == [401, 400, 202]
    found = (await api.post(f"{path}/backtest", {"from": "2020-01-01T00:00:00Z", "waitMs": 60_000})).data
    report = found["report"]
    assert [(one["status"], one["skipped"]) for one in report["events"]] == [(None, "payload"), ("success", None)]
    assert report["skipped"] == {"payload": 1}
    run = (await api.get(f"/v1/runs/{report['events'][1]['runId']}")).data
    assert run["executionState"]["say"]["result"]["message"] == "paid a"


async def test_bad_periods_and_triggers_are_refused_by_field(world: Outbox) -> None:
    api = world.composition.owner
    flow = await api.create_workflow(pays_what_the_shop_has(world))
    manual = await api.create_workflow()
    path, other = f"/v1/workflows/{flow['id']}/backtest", f"/v1/workflows/{manual['id']}/backtest"
    for place, body, field in [
        (path, {}, "body"),
        (path, {"from": day(1), "fromBlock": 1}, "body"),
        (path, {"from": "yesterday"}, "from"),
        (path, {"fromBlock": 1}, "from"),
        (path, {"from": day(2), "to": day(1)}, "body"),
        (path, {"fromBlock": 10, "toBlock": 5}, "body"),
        (path, {"from": day(1), "toBlock": 5}, "body"),
        (path, {"fromBlock": 1, "to": day(1)}, "body"),
        (path, {"from": day(1), "limit": 201}, "limit"),
        (path, {"from": day(1), "triggerNodeId": "look"}, "triggerNodeId"),
        (other, {"from": day(1)}, "triggerNodeId"),
        (other, {"from": day(1), "triggerNodeId": "root"}, "triggerNodeId"),
    ]:
        refused = await api.post(place, body)
        assert (refused.status, refused.fields[0]) == (400, field), (body, refused.body)
    assert (await api.post(path, {"from": day(1), "version": 9})).code == 404002
    none = await api.post(other, {"from": day(1)})
    assert none.body["details"][0]["message"] == "no trigger of this version fires by itself, so it has no past events"


async def test_a_key_that_cannot_spend_may_test_and_others_see_nothing(world: Outbox) -> None:
    api = world.composition.owner
    flow = await api.create_workflow(pays_what_the_shop_has(world))
    may = world.composition.client(await world.composition.key_with("workflow:execute", "run:read"))
    found = (await may.post(f"/v1/workflows/{flow['id']}/backtest", {"from": day(1), "to": day(3)})).data
    assert (found["status"], found["report"]["totals"]["runs"]) == ("done", 2)
    starts = world.composition.client(await world.composition.key_with("workflow:execute"))
    unread = (await starts.post(f"/v1/workflows/{flow['id']}/backtest", {"from": day(1), "to": day(3)})).data
    assert (unread["status"], "report" in unread) == ("done", False), "the report is of runs"
    elsewhere = await api.create_workflow()
    limited = await api.post(
        "/v1/api-keys", {"name": "k", "permissions": ["run:read"], "workflowIds": [elsewhere["id"]]}
    )
    assert (await world.composition.client(limited.data["key"]).get(f"/v1/backtests/{found['id']}")).status == 404


@pytest.mark.both_stores
async def test_a_stop_of_the_server_interrupts_it_and_the_next_start_goes_on(
    tmp_path: Path, store_url: str | None
) -> None:
    with Anvil("--no-mining", "--timestamp", str(clock.now_ms() // 1000 - 2 * DAY_S)) as node:
        node.rpc("evm_mine")
        async with open_outbox(tmp_path, node, store_url, actions_dir=OWN) as outbox:
            api = outbox.composition.owner
            flow = await api.create_workflow(pays_what_the_shop_has(outbox))
            flow["definition"]["nodes"]["tick"]["payload"]["everyMs"] = 3_600_000
            await api.put(f"/v1/workflows/{flow['id']}", {"definition": flow["definition"]})
            asked = {"from": day(29), "limit": 10, "waitMs": 0}
            begun = (await api.post(f"/v1/workflows/{flow['id']}/backtest", asked)).data
            assert (begun["status"], begun["report"]) == ("running", None)
        async with open_outbox(tmp_path, node, store_url, reuse=True, actions_dir=OWN) as outbox:
            api = outbox.composition.owner
            async with asyncio.timeout(60):
                while (found := (await api.get(f"/v1/backtests/{begun['id']}")).data)["status"] == "running":
                    await asyncio.sleep(0.05)
            assert found["status"] == "done"
            runs = [one["runId"] for one in found["report"]["events"]]
            assert (len(set(runs)), None in runs) == (10, False)
            listed = (await api.get(f"/v1/workflows/{flow['id']}/runs")).data["items"]
            assert sorted(run["id"] for run in listed) == sorted(runs)
