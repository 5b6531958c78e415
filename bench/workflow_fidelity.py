"""Whether a workflow's simulation is what its run becomes: a server simulates random workflows over its API, then runs
them live on the same state, and the two reports are held against the chain as web3.py reads it.

Compared: the status of the run and of every run that it called, at any depth; every node's status, branch, error and
result; which transactions there were; for each its receipt's status, its events raw and decoded, what it left approved,
and the change of every watched balance, fees left out, block by block; the report's sums against the balances before
and after; its warnings, verdicts and called runs; what `compare` says of the two runs; nonces; and that the chain did
not move while it was simulated. Every second workflow runs under policies drawn for it, whose questions are approved:
then also what became of each transaction that was not sent, why, and which statements asked or refused. What may differ
is in `bench/documented_differences.py`. Gas is counted, not required.
"""

from __future__ import annotations

import math
import random
import re
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.calling_workflows import CallingDrawing
from bench.chain_operations import STRANGERS
from bench.decoded_events import Decoder
from bench.documented_differences import (
    FIELDS,
    OF_THE_BLOCK,
    OTHER_BLOCK,
    PRICED_WARNINGS,
    PRICES,
    STARTED,
    TEXTS,
    UNSEEN_HOLDER,
)
from bench.drawn_policies import draw_policies
from bench.fidelity import Eyes, Watch
from bench.fidelity_tally import Tally
from bench.odd_tokens import ODD, REBASING, deploy_odd_tokens
from bench.random_workflows import Deck, Workflow
from bench.workflow_server import POLICY, Server, open_server
from testkit.chain.anvil import ACCOUNTS, CHAIN_ID, Anvil
from testkit.chain.contracts import ETHER, Witness, World

_WALLETS = (1, 2, 3)  # places in ACCOUNTS
_SHARE_CALLING = 0.5
_ARRIVED = ("amountReceived", "amountReceivedFormatted")  # of a token whose fee depends on the block
_TEXTS = re.compile("|".join(TEXTS))
_REPORTED = {  # what must be equal in the two reports, beside transactions
    "warnings": ("code", "path"),
    "children": ("path", "nodeId", "workflowId", "mode", "status", "runStatus", "isShown"),
    "assumed": ("path",),
    "variableWrites": ("path",),
}
_NATIVE = f"eip155:{CHAIN_ID}/native"
Json = dict[str, Any]


def run_worker(
    world: World, strategy: str, workflows: int, steps: int, seed: int, worker: int, until: float = math.inf
) -> Tally:
    """Workflows one after the other, on a node and a server of their own; none begins after `until` (Unix time)."""
    with tempfile.TemporaryDirectory(prefix="dustrun-fidelity-") as name, world.node() as node:
        # every block a second after the one before, as simulated: gas can depend on the time
        node.rpc("evm_setNextBlockTimestamp", hex(int(time.time()) + 10**6))
        node.mine()
        node.rpc("anvil_setBlockTimestampInterval", 1)
        world = replace(world, addresses=dict(world.addresses))
        deploy_odd_tokens(world.witness(node), STRANGERS[0])
        with open_server(Path(name), world, node.url, simulation_strategy=strategy) as process:
            server = Server(process)
            server.import_wallets(_WALLETS)
            server.add_approver()
            one = Worker(world, node, server, seed, worker)
            for number in range(workflows):
                if time.time() > until:
                    break
                try:
                    one.compare(number, steps)
                except Exception:  # whatever breaks is a finding, and not the end of the others
                    broke = traceback.format_exc()[-800:]
                    one.tally.failures.append(f"seed {seed}, worker {worker}, workflow {number}: {broke}")
                if number % 20 == 19:
                    done = f"{strategy}, worker {worker}: {number + 1} of {workflows} workflows"
                    print(f"{done}, {len(one.tally.failures)} failures", file=sys.stderr, flush=True)
            return one.tally


