"""Two hundred transfers from one wallet while everything goes wrong: each must be paid exactly once.

    scripts/soak outbox [--scale ROUNDS] [--seed S] [--set transfers=200] [--set loops=10] [--set rejects=1/6]

The real server over HTTP, a workflow with a `send-native` node, a real anvil behind a proxy that loses answers and
lies (`already known`, `nonce too low`, `underpriced`). All transfers begin at once. In each round a block may be made,
taken back, or the mempool wiped, runs are cancelled and retried, and the server is killed with SIGKILL at a random
moment. At the end web3.py reads the balances: every recipient has its sum, the sender's nonce is the number of
transfers, and no transaction is open. Loops of five payments are among them, of which a person approves the sum: a
run asks once, about its loop, whatever was killed between; some are rejected first.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from dustrun.errors import Code
from testkit.chain.anvil import CHAIN_ID, Anvil
from testkit.chain.faulty_node import LOST, LOST_ON_THE_WAY, SEND, ChainProxy, Lie, pretending, refusing
from testkit.outbox_world import FAILED, OPEN, POLICY, SENDER, Api, Witness, amount, recipient, server_of
from testkit.server_process import ServerProcess

_CONFIRMATIONS = 3
_PER_BLOCK = 10
_LEFT_S = 180.0
_ROWS = 5
_ANY_STATUS = "pending,approved,rejected,timed_out,cancelled"
_ASKED_ABOVE = {"totals": [{"per": "run", "asset": f"eip155:{CHAIN_ID}/native", "units": "2000000"}]}
"""More than a transfer by itself, less than a loop."""
_LIES = (
    LOST,
    LOST_ON_THE_WAY,
    pretending("already known"),
    pretending("nonce too low"),
    pretending("replacement transaction underpriced"),
    refusing("already known"),
    refusing("nonce too low"),
    refusing("transaction underpriced"),
)


@dataclass(slots=True)
class Soak:
    """One soak: what it does it to, and what it counts."""

    node: Anvil
    server: ServerProcess
    api: Api
    chance: random.Random
    transfers: int
    loops: int = 0
    rejects: float = 1 / 6
    workflow_id: str = ""
    loop_id: str = ""
    newest: dict[int, str] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    def lie(self, method: str, _params: list[Any]) -> Lie | None:
        """One broadcast in four goes wrong, and one other answer in a hundred is lost."""
        if method == SEND and self.chance.random() < 0.25:
            self.counts["lies"] += 1
            return self.chance.choice(_LIES)
        if method != SEND and self.chance.random() < 0.01:
            self.counts["answersLost"] += 1
            return LOST
        return None

    @property
    def payments(self) -> int:
        """How many there are, those of loops included."""
        return self.transfers + self.loops * _ROWS

    async def prepare(self) -> None:
        """The workflows, and a wallet of which a person approves the sum of a loop."""
        self.workflow_id = await self.api.prepare()
        _, wallets = await self.api.call("GET", "/v1/wallets")
        path = f"/v1/wallets/{wallets['items'][0]['id']}/policy"
        await self.api.call("PUT", path, {"policy": {**POLICY, "approvalAbove": _ASKED_ABOVE}})
        _, me = await self.api.call("GET", "/v1/me")
        await self.api.call("PATCH", f"/v1/organizations/{me['organizationId']}", {"singlePersonApproves": True})
        payload = {"chainId": CHAIN_ID, "recipient": "{{$item.to}}", "amount": "{{$item.units}}"}
        rows = {"array": "{{$trigger.body.rows}}", "concurrency": 2}
        nodes = {
            "root": {"type": "manual", "payload": {}, "children": ["each"]},
            "each": {"type": "for-each", "payload": rows, "loopBody": ["pay"]},
            "pay": {"type": "send-native", "payload": payload, "retry": {"maxAttempts": 3, "backoffMs": 200}},
        }
        body = {"name": "loop", "description": "", "definition": {"nodes": nodes}}
        self.loop_id = str((await self.api.call("POST", "/v1/workflows", body))[1]["id"])

    async def start_all(self) -> None:
        """All transfers and loops at once."""
        transfers = (self.api.start(self.workflow_id, number) for number in range(self.transfers))
        ids = await asyncio.gather(*transfers, *(self._start_loop(number) for number in range(self.loops)))
        self.newest = dict(enumerate(ids))

    async def _start_loop(self, number: int) -> str:
        first = self.transfers + number * _ROWS
        rows = [{"to": recipient(place), "units": str(amount(place))} for place in range(first, first + _ROWS)]
        body = {"runId": f"run_loop{number}", "payload": {"rows": rows}}
        await self.api.call("POST", f"/v1/workflows/{self.loop_id}/run", body, (Code.RUN_ID_USED,))
        return f"run_loop{number}"

    async def answer(self) -> None:
        """Decides what is asked: approved, now and then rejected."""
        _, page = await self.api.call("GET", "/v1/approvals?limit=100")
        for one in page["items"]:
            verb = "reject" if self.chance.random() < self.rejects else "approve"
            body = {"binding": one["binding"]} if verb == "approve" else {}
            path = f"/v1/approvals/{one['id']}/{verb}"
            code, _ = await self.api.call("POST", path, body, (Code.APPROVAL_DECIDED,))
            self.counts[f"{verb}Answered"] += code == 200

    # --- what goes wrong ---

    async def shake_chain(self) -> None:
        """Makes a block, takes some back, or forgets what waits."""
        dice = self.chance.random()
        if dice < 0.5:
            await self._ask("anvil_mine", "0x1", "0x1")
            self.counts["blocks"] += 1
        elif dice < 0.65:
            depth = self.chance.randint(1, _CONFIRMATIONS - 1)
            head = int(await self._ask("eth_blockNumber"), 16)
            if head > depth:
                await self._ask("anvil_reorg", depth, [])
                self.counts["reorgs"] += 1
        elif dice < 0.85:
            await self._ask("anvil_dropAllTransactions")
            self.counts["mempoolsWiped"] += 1

    async def _ask(self, method: str, *params: Any) -> Any:
        return await asyncio.to_thread(self.node.rpc, method, *params)

    async def kill(self) -> None:
        """SIGKILL at a random moment, one time in ten again while it starts."""
        self.server.kill()
        self.counts["kills"] += 1
        self.server.start()
        if self.chance.random() < 0.1:
            await asyncio.sleep(self.chance.uniform(0.0, 2.0))
            self.server.kill()
            self.counts["kills"] += 1
            self.server.start()
        await self.server.wait_ready(60)

    async def meddle(self) -> None:
        """Cancels some runs, and retries those that came to nothing."""
        for number in self.chance.sample(range(self.transfers), k=min(5, self.transfers)):
            run_id = self.newest[number]
            status = (await self.api.run(run_id))["status"]
            if status in OPEN and self.chance.random() < 0.3:
                code, _ = await self.api.call("POST", f"/v1/runs/{run_id}/cancel", {}, accepts=(409_002,))
                self.counts["cancelled"] += code == 200
            elif status in FAILED:
                await self.retry(number)

    async def retry(self, number: int) -> None:
        """Another run of the same transfer; refused while its transaction is open."""
        accepts = (409_070, 409_003)
        code, found = await self.api.call("POST", f"/v1/runs/{self.newest[number]}/retry", {}, accepts=accepts)
        if code == 200:
            self.newest[number] = found["runId"]
            self.counts["retried"] += 1
        else:
            self.counts["retriesRefused"] += 1

    # --- the end ---

    async def finish(self) -> None:
        """Blocks come regularly, and whatever came to nothing is retried, until every transfer has succeeded."""
        until = time.monotonic() + _LEFT_S
        left = set(self.newest)
        while left and time.monotonic() < until:
            await self.answer()
            await self._ask("anvil_mine", "0x1", "0x1")
            for number in sorted(left):
                status = (await self.api.run(self.newest[number]))["status"]
                if status == "success":
                    left.discard(number)
                elif status in FAILED:
                    await self.retry(number)
            await asyncio.sleep(0.1)
        if left:
            self.failures.append(f"transfers that did not succeed: {sorted(left)[:20]}")

    async def check(self) -> None:
        """Held against the chain, by somebody else's client."""
        witness = Witness(self.node)
        balances = await asyncio.to_thread(witness.balances, self.payments)
        wrong = {number: paid for number, paid in balances.items() if paid != amount(number)}
        if wrong:
            shown = [f"{number}: {paid} of {amount(number)}" for number, paid in sorted(wrong.items())[:20]]
            self.failures.append(f"recipients with another sum than theirs: {shown}")
        transactions = await self.api.transactions()
        self.counts["transactions"] = len(transactions)
        open_ones = [one["id"] for one in transactions if one["status"] not in ("final", "refused", "cancelled")]
        if open_ones:
            self.failures.append(f"transactions that are still open: {open_ones[:20]}")
        included = sum(one["status"] == "final" for one in transactions)
        nonce = await asyncio.to_thread(witness.nonce)
        self.counts["nonce"] = nonce
        fills = sum(one["purpose"] == "fill" for one in transactions)
        if nonce != self.payments + fills or included != nonce:
            self.failures.append(f"{SENDER} has nonce {nonce} after {self.payments} payments and {fills} fills")
        await self._check_questions()

    async def _check_questions(self) -> None:
        """Each run has asked once at most, and about its loop."""
        asked = Counter[tuple[str, str]]()
        why: dict[tuple[str, str], str] = {}
        while True:
            path = (
                f"/v1/approvals?status=pending,approved,rejected,timed_out,cancelled&limit=100&offset={asked.total()}"
            )
            _, page = await self.api.call("GET", path)
            asked.update((one["runId"], one["path"]) for one in page["items"])
            why.update({(one["runId"], one["path"]): one["message"] for one in page["items"]})
            if not page["hasMore"]:
                break
        self.counts["questions"] = asked.total()
        wrong = [
            f"{run} {path}: {times} times, {why[run, path]}"
            for (run, path), times in asked.items()
            if path != "each" or times > 1
        ]
        if wrong:
            self.failures.append(f"questions that were asked again, or of single items: {wrong[:20]}")


