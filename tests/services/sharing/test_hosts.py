"""What only one of the servers on a store does: it sends each hook once, and signs each transfer once."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from testkit.chain.anvil import ACCOUNTS, CHAIN_ID, KEYS, Anvil
from testkit.composition import Client
from testkit.model_server import Reply, serving_model
from testkit.outbox_world import amount, recipient
from testkit.postgres import Cluster
from testkit.receiver import receiving
from testkit.sharing import activity_of, ended, sharing, until

_TRANSFERS = 12
_ALLOWED = 5
_PAY: dict[str, Any] = {
    "nodes": {
        "root": {"type": "manual", "payload": {}, "children": ["pay"]},
        "pay": {
            "type": "send-native",
            "payload": {
                "chainId": CHAIN_ID,
                "recipient": "{{$trigger.body.to}}",
                "amount": "{{$trigger.body.amount}}",
            },
        },
    },
    "triggerNodeIds": ["root"],
}


async def _pay_through_both(
    clients: tuple[Client, Client], limits: list[dict[str, Any]], count: int
) -> list[dict[str, Any]]:
    """Transfers at once through two servers; the runs as they ended."""
    here, there = clients
    body = {"name": "sender", "privateKey": KEYS[1], "isDefault": True}
    wallet = (await here.post("/v1/wallets/import", body)).data
    policy = {"chains": ["*"], "assets": ["*"], "recipients": ["*"], "limits": limits}
    assert (await there.put(f"/v1/wallets/{wallet['id']}/policy", {"policy": policy})).status == 200
    flow = await here.create_workflow(_PAY)

    async def start(number: int) -> None:
        payload = {"to": recipient(number), "amount": str(amount(number))}
        path = f"/v1/workflows/{flow['id']}/run"
        reply = await clients[number % 2].post(path, {"runId": f"run_{number}", "payload": payload})
        assert reply.status == 200, reply.body

    await asyncio.gather(*(start(number) for number in range(count)))
    return [await ended(there, f"run_{number}") for number in range(count)]


async def test_wallet_is_used_by_two_servers(tmp_path: Path, cluster: Cluster, anvil: Anvil) -> None:
    networks = tmp_path / "networks"
    networks.mkdir()
    (networks / "local.json").write_text(json.dumps({"chainId": CHAIN_ID, "blockTimeMs": 200, "confirmations": 1}))
    settings: dict[str, Any] = {"networks_dir": networks, "chain_endpoints": {CHAIN_ID: (anvil.url,)}}
    url = cluster.fresh()
    async with sharing(tmp_path, url, **settings) as (first, second):
        clients, before = (
            (first.owner, second.owner),
            int(anvil.rpc("eth_getTransactionCount", ACCOUNTS[1], "latest"), 16),
        )
        limit = {"maxCount": _ALLOWED, "windowMs": 86_400_000}
        try:
            runs = await _pay_through_both(clients, [limit], _TRANSFERS)
        except AssertionError as error:
            error.add_note(f"the node's pool: {anvil.rpc('txpool_inspect')}, mines: {anvil.rpc('anvil_getAutomine')}")
            raise
        paid = [number for number, run in enumerate(runs) if run["status"] == "success"]
        assert len(paid) == _ALLOWED, [run["status"] for run in runs]
        balances = [int(anvil.rpc("eth_getBalance", recipient(number), "latest"), 16) for number in range(_TRANSFERS)]
        assert balances == [amount(number) if number in paid else 0 for number in range(_TRANSFERS)]
        assert int(anvil.rpc("eth_getTransactionCount", ACCOUNTS[1], "latest"), 16) == before + _ALLOWED
    cluster.drop(url)


async def test_hooks_are_sent_once_and_turns_are_read_anywhere(tmp_path: Path, cluster: Cluster) -> None:
    url = cluster.fresh()
    async with (
        receiving() as receiver,
        serving_model(Reply("Hello.")) as models,
        sharing(tmp_path, url, outbound_allow=("127.0.0.1",)) as (first, second),
    ):
        here, there = first.owner, second.owner
        body = {"name": "test", "url": receiver.url, "subscribedEventTypes": ["run.succeeded"]}
        receiver.secrets.append((await there.post("/v1/hooks", body)).data["secret"])
        flow = await here.create_workflow()
        for number in range(10):
            path = f"/v1/workflows/{flow['id']}/run"
            await (here, there)[number % 2].post(path, {"runId": f"run_{number}", "payload": {}})

        async def has_all() -> bool:
            return len(receiver.taken) >= 10

        await until(has_all)
        await here.post("/v1/connectors", models.connector())
        chat = (await here.post("/v1/conversations", {"title": "Plan"})).data["id"]
        begun = asyncio.create_task(here.post(f"/v1/conversations/{chat}/turns", {"text": "Hi"}))
        kinds: list[str] = []
        async with asyncio.timeout(60):
            async for _, kind in activity_of(there, f"/v1/conversations/{chat}/stream?lastEventId=0"):
                kinds.append(kind)
                if kind == "turn_finished":
                    break
        await begun
        assert kinds[0] == "turn_started"
        assert len(receiver.taken) == 10
    cluster.drop(url)
