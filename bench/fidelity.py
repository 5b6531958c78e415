"""Whether a simulated transaction is what the real one becomes: each random workflow is simulated whole, then really
run on the same state, and everything is compared as web3.py reads it.

Compared for every transaction: whether it was taken, its status, the address of what it created and its code, every
event (address, topics, data) in order, every allowance that the simulation reports, and the change of every watched
balance, fees left out: those that the simulation reports and those that it does not. Gas is counted, not required.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from web3.types import RPCEndpoint

from bench.chain_operations import STRANGERS, WALLETS, Maker, Operation
from dustrun.chain.evm import LiveChain
from dustrun.chain.simulate import SimChain, SimResult
from testkit.chain.anvil import CHAIN_ID, Anvil, NodeError
from testkit.chain.contracts import MULTICALL3, TOKENS, Witness, World, artifact

_HOLDERS = ("weth", "fee", "forwarder", "greedy", "factory", "v2_router", "v3_router", "multicall", "zoo")
_NFTS = 8
_MULTI_IDS = (1, 2, 3)
Watch = tuple[str, str]  # asset, address


@dataclass
class Tally:
    """What was found so far."""

    workflows: int = 0
    transactions: int = 0
    failed: int = 0
    rejected: int = 0
    equal_gas: int = 0
    gas_compared: int = 0
    events: int = 0
    balances: int = 0
    allowances: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    def public(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "workflows": self.workflows,
            "transactions": self.transactions,
            "failing": self.failed,
            "refusedByNode": self.rejected,
            "equalGas": f"{self.equal_gas} of {self.gas_compared}",
            "eventsCompared": self.events,
            "balancesCompared": self.balances,
            "allowancesCompared": self.allowances,
            "kinds": dict(sorted(self.kinds.items())),
            "failures": self.failures[:20],
        }


_SILENT = ("rebasing-token", "switch", "batch")  # may change balances of the rebasing token without an event


class Eyes:
    """web3.py's reads of all watched balances at once, through the chain's multicall contract."""

    def __init__(self, world: World, witness: Witness, odd: Iterable[str] = ()) -> None:
        self._witness = witness
        self._multicall = witness.web3.eth.contract(
            address=witness.web3.to_checksum_address(MULTICALL3), abi=artifact("multicall")[0]
        )
        self.rebasing = world["rebasing"]
        self.watched: list[Watch] = []
        self._calls: list[tuple[str, bytes]] = []
        holders = [*WALLETS, *STRANGERS, *(world[name] for name in _HOLDERS)]
        for holder in holders:
            data = self._multicall.encode_abi("getEthBalance", [holder])
            self._add(f"eip155:{CHAIN_ID}/native", holder, MULTICALL3, data)
        pools = [_pair(world, witness, "weth", "usdc"), _pair(world, witness, "usdc", "dai")]
        holders += [world[name] for name in ("Splitter", *odd) if name in world.addresses]
        for token in (*TOKENS, *odd):
            for holder in [*holders, *pools]:
                data = witness.contract(token).encode_abi("balanceOf", [witness.web3.to_checksum_address(holder)])
                self._add(f"eip155:{CHAIN_ID}/erc20:{world[token]}", holder, world[token], data)
        for id in _MULTI_IDS:
            for holder in holders[: len(WALLETS) + len(STRANGERS)]:
                data = witness.contract("multi").encode_abi("balanceOf", [holder, id])
                self._add(f"eip155:{CHAIN_ID}/erc1155:{world['multi']}/{id}", holder, world["multi"], data)
        self._owners = len(self._calls)
        self._fixed = self._asked(self._calls)
        self._nft = world["nft"]
        self.watch_nfts(range(1, _NFTS + 1))

    def watch_nfts(self, ids: Iterable[int]) -> None:
        """Watches the owners of these NFTs and of no others."""
        del self._calls[self._owners :], self.watched[self._owners :]
        contract = self._witness.contract("nft")
        for id in ids:
            data = contract.encode_abi("ownerOf", [id])
            self._add(f"eip155:{CHAIN_ID}/erc721:{self._nft}/{id}", "", self._nft, data)
        self._known = set(self.watched)
        self._pieces = self._asked(self._calls[self._owners :])

    def _asked(self, calls: Sequence[tuple[str, bytes]]) -> Any:
        return {"to": MULTICALL3, "data": self._multicall.encode_abi("words", [calls])}

    def _add(self, asset: str, holder: str, to: str, data: str) -> None:
        self.watched.append((asset, holder))
        self._calls.append((self._witness.web3.to_checksum_address(to), bytes.fromhex(data[2:])))

    def read(self, block: int | None = None) -> list[int]:
        """All of them now, or after a block; what reverts is 0."""
        at = "latest" if block is None else hex(block)
        found = [self._ask(asked, at) for asked in (self._fixed, self._pieces)]
        return [int.from_bytes(part[place : place + 32]) for part in found for place in range(64, len(part), 32)]

    def _ask(self, asked: Any, at: str) -> bytes:
        """Past web3.py's formatters, which take longer than the call."""
        answer: Any = self._witness.web3.provider.make_request(RPCEndpoint("eth_call"), [asked, at])
        if "result" not in answer:
            raise RuntimeError(f"the node does not tell balances of block {at}: {answer['error']}")
        return bytes.fromhex(answer["result"][2:])

    def changes(self, before: Sequence[int], after: Sequence[int]) -> dict[Watch, int]:
        """What changed of what is watched; an NFT's id by owner."""
        found: dict[Watch, int] = {}
        for place, (asset, holder) in enumerate(self.watched):
            if before[place] == after[place]:
                continue
            if place < self._owners:
                found[(asset, holder)] = after[place] - before[place]
                continue
            for owner, delta in ((before[place], -1), (after[place], 1)):
                if owner:
                    found[(asset, self._witness.web3.to_checksum_address(f"0x{owner:040x}"))] = delta
        return found

    def is_watched(self, asset: str, holder: str) -> bool:
        """Whether a reported change can be checked."""
        return (asset, holder) in self._known or ("/erc721:" in asset and (asset, "") in self._known)