def run(
    scale: int | None,
    seed: int,
    transfers: str = "200",
    block: str = "1000",
    loops: str = "10",
    rejects: str = "1/6",
) -> dict[str, Any]:
    """`scale` rounds (default 60), each with a kill, over so many transfers and loops; the server thinks that a block
    takes `block` milliseconds. `rejects`: the part of what is asked that is rejected."""
    with tempfile.TemporaryDirectory(prefix="dustrun-outbox-") as folder:
        return asyncio.run(
            _run(Path(folder), scale or 60, seed, int(transfers), int(block), int(loops), float(Fraction(rejects)))
        )


async def _run(
    folder: Path, rounds: int, seed: int, transfers: int, block_ms: int, loops: int, rejects: float
) -> dict[str, Any]:
    begun = time.monotonic()
    words = ("--no-mining", "--gas-limit", str(_PER_BLOCK * 21_000), "--slots-in-an-epoch", "1")
    with Anvil(*words) as node:
        async with ChainProxy(node.url) as proxy:
            settings = {"transaction_stuck_s": "3", "chain_timeout_ms": "2000"}
            server = server_of(folder, proxy.url, _CONFIRMATIONS, block_ms, **settings)
            server.start()
            try:
                await server.wait_ready(60)
                soak = Soak(node, server, Api(server), random.Random(seed), transfers, loops, rejects)
                try:
                    await _soak(soak, proxy, rounds)
                finally:
                    await soak.api.close()
            finally:
                await server.stop()
    return {
        "rounds": rounds,
        "transfers": transfers,
        "loops": loops,
        "counts": dict(sorted(soak.counts.items())),
        "seconds": round(time.monotonic() - begun, 1),
        "failures": soak.failures,
    }


async def _soak(soak: Soak, proxy: ChainProxy, rounds: int) -> None:
    await soak.prepare()
    proxy.rule = soak.lie
    starting = asyncio.create_task(soak.start_all())
    for number in range(rounds):
        await asyncio.sleep(soak.chance.uniform(0.05, 1.0))
        await soak.shake_chain()
        await soak.kill()
        await soak.answer()
        if number % 3 == 2 and starting.done():
            await soak.meddle()
    await starting
    await soak.finish()
    await soak.check()