class Worker:
    """One row of workflows, each on the state that the one before left."""

    def __init__(self, world: World, node: Anvil, server: Server, seed: int, worker: int) -> None:
        self.tally = Tally()
        self._world = world
        self._node = node
        self._server = server
        self._witness: Witness = world.witness(node)
        self._decoder = Decoder(self._witness)
        self._name = f"seed {seed}, worker {worker}"
        self._draw = random.Random(f"{seed} {worker}")
        self._deck = Deck(self._draw)
        self._eyes = Eyes(world, self._witness, ODD)
        self._is_policed = False
        self.policies: Json = {}

    def compare(self, number: int, steps: int) -> None:
        """Draws a workflow, simulates it, runs it, compares."""
        self._fill_up()
        first_id = 1 + number * 20
        self._eyes.watch_nfts(range(first_id, first_id + 8))
        self._hand_out(first_id)
        drawing = CallingDrawing(self._witness, self._world, self._draw, self._deck, self._server.wallets, first_id)
        workflow = drawing.calling(steps) if self._draw.random() < _SHARE_CALLING else drawing.looping(steps)
        name = f"{self._name}, workflow {number}"
        id = workflow.store(name, self._server.create)
        is_policed = number % 2 == 1
        self._police(id, workflow, is_policed)
        start, nonces = self._witness.web3.eth.block_number, self._nonces()
        begun = time.monotonic()
        simulated = self._server.run(id, simulate=True, payload=workflow.payload)
        self.tally.simulate_s += time.monotonic() - begun
        if self._witness.web3.eth.block_number != start:
            self.tally.failures.append(f"{name}: the simulation moved the chain")
        begun = time.monotonic()
        asked = self._server.asked
        live = self._server.run(id, payload=workflow.payload)
        self.tally.live_s += time.monotonic() - begun
        comparison = Comparison(self, name, workflow, simulated, live)
        comparison.nodes()
        comparison.transactions(start, nonces)
        comparison.reports()
        comparison.unsent()
        self.tally.policed["workflows"] += is_policed
        self.tally.policed["questions approved"] += self._server.asked - asked
        self._count(workflow)
        self.tally.statuses[live["status"]] += 1

    def _police(self, id: str, workflow: Workflow, is_policed: bool) -> None:
        """Gives the wallets policies with edges where a first simulation says that the workflow's spends lie."""
        policies = dict.fromkeys(self._server.wallets.values(), POLICY)
        if is_policed or self._is_policed:
            for wallet, policy in policies.items():
                self._server.let(wallet, policy)
        self._is_policed = is_policed
        if not is_policed:
            return
        report = self._server.effects(self._server.run(id, simulate=True, payload=workflow.payload))
        clock = self._world["ClockToken"]
        self.policies = draw_policies(self._draw, report, self._server.wallets, unsteady=(clock,))
        for wallet, policy in self.policies.items():
            self._server.let(wallet, policy)

    def _count(self, workflow: Workflow) -> None:
        self.tally.workflows += 1
        self.tally.calling += bool(workflow.calls)
        self.tally.deepest = max(self.tally.deepest, workflow.depth)
        self.tally.shapes += workflow.all_shapes

    def _fill_up(self) -> None:
        for place in _WALLETS:
            if self._witness.native(ACCOUNTS[place]) < 1000 * ETHER:
                self._node.set_balance(ACCOUNTS[place], 10_000 * ETHER)

    def _hand_out(self, first_id: int) -> None:
        """What some steps need to succeed: an NFT for each wallet, and often what a deposit of liquidity takes."""
        router = self._world["v2_router"]
        for number, place in enumerate(_WALLETS):
            wallet = ACCOUNTS[place]
            self._witness.send("nft", "mint", wallet, first_id + number)
            if self._draw.random() < 0.7:
                for token, units in (("usdc", 10**7), ("dai", 10**19)):
                    self._witness.send(token, "approve", router, units, sender=wallet)

    def _nonces(self) -> dict[str, int]:
        return {ACCOUNTS[place]: self._witness.nonce(ACCOUNTS[place]) for place in _WALLETS}