def _pair(world: World, witness: Witness, first: str, second: str) -> str:
    return str(witness.read("v2_factory", "getPair", world[first], world[second]))


async def compare_workflows(
    live: LiveChain, node: Anvil, world: World, strategy: Any, workflows: int, steps: int, seed: int, **options: Any
) -> Tally:
    """Simulates and runs so many workflows, each on the node's first state, which it is brought back to."""
    tally, witness = Tally(), world.witness(node)
    eyes = Eyes(world, witness)
    for number in range(workflows):
        snapshot = node.snapshot()
        draw = random.Random(f"{seed} {number}")
        maker = Maker(witness, world, draw)
        operations = [maker.operation() for _ in range(steps)]
        sim = SimChain(live, strategy=strategy, **options)
        results = [await sim.send(op.sender, op.intent, reverts_stay=True) for op in operations]
        await sim.close()
        before = eyes.read()
        for place, (operation, result) in enumerate(zip(operations, results, strict=True)):
            name = f"seed {seed}, workflow {number}, step {place}, {operation.kind}"
            before = _compare(name, node, witness, eyes, operation, result, before, tally)
        tally.workflows += 1
        node.revert(snapshot)
    return tally


def _compare(
    name: str,
    node: Anvil,
    witness: Witness,
    eyes: Eyes,
    operation: Operation,
    result: SimResult,
    before: list[int],
    tally: Tally,
) -> list[int]:
    tally.transactions += 1
    tally.kinds[operation.kind] += 1
    receipt = _run(node, witness, operation, result)
    if receipt is None or result.receipt is None:
        tally.rejected += 1
        tally.failed += 1
        if (receipt is None) != (result.receipt is None):
            tally.failures.append(f"{name}: simulated {result.status} ({result.reason}), the node: {receipt}")
        return eyes.read()
    tally.failed += receipt["status"] == 0
    if (receipt["status"] == 1) != result.is_success:
        tally.failures.append(f"{name}: simulated {result.status} ({result.reason}), really {receipt['status']}")
        return eyes.read()
    _compare_events(name, receipt, result, tally)
    _compare_created(name, witness, receipt, result, tally)
    after = eyes.read()
    _compare_balances(name, eyes, operation, receipt, result, before, after, tally)
    _compare_allowances(name, witness, result, tally)
    tally.gas_compared += 1
    tally.equal_gas += receipt["gasUsed"] == result.receipt.gas_used
    return after


