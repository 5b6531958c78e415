"""A server whose wallet spends on a chain with tokens, pools and feeds, and shortcuts to simulate nodes on it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from dustrun.core.evm.network import Network
from engine.conftest import Bench, Definition
from outbox import ALICE, ANYTHING, Outbox, address, open_outbox
from testkit.chain.anvil import CHAIN_ID, KEYS, Anvil
from testkit.chain.contracts import Witness, World

SHOP = address(1)
OTHER_CHAIN = 31_338
Run = dict[str, Any]


def describe(network: Network, **changes: Any) -> dict[str, Any]:
    """A chain as an operator's file has it."""
    shown = network.model_dump(by_alias=True, mode="json", exclude={"endpoints"})
    return {**shown, "blockTimeMs": 200, "confirmations": 1, **changes}


def node(type: str, *children: str, chain: int = CHAIN_ID, payload: dict[str, Any], **more: Any) -> Definition:
    """A node on a chain."""
    return {"type": type, "payload": {"chainId": chain, **payload}, "children": [*children], **more}


def pay(units: int | str, *children: str, to: str = SHOP, chain: int = CHAIN_ID, **more: Any) -> Definition:
    """Sends native coin."""
    return node("send-native", *children, chain=chain, payload={"recipient": to, "amount": str(units)}, **more)


def hand(token: str, units: int | str, *children: str, to: str = SHOP, **more: Any) -> Definition:
    """Sends a token."""
    payload = {"token": token, "recipient": to, "amount": str(units)}
    return node("send-erc20-token", *children, payload=payload, **more)


def call(contract: str, function: str, *children: str, args: list[Any] | None = None, **more: Any) -> Definition:
    """Calls a contract in a transaction."""
    return node(
        "write-contract", *children, payload={"contract": contract, "function": function, "args": args or []}, **more
    )


def look(contract: str, function: str, *children: str, args: list[Any] | None = None, **more: Any) -> Definition:
    """Reads a contract."""
    return node(
        "read-contract", *children, payload={"contract": contract, "function": function, "args": args or []}, **more
    )


def balance(of: str, *children: str, chain: int = CHAIN_ID, **more: Any) -> Definition:
    """Reads a native balance."""
    return node("get-balance", *children, chain=chain, payload={"address": of}, **more)


def say(message: str, *children: str, **more: Any) -> Definition:
    """Says something: a pure node."""
    return {"type": "log", "payload": {"message": message}, "children": [*children], **more}


def result(run: Run, node_id: str) -> Any:
    """What a node came to."""
    return run["executionState"][node_id]["result"]


def error(run: Run, node_id: str) -> Any:
    """Why a node failed."""
    return run["executionState"][node_id]["error"]


def runs(node_id: str) -> Callable[[Run], bool]:
    """Whether a node has begun and not ended, for `until`."""

    def holds(run: Run) -> bool:
        return bool(run["executionState"].get(node_id, {}).get("status") in ("running", "waiting"))

    return holds


class Studio:
    """A server, its chain, and a witness of that chain."""

    def __init__(self, outbox: Outbox, witness: Witness) -> None:
        self.outbox = outbox
        self.witness = witness
        self.bench = Bench(outbox.composition)
        self.api = outbox.composition.owner

    @property
    def held(self) -> int:
        """Simulations that the server holds in memory."""
        gauges = self.outbox.composition.parts.status.gauges()
        return int(gauges["dustrun_simulations_held"][1])

    async def simulate(self, nodes: Definition, **body: Any) -> Run:
        """Simulates nodes to the end. Nothing is signed for it, and nothing stays in memory."""
        nonce = self.outbox.nonce()
        run = await self.bench.ended(await self.bench.start(nodes, simulate=True, **body))
        assert self.outbox.nonce() == nonce
        return run

    async def passed(self, nodes: Definition, **body: Any) -> Run:
        """Simulates nodes that must pass."""
        run = await self.simulate(nodes, **body)
        assert (run["status"], (await self.effects(run))["passed"]) == ("success", True), told(run)
        return run

    async def effects(self, run: Run) -> dict[str, Any]:
        """The report of a run."""
        report: dict[str, Any] = (await self.api.get(f"/v1/runs/{run['id']}/effects")).data
        return report

    async def let(self, **policy: Any) -> None:
        """Changes the wallet's policy."""
        path = f"/v1/wallets/{self.outbox.wallet_id}/policy"
        assert (await self.api.put(path, {"policy": {**ANYTHING, **policy}})).status == 200

    async def workflow(self, nodes: Definition, *, defs: Sequence[Definition] = (), **fields: Any) -> str:
        """Stores a workflow; its root leads to the nodes that nobody names."""
        named = {child for one in nodes.values() for child in (*one.get("children", ()), *one.get("loopBody", ()))}
        root = {"type": "manual", "children": [node_id for node_id in nodes if node_id not in named]}
        made = await self.api.create_workflow({"nodes": {"root": root, **nodes}, "variableDefs": [*defs]}, **fields)
        found: str = made["id"]
        return found

    async def run(self, workflow_id: str, **body: Any) -> Run:
        """Runs a stored workflow to the end."""
        started = await self.api.post(f"/v1/workflows/{workflow_id}/run", body)
        return await self.bench.ended(started.data["runId"])


def told(run: Run) -> dict[str, Any]:
    """The errors of a run's nodes, for a failing test."""
    return {path: one.get("error") for path, one in (run["executionState"] or {}).items() if one.get("error")}


@asynccontextmanager
async def open_studio(
    folder: Path,
    world: World,
    chain: Anvil,
    *,
    store_url: str | None = None,
    network: dict[str, Any] | None = None,
    other: Anvil | None = None,
    url: str | None = None,
    **settings: Any,
) -> AsyncIterator[Studio]:
    """The whole server; with `other` it knows a second chain."""
    described = describe(world.network(chain.url), **(network or {}))
    if other is not None:
        (folder / "networks").mkdir(exist_ok=True)
        second = describe(world.network(other.url), chainId=OTHER_CHAIN, name="Other chain", shortName="other")
        (folder / "networks" / "other.json").write_text(json.dumps(second))
        settings["chain_endpoints"] = {CHAIN_ID: (url or chain.url,), OTHER_CHAIN: (other.url,)}
    async with open_outbox(folder, chain, store_url, described, url, **settings) as outbox:
        yield Studio(outbox, world.witness(chain))


async def second_wallet(studio: Studio) -> str:
    """Another wallet of the organisation; gives its id."""
    made = await studio.api.post("/v1/wallets/import", {"name": "bob", "privateKey": KEYS[2]})
    wallet_id: str = made.data["id"]
    await studio.api.put(f"/v1/wallets/{wallet_id}/policy", {"policy": ANYTHING})
    return wallet_id


__all__ = ["ALICE", "CHAIN_ID"]