class Comparison:
    """One workflow's simulation beside its run and the chain."""

    def __init__(self, worker: Worker, name: str, workflow: Workflow, simulated: Json, live: Json) -> None:
        self._worker = worker
        self._name = name
        self._workflow = workflow
        self._simulated = simulated
        self._live = live
        self._tally = worker.tally
        self._witness = worker._witness
        self._eyes = worker._eyes
        self._rebasing = {f"eip155:{CHAIN_ID}/erc20:{worker._world[name]}" for name in REBASING}
        self._is_other_block = False
        self._clock = f"eip155:{CHAIN_ID}/erc20:{worker._world['ClockToken']}"
        self._growing = f"eip155:{CHAIN_ID}/erc20:{worker._world['GrowingToken']}"
        self._at: dict[int, list[int]] = {}
        self._report, self._real = worker._server.effects(simulated), worker._server.settled(live)

    def _fail(self, text: str) -> None:
        self._tally.failures.append(f"{self._name}: {text}")

    def nodes(self) -> None:
        """Status, branch, error and result of every node of every run, and which runs were called."""
        self._same_run("", self._simulated, self._live)
        called, really = self._report["children"], self._real["children"]
        self._tally.called += len(really)
        for one, other in zip(called, really, strict=False):
            runs = [self._worker._server.call("GET", f"/v1/runs/{child['runId']}") for child in (one, other)]
            self._same_run(f"{other['path']}/", *runs)

    def _same_run(self, at: str, one: Json, other: Json) -> None:
        if one["status"] != other["status"]:
            self._fail(f"{at or 'the run'}: simulated {one['status']}, really {other['status']}")
        if one["executionState"].keys() != other["executionState"].keys():
            self._fail(f"{at or 'the run'}: other nodes ran")
        for path, really in other["executionState"].items():
            predicted = one["executionState"].get(path, {})
            self._count(path, really)
            for part in ("status", "branch", "error", "result"):
                left, right = _alike(predicted.get(part)), _alike(really.get(part))
                if left != right:
                    self._fail(f"{at}{path} ({self._kind(path)}): {part} simulated {left}, really {right}")

    def _kind(self, path: str) -> str | None:
        return self._workflow.kinds.get(re.split("[./]", path)[-1])

    def reports(self) -> None:
        """What the two reports say beside transactions, and what `compare` says of the runs."""
        for name, parts in _REPORTED.items():
            left, right = ([[one.get(part) for part in parts] for one in side[name]] for side in self._sides())
            if name == "warnings" and left != right:
                self._tally.documented[PRICES] += 1
                left, right = ([one for one in side if one[0] not in PRICED_WARNINGS] for side in (left, right))
            if name == "assumed":
                left = self._without_started(left)
            if left != right:
                self._fail(f"report: {name} simulated {left}, really {right}")
        compared = self._worker._server.call("GET", f"/v1/runs/{self._simulated['id']}/compare/{self._live['id']}")
        for difference in compared["differences"]:
            if self._is_other_block and re.search(OF_THE_BLOCK, difference["message"]):
                continue
            self._fail(f"compare: {difference['message']}")
        if self._real["uncertain"] or self._report["uncertain"]:
            self._fail(f"report: uncertain {self._real['uncertain']}")

    def unsent(self) -> None:
        """Every transaction in order, those that were not sent included: what became of it, why, and the verdict."""
        shown = [[_fate(one) for one in side["transactions"]] for side in self._sides()]
        for predicted, really in zip(*shown, strict=False):
            if predicted != really:
                self._fail(f"a transaction: simulated {predicted}, really {really}")
                break  # those after it may only have moved
        if len(shown[0]) != len(shown[1]):
            self._fail(f"{len(shown[0])} transactions are shown of the simulation, {len(shown[1])} really")
        rows: dict[tuple[str, int], list[str]] = {}
        for one in self._real["transactions"]:
            rows.setdefault((one["path"], one["attempt"]), []).append(_fate(one)["status"])
            verdict = one.get("verdict") or {}
            reasons = _reasons_of(verdict)
            self._tally.policed.update(reason["statement"].split(".eip155")[0] for reason in reasons)
            self._tally.policed["several reasons"] += len(reasons) > 1
        for statuses in rows.values():
            if len(statuses) > 1 and "refused" in statuses:
                place = statuses.index("refused")
                where = "first" if place == 0 else "last" if place == len(statuses) - 1 else "middle"
                self._tally.policed[f"{where} of several refused"] += 1

    def _without_started(self, assumed: list[list[Any]]) -> list[list[Any]]:
        """The assumed results but those of calls that are only started."""
        started = {call["path"] for call in self._report["children"] if call["mode"] == "start"}
        kept = [one for one in assumed if one[0] not in started]
        if len(kept) < len(assumed):
            self._tally.documented[STARTED] += len(assumed) - len(kept)
        return kept

    def _sides(self) -> tuple[Json, Json]:
        return self._report, self._real

    def _count(self, path: str, node: Json) -> None:
        kind = self._kind(path)
        if kind is None or node["status"] in ("skipped", "pending"):
            return
        self._tally.kinds[kind] += 1
        self._tally.steps += 1
        if node["status"] == "success":
            self._tally.carried_out[kind] += 1
        else:
            self._tally.failing += 1

    def transactions(self, start: int, nonces: dict[str, int]) -> None:
        """Each of them, then what all came to."""
        report, real = self._report, self._real
        predicted = [shown for shown in report["transactions"] if shown["status"] in ("simulated", "reverted")]
        sent = [shown for shown in real["transactions"] if shown.get("hash")]
        if [(s["path"], s["item"], s["from"]) for s in predicted] != [(s["path"], s["item"], s["from"]) for s in sent]:
            self._fail(f"other transactions: {len(predicted)} simulated, {len(sent)} sent")
            return
        fees: Counter[str] = Counter()
        blocks: dict[int, list[tuple[Json, int]]] = {}
        for shown, really in zip(predicted, sent, strict=True):
            receipt = self._witness.web3.eth.get_transaction_receipt(really["hash"])
            fee = receipt["gasUsed"] * receipt["effectiveGasPrice"]
            fees[shown["from"]] += fee
            blocks.setdefault(receipt["blockNumber"], []).append((shown, fee))
            self._one(shown, receipt)
        self._at = {start: self._eyes.read(start)}
        last = max(blocks, default=start)
        for block in range(start + 1, last + 1):
            self._balances(block, blocks.get(block, []))
        self._sums(report, self._at[start], self._at[last], fees)
        for address, nonce in self._worker._nonces().items():
            used = sum(shown["from"] == address for shown in predicted)
            if nonce - nonces[address] != used:
                self._fail(f"{address} used {nonce - nonces[address]} nonces, {used} simulated")

    def _one(self, shown: Json, receipt: Any) -> None:
        """Status, events, what was created and approved."""
        tally, where = self._tally, f"{shown['path']} {shown['item']} ({self._kind(shown['path'])})"
        tally.transactions += 1
        tally.sent[self._kind(shown["path"]) or ""] += 1
        if (receipt["status"] == 1) != (shown["status"] == "simulated"):
            self._fail(f"{where}: simulated {shown['status']}, really {receipt['status']}")
        tally.equal_gas += receipt["gasUsed"] == shown["gasUsed"]
        tally.events += len(receipt["logs"])
        simulated = [(event["address"], event["topics"], event["data"]) for event in shown["events"]]
        real = [
            (log["address"], [f"0x{topic.hex()}" for topic in log["topics"]], f"0x{log['data'].hex()}")
            for log in receipt["logs"]
        ]
        if simulated != real and self._is_clock(shown):
            self._tally.documented[OTHER_BLOCK] += 1
            self._is_other_block = True
            return
        if simulated != real:
            self._fail(f"{where}: other events: {simulated} simulated, {real} real")
        for event, log in zip(shown["events"], receipt["logs"], strict=False):
            told = self._worker._decoder.compare(event, log)
            tally.decoded += told is not None
            if told:
                self._fail(f"{where}: {told}")
        if receipt["contractAddress"] is not None and receipt["contractAddress"] != shown.get("contractAddress"):
            self._fail(f"{where}: created {receipt['contractAddress']}, simulated {shown.get('contractAddress')}")
        self._allowances(where, shown, receipt["blockNumber"])

    def _is_clock(self, shown: Json) -> bool:
        return self._clock.endswith(str(shown["to"]))

    def _balances(self, block: int, inside: Sequence[tuple[Json, int]]) -> None:
        """What a block changed. Those of one batch may come in any order and two in a block; then one may be empty."""
        if len(inside) != self._witness.web3.eth.get_block_transaction_count(block):
            self._fail(f"block {block} has transactions that are not the run's")
        self._at[block] = self._eyes.read(block)
        self._tally.balances += len(self._eyes.watched)
        fees: Counter[str] = Counter()
        for shown, fee in inside:
            fees[shown["from"]] += fee
        real = _net(self._eyes.changes(self._at[block - 1], self._at[block]), fees)
        changes = [change for shown, _ in inside for change in shown["balanceChanges"]]
        kinds = {self._kind(shown["path"]) for shown, _ in inside}
        where = " and ".join(f"{shown['path']} {shown['item']} ({self._kind(shown['path'])})" for shown, _ in inside)
        self._same(where, real, changes, bool(kinds & _SILENT))

    def _sums(self, report: Json, before: Sequence[int], after: Sequence[int], fees: Counter[str]) -> None:
        """The sums of the whole report against the balances before the run and after it."""
        kinds = {self._kind(shown["path"]) for shown in report["transactions"]}
        real = _net(self._eyes.changes(before, after), fees)
        changes = report["balanceChanges"]
        unseen = self._moves_unseen(bool(kinds & _SILENT))  # every block was compared; a sum has seen and unseen ones
        real = {watch: delta for watch, delta in real.items() if watch[0] not in unseen}
        changes = [change for change in changes if change["asset"] not in unseen]
        self._same("the whole run", real, changes, False)

    def _same(self, where: str, real: dict[Watch, int], changes: Sequence[Json], is_silent: bool) -> None:
        simulated: Counter[Watch] = Counter()
        for change in changes:
            if self._eyes.is_watched(change["asset"], change["address"]):
                simulated[(change["asset"], change["address"])] += int(change["amount"])
        unseen = [watch for watch in real if watch not in simulated and watch[0] in self._moves_unseen(is_silent)]
        for watch in unseen:
            self._tally.documented[UNSEEN_HOLDER] += 1
            del real[watch]
        predicted = {watch: delta for watch, delta in simulated.items() if delta}
        if self._is_other_block:
            real, predicted = ({w: d for w, d in side.items() if w[0] != self._clock} for side in (real, predicted))
        if real != predicted:
            self._fail(f"{where}: balances really {_less(real, predicted)}, simulated {_less(predicted, real)}")

    def _moves_unseen(self, is_silent: bool) -> Collection[str]:
        """Assets whose balances may have changed without an event, also those of holders that nothing points at."""
        return self._rebasing if is_silent else {self._growing}

    def _allowances(self, where: str, shown: Json, block: int) -> None:
        for approval in shown["approvals"]:
            _, _, token = approval["asset"].partition("erc20:")
            if token:
                contract = self._witness.contract("usdc", token)
                asked = contract.functions.allowance(approval["owner"], approval["spender"])
                self._tally.allowances += 1
                if str(asked.call(block_identifier=block)) != approval["amount"]:
                    self._fail(f"{where}: another allowance than the simulated {approval}")


