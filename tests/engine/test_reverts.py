"""A transaction that would revert: found out before anything is signed, with its reason, the same live as simulated."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from outbox import ALICE
from rehearsals import Studio, call, node, open_studio, pay
from testkit.chain.contracts import World, artifact


@pytest.fixture
async def studio(tmp_path: Path, world: World) -> AsyncIterator[Studio]:
    with world.node() as chain:
        async with open_studio(tmp_path, world, chain) as studio:
            yield studio


def custom(at: dict[str, str]) -> dict[str, Any]:
    """Reverts with an error of its own ABI; the ABI calls the function `pure`, which nobody would send."""
    abi = [{**entry, "stateMutability": "nonpayable"} if entry["type"] == "function" else entry for entry in ABI]
    return node("write-contract", payload={"contract": at["zoo"], "function": "custom", "abi": abi})


ABI = artifact("zoo")[0]
CASES = {
    "custom error": (custom, "Custom(code 7, why because)"),
    "text": (lambda at: call(at["zoo"], "requireString()"), "no way"),
    "no coin taken": (lambda at: pay(1, to=at["rejector"]), "no coins, please"),
    "no NFT taken": (
        lambda at: node("send-erc721", payload={"contract": at["nft"], "tokenId": "7", "recipient": at["zoo"]}),
        "ERC721InvalidReceiver",
    ),
    "token paused": (
        lambda at: node("send-erc20-token", payload={"token": at["pausable"], "recipient": at["zoo"], "amount": "1"}),
        "EnforcedPause()",
    ),
}


_OF_A_CHANGE = ("custom error", "no NFT taken", "token paused")
"""An error of a called contract, one of a receiver that a contract calls, and one that the action itself meets."""


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=() if case in _OF_A_CHANGE else pytest.mark.long) for case in CASES]
)
async def test_a_revert_is_told_before_it_is_signed_and_tried_again(studio: Studio, case: str) -> None:
    make, says = CASES[case]
    studio.witness.send("nft", "mint", ALICE, 7)
    studio.witness.send("pausable", "setPaused", True)
    await studio.let(allowUnpricedAssets=True)
    nodes = {"spend": {**make(studio.witness.addresses), "retry": {"maxAttempts": 2, "backoffMs": 1}}}
    nonce = studio.outbox.nonce()
    simulated = await studio.simulate(nodes)
    if case != "token paused":  # the action asks the token before it returns an intent
        shown = (await studio.effects(simulated))["transactions"]
        assert [(one["status"], says in one["revert"]["text"]) for one in shown] == [("rejected", True)] * 2
    for run in (simulated, await studio.bench.run(nodes)):
        failed = run["executionState"]["spend"]
        assert (failed["error"]["code"], failed["attempt"]) == ("REVERTED", 2), failed
        assert says in failed["error"]["message"], failed["error"]
        assert failed["error"]["details"][0]["revert"]["text"] in failed["error"]["message"]
    assert studio.outbox.nonce() == nonce