def _run(node: Anvil, witness: Witness, operation: Operation, result: SimResult) -> Any:
    """Really sends it, at the simulated time and gas limit; None when the node refuses it."""
    intent = operation.intent
    fields: dict[str, Any] = {
        "from": operation.sender,
        "value": hex(intent.value_units),
        "input": f"0x{intent.data.hex()}",
        "gas": hex(result.gas_limit or 3_000_000),
        "maxFeePerGas": hex(result.max_fee_units or 2 * 10**9),
        "maxPriorityFeePerGas": "0x1",
    }
    if intent.to is not None:
        fields["to"] = intent.to
    if result.receipt is not None:
        node.rpc("evm_setNextBlockTimestamp", hex(result.receipt.block_time))
    try:
        sent = node.rpc("eth_sendTransaction", fields)
    except NodeError:
        return None
    return witness.web3.eth.wait_for_transaction_receipt(sent, timeout=30, poll_latency=0.002)


def _compare_events(name: str, receipt: Any, result: SimResult, tally: Tally) -> None:
    real = [(log["address"], [bytes(topic) for topic in log["topics"]], bytes(log["data"])) for log in receipt["logs"]]
    assert result.receipt is not None
    simulated = [(log.address, list(log.topics), log.data) for log in result.receipt.logs]
    tally.events += len(real)
    if real != simulated:
        tally.failures.append(f"{name}: other events: {len(simulated)} simulated, {len(real)} real")


def _compare_created(name: str, witness: Witness, receipt: Any, result: SimResult, tally: Tally) -> None:
    assert result.receipt is not None
    real, simulated = receipt["contractAddress"] if receipt["status"] else None, result.receipt.contract_address
    if real != simulated:
        tally.failures.append(f"{name}: created {real}, simulated {simulated}")
    elif real is not None and bytes(witness.web3.eth.get_code(real)) != result.receipt.return_data:
        tally.failures.append(f"{name}: the created code differs")


def _compare_balances(
    name: str,
    eyes: Eyes,
    operation: Operation,
    receipt: Any,
    result: SimResult,
    before: Sequence[int],
    after: Sequence[int],
    tally: Tally,
) -> None:
    real = eyes.changes(before, after)
    own = (f"eip155:{CHAIN_ID}/native", operation.sender)
    real[own] = real.get(own, 0) + receipt["gasUsed"] * receipt["effectiveGasPrice"]
    real = {watch: delta for watch, delta in real.items() if delta}
    simulated: dict[Watch, int] = {}
    for change in result.changes:
        if eyes.is_watched(change.asset, change.address):
            watch = (change.asset, change.address)
            simulated[watch] = simulated.get(watch, 0) + change.delta_units
    tally.balances += len(eyes.watched)
    if operation.kind in _SILENT:
        silent = f"eip155:{CHAIN_ID}/erc20:{eyes.rebasing}"
        real = {watch: delta for watch, delta in real.items() if watch in simulated or watch[0] != silent}
    if real != {watch: delta for watch, delta in simulated.items() if delta}:
        tally.failures.append(f"{name}: balances really {real}, simulated {simulated}")


def _compare_allowances(name: str, witness: Witness, result: SimResult, tally: Tally) -> None:
    for approval in result.approvals:
        _, _, token = approval["asset"].partition("erc20:")
        if not token:
            continue
        contract = witness.contract("usdc", token)
        real = contract.functions.allowance(approval["owner"], approval["spender"]).call()
        tally.allowances += 1
        if str(real) != approval["amount"]:
            tally.failures.append(f"{name}: allowance really {real}, simulated {approval}")
