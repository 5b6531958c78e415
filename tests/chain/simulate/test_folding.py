"""`simulate-v1` folds earlier transactions into state overrides; the results are those of repeating them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from chain.test_endpoints import chain_of
from dustrun.chain.evm import LiveChain
from dustrun.chain.simulate import SimChain
from dustrun.core.money.intent import Intent
from dustrun.sdk.chain import ChainCall
from testkit.chain.anvil import ACCOUNTS, Anvil
from testkit.chain.contracts import Witness, World, artifact
from testkit.chain.intents import call, create, pay
from testkit.chain.rpc_proxy import Answer, Call, proxy

ALICE, BOB, CAROL = ACCOUNTS[1], ACCOUNTS[2], ACCOUNTS[3]
Spoils = Callable[[int, Call, Answer], Answer]


class Node:
    """Changes answers of a node: those of traces by `spoils`, which gets the trace's number; `every_block`: it refuses
    simulations that leave out blocks. `sizes` are the blocks of each simulation."""

    def __init__(self, spoils: Spoils | None = None, every_block: bool = False) -> None:
        self.sizes: list[int] = []
        self.base = 0
        self._spoils = spoils
        self._every_block = every_block
        self._traces = 0

    def twist(self, asked: Call, answer: Answer) -> Answer:
        """The answer that the simulation gets."""
        if asked["method"] == "debug_traceCall" and self._spoils is not None:
            self._traces += "blockOverrides" in asked["params"][2]
            return self._spoils(self._traces, asked, answer)
        if asked["method"] == "eth_simulateV1":
            blocks = asked["params"][0]["blockStateCalls"]
            self.sizes.append(len(blocks))
            numbers = [int(block["blockOverrides"]["number"], 16) for block in blocks if "blockOverrides" in block]
            if self._every_block and numbers and numbers != [*range(self.base + 1, self.base + 1 + len(blocks))]:
                return _error(asked, -38026, "too many blocks")
        return answer


def _error(asked: Call, code: int, message: str) -> Answer:
    return {"jsonrpc": "2.0", "id": asked["id"], "error": {"code": code, "message": message}}


def never(_: int, asked: Call, __: Answer) -> Answer:
    return _error(asked, -32601, "the method does not exist/is not available")


def until_the_sixth(place: int, asked: Call, answer: Answer) -> Answer:
    return never(place, asked, answer) if place > 5 else answer


def wrong_from_the_sixth(place: int, asked: Call, answer: Answer) -> Answer:
    if place <= 5:
        return answer
    changed = copy.deepcopy(answer)
    sender = changed["result"]["post"][asked["params"][0]["from"].lower()]
    sender["balance"] = hex(int(sender["balance"], 16) + 1)
    return changed


def intents(witness: Witness, world: World) -> list[tuple[str, Intent]]:
    """Transactions that build on each other, and one that fails."""
    path = [world["usdc"], world["weth"]]
    swap = call(witness, "v2_router", "swapExactTokensForTokens", 10**9, 1, path, ALICE, 2**40)
    return [
        (ALICE, call(witness, "usdc", "approve", world["v2_router"], 2 * 10**9)),
        (ALICE, swap),
        (BOB, call(witness, "weth", "deposit", value=5)),
        (ALICE, call(witness, "factory", "create", "ONE")),
        (ALICE, call(witness, "factory", "create", "TWO")),
        (CAROL, create(bytes.fromhex(artifact("Zoo")[1][2:]))),
        (ALICE, call(witness, "factory", "destroy", CAROL)),
        (BOB, call(witness, "zoo", "count")),
        (BOB, call(witness, "zoo", "requireString", gas_limit=90_000)),
        (BOB, call(witness, "zoo", "forget")),
        (ALICE, swap),
        (CAROL, create(bytes.fromhex(artifact("Zoo")[1][2:]))),
        (CAROL, pay(BOB, 7)),
        (ALICE, call(witness, "usdc", "transfer", BOB, 3)),
    ]


async def carried_out(
    live: LiveChain, state: Any, sent: Sequence[tuple[str, Intent]], witness: Witness, restarts_at: int | None
) -> list[Any]:
    """All that can be seen of the transactions, and of the state after each."""
    sim, found = SimChain(live, state=state), list[Any]()
    facts = ChainCall(witness.addresses["zoo"], witness.data("zoo", "blockFacts"))
    for place, (sender, intent) in enumerate(sent):
        if place == restarts_at:
            state = sim.to_json()
            await sim.close()
            sim = SimChain(live, state=state)
        result = await sim.send(sender, intent, reverts_stay=True)
        created = result.receipt and result.receipt.contract_address
        # repeated, an emulated creation is read one block later, since its code is put in place there
        seen = await sim.code(created) if created else await sim.call(facts)
        found += [result, seen, [await sim.balance(who) for who in (ALICE, BOB, CAROL)]]
    found.append(sim.to_json())
    await sim.close()
    return found


CASES: dict[str, tuple[Node, int | None]] = {
    "traced": (Node(), None),
    "restarted": (Node(), 9),
    "traced for a while": (Node(until_the_sixth), None),
    "traced wrongly": (Node(wrong_from_the_sixth), None),
    "traced wrongly, restarted": (Node(wrong_from_the_sixth), 9),
    "every block": (Node(every_block=True), None),
    "repeated": (Node(never), 5),
}


@pytest.fixture
async def state(chain: LiveChain) -> Any:
    """A fork on which nothing has happened."""
    sim = SimChain(chain, strategy="simulate-v1")
    await sim.block()
    return sim.to_json()


async def test_folded_transactions_give_what_repeated_ones_give(
    state: Any, world: World, anvil: Anvil, witness: Witness
) -> None:
    sent, found = intents(witness, world), {}
    for name, (node, restarts_at) in CASES.items():
        node.base = state["number"]
        async with proxy(anvil.url, twist=node.twist) as served, chain_of(world, served.url) as live:
            found[name] = await carried_out(live, state, sent, witness, restarts_at)
    results = found["repeated"][:-1:3]
    assert [result.status for result in results] == ["success"] * 8 + ["reverted"] + ["success"] * 5
    for name in CASES:
        assert found[name] == found["repeated"], name
    largest = {name: max(node.sizes) for name, (node, _) in CASES.items()}
    # a creation that is emulated takes two blocks; after a restart all are repeated once, to compare
    assert largest == {
        "traced": 2,
        "restarted": 9,
        "traced for a while": len(sent) - 5,
        "traced wrongly": len(sent) - 5,
        "traced wrongly, restarted": len(sent),
        "every block": len(sent),
        "repeated": len(sent),
    }
    assert CASES["restarted"][0].sizes.count(9) == 1


async def test_a_node_that_cannot_trace_goes_on_where_another_folded(
    state: Any, world: World, anvil: Anvil, witness: Witness
) -> None:
    sent, node = intents(witness, world), Node()
    async with chain_of(world, anvil.url) as live:
        alone = await carried_out(live, state, sent, witness, None)
    poor = Node(never)
    async with (
        proxy(anvil.url, twist=poor.twist) as other,
        proxy(anvil.url, twist=node.twist) as served,
        chain_of(world, served.url, other.url) as live,
    ):
        sim, found = SimChain(live, state=state), []
        for place, (sender, intent) in enumerate(sent):
            if place == 5:
                live.endpoints.all[0].rest_until_s = float("inf")
            found.append(await sim.send(sender, intent, reverts_stay=True))
        await sim.close()
    assert found == alone[:-1:3]
    assert (max(node.sizes), max(poor.sizes)) == (1, len(sent) - 5)
