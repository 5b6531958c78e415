"""A server that ends in the middle of a simulation: it goes on from the stored chains, and comes to the same as if
nothing had happened."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from engine.conftest import OWN_ACTIONS, let_go, trial
from outbox import ANYTHING, address, write_network
from rehearsals import SHOP, Run, Studio, balance, describe, hand, node, open_studio, pay, result, runs, told
from testkit.chain.anvil import ACCOUNTS, CHAIN_ID, KEYS, Anvil, binary
from testkit.chain.contracts import ETHER, World
from testkit.e2e.server import Server

STRATEGIES = ["trace-call", "simulate-v1", "local-fork"]
SWAP = {"tokenIn": "native", "tokenOut": "USDC", "amountIn": str(ETHER)}
ROWS = [{"recipient": address(80 + n), "amount": "1", "key": str(n)} for n in range(5)]


def pause(ms: int | None, *children: str) -> dict[str, Any]:
    """A node that takes its time; None: until it is let go."""
    return trial(name="pause", effect="read", sleepMs=ms or 0, held=ms is None, children=[*children])


def nodes(ms: int | None, callee: str) -> dict[str, Any]:
    """A swap, a pause, a called run with a pause, a payout, and reads of what it all came to."""
    return {
        "swap": node("swap-uniswap-v2", "sleep", payload=SWAP),
        "sleep": {"type": "delay", "payload": {"delayMs": 3_600_000}, "children": ["pause"]},
        "pause": pause(ms, "call"),
        "call": {"type": "call-workflow", "payload": {"workflowId": callee}, "children": ["many"]},
        "many": node("batch-transfer", "give", payload={"rows": ROWS}),
        "give": hand("USDC", "{{swap.result.amountOut}}", "has"),
        "has": balance(SHOP, "last"),
        "last": balance(ROWS[-1]["recipient"]),
    }


def callee_nodes(ms: int | None) -> dict[str, Any]:
    """What is called: it pauses between two payments."""
    return {"pay": pay(3, "pause"), "pause": pause(ms, "more"), "more": pay(4)}


def report_of(report: dict[str, Any]) -> dict[str, Any]:
    """What must be the same: all but moments, and ids."""
    names = ("nodeId", "path", "item", "status", "to", "from", "value", "movements", "balanceChanges", "approvals")
    shown = [{name: one.get(name) for name in names} for one in report["transactions"]]
    verdicts = [(one["path"], one["item"], one["outcome"]) for one in report["policyVerdicts"]]
    return {
        "transactions": shown,
        "verdicts": verdicts,
        "changes": report["balanceChanges"],
        "passed": report["passed"],
    }


def outcome(run: Run, report: dict[str, Any]) -> dict[str, Any]:
    """A whole run."""
    results = {name: result(run, name)["balance"] for name in ("has", "last")}
    return {**report_of(report), "status": run["status"], "results": results, "spent": result(run, "give")["amount"]}


async def _undisturbed(studio: Studio) -> dict[str, Any]:
    callee = await studio.workflow(callee_nodes(0))
    run = await studio.passed(nodes(0, callee))
    return outcome(run, await studio.effects(run))


@pytest.mark.both_stores
@pytest.mark.parametrize("place", ["call", pytest.param("pause", marks=pytest.mark.long)])
async def test_an_orderly_restart(tmp_path: Path, world: World, store_url: str, place: str) -> None:
    settings: dict[str, Any] = {"actions_dir": OWN_ACTIONS, "shutdown_grace_s": 0.1}
    with world.node() as chain:
        async with open_studio(tmp_path, world, chain, store_url=store_url, **settings) as studio:
            expected = await _undisturbed(studio)
            callee = await studio.workflow(callee_nodes(None if place == "call" else 0))
            run_id = await studio.bench.start(nodes(None if place == "pause" else 0, callee), simulate=True)
            await studio.bench.until(run_id, runs(place))
            if place == "call":
                await asyncio.sleep(0.2)
        async with open_studio(tmp_path, world, chain, store_url=store_url, reuse=True, **settings) as studio:
            let_go("pause")
            run = await studio.bench.ended(run_id)
            assert run["status"] == "success", told(run)
            assert outcome(run, await studio.effects(run)) == expected
            assert studio.held == 0
            assert run["simulationForks"][0]["transactions"] == 1 + 2 + 5 + 1


def _serve(folder: Path, chain: Anvil, world: World, **settings: str) -> Server:
    folder.mkdir(exist_ok=True)
    return Server(
        folder,
        chain_endpoints=json.dumps({str(CHAIN_ID): [chain.url]}),
        networks_dir=str(write_network(folder, **describe(world.network(chain.url)))),
        actions_dir=str(OWN_ACTIONS),
        **{"fork_binary": str(binary()), **settings},
    )


class Caller:
    """Asks a server over HTTP."""

    def __init__(self, server: Server) -> None:
        self.server = server

    def wallet(self) -> None:
        """A wallet that may do anything."""
        body = {"name": "alice", "privateKey": KEYS[1], "isDefault": True}
        made = self.server.call("POST", "/v1/wallets/import", body)
        assert made["address"] == ACCOUNTS[1]
        self.server.call("PUT", f"/v1/wallets/{made['id']}/policy", {"policy": ANYTHING})

    def workflow(self, nodes: dict[str, Any]) -> str:
        """Stores one; the root leads to its first node."""
        root = {"type": "manual", "children": [next(iter(nodes))]}
        return self.server.create_workflow({"nodes": {"root": root, **nodes}, "triggerNodeIds": ["root"]})

    async def until(self, run_id: str, holds: Any) -> Run:
        """The run once something holds of it."""
        async with asyncio.timeout(60):
            while True:
                run: Run = await asyncio.to_thread(self.server.call, "GET", f"/v1/runs/{run_id}")
                if holds(run):
                    return run
                await asyncio.sleep(0.02)

    async def ended(self, run_id: str) -> Run:
        """The run at its end."""
        return await self.until(run_id, lambda run: run["finishedAt"] is not None)

    def effects(self, run_id: str) -> dict[str, Any]:
        """Its report."""
        found: dict[str, Any] = self.server.call("GET", f"/v1/runs/{run_id}/effects")
        return found


@pytest.mark.parametrize(
    "strategy", [STRATEGIES[0], *(pytest.param(strategy, marks=pytest.mark.long) for strategy in STRATEGIES[1:])]
)
async def test_kill_9_at_many_moments(tmp_path: Path, world: World, strategy: str) -> None:
    """Killed in pauses and in the middle of transactions; in the end nothing is missing and nothing is there twice."""
    with world.node() as chain:
        server = _serve(tmp_path / "served", chain, world, simulation_strategy=strategy)
        try:
            caller = Caller(server.start())
            caller.wallet()
            calm = caller.workflow(callee_nodes(0))
            run_id = server.start_run(caller.workflow(nodes(0, calm)), simulate=True)
            run = await caller.ended(run_id)
            assert run["status"] == "success", told(run)
            expected = outcome(run, caller.effects(run_id))
            slow = caller.workflow(callee_nodes(250))
            run_id = server.start_run(caller.workflow(nodes(250, slow)), simulate=True)
            for kill in range(5):
                await asyncio.sleep(0.15 + 0.11 * kill)
                server.kill()
                server.start()
            run = await caller.ended(run_id)
            assert run["status"] == "success", told(run)
            assert outcome(run, caller.effects(run_id)) == expected
            (fork,) = run["simulationForks"]
            assert (fork["transactions"], fork["strategy"]) == (9, strategy)
        finally:
            server.close()


def _forks_of(server: Server) -> list[int]:
    """Processes of local forks that this server started, by their command lines (Linux)."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"--fork-url" in words and server.folder.name.encode() in b" ".join(words):
            found.append(int(folder.name))
    return found


async def test_no_local_fork_outlives_the_server(tmp_path: Path, world: World) -> None:
    """Neither an orderly end nor a crash in the middle of a simulation leaves a child behind."""
    with world.node() as chain:
        folder = tmp_path / "served"
        folder.mkdir()
        own = folder / f"anvil-{folder.name}"  # a name by which its processes are known
        own.symlink_to(binary())
        server = _serve(folder, chain, world, simulation_strategy="local-fork", fork_binary=str(own))
        try:
            caller = Caller(server.start())
            caller.wallet()
            workflow = caller.workflow({"pay": pay(1, "pause"), "pause": pause(20_000)})
            for end in (server.kill, server.stop):
                run_id = server.start_run(workflow, simulate=True)
                run = await caller.until(run_id, runs("pause"))
                assert run["simulationMode"] == "local-fork", told(run)
                assert _forks_of(server), "there is no child, so this tests nothing"
                end()
                async with asyncio.timeout(60):
                    while _forks_of(server):
                        await asyncio.sleep(0.05)
                server.start()
        finally:
            server.close()
