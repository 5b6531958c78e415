"""A rolling upgrade: a server of an older commit and one of this commit on one PostgreSQL store, with runs in flight.

    scripts/soak upgrade [--before COMMIT] [--scale SECONDS]

The older server starts on an empty store and gets calls all the time. Then this commit's server starts beside it, which
may migrate the schema, and both get calls; then the older one stops, and this one goes on alone. Each run waits for a
second, so that many are in flight at each step. At the end every run that was accepted has succeeded, and every stream
is whole. `COMMIT` must know the setting `shared`.
"""

from __future__ import annotations

import asyncio
import re
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from testkit.ports import free_port
from testkit.postgres import Cluster
from testkit.server_process import ServerProcess

_ROOT = Path(__file__).parents[1]
_PAUSE_S = 0.05
_SETTLE_S = 60.0
_NODES: dict[str, Any] = {
    "root": {"type": "manual", "children": ["hold"]},
    "hold": {"type": "delay", "payload": {"delayMs": 1000}, "children": ["say"]},
    "say": {"type": "log", "payload": {"message": "went on"}},
}
_SEQ = re.compile(r"^id: (\d+)$", re.MULTILINE)


class OlderServer(ServerProcess):
    """The server of another commit."""

    source = Path()

    def _environment(self) -> dict[str, str]:
        return {**super()._environment(), "PYTHONPATH": str(self.source / "src")}


@dataclass(slots=True)
class Soak:
    """Who is called, and what came of it."""

    session: aiohttp.ClientSession
    called: list[ServerProcess]
    workflow_id: str = ""
    accepted: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    is_over: bool = False

    async def call(self) -> None:
        """Starts run after run on the servers in turn."""
        number = 0
        while not self.is_over:
            number += 1
            server, run_id = self.called[number % len(self.called)], f"run_{number}"
            path, body = f"{server.base}/v1/workflows/{self.workflow_id}/run", {"runId": run_id, "payload": {}}
            async with self.session.post(path, json=body) as answer:
                if answer.status == 200:
                    self.accepted.append(run_id)
                else:
                    self.refused.append(f"{answer.status}: {await answer.text()}"[:200])
            await asyncio.sleep(_PAUSE_S)

    async def check(self, server: ServerProcess) -> list[str]:
        """What is not as it should be, as the server that is left tells it."""
        failures = self.refused[:5]
        until = time.monotonic() + _SETTLE_S
        for run_id in self.accepted:
            while (status := await self._status(server, run_id)) in ("running", "waiting"):
                if time.monotonic() > until:
                    break
                await asyncio.sleep(0.1)
            async with self.session.get(f"{server.base}/v1/runs/{run_id}/stream?lastEventId=0") as answer:
                numbers = list(map(int, _SEQ.findall(await answer.text()))) if status == "success" else []
            if status != "success" or numbers != list(range(1, len(numbers) + 1)):
                failures.append(f"{run_id} is {status}, its events are {numbers[:20]}")
        return failures

    async def _status(self, server: ServerProcess, run_id: str) -> str:
        async with self.session.get(f"{server.base}/v1/runs/{run_id}?summary=true") as answer:
            return str((await answer.json())["data"]["status"])


def run(scale: int | None, seed: int, before: str = "006dfae") -> dict[str, Any]:
    """Each step lasts `scale` seconds (default 10). `before`: by default the first commit that can share a store."""
    del seed
    with tempfile.TemporaryDirectory(prefix="dustrun-upgrade-") as folder:
        source = Path(folder) / "older"
        subprocess.run(["git", "worktree", "add", "--detach", source, before], cwd=_ROOT, check=True)
        try:
            return asyncio.run(_run(Path(folder), source, scale or 10))
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", source], cwd=_ROOT, check=True)


async def _run(folder: Path, source: Path, step_s: float) -> dict[str, Any]:
    cluster = Cluster()
    settings = {"database_url": cluster.empty(), "shared": "1", "rate_limit_per_second": "0"}
    older = OlderServer(folder / "data", settings)
    older.source = source
    newer = ServerProcess(folder / "data", settings, port=free_port(), log_path=folder / "newer.log")
    try:
        older.start()
        await older.wait_ready(60)
        async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {older.owner_key}"}) as session:
            return await _upgrade(Soak(session, [older]), older, newer, step_s)
    finally:
        await older.stop()
        await newer.stop()
        cluster.end()


async def _upgrade(soak: Soak, older: ServerProcess, newer: ServerProcess, step_s: float) -> dict[str, Any]:
    document = {"name": "hold", "description": "", "definition": {"nodes": _NODES, "triggerNodeIds": ["root"]}}
    async with soak.session.post(f"{older.base}/v1/workflows", json=document) as answer:
        soak.workflow_id = (await answer.json())["data"]["id"]
    calling = asyncio.create_task(soak.call())
    await asyncio.sleep(step_s)
    newer.start()
    await newer.wait_ready(60)
    alone = len(soak.accepted)
    soak.called.append(newer)
    await asyncio.sleep(step_s)
    soak.called.remove(older)
    await asyncio.sleep(1)  # as a proxy that calls it no more lets it finish
    await older.stop()
    both = len(soak.accepted)
    await asyncio.sleep(step_s)
    soak.is_over = True
    await calling
    failures = await soak.check(newer)
    counts = {"older": alone, "both": both - alone, "newer": len(soak.accepted) - both}
    return {"accepted": counts, "failures": failures}
