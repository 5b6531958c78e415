"""How late schedules fire when there are very many of them in one process.

`scale`: how many schedules, 10,000 by default. They are spread over workflows of 50 triggers each; each fires once
every `minutes`, at a second of its own. A schedule's lag is from its time to when its event is received, in the
server's own rows. What is measured: `seconds` of running, and then a restart with all of them armed.
"""

from __future__ import annotations

import asyncio
import random
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp

from bench.load import cpu_s_of
from testkit.server_process import ServerProcess

Json = dict[str, Any]
_TRIGGERS_EACH = 50
_PUBLISHERS = 4
_MOST_LAG_MS = 1000


def _definition(schedules: list[Json]) -> Json:
    nodes: Json = {
        f"t{n}": {"type": "cronjob", "payload": config, "children": ["say"]} for n, config in enumerate(schedules)
    }
    say = {"type": "log", "payload": {"message": "{{$trigger.body.scheduledAt}}"}}
    return {"nodes": {**nodes, "say": say}, "triggerNodeIds": list(nodes)}


def _workflows(count: int, minutes: int, chosen: random.Random) -> Iterator[Json]:
    schedules = [
        {
            "schedule": f"{chosen.randrange(60)} {chosen.randrange(minutes)}/{minutes} * * * *",
            "timezone": chosen.choice(["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata"]),
        }
        for _ in range(count)
    ]
    for start in range(0, count, _TRIGGERS_EACH):
        yield _definition(schedules[start : start + _TRIGGERS_EACH])


async def _publish(server: ServerProcess, definitions: Iterator[Json]) -> float:
    """Publishes a workflow of each definition; the seconds that it took."""
    begun = time.monotonic()
    headers = {"Authorization": f"Bearer {server.owner_key}"}
    async with aiohttp.ClientSession(server.base, headers=headers) as session:

        async def publish_all() -> None:
            for definition in definitions:
                body = {"name": "scheduled", "description": "", "definition": definition}
                async with session.post("/v1/workflows", json=body) as made:
                    made.raise_for_status()
                    workflow_id = (await made.json())["data"]["id"]
                async with session.post(f"/v1/workflows/{workflow_id}/publish") as published:
                    published.raise_for_status()

        await asyncio.gather(*(publish_all() for _ in range(_PUBLISHERS)))
    return time.monotonic() - begun


def _memory_mib(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) // 1024 for line in lines if line.startswith("VmRSS:"))


def _percentile(sorted_values: list[int], part: float) -> int | None:
    return sorted_values[min(int(len(sorted_values) * part), len(sorted_values) - 1)] if sorted_values else None


def _lags(database: Path, since: int, until: int) -> tuple[list[int], int, int]:
    """The lags of times between two moments, how many started no run, and how many runs there are."""
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as rows:
        found = rows.execute(
            "SELECT received_at - occurred_at, outcome FROM trigger_events WHERE occurred_at BETWEEN ? AND ?",
            (since, until),
        ).fetchall()
        runs = rows.execute(
            "SELECT count(*) FROM trigger_events e JOIN runs r ON r.id = e.run_id WHERE e.occurred_at BETWEEN ? AND ?",
            (since, until),
        ).fetchone()[0]
    return sorted(row[0] for row in found), sum(row[1] != "started" for row in found), runs


async def _measure(server: ServerProcess, seconds: int, count: int, minutes: int) -> Json:
    """Watches a running server: lags, processor time and memory."""
    cpu, since = cpu_s_of(server.server_pid), int(time.time() * 1000)
    await asyncio.sleep(seconds)
    until, used = int(time.time() * 1000), cpu_s_of(server.server_pid) - cpu
    await asyncio.sleep(5)  # what was due at the end is recorded by then, unless it is late
    lags, not_started, runs = _lags(server.database_path, since, until)
    return {
        "seconds": seconds,
        "times expected": round(count * seconds / (minutes * 60)),
        "events": len(lags),
        "events without a run": not_started,
        "runs": runs,
        "lag ms p50": _percentile(lags, 0.5),
        "lag ms p99": _percentile(lags, 0.99),
        "lag ms most": _percentile(lags, 1.0),
        "processor share": round(used / seconds, 3),
        "memory MiB": _memory_mib(server.server_pid),
    }


async def _all(count: int, seed: int, seconds: int, minutes: int) -> Json:
    with tempfile.TemporaryDirectory() as folder:
        server = ServerProcess(Path(folder) / "data")
        server.start()
        try:
            await server.wait_ready(120)
            idle = _memory_mib(server.server_pid)
            published = await _publish(server, _workflows(count, minutes, random.Random(seed)))
            first = await _measure(server, seconds, count, minutes)
            server.kill()
            server.start()
            ready = await server.wait_ready(120)
            await asyncio.sleep(10)
            again = await _measure(server, seconds, count, minutes)
            return {
                "schedules": count, "every minutes": minutes, "publishing s": round(published, 1),
                "idle memory MiB": idle, "running": first, "restart s": round(ready, 2), "after a kill": again,
            }  # fmt: skip
        finally:
            if server.is_alive:
                server.kill()


def _failures(found: Json) -> list[str]:
    failures = []
    for name in ("running", "after a kill"):
        one = found[name]
        if one["lag ms p99"] is None or one["lag ms p99"] > _MOST_LAG_MS:
            failures.append(f"{name}: the lag's p99 is {one['lag ms p99']} ms, more than {_MOST_LAG_MS} ms")
        if one["events without a run"]:
            failures.append(f"{name}: {one['events without a run']} events started no run")
        if one["events"] < 0.8 * one["times expected"]:
            failures.append(f"{name}: {one['events']} events, where about {one['times expected']} were due")
    return failures


def run(scale: int | None = None, seed: int = 0, *, seconds: str = "120", minutes: str = "5") -> dict[str, Any]:
    """Schedules in one process: how late they fire, and what that costs."""
    found = asyncio.run(_all(scale or 10_000, seed, int(seconds), int(minutes)))
    return {**found, "failures": _failures(found)}
