"""Reports of effects and comparisons of runs, through the whole server, on a real chain: a rehearsal against the real
run, with the balances that both really came to."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from anvil import ACCOUNTS, CHAIN_ID
from contracts import Witness, World
from engine.conftest import Bench, Definition
from outbox import ANYTHING, Outbox, address, open_outbox
from served import ROOT, outside

EXAMPLES = ROOT / "examples" / "chain"
CAROL = ACCOUNTS[3]
SHOP = address(1)
NATIVE = f"eip155:{CHAIN_ID}/native"
Json = dict[str, Any]


class Desk:
    """A server with a wallet on a chain with every contract, and what people ask it."""

    def __init__(self, outbox: Outbox, witness: Witness, notices: Any) -> None:
        self.outbox = outbox
        self.bench = Bench(outbox.composition)
        self.api = outbox.composition.owner
        self.witness = witness
        self.outside = notices

    def asset(self, name: str) -> str:
        """The key of a token by its name."""
        return f"eip155:{CHAIN_ID}/erc20:{self.witness.addresses[name]}"

    def node(self, kind: str, **payload: Any) -> Definition:
        """A node on this chain; tokens by their names here."""
        fields: Json = {name: payload.pop(name) for name in ("children", "pinned") if name in payload}
        at = self.witness.addresses
        named = {name: at.get(value, value) if isinstance(value, str) else value for name, value in payload.items()}
        return {"type": kind, "payload": {"chainId": CHAIN_ID, **named}, **fields}

    async def run(self, nodes: Definition, status: str = "success", **body: Any) -> Json:
        """Runs to the end."""
        run = await self.bench.run(nodes, **body)
        assert run["status"] == status, _errors(run)
        return run

    async def example(self, name: str, changes: Json, **body: Any) -> str:
        """Runs an example with what this chain has in place of mainnet's; its id."""
        example = json.loads((EXAMPLES / f"{name}.json").read_text())
        payload = {**example["payload"], "chainId": CHAIN_ID, **changes}
        asked = {"definition": example["definition"], "payload": payload, **body}
        run = await self.bench.ended((await self.api.post("/v1/runs", asked)).data["runId"])
        assert run["status"] == "success", _errors(run)
        found: str = run["id"]
        return found

    async def effects(self, run: str | Json) -> Json:
        """The report of a run."""
        run_id = run if isinstance(run, str) else run["id"]
        report: Json = (await self.api.get(f"/v1/runs/{run_id}/effects")).data
        return report

    async def compare(self, left: str | Json, right: str | Json) -> Json:
        """Two runs side by side."""
        ids = [run if isinstance(run, str) else run["id"] for run in (left, right)]
        found: Json = (await self.api.get(f"/v1/runs/{ids[0]}/compare/{ids[1]}")).data
        return found


def _errors(run: Json) -> Json:
    return {path: node.get("error") for path, node in run["executionState"].items() if node.get("error")}


def changes(report: Json) -> dict[tuple[str, str], int]:
    """The balance changes of a report by address and asset."""
    return {(change["address"], change["asset"]): int(change["amount"]) for change in report["balanceChanges"]}


def codes(report: Json) -> list[str]:
    """The codes of its warnings."""
    return [warning["code"] for warning in report["warnings"]]


@pytest.fixture
async def desk(tmp_path: Path, world: World) -> AsyncIterator[Desk]:
    with world.node() as node, outside(tmp_path) as notices:
        left_out = {"chain_id", "block_time_ms", "confirmations", "endpoints"}
        network = world.network(node.url).model_dump(mode="json", by_alias=True, exclude=left_out)
        witness = world.witness(node)
        changed = {**network, "confirmations": 1}
        async with open_outbox(tmp_path, node, network=changed, outbound_allow=notices.address) as outbox:
            policy = {**ANYTHING, "allowUnpricedAssets": True, "allowDeploy": True}
            path = f"/v1/wallets/{outbox.wallet_id}/policy"
            assert (await outbox.composition.owner.put(path, {"policy": policy})).status == 200
            yield Desk(outbox, witness, notices)


def _take_profit(desk: Desk) -> Json:
    at = desk.witness.addresses
    return {
        "router": at["v2_router"],
        "weth": at["weth"],
        "usdc": at["usdc"],
        "treasury": SHOP,
        "noticeUrl": f"{desk.outside.url}/notices",
    }


async def test_take_profit_is_the_same_live_as_simulated(desk: Desk) -> None:
    simulated = await desk.example("take-profit", _take_profit(desk), simulate=True)
    live = await desk.example("take-profit", _take_profit(desk))
    found = await desk.compare(simulated, live)
    assert found["verdict"] == "same", found["differences"]
    assert found["differences"] == []
    assert [(one["path"], one["item"]) for one in found["estimates"]] == [
        ("sell", "approve"),
        ("sell", "swap"),
        ("share", "send"),
    ]
    foreseen, real = await desk.effects(simulated), await desk.effects(live)
    assert changes(foreseen) == changes(real)
