"""Transfers from one wallet through several servers on one PostgreSQL store, which are killed and frozen.

    scripts/soak shared [--scale ROUNDS] [--seed S] [--set servers=2 --set transfers=60]

Real servers with the setting `shared`, one wallet, a real anvil behind a proxy that loses answers and lies. Callers
reach any of the servers. In each round a block may be made, taken back, or the mempool wiped; then one server gets
SIGKILL and starts again, or SIGSTOP for up to 14 seconds, which is longer than it takes until others take over, or
PostgreSQL ends its sessions. At the end web3.py reads the balances: every recipient has its sum, the sender's nonce is
the number of transfers, and no transaction is open.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench import soak_outbox
from bench.cluster_callers import AnyApi
from testkit.chain.anvil import Anvil
from testkit.chain.faulty_node import ChainProxy
from testkit.outbox_world import server_of
from testkit.ports import free_port
from testkit.postgres import Cluster
from testkit.server_process import ServerProcess

_PER_BLOCK = 10
_CONFIRMATIONS = 3
_LONGEST_FREEZE_S = 14.0


@dataclass(slots=True)
class Soak(soak_outbox.Soak):
    """The same with several servers."""

    servers: list[ServerProcess] = field(default_factory=list)
    cluster: Cluster | None = None
    url: str = ""

    async def kill(self) -> None:
        """One of them is killed, frozen, or cut off."""
        server, dice = self.chance.choice(self.servers), self.chance.random()
        if dice < 0.5:
            server.kill()
            self.counts["kills"] += 1
            await asyncio.sleep(self.chance.choice((0.0, self.chance.uniform(0.0, 10.0))))
            server.start()
            await server.wait_ready(60)
        elif dice < 0.85:
            await self._freeze(server, self.chance.uniform(0.2, _LONGEST_FREEZE_S))
        else:
            assert self.cluster is not None
            await asyncio.to_thread(self.cluster.kill_connections, self.url, "dustrun%")
            self.counts["sessionsEnded"] += 1

    async def _freeze(self, server: ServerProcess, seconds: float) -> None:
        server.freeze()
        try:
            for _ in range(int(seconds)):
                await asyncio.sleep(1)
                await self.shake_chain()
        finally:
            server.thaw()
        self.counts["freezes"] += 1
        self.counts["freezesThatOthersTakeOver"] += seconds > 8


def run(scale: int | None, seed: int, servers: str = "2", transfers: str = "60", block: str = "500") -> dict[str, Any]:
    """`scale` rounds (default 30), each with a fault of one of the `servers`."""
    with tempfile.TemporaryDirectory(prefix="dustrun-shared-") as folder:
        return asyncio.run(_run(Path(folder), scale or 30, seed, int(servers), int(transfers), int(block)))


async def _run(folder: Path, rounds: int, seed: int, count: int, transfers: int, block_ms: int) -> dict[str, Any]:
    begun, chance = time.monotonic(), random.Random(seed)
    words = ("--no-mining", "--gas-limit", str(_PER_BLOCK * 21_000), "--slots-in-an-epoch", "1")
    cluster = Cluster()
    servers: list[ServerProcess] = []
    try:
        with Anvil(*words) as node:
            async with ChainProxy(node.url) as proxy:
                url = cluster.fresh()
                servers += _servers(folder, proxy.url, url, count, block_ms)
                for server in servers:
                    server.start()
                    await server.wait_ready(60)
                api = AnyApi([one.base for one in servers], servers[0].owner_key, chance, timeout_s=3)
                soak = Soak(node, servers[0], api, chance, transfers, servers=servers, cluster=cluster, url=url)
                try:
                    await _soak(soak, proxy, rounds)
                finally:
                    await api.close()
    finally:
        for server in servers:
            await server.stop()
        cluster.end()
    return {
        "rounds": rounds,
        "servers": count,
        "transfers": transfers,
        "counts": dict(sorted(soak.counts.items())),
        "seconds": round(time.monotonic() - begun, 1),
        "failures": soak.failures,
    }


def _servers(folder: Path, rpc: str, url: str, count: int, block_ms: int) -> list[ServerProcess]:
    given = {"transaction_stuck_s": "3", "chain_timeout_ms": "2000", "database_url": url, "shared": "1"}
    first = server_of(folder, rpc, _CONFIRMATIONS, block_ms, **given)
    settings = first.settings
    others = [
        ServerProcess(first.data_dir, settings, port=free_port(), log_path=folder / f"server{number}.log")
        for number in range(1, count)
    ]
    return [first, *others]


async def _soak(soak: Soak, proxy: ChainProxy, rounds: int) -> None:
    soak.workflow_id = await soak.api.prepare()
    proxy.rule = soak.lie
    starting = asyncio.create_task(soak.start_all())
    for number in range(rounds):
        await asyncio.sleep(soak.chance.uniform(0.05, 1.0))
        await soak.shake_chain()
        await soak.kill()
        if number % 3 == 2 and starting.done():
            await soak.meddle()
    await starting
    await soak.finish()
    await soak.check()
    for server in soak.servers:
        wrong = [line for line in server.log_tail(5000).splitlines() if '"error"' in line and "Traceback" in line]
        if wrong:
            soak.failures.append(f"errors in a log: {wrong[:3]}")
