"""Hooks while receivers fail and the server is killed: every event arrives, signed, in the order of its run.

    scripts/soak hooks [--scale KILLS] [--seed S] [--set runs=600] [--set speed=120]

The real server over HTTP, killed with SIGKILL at random moments; three receivers: one that is down for an hour of
simulated time, one that is slow, one that answers 500 or a redirect to a third of all requests. Delays between attempts
are the default ones, divided by `speed`, so that an hour of them passes in 3600 / `speed` seconds. At the end the
events that hooks were to be told of are read from the store, and each must have arrived at each hook: signed for the
library of Standard Webhooks, each for the first time in the order of its run, with one `webhook-id` in all attempts.
"""

from __future__ import annotations

import asyncio
import random
import sqlite3
import statistics
import tempfile
import time
from collections import Counter, defaultdict
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from dustrun.core import hooks as event_types
from dustrun.core.values.exact_json import loads
from dustrun.settings import Settings
from testkit.receiver import Received, Receiver, receiving
from testkit.server_process import ServerProcess

_HOUR_S = 3600.0
_LEFT_S = 240.0
_READY_S = 120.0
_TYPES = ["run.*", "node.*"]
_NODES: dict[str, Any] = {
    "root": {"type": "manual", "children": ["say"]},
    "say": {"type": "log", "payload": {"message": "hello"}, "children": ["rest"]},
    "rest": {"type": "delay", "payload": {"delayMs": 30}, "children": ["end"]},
    "end": {"type": "log", "payload": {"message": "done"}},
}


