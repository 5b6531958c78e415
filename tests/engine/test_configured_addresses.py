"""What the settings name is open to the chain's client and the price source, and to no workflow."""

from __future__ import annotations

from pathlib import Path

from engine.conftest import Bench
from outbound.loopback import json_answer, serving
from outbox import write_network
from testkit.chain.anvil import CHAIN_ID, Anvil
from testkit.chain.contracts import World
from testkit.composition import composed


async def test_named_endpoint_and_price_source_serve_the_server_but_no_workflow(
    tmp_path: Path, world: World, anvil: Anvil
) -> None:
    async with serving(lambda _: json_answer('{"usd": "7"}')) as prices:
        settings = {
            "networks_dir": write_network(tmp_path),
            "chain_endpoints": {CHAIN_ID: (anvil.url, "http://169.254.169.254/")},
            "price_url": f"{prices.url}/{{chainId}}/{{address}}",
        }
        async with composed(tmp_path, **settings) as composition:
            bench = Bench(composition)
            priced = {"chainId": CHAIN_ID, "token": world["usdc"]}
            found = await bench.run({"price": {"type": "get-price", "payload": priced}})
            assert found["executionState"]["price"]["result"]["usd"] == 7
            status = (await bench.api.get(f"/v1/chains/{CHAIN_ID}/status")).data
            ask = {"type": "http-request", "onError": "continue"}
            nodes = {
                "node": {**ask, "payload": {"method": "POST", "url": anvil.url, "json": {}}},
                "source": {**ask, "payload": {"url": prices.url}},
            }
            runs = [await bench.run(nodes, **mode) for mode in ({}, {"simulate": True}, {"dustTest": True})]
        asked = len(prices.seen)
    assert [(one["isUsable"], one["problem"] and one["problem"][:58]) for one in status["endpoints"]] == [
        (True, None),
        (False, 'The host "169.254.169.254" may not be reached on port 80: '),
    ]
    for run in runs:
        errors = {name: run["executionState"][name]["error"]["code"] for name in nodes}
        assert errors == {"node": "INVALID_INPUT", "source": "INVALID_INPUT"}
    assert asked == 1
