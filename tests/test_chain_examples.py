"""Every workflow of `examples/chain/` runs through the whole server on a real chain, simulated and live."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from engine.conftest import Bench
from outbox import ALICE, Outbox, open_outbox
from served import ROOT, outside
from testkit.chain.anvil import ACCOUNTS, CHAIN_ID
from testkit.chain.contracts import ETHER, Witness, World

EXAMPLES = ROOT / "examples" / "chain"
SHOP = "0x00000000000000000000000000000000000D0001"


class Market:
    """The server with a wallet, the chain with its contracts, a witness, and who takes notices."""

    def __init__(self, outbox: Outbox, witness: Witness, notices: Any) -> None:
        self.bench = Bench(outbox.composition)
        self.witness = witness
        self.outside = notices

    async def run(self, name: str, changes: dict[str, Any], **body: Any) -> dict[str, Any]:
        """Runs an example with what this chain has in place of mainnet's."""
        example = json.loads((EXAMPLES / f"{name}.json").read_text())
        payload = {**example["payload"], "chainId": CHAIN_ID, **changes}
        asked = {"definition": example["definition"], "payload": payload, **body}
        run_id = (await self.bench.api.post("/v1/runs", asked)).data["runId"]
        run = await self.bench.ended(run_id)
        assert run["status"] == "success", {
            path: node.get("error") for path, node in run["executionState"].items() if node.get("error")
        }
        return run

    def result(self, run: dict[str, Any], node: str) -> Any:
        """What a node came to."""
        return run["executionState"][node]["result"]


@pytest.fixture
async def market(tmp_path: Path, world: World) -> AsyncIterator[Market]:
    with world.node("--block-time", "1") as node, outside(tmp_path) as notices:
        network = world.network(node.url).model_dump(
            mode="json", by_alias=True, exclude={"chain_id", "block_time_ms", "confirmations", "endpoints"}
        )
        witness = world.witness(node)
        async with open_outbox(tmp_path, node, network=network, outbound_allow=notices.address) as outbox:
            yield Market(outbox, witness, notices)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.json")), ids=lambda path: path.stem)
def test_an_example_is_told(path: Path) -> None:
    document = json.loads(path.read_text())
    assert document.keys() == {"name", "description", "definition", "payload"}


async def test_profit_is_taken_and_shared(market: Market) -> None:
    at = market.witness.addresses
    changes = {
        "router": at["v2_router"],
        "weth": at["weth"],
        "usdc": at["usdc"],
        "treasury": SHOP,
        "noticeUrl": f"{market.outside.url}/notices",
    }
    before = market.witness.balance("usdc", ALICE)
    predicted = await market.run("take-profit", changes, simulate=True)
    assert market.witness.balance("usdc", ALICE) == before, "a simulation moves nothing"
    assert market.outside.notices() == []
    run = await market.run("take-profit", changes)
    sold = market.result(run, "sell")
    for node, field in (("sell", "amountOut"), ("sell", "amountIn"), ("share", "amountReceived")):
        assert market.result(run, node)[field] == market.result(predicted, node)[field]
    share = int(sold["amountOut"]) * 20 // 100
    assert market.witness.balance("usdc", SHOP) == share
    assert market.witness.balance("usdc", ALICE) == before + int(sold["amountOut"]) - share
    (notice,) = market.outside.notices()
    assert notice["swap"] == sold["hash"]
    assert notice["text"].startswith("Sold 0.1 WETH for 24")


async def test_a_price_below_the_limit_sells_nothing(market: Market) -> None:
    at = market.witness.addresses
    changes = {"router": at["v2_router"], "weth": at["weth"], "usdc": at["usdc"], "limitUsdc": str(10**12)}
    run = await market.run("take-profit", changes)
    assert run["executionState"]["sell"]["status"] == "skipped"
    assert market.witness.balance("weth", ALICE) == 1000 * ETHER


async def test_a_payout_pays_every_row(market: Market) -> None:
    csv = f"invoice,address,amount\nA-17,{SHOP},12.50\nA-18,{SHOP},7\n"
    run = await market.run("payout", {"csv": csv})
    assert market.witness.balance("usdc", SHOP) == 19_500_000
    paid = market.result(run, "pay")
    assert [(row["key"], row["amountFormatted"]) for row in paid["rows"]] == [("A-17", "12.5"), ("A-18", "7")]


async def test_a_low_balance_is_filled_up_once(market: Market) -> None:
    asked = {"address": SHOP}
    await market.run("top-up", asked)
    assert market.witness.native(SHOP) == ETHER // 5
    again = await market.run("top-up", asked)
    assert again["executionState"]["fill"]["status"] == "skipped"
    assert market.witness.native(SHOP) == ETHER // 5


async def test_a_permit_is_signed_and_the_token_takes_it(market: Market) -> None:
    token = market.witness.addresses["usdc"]
    run = await market.run("permit", {"token": token, "version": "1", "spender": ACCOUNTS[3]})
    signed = market.result(run, "sign")
    assert (signed["signer"], signed["primaryType"], signed["r"]) == (ALICE, "Permit", "0x•••")
    (listed,) = (await market.bench.api.get("/v1/signatures")).data["items"]
    whole = bytes.fromhex((await market.bench.api.get(f"/v1/signatures/{listed['id']}")).data["signature"][2:])
    parts = (25_000_000, 4_102_444_800, whole[64], whole[:32], whole[32:64])
    market.witness.send("usdc", "permit", ALICE, ACCOUNTS[3], *parts)
    assert market.witness.allowance("usdc", ALICE, ACCOUNTS[3]) == 25_000_000


@pytest.mark.parametrize(("reorg", "node"), [(None, "credit"), ("restored", "credit"), ("retracted", "takeBack")])
async def test_a_deposit_is_credited_and_taken_back(market: Market, reorg: str | None, node: str) -> None:
    example = json.loads((EXAMPLES / "deposits.json").read_text())
    workflow = await market.bench.api.create_workflow(example["definition"])
    asked = {"payload": {**example["payload"], "reorg": reorg}}
    started = await market.bench.api.post(f"/v1/workflows/{workflow['id']}/run", asked)
    run = await market.bench.ended(started.data["runId"])
    reached = {path for path, one in run["executionState"].items() if one["status"] == "success"}
    assert reached == {"root", "removed", node}
