"""A called run that pays, under kill -9: it and its caller go on, nothing is paid twice, the report has everything, and
the gate still holds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from web3 import Web3

from testkit.chain.anvil import ACCOUNTS, CHAIN_ID, KEYS, Anvil
from testkit.outbox_world import SENDER, Api, recipient, server_of
from testkit.server_process import ServerProcess

SECOND, SECOND_KEY = ACCOUNTS[2], KEYS[2]
ANYTHING = {"chains": ["*"], "assets": ["*"], "recipients": ["*"], "outflow": None, "sources": None}
REHEARSAL = 409_010
Json = dict[str, Any]


@pytest.fixture
def node() -> Iterator[Anvil]:
    """A chain that makes blocks only when it is told to."""
    with Anvil("--no-mining") as node:
        yield node


class Killed:
    """A server that is killed, its chain, and two wallets that spend."""

    def __init__(self, server: ServerProcess, node: Anvil, api: Api) -> None:
        self.server = server
        self.node = node
        self.api = api
        self._web3 = Web3(Web3.HTTPProvider(node.url))

    async def call(self, method: str, path: str, body: Json | None = None) -> Json:
        """The `data` of an answer."""
        return (await self.api.call(method, path, body))[1]

    async def wallet(self, name: str, key: str, *, is_default: bool) -> str:
        """A wallet that may send to anybody; its id."""
        body = {"name": name, "privateKey": key, "isDefault": is_default}
        made = await self.call("POST", "/v1/wallets/import", body)
        await self.call("PUT", f"/v1/wallets/{made['id']}/policy", {"policy": ANYTHING})
        return str(made["id"])

    async def store(self, name: str, nodes: Json, **more: Any) -> str:
        """A stored workflow; its id."""
        body = {"name": name, "description": "", "definition": {"nodes": nodes}, **more}
        return str((await self.call("POST", "/v1/workflows", body))["id"])

    async def start(self, flow: str, **body: Any) -> str:
        """The id of a started run."""
        return str((await self.call("POST", f"/v1/workflows/{flow}/run", body))["runId"])

    async def die(self) -> None:
        """SIGKILL, and another life."""
        self.server.kill()
        self.server.start()
        await self.server.wait_ready()

    def sent(self, place: str = "latest") -> tuple[int, int]:
        """How many transactions of each wallet the chain has, by its own word; `pending`: those it holds, too."""
        first, second = (int(self.node.rpc("eth_getTransactionCount", of, place), 16) for of in (SENDER, SECOND))
        return first, second

    def received(self, number: int) -> int:
        """What a recipient has, as web3.py reads it."""
        return self._web3.eth.get_balance(recipient(number))

    async def until_sent(self, sent: tuple[int, int]) -> None:
        """Waits until the chain holds so many transactions."""
        async with asyncio.timeout(60):
            while self.sent("pending") != sent:
                await asyncio.sleep(0.02)

    async def until(self, run_id: str, *statuses: str, node_id: str | None = None) -> Json:
        """The run once it, or a node of it, has one of the states; makes blocks meanwhile."""
        async with asyncio.timeout(60):
            while True:
                run = await self.call("GET", f"/v1/runs/{run_id}")
                found = run["executionState"].get(node_id, {}) if node_id is not None else run
                if found.get("status") in statuses:
                    return run
                self.node.mine()
                await asyncio.sleep(0.1)


@asynccontextmanager
async def killed(folder: Path, node: Anvil, url: str) -> AsyncIterator[Killed]:
    server = server_of(folder, node.url, 1, 200, database_url=url, log_level="error")
    server.start()
    await server.wait_ready()
    api = Api(server)
    try:
        yield Killed(server, node, api)
    finally:
        await api.close()
        await server.stop()


def _child(last: int) -> Json:
    """Pays from the wallet of each row, then somebody else from the default wallet."""
    send = {"chainId": CHAIN_ID, "recipient": "{{$item.to}}", "amount": "{{$item.units}}"}
    tip = {"chainId": CHAIN_ID, "recipient": recipient(last), "amount": "3"}
    return {
        "root": {"type": "manual", "children": ["each"]},
        "each": {
            "type": "for-each",
            "payload": {"array": "{{$inputs.rows}}"},
            "loopBody": ["pay"],
            "children": ["tip"],
        },
        "pay": {"type": "send-native", "payload": send, "connector": {"type": "wallet", "id": "{{$item.wallet}}"}},
        "tip": {"type": "send-native", "payload": tip},
    }


def _parent(child: str) -> Json:
    call = {"type": "call-workflow", "payload": {"workflowId": child, "payload": "{{$inputs}}"}}
    wait = {"type": "wait", "payload": {"timeoutMs": 600_000}, "pinned": {"status": "resumed"}}
    return {
        "root": {"type": "manual", "children": ["first"]},
        "first": {**call, "children": ["ask"]},
        "ask": {**wait, "children": ["second"]},
        "second": call,
    }


@pytest.mark.parametrize("store_url", ["sqlite", pytest.param("postgresql", marks=pytest.mark.long)], indirect=True)
async def test_a_called_run_goes_on_after_every_kill_and_pays_once(tmp_path: Path, node: Anvil, store_url: str) -> None:
    async with killed(tmp_path, node, store_url) as it:
        first = await it.wallet("first", KEYS[1], is_default=True)
        second = await it.wallet("second", SECOND_KEY, is_default=False)
        child = await it.store("child", _child(9))
        parent = await it.store("parent", _parent(child), requireRehearsal="simulate")
        rows = [
            {"wallet": second, "to": recipient(1), "units": "7"},
            {"wallet": first, "to": recipient(2), "units": "5"},
        ]
        payload = {"rows": rows}
        refused, _ = await it.api.call("POST", f"/v1/workflows/{parent}/run", {"payload": payload}, (REHEARSAL,))
        assert refused == REHEARSAL
        rehearsal = await it.until(
            await it.start(parent, payload=payload, simulate=True), "success", "failure", "partial"
        )
        assert (rehearsal["status"], rehearsal["passed"]) == ("success", True)

        run_id = await it.start(parent, payload=payload)
        await it.until_sent((0, 1))
        await it.die()  # the first payment is sent and in no block
        it.node.mine()
        await it.until_sent((1, 1))
        it.server.kill()
        it.node.mine(2)  # the second one is included while nobody looks
        it.server.start()
        await it.server.wait_ready()
        await it.until(run_id, "waiting", node_id="ask")
        assert it.sent() == (2, 1)
        await it.die()  # only the caller waits now

        await it.call("PUT", f"/v1/workflows/{child}", {"definition": {"nodes": _child(8)}})
        await it.call("POST", f"/v1/runs/{run_id}/nodes/ask/resume", {"data": {}})
        failed = await it.until(run_id, "failure", "success")
        assert failed["executionState"]["second"]["error"]["code"] == "REHEARSAL_MISSING"
        assert it.sent("pending") == (2, 1)

        await it.call("PUT", f"/v1/workflows/{child}", {"definition": {"nodes": _child(9)}})
        again = (await it.call("POST", f"/v1/runs/{run_id}/retry"))["runId"]
        await it.until_sent((2, 2))
        await it.die()  # in the run that the retry calls
        ended = await it.until(again, "success", "failure", "partial")
        assert ended["status"] == "success", ended["error"]
        assert it.sent() == (4, 2)
        assert [it.received(number) for number in (1, 2, 8, 9)] == [14, 10, 0, 6]

        paid = ["each[0].pay", "each[1].pay", "tip"]
        wallets = [second, first, first]
        for run, call in ((run_id, "first"), (again, "second")):
            report = await it.call("GET", f"/v1/runs/{run}/effects")
            found = [(one["path"], one["walletId"], one["status"]) for one in report["transactions"]]
            assert found == [(f"{call}/{path}", wallet, "final") for path, wallet in zip(paid, wallets, strict=True)]
