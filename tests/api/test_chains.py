"""`/v1/chains`: public facts without secrets, and how endpoints are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from testkit.chain.anvil import Anvil
from testkit.chain.contracts import World
from testkit.composition import Composition, composed
from testkit.ports import free_port


async def test_chains_are_public_and_hold_no_endpoint(tmp_path: Path) -> None:
    secret = "https://node.example/v3/s3cret"
    async with composed(tmp_path, chain_endpoints={1: (secret,)}) as server:
        anybody = server.client(None)
        listed = (await anybody.get("/v1/chains")).data
        one = (await anybody.get("/v1/chains/1")).data
    by_id = {chain["chainId"]: chain for chain in listed}
    assert by_id[1] == one
    assert (one["name"], one["native"]["symbol"], one["isServed"]) == ("Ethereum", "ETH", True)
    assert by_id[8453]["isServed"] is False
    assert "s3cret" not in json.dumps(listed)
    assert "endpoints" not in one


async def test_an_unknown_chain_is_told_with_near_ones(server: Composition) -> None:
    reply = await server.client(None).get("/v1/chains/42162")
    assert (reply.status, reply.code) == (400, 400050)
    assert "Did you mean 42161 (Arbitrum One)" in reply.body["message"]
    unserved = await server.owner.get("/v1/chains/1/status")
    assert (unserved.status, unserved.code) == (400, 400051)
    assert "DUSTRUN_CHAIN_ENDPOINTS" in unserved.body["message"]


async def test_the_status_asks_every_endpoint(tmp_path: Path, world: World, anvil: Anvil) -> None:
    down = f"http://127.0.0.1:{free_port()}/s3cret"
    folder = tmp_path / "networks"
    folder.mkdir()
    (folder / "own.json").write_text(json.dumps({"chainId": 31337, "multicall3": None}))
    endpoints = {31337: (down, anvil.url)}
    async with composed(tmp_path / "data", chain_endpoints=endpoints, networks_dir=folder) as server:
        assert (await (await server.client_with("run:read")).get("/v1/chains/31337/status")).status == 403
        status: Any = (await server.owner.get("/v1/chains/31337/status")).data
    assert status["problem"] is None
    assert status["block"]["number"] == int(anvil.rpc("eth_blockNumber"), 16)
    assert status["simulationStrategies"] == ["trace-call", "simulate-v1"]
    first, second = status["endpoints"]
    assert (first["isUsable"], first["abilities"], first["problem"]) == (False, None, "no connection")
    assert (second["isUsable"], second["chainId"], second["abilities"]["simulateV1"]) == (True, 31337, True)
    assert "s3cret" not in json.dumps(status)


async def test_a_chain_that_is_another_is_told(tmp_path: Path, world: World) -> None:
    with Anvil(chain_id=5) as other:
        async with composed(tmp_path, chain_endpoints={31337: (other.url,)}) as server:
            status = (await server.owner.get("/v1/chains/31337/status")).data
    assert "serves chain 5 instead of 31337" in status["problem"]
    assert status["block"] is None
