"""The outbox of a composed server over a real anvil: intents bypass the engine, and a waiting run has their events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from dustrun.core.money.intent import Intent, Movement, Spend
from dustrun.core.values.addresses import checksum
from dustrun.core.values.amounts import Asset
from dustrun.services.outbox.deps import no_step
from dustrun.services.outbox.outbox import Transactions
from dustrun.services.outbox.spend_status import SpendRequest, SpendStatus
from dustrun.storage.db.tables import api_keys, events, runs
from testkit.chain.anvil import ACCOUNTS, CHAIN_ID, KEYS, Anvil
from testkit.composition import Composition, composed

ALICE = ACCOUNTS[1]
ALICE_KEY = KEYS[1]
ANYTHING = {
    "chains": ["*"],
    "assets": ["*"],
    "recipients": ["*"],
    "contracts": ["*"],
    "methods": ["*"],
    "allowUnverifiedCalldata": True,
    "signatures": {"messages": True, "typedData": "any"},
    "outflow": None,
    "sources": None,
}
WAITS = {
    "root": {"type": "manual", "children": ["ask"]},
    "ask": {"type": "approve", "payload": {"message": "Is the test over?", "timeoutMs": 600_000, "allowStarter": True}},
}
NATIVE = Asset(CHAIN_ID)
Hook = Callable[[str], None]


def address(number: int) -> str:
    """A fresh recipient."""
    return checksum(f"0x{0xD0_0000 + number:040x}")


def transfer(to: str, units: int, item: str = "main", **more: Any) -> Intent:
    """An intent to send native coin."""
    moved = (Movement("send", NATIVE, units, to),)
    return Intent(item, CHAIN_ID, to, units, b"", moved, f"Send {units} wei to {to}", **more)


@dataclass(slots=True)
class Outbox:
    """An outbox, its chain, and the run that has its events."""

    composition: Composition
    node: Anvil
    outbox: Transactions
    wallet_id: str
    key_id: str
    run_id: str
    run_pk: int
    org_id: str
    made: list[Transactions] = field(default_factory=list)

    def request(self, path: str = "pay", **more: Any) -> SpendRequest:
        """A node of the waiting run."""
        given: dict[str, Any] = {
            "org_id": self.org_id,
            "run_pk": self.run_pk,
            "run_id": self.run_id,
            "root_run_id": self.run_id,
            "workflow_id": None,
            "workflow_name": "",
            "path": path,
            "mode": "live",
            "wallet_id": self.wallet_id,
            "key_id": self.key_id,
        }
        return SpendRequest(**{**given, **more})

    async def pay(self, path: str, *intents: Intent, **more: Any) -> SpendStatus:
        """Plans and advances once."""
        request = self.request(path, **more)
        await self.outbox.plan(request, Spend(intents))
        return await self.outbox.advance(request)

    async def status(self, path: str = "pay") -> SpendStatus:
        """The status of a node's intents."""
        status = await self.outbox.find(self.request(path))
        assert status is not None
        return status

    async def until(self, path: str, holds: Callable[[SpendStatus], bool], timeout_s: float = 60) -> SpendStatus:
        """A node's status, as soon as `holds` is true of it."""
        status = None
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    status = await self.status(path)
                    if holds(status):
                        return status
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise AssertionError(f"its last status: {status}") from None

    async def settled(self, path: str, timeout_s: float = 60) -> SpendStatus:
        """A node's status, as soon as it is settled."""
        return await self.until(path, lambda status: status.status == "settled", timeout_s)

    async def state(self, path: str, state: str, timeout_s: float = 60) -> SpendStatus:
        """A node's status, as soon as its only transaction has a state."""
        return await self.until(path, lambda status: status.transactions[0]["status"] == state, timeout_s)

    async def events(self, path: str | None = None) -> list[str]:
        """The steps that the run's stream tells of a node."""
        return [event["status"] for event in await self.transaction_events(path)]

    async def transaction_events(self, path: str | None = None) -> list[dict[str, Any]]:
        """The events of type `transaction`, of one node or of all; checks the numbering of all events."""
        query = sa.select(events.c.seq, events.c.type, events.c.data).where(events.c.run_pk == self.run_pk)
        rows = await self.composition.rows(query.order_by(events.c.seq))
        assert [row[0] for row in rows] == list(range(1, len(rows) + 1))
        found = [json.loads(row[2]) for row in rows if row[1] == "transaction"]
        return [event for event in found if path in (None, event["path"])]

    def reborn(self, on_step: Hook = no_step) -> Transactions:
        """A new outbox over the same store, as after a crash; the old one is left as it is."""
        self.outbox = Transactions(replace(self.outbox.deps, on_step=on_step))
        self.made.append(self.outbox)
        return self.outbox

    def balance(self, of: str) -> int:
        """Native coin, by the node's own word."""
        return int(self.node.rpc("eth_getBalance", of, "latest"), 16)

    def nonce(self, of: str = ALICE) -> int:
        """Transactions included."""
        return int(self.node.rpc("eth_getTransactionCount", of, "latest"), 16)


def write_network(folder: Path, **changes: Any) -> Path:
    """The local chain, faster than it is, with what a test wants otherwise."""
    networks = folder / "networks"
    networks.mkdir(exist_ok=True)
    fields = {"chainId": CHAIN_ID, "blockTimeMs": 200, "confirmations": 2, **changes}
    (networks / "local.json").write_text(json.dumps(fields))
    return networks


@asynccontextmanager
async def open_outbox(
    folder: Path,
    node: Anvil,
    store_url: str | None = None,
    network: dict[str, Any] | None = None,
    url: str | None = None,
    reuse: bool = False,
    **settings: Any,
) -> AsyncIterator[Outbox]:
    """A server with one wallet that may do anything, and a run that waits. `reuse`: the wallet is as it was left."""
    given = {
        "networks_dir": write_network(folder, **(network or {})),
        "chain_endpoints": {CHAIN_ID: (url or node.url,)},
        **settings,
    }
    if store_url is not None:
        given["database_url"] = store_url
    async with composed(folder, **given) as composition:
        api = composition.owner
        body = {"name": "alice", "privateKey": ALICE_KEY, "isDefault": True}
        if reuse:
            wallet = (await api.get("/v1/wallets")).data["items"][0]
        else:
            wallet = (await api.post("/v1/wallets/import", body)).data
            assert (await api.put(f"/v1/wallets/{wallet['id']}/policy", {"policy": ANYTHING})).status == 200
        assert wallet["address"] == ALICE
        run = (await api.post("/v1/runs", {"definition": {"nodes": WAITS}})).data["runId"]
        rows = await composition.rows(sa.select(runs.c.pk, runs.c.org_id).where(runs.c.id == run))
        keys = await composition.rows(sa.select(api_keys.c.id))
        transactions = composition.parts.money.operations.outbox
        outbox = Outbox(composition, node, transactions, wallet["id"], keys[0][0], run, rows[0][0], rows[0][1])
        try:
            yield outbox
        finally:
            for made in outbox.made:
                await made.stop()