@dataclass(slots=True)
class Soak:
    """One soak: the server, its receivers by name, and what was found."""

    server: ServerProcess
    receivers: dict[str, Receiver]
    chance: random.Random
    speed: float
    began: float = field(default_factory=time.monotonic)
    hooks: dict[str, dict[str, Any]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    starts_ms: list[float] = field(default_factory=list)

    async def ask(self, method: str, path: str, body: Any = None) -> Any:
        """The data of an answer; tries again while the server is down."""
        headers = {"Authorization": f"Bearer {self.server.owner_key}"}
        if body is not None and "runId" in body:
            headers["Idempotency-Key"] = body["runId"]
        async with asyncio.timeout(_READY_S):
            while True:
                try:
                    async with (
                        aiohttp.ClientSession(headers=headers) as session,
                        session.request(method, self.server.base + path, json=body) as answer,
                    ):
                        found = await answer.json()
                        if answer.status == 200:
                            return found["data"]
                        if answer.status < 500:
                            raise RuntimeError(f"{method} {path}: {answer.status} {found}")
                except (aiohttp.ClientError, OSError):
                    pass
                await asyncio.sleep(0.1)

    def down(self, _one: Received) -> web.StreamResponse:
        """Refuses everything for an hour of simulated time."""
        is_down = time.monotonic() - self.began < _HOUR_S / self.speed
        return web.Response(status=503 if is_down else 204)

    def broken(self, _one: Received) -> web.StreamResponse:
        """Answers 500 to a third, and to some with a redirect."""
        dice = self.chance.random()
        return web.Response(status=500 if dice < 0.3 else 302 if dice < 0.35 else 200)


def run(scale: int | None, seed: int, runs: str = "600", speed: str = "120") -> dict[str, Any]:
    """`scale` kills (default 20) during `runs` runs."""
    with tempfile.TemporaryDirectory(prefix="dustrun-hooks-") as folder:
        return asyncio.run(_run(Path(folder), 20 if scale is None else scale, seed, int(runs), float(speed)))


async def _run(folder: Path, kills: int, seed: int, runs: int, speed: float) -> dict[str, Any]:
    delays = ",".join(f"{delay / speed:.3f}" for delay in Settings.model_fields["hook_retry_s"].default)
    settings = {
        "outbound_allow": "127.0.0.1",
        "rate_limit_per_second": "0",
        "hook_retry_s": delays,
        "hook_timeout_s": "2",
    }
    server = ServerProcess(folder / "data", settings)
    async with AsyncExitStack() as stack:
        names = ("down", "slow", "broken")
        receivers = {name: await stack.enter_async_context(receiving()) for name in names}
        stack.push_async_callback(server.stop)
        server.start()
        await server.wait_ready(_READY_S)
        soak = Soak(server, receivers, random.Random(seed), speed)
        receivers["down"].answer, receivers["broken"].answer = soak.down, soak.broken
        receivers["slow"].delay_s = 0.05
        return await _prove(soak, kills, runs)


async def _prove(soak: Soak, kills: int, runs: int) -> dict[str, Any]:
    body = {"name": "Tell", "description": "", "definition": {"nodes": _NODES}}
    workflow = (await soak.ask("POST", "/v1/workflows", body))["id"]
    for name, receiver in soak.receivers.items():
        made = {"name": name, "url": receiver.url, "subscribedEventTypes": _TYPES}
        soak.hooks[name] = await soak.ask("POST", "/v1/hooks", made)
        receiver.secrets.append(soak.hooks[name]["secret"])
    killing = asyncio.create_task(_kill(soak, kills))
    await _start_runs(soak, workflow, runs)
    await killing
    expected = await _settled(soak)
    for name, receiver in soak.receivers.items():
        _judge(soak, name, receiver, expected)
    await soak.server.stop()
    return _report(soak, kills, runs, expected)


async def _start_runs(soak: Soak, workflow: str, runs: int) -> None:
    for number in range(runs):
        begun = time.monotonic()
        await soak.ask("POST", f"/v1/workflows/{workflow}/run", {"runId": f"run_{number}"})
        soak.starts_ms.append((time.monotonic() - begun) * 1000)
        await asyncio.sleep(soak.chance.uniform(0, 0.05))


async def _kill(soak: Soak, kills: int) -> None:
    for _ in range(kills):
        await asyncio.sleep(soak.chance.uniform(0.2, 1.5))
        soak.server.kill()
        soak.server.start()
        await soak.server.wait_ready(_READY_S)


def _events(soak: Soak) -> dict[str, list[str]]:
    """By run, the ids of the events that hooks are told of, in order: read from the store, not through hooks."""
    database = sqlite3.connect(f"file:{soak.server.database_path}?mode=ro", uri=True)
    found: dict[str, list[str]] = defaultdict(list)
    query = "SELECT r.id, e.seq, e.type, e.data FROM events e JOIN runs r ON r.pk = e.run_pk ORDER BY r.pk, e.seq"
    for run_id, seq, kind, data in database.execute(query):
        type_ = event_types.type_of(kind, loads(data))
        if type_ is not None:
            found[run_id].append(f"{run_id}.{seq}")
    database.close()
    return found


async def _settled(soak: Soak) -> dict[str, list[str]]:
    """The events, once all runs have ended and everything has arrived, or nothing has arrived for a while. A receiver
    that fails a third of the time is left in peace for a second again and again, so the last may take many minutes."""
    expected: dict[str, list[str]] = {}
    most, until = -1, 0.0
    while True:
        open_runs = (await soak.ask("GET", "/v1/runs?status=running,waiting&limit=1"))["items"]
        expected = _events(soak)
        total = sum(map(len, expected.values()))
        arrived = [len({one.data["eventId"] for one in receiver.taken}) for receiver in soak.receivers.values()]
        if sum(arrived) > most:
            most, until = sum(arrived), time.monotonic() + _LEFT_S + _HOUR_S / soak.speed
        if (not open_runs and min(arrived) >= total) or time.monotonic() > until:
            break
        await asyncio.sleep(0.5)
    return expected


def _judge(soak: Soak, name: str, receiver: Receiver, expected: dict[str, list[str]]) -> None:
    unsigned = sum(1 for one in receiver.got if one.message is None)
    if unsigned:
        soak.failures.append(f"{name}: {unsigned} signatures are wrong")
    first: dict[str, list[str]] = defaultdict(list)
    ids: dict[str, set[str]] = defaultdict(set)
    for one in receiver.taken:
        event = one.data["eventId"]
        if not ids[event]:
            first[one.data["runId"]].append(event)
        ids[event].add(one.headers["webhook-id"])
    for run_id, events in expected.items():
        if first[run_id] != events:
            missing = len(set(events) - set(first[run_id]))
            soak.failures.append(f"{name}: {run_id}: {missing} events missing, else in another order")
    twice = sum(1 for found in ids.values() if len(found) > 1)
    if twice:
        soak.failures.append(f"{name}: {twice} events have more than one webhook-id")


def _report(soak: Soak, kills: int, runs: int, expected: dict[str, list[str]]) -> dict[str, Any]:
    told = {}
    for name, receiver in soak.receivers.items():
        arrivals = Counter(one.headers["webhook-id"] for one in receiver.taken)
        told[name] = {
            "attempts": len(receiver.got),
            "arrived": len(arrivals),
            "arrivedAgain": sum(arrivals.values()) - len(arrivals),
            "answers": dict(Counter(str(one.status) for one in receiver.got)),
            "mostAtOnce": receiver.most_inside,
        }
    return {
        "kills": kills,
        "runs": runs,
        "events": sum(map(len, expected.values())),
        "simulatedHourSeconds": _HOUR_S / soak.speed,
        "runCallMedianMs": round(statistics.median(soak.starts_ms), 1),
        "receivers": told,
        "seconds": round(time.monotonic() - soak.began, 1),
        "failures": soak.failures[:20],
    }
