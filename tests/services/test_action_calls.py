"""One action outside a workflow: each mode, its permissions, its policy, and what is refused before it runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from dustrun.errors import Code
from echoing import echoing
from outbox import ANYTHING, Outbox, address, open_outbox
from testkit.chain.anvil import CHAIN_ID, Anvil
from testkit.chain.lent import lent
from testkit.composition import Client, Reply

ETHER = 10**18
DUST = 4 * 10**12  # a cent, at 2,500 dollars
SHOP = address(1)
PAY = {"chainId": CHAIN_ID, "recipient": SHOP, "amount": str(ETHER)}
HELLO = {"message": "hello"}


@pytest.fixture
def node() -> Iterator[Anvil]:
    with lent() as node:
        yield node


@pytest.fixture
async def outbox(tmp_path: Path, node: Anvil, store_url: str) -> AsyncIterator[Outbox]:
    settings: dict[str, Any] = {
        "static_prices": {f"eip155:{CHAIN_ID}/native": "2500"},
        "outbound_allow": ("127.0.0.1",),
    }
    async with open_outbox(tmp_path, node, store_url, {"confirmations": 1}, **settings) as outbox:
        yield outbox


@pytest.fixture
def api(outbox: Outbox) -> Client:
    return outbox.composition.owner


async def run(api: Client, kind: str, inputs: Any, **more: Any) -> Reply:
    return await api.post(f"/v1/actions/{kind}/run", {"inputs": inputs, **more})


async def simulate(api: Client, kind: str, inputs: Any, **more: Any) -> Reply:
    return await api.post(f"/v1/actions/{kind}/test", {"inputs": inputs, **more})


async def _runs(api: Client, query: str) -> list[str]:
    return [one["id"] for one in (await api.get(f"/v1/runs{query}")).data["items"]]


async def test_each_mode_moves_what_a_run_of_that_mode_moves(outbox: Outbox, api: Client) -> None:
    tried = (await simulate(api, "send-native", PAY, connectorId=outbox.wallet_id)).data
    assert (tried["mode"], tried["status"], tried["passed"]) == ("simulate", "success", True)
    [transaction] = tried["effects"]["transactions"]
    assert (transaction["to"], transaction["value"], outbox.balance(SHOP)) == (SHOP, str(ETHER), 0)
    listed, others = await _runs(api, ""), await _runs(api, "?actionTests=false")
    assert [one for one in listed if one not in others] == [tried["runId"]]
    same = (await run(api, "send-native", PAY, simulate=True)).data
    assert (same["mode"], same["effects"]["totalFees"] != [], outbox.nonce()) == ("simulate", True, 0)

    dust = (await run(api, "send-native", PAY, dustTest=True)).data
    assert (dust["mode"], dust["status"], outbox.balance(SHOP)) == ("dust", "success", DUST)
    live = (await run(api, "send-native", PAY, connector={"type": "wallet", "id": outbox.wallet_id})).data
    assert (live["mode"], live["status"], live["effects"]) == ("live", "success", None)
    assert (outbox.balance(SHOP), outbox.nonce()) == (DUST + ETHER, 2)
    recorded = (await api.get(f"/v1/runs/{live['runId']}")).data
    assert (recorded["mode"], recorded["executionState"]["action"]["result"]) == ("live", live["result"])


async def test_policy_refuses_what_it_refuses_in_a_run(outbox: Outbox, api: Client) -> None:
    strict = {**ANYTHING, "recipients": [address(2)]}
    assert (await api.put(f"/v1/wallets/{outbox.wallet_id}/policy", {"policy": strict})).status == 200
    for asked in (run(api, "send-native", PAY), simulate(api, "send-native", PAY)):
        found = (await asked).data
        assert (found["status"], found["error"]["code"], found["result"]) == ("failure", "REFUSED", None), found
    assert outbox.nonce() == 0


async def test_only_a_rehearsal_goes_without_the_permission_to_spend(outbox: Outbox, api: Client) -> None:
    caller = await outbox.composition.client_with("run:inline", "run:read")
    assert (await simulate(caller, "send-native", PAY)).data["status"] == "success"
    for body in ({}, {"dustTest": True}):
        refused = await run(caller, "send-native", PAY, **body)
        assert (refused.status, "wallet:spend" in refused.body["message"]) == (403, True)
    no_runner = await outbox.composition.client_with("run:read", "workflow:execute", "wallet:spend")
    for asked in (run(no_runner, "log", HELLO), simulate(no_runner, "log", HELLO)):
        assert (await asked).status == 403
    limited = {"name": "k", "permissions": ["run:inline", "run:read", "wallet:spend"]}
    made = await api.post("/v1/api-keys", {**limited, "walletIds": [(await _other_wallet(api))]})
    elsewhere = outbox.composition.client(made.data["key"])
    assert (await run(elsewhere, "send-native", PAY, connectorId=outbox.wallet_id)).status == 403
    assert (outbox.nonce(), outbox.balance(SHOP)) == (0, 0)


async def _other_wallet(api: Client) -> str:
    return str((await api.post("/v1/wallets", {"name": "other"})).data["id"])


async def test_result_is_for_those_who_may_read_runs(outbox: Outbox, api: Client) -> None:
    runner = await outbox.composition.client_with("run:inline")
    for asked in (run(runner, "log", HELLO), simulate(runner, "log", HELLO)):
        found = (await asked).data
        assert (found["status"], found.get("result"), found["effects"]) == ("success", None, None)
    assert (await run(api, "log", HELLO)).data["result"]["message"] == "hello"


async def test_connector_is_attached_in_a_run_and_nothing_leaves_in_a_test(api: Client) -> None:
    async with echoing() as echo:
        body = {"type": "http-bearer", "name": "peer", "data": {"token": "s3cret-token"}, "allowedHosts": [echo.url]}
        connector = (await api.post("/v1/connectors", body)).data["id"]
        inputs = {"url": f"{echo.url}/echo", "method": "POST", "body": {"n": 1}}
        tried = await simulate(api, "http-request", inputs, connectorId=connector)
        [request] = tried.data["effects"]["requests"]
        assert (request["sent"], len(echo.seen), "s3cret-token" in tried.response.text) == (False, 0, False)
        sent = await run(api, "http-request", inputs, connectorId=connector)
        assert (sent.data["status"], "s3cret-token" in sent.response.text) == ("success", False)
        assert echo.credentials == ["Bearer s3cret-token"]


async def test_a_connector_is_named_once_and_with_its_own_type(outbox: Outbox, api: Client) -> None:
    wallet, other = outbox.wallet_id, await _other_wallet(api)
    named = {"type": "wallet", "id": wallet}
    wrong = await simulate(api, "send-native", PAY, connector={**named, "type": "http-bearer"})
    assert (wrong.status, wrong.fields) == (400, ["connector.type"])
    assert 'is of type "wallet"' in wrong.body["details"][0]["message"]
    twice = await simulate(api, "send-native", PAY, connector=named, connectorId=other)
    assert (twice.status, twice.code) == (400, Code.BODY_INVALID)
    same = await simulate(api, "send-native", PAY, connector=named, connectorId=wallet)
    assert same.data["status"] == "success"


async def test_an_action_that_asks_goes_on_once_it_is_approved(outbox: Outbox, api: Client) -> None:
    policy = {**ANYTHING, "approvalAbove": {"assets": {f"eip155:{CHAIN_ID}/native": "100"}}}
    assert (await api.put(f"/v1/wallets/{outbox.wallet_id}/policy", {"policy": policy})).status == 200
    waiting = (await run(api, "send-native", PAY, waitMs=0)).body["data"]
    question = await _question(api, waiting["runId"])
    assert outbox.nonce() == 0
    assert (await api.post(f"/v1/approvals/{question['id']}/approve")).status == 403  # its own key
    other = await outbox.composition.client_with("approval:decide", "wallet:spend")
    assert (await other.post(f"/v1/approvals/{question['id']}/approve")).status == 200
    assert (await _ended(api, waiting["runId"]))["status"] == "success"
    assert (outbox.balance(SHOP), outbox.nonce()) == (ETHER, 1)
    refused = (await run(api, "send-native", PAY, waitMs=0)).body["data"]
    question = await _question(api, refused["runId"])
    assert (await other.post(f"/v1/approvals/{question['id']}/reject")).status == 200
    assert (await _ended(api, refused["runId"]))["status"] == "failure"
    assert (outbox.balance(SHOP), outbox.nonce()) == (ETHER, 1)


async def _question(api: Client, run_id: str) -> dict[str, Any]:
    """What a run asks."""
    async with asyncio.timeout(60):
        while True:
            for found in (await api.get("/v1/approvals")).data["items"]:
                if found["runId"] == run_id:
                    return dict(found)
            await asyncio.sleep(0.02)


async def _ended(api: Client, run_id: str) -> dict[str, Any]:
    async with asyncio.timeout(60):
        while (found := (await api.get(f"/v1/runs/{run_id}")).data)["status"] in ("running", "waiting"):
            await asyncio.sleep(0.05)
    return dict(found)


@pytest.mark.both_stores
async def test_an_action_goes_on_after_a_restart_and_pays_once(tmp_path: Path, node: Anvil, store_url: str) -> None:
    node.set_automine(False)
    given: dict[str, Any] = {"store_url": store_url, "network": {"confirmations": 1}}
    async with open_outbox(tmp_path, node, **given) as outbox:
        begun = (await run(outbox.composition.owner, "send-native", PAY, waitMs=0)).body["data"]
        async with asyncio.timeout(60):
            while int(node.rpc("txpool_status")["pending"], 16) < 1:
                await asyncio.sleep(0.05)
    async with open_outbox(tmp_path, node, reuse=True, **given) as outbox:
        assert (outbox.balance(SHOP), outbox.nonce()) == (0, 0)
        node.mine(2)
        ended = await _ended(outbox.composition.owner, begun["runId"])
        assert (ended["status"], outbox.balance(SHOP), outbox.nonce()) == ("success", ETHER, 1)


async def test_a_trigger_in_dust_mode_moves_about_a_cent(outbox: Outbox, api: Client, node: Anvil) -> None:
    watch = {"chainId": CHAIN_ID, "every": 1, "confirmations": 0, "mode": "dust"}
    pay = {"type": "send-native", "payload": PAY, "connector": {"type": "wallet", "id": outbox.wallet_id}}
    nodes = {"root": {"type": "evm-block", "payload": watch, "children": ["pay"]}, "pay": pay}
    made = await api.create_workflow({"nodes": nodes, "triggerNodeIds": ["root"]}, maxRuns=5, cooldownMs=3_600_000)
    assert (await api.post(f"/v1/workflows/{made['id']}/publish")).status == 200
    async with asyncio.timeout(60):
        while not (found := (await api.get(f"/v1/workflows/{made['id']}/runs")).data["items"]):
            node.mine()
            await asyncio.sleep(0.1)
    ended = await _ended(api, found[0]["id"])
    assert (ended["status"], ended["mode"], outbox.balance(SHOP), outbox.nonce()) == ("success", "dust", DUST, 1)
    assert (await api.get(f"/v1/workflows/{made['id']}")).data["remainRuns"] == 5


REFUSED: list[tuple[str, Any, int, Code, str | None]] = [
    ("lgo", {"inputs": {}}, 404, Code.TYPE_UNKNOWN, None),
    ("for-each", {"inputs": {}}, 400, Code.PARAMETER_INVALID, "type"),
    ("cronjob", {"inputs": {}}, 400, Code.PARAMETER_INVALID, "type"),
    ("log", {}, 400, Code.BODY_INVALID, "inputs"),
    ("log", {"inputs": {}}, 400, Code.ACTION_INPUT_INVALID, "inputs.message"),
    ("log", {"inputs": {**HELLO, "levle": "info"}}, 400, Code.ACTION_INPUT_INVALID, "inputs.levle"),
    ("log", {"inputs": {"message": "{{$nodes.other.x}}"}}, 400, Code.ACTION_INPUT_INVALID, "inputs.message"),
    ("send-native", {"inputs": PAY, "connectorId": "wal_none"}, 400, Code.ACTION_INPUT_INVALID, "connectorId"),
    (
        "send-native",
        {"inputs": PAY, "connector": {"type": "wallet", "id": "wal_none"}},
        400,
        Code.ACTION_INPUT_INVALID,
        "connector.id",
    ),
    (
        "log",
        {"inputs": HELLO, "connector": {"type": "wallet", "id": "wal_none"}},
        400,
        Code.ACTION_INPUT_INVALID,
        "connector",
    ),
    ("log", {"inputs": HELLO, "connector": {"id": "wal_none"}}, 400, Code.BODY_INVALID, "connector.type"),
    ("log", {"inputs": HELLO, "connectorId": "conn_none"}, 400, Code.ACTION_INPUT_INVALID, "connectorId"),
]


async def test_what_cannot_run_is_refused_and_recorded_nowhere(api: Client) -> None:
    before = await _run_ids(api)
    for kind, body, status, code, field in REFUSED:
        for how in ("run", "test"):
            refused = await api.post(f"/v1/actions/{kind}/{how}", body)
            assert (refused.status, refused.code, refused.fields) == (status, code, [field] if field else []), kind
    assert await _run_ids(api) == before


async def _run_ids(api: Client) -> list[str]:
    return [run["id"] for run in (await api.get("/v1/runs")).data["items"]]


async def test_modes_exclude_each_other_and_a_test_has_none(api: Client) -> None:
    both = await run(api, "log", HELLO, simulate=True, dustTest=True)
    assert (both.status, both.code) == (400, Code.BOTH_MODES)
    assert (await simulate(api, "log", HELLO, dustTest=True)).fields == ["dustTest"]


async def test_repeated_request_starts_nothing(outbox: Outbox, api: Client) -> None:
    headers = {"Idempotency-Key": "pay-once"}
    first, again = [await api.post("/v1/actions/send-native/run", {"inputs": PAY}, headers=headers) for _ in range(2)]
    assert (again.data["runId"], again.data["status"]) == (first.data["runId"], "running")
    assert (outbox.nonce(), outbox.balance(SHOP)) == (1, ETHER)


async def test_caller_need_not_wait(outbox: Outbox, api: Client) -> None:
    outbox.node.rpc("evm_setAutomine", False)
    found = await run(api, "send-native", PAY, waitMs=0)
    assert (found.status, found.body["data"]["status"], found.body["data"]["durationMs"]) == (202, "running", None)
    assert (await api.post(f"/v1/runs/{found.body['data']['runId']}/cancel")).status in (200, 409)