def _reasons_of(verdict: Json) -> list[Json]:
    """Why it was refused, or had to be approved."""
    return [
        reason
        for reason in verdict.get("reasons", ())
        if verdict["outcome"] != "allow" or reason["message"] == _APPROVED
    ]


def _fate(shown: Json) -> Json:
    """What became of a transaction, in the words of a live run once its questions are approved."""
    verdict, error = shown.get("verdict") or {"outcome": "allow"}, shown.get("error") or {}
    reasons, is_refusal = _reasons_of(verdict), verdict["outcome"] == "deny"
    return {
        "path": shown["path"],
        "item": shown["item"],
        "status": _FATES.get(shown["status"], shown["status"]),
        "error": _alike([error.get("code"), error.get("message")]),
        "refused": [_alike(reason) for reason in reasons] if is_refusal else None,
        "asked": None if is_refusal else sorted(reason["statement"] for reason in reasons),
    }


_APPROVED = "A person approved exactly this request."
_FATES = {"simulated": "sent", "mined": "sent", "final": "sent", "rejected": "refused", "reverted": "refused"}
_SILENT = {"write-contract switches", "write-contract batch"}  # may rebase


def _net(changes: dict[Watch, int], fees: dict[str, int]) -> dict[Watch, int]:
    """Without the fees of gas."""
    real = dict(changes)
    for address, fee in fees.items():
        real[(_NATIVE, address)] = real.get((_NATIVE, address), 0) + fee
    return {watch: delta for watch, delta in real.items() if delta}


def _less(one: dict[Watch, int], other: dict[Watch, int]) -> dict[Watch, int]:
    return {watch: delta for watch, delta in one.items() if other.get(watch) != delta}


def _alike(value: Any) -> Any:
    """A result without what only a real transaction has."""
    if isinstance(value, dict):
        left_out = {*FIELDS, *(_ARRIVED if value.get("symbol") == "CLOCK" else ())}
        return {name: _alike(item) for name, item in value.items() if name not in left_out}
    if isinstance(value, list):
        return [_alike(item) for item in value]
    return _TEXTS.sub("…", value) if isinstance(value, str) else value
