"""Standing allowances on a real chain: listed with their worth, taken back under a policy that allows nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from engine.conftest import Bench
from engine.test_chain_actions import Shop
from outbox import ALICE, ANYTHING, Outbox, open_outbox
from testkit.chain.anvil import ACCOUNTS, CHAIN_ID
from testkit.chain.contracts import MAX, World

CAROL = ACCOUNTS[3]
Json = dict[str, Any]


class Grants(Shop):
    """A server whose wallet has given allowances."""

    def __init__(self, outbox: Outbox, witness: Any) -> None:
        super().__init__(Bench(outbox.composition), witness)
        self.outbox, self.api = outbox, outbox.composition.owner

    async def use(self, policy: Json) -> None:
        path = f"/v1/wallets/{self.outbox.wallet_id}/policy"
        assert (await self.api.put(path, {"policy": policy})).status == 200

    async def listed(self) -> list[Json]:
        found = (await self.api.get(f"/v1/wallets/{self.outbox.wallet_id}/allowances")).data
        (chain,) = [chain for chain in found["chains"] if chain["chainId"] == CHAIN_ID]
        return list(chain["allowances"])

    async def revoke(self, **body: Any) -> Json:
        path = f"/v1/wallets/{self.outbox.wallet_id}/allowances/revoke"
        run = await self.bench.ended((await self.api.post(path, {"chainId": CHAIN_ID, **body})).data["runId"])
        assert run["status"] == "success", run["executionState"]
        result: Json = run["executionState"]["action"]["result"]
        return result


@pytest.fixture
async def grants(tmp_path: Path, world: World) -> AsyncIterator[Grants]:
    with world.node() as node:
        left_out = {"chain_id", "block_time_ms", "confirmations", "endpoints"}
        network = world.network(node.url).model_dump(mode="json", by_alias=True, exclude=left_out)
        witness = world.witness(node)
        witness.send("nft", "mint", ALICE, 0)
        async with open_outbox(tmp_path, node, network={**network, "confirmations": 1}) as outbox:
            grants = Grants(outbox, witness)
            may = {"allowUnpricedAssets": True, "allowUnlimitedApprovals": True}
            methods = ["*", "setApprovalForAll(address,bool)"]
            await grants.use({**ANYTHING, **may, "methods": methods})
            await grants.result("approve-erc20", {"token": "usdc", "spender": CAROL, "amount": "max"})
            await grants.result("approve-erc20", {"token": "weth", "spender": CAROL, "amount": str(10**18)})
            allow = {"contract": "nft", "function": "setApprovalForAll(address,bool)", "args": [CAROL, True]}
            await grants.result("write-contract", allow)
            await grants.use({})
            yield grants


async def test_what_stands_is_listed_with_its_worth_and_revoked_under_an_empty_policy(grants: Grants) -> None:
    witness, at = grants.witness, grants.witness.addresses
    found = {one["token"]: one for one in await grants.listed()}
    assert set(found) == {at["usdc"], at["weth"], at["nft"]}
    usdc, weth, nft = (found[at[name]] for name in ("usdc", "weth", "nft"))
    assert (usdc["isUnlimited"], usdc["symbol"], usdc["spender"]) == (True, "USDC", CAROL)
    assert float(usdc["worthUsd"]) == witness.balance("usdc", ALICE) / 10**6
    assert (weth["amountFormatted"], weth["isUnlimited"], float(weth["worthUsd"])) == ("1", False, 2500.0)
    assert (nft["kind"], nft["worthUsd"]) == ("collection", None)

    result = await grants.revoke(unlimitedOnly=True)
    assert result["count"] == 2
    assert witness.allowance("usdc", ALICE, CAROL) == 0
    assert witness.read("nft", "isApprovedForAll", ALICE, CAROL) is False
    assert witness.allowance("weth", ALICE, CAROL) == 10**18
    assert [one["token"] for one in await grants.listed()] == [at["weth"]]

    simulated = await grants.result("revoke-allowances", {}, simulate=True)
    assert (simulated["count"], witness.allowance("weth", ALICE, CAROL)) == (1, 10**18)
    assert (await grants.revoke(token=at["weth"], spender=CAROL))["revoked"][0]["amount"] == str(10**18)
    assert (await grants.listed(), witness.allowance("weth", ALICE, CAROL)) == ([], 0)
    assert (await grants.revoke())["count"] == 0


async def test_what_looks_like_a_revocation_and_gives_something_is_refused(grants: Grants) -> None:
    """`approve(address,0)` of an ERC-721 gives away token 0."""
    nft = grants.witness.addresses["nft"]
    give = {"chainId": CHAIN_ID, "contract": nft, "function": "approve(address,uint256)", "args": [CAROL, 0]}
    for body in ({"simulate": True}, {}):
        run = await grants.bench.run({"give": {"type": "write-contract", "payload": give}}, **body)
        assert run["status"] == "failure"
        assert "sets an allowance to zero, which may give" in str(run["executionState"]["give"]["error"])
    assert int(grants.witness.read("nft", "getApproved", 0), 16) == 0


async def test_a_key_without_the_right_to_spend_revokes_nothing(grants: Grants) -> None:
    path = f"/v1/wallets/{grants.outbox.wallet_id}/allowances/revoke"
    client = await grants.outbox.composition.client_with("wallet:read", "run:inline", "workflow:execute")
    assert (await client.post(path, {"chainId": CHAIN_ID})).status == 403
    assert (await client.get(path.removesuffix("/revoke"))).status == 200
    assert grants.witness.allowance("usdc", ALICE, CAROL) == MAX
