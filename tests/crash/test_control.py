"""Control nodes under kill -9: loops, waits, called runs and variables go on where they stood, and count once."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from pathlib import Path
from typing import Any

import aiohttp

from testkit.server_process import ServerProcess

RUNS, ITEMS, KILLS = 5, 3, 5
Json = dict[str, Any]


def _say(message: str, *children: str) -> Json:
    return {"type": "log", "payload": {"message": message}, "children": [*children]}


def _add(name: str, *children: str) -> Json:
    return {"type": "increment-variable", "payload": {"name": name, "by": 1}, "children": [*children]}


CALLEE: Json = {
    "root": {"type": "manual", "children": ["count"]},
    "count": _add("called", "pause"),
    "pause": {"type": "delay", "payload": {"delayMs": 120}, "children": ["say"]},
    "say": _say("{{$trigger.body.item}}"),
}


def _caller(callee: str) -> Json:
    call = {"workflowId": callee, "payload": {"item": "{{$item}}"}}
    return {
        "root": {"type": "manual", "children": ["each"]},
        "each": {
            "type": "for-each",
            "payload": {"array": list(range(ITEMS)), "concurrency": 2},
            "loopBody": ["call"],
            "children": ["wait"],
        },
        "call": {"type": "call-workflow", "payload": call, "children": ["short"]},
        "short": {"type": "wait", "payload": {"timeoutMs": 1000}, "children": ["mine"]},
        "mine": {**_add("mine"), "branch": "timed_out"},
        "wait": {"type": "wait", "payload": {"timeoutMs": 600_000}, "children": ["end"]},
        "end": {**_say("{{each.result.iterations.map(i, i.results.call.result.message)}}"), "branch": "resumed"},
    }


class Caller:
    """Talks to a server that is killed now and then."""

    def __init__(self, server: ServerProcess, session: aiohttp.ClientSession) -> None:
        self._server, self._session = server, session

    async def call(self, method: str, path: str, body: Json | None = None, key: str | None = None) -> Json:
        """Again until it is answered; a POST with its Idempotency-Key."""
        headers = {"Authorization": f"Bearer {self._server.owner_key}"}
        if key is not None:
            headers["Idempotency-Key"] = key
        while True:
            try:
                async with self._session.request(method, self._server.base + path, json=body, headers=headers) as reply:
                    found: Json = await reply.json()
                    if reply.status < 500:
                        assert reply.status == 200, found
                        data: Json = found["data"]
                        return data
            except (aiohttp.ClientError, TimeoutError, OSError):
                pass
            await asyncio.sleep(0.05)


async def _make(caller: Caller, name: str, nodes: Json) -> str:
    body = {"name": name, "description": "", "definition": {"nodes": nodes}}
    return str((await caller.call("POST", "/v1/workflows", body))["id"])


async def _follow(caller: Caller, run_id: str) -> Json:
    """Resumes the run's last wait, early or late, and waits for its end."""
    chance = random.Random(run_id)
    await asyncio.sleep(chance.uniform(0.0, 4.0))
    answer = await caller.call("POST", f"/v1/runs/{run_id}/nodes/wait/resume", {"data": {}}, key=f"resume-{run_id}")
    assert answer["action"] == "resumed"
    while True:
        run = await caller.call("GET", f"/v1/runs/{run_id}")
        if run["finishedAt"] is not None:
            return run
        await asyncio.sleep(0.1)


async def test_loops_waits_calls_and_variables_survive_kills(tmp_path: Path) -> None:
    server, chance = ServerProcess(tmp_path / "data"), random.Random(7)
    server.start()
    await server.wait_ready()
    try:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as session:
            caller = Caller(server, session)
            callee = await _make(caller, "callee", CALLEE)
            outer = await _make(caller, "caller", _caller(callee))
            names = [f"run_kill-{number}" for number in range(RUNS)]
            for name in names:
                await caller.call("POST", f"/v1/workflows/{outer}/run", {"runId": name}, key=name)
            following = [asyncio.create_task(_follow(caller, name)) for name in names]
            for _ in range(KILLS):
                await asyncio.sleep(chance.uniform(0.05, 0.8))
                server.kill()
                server.start()
                await server.wait_ready()
            async with asyncio.timeout(60):
                runs = await asyncio.gather(*following)
            values = {
                item["name"]: item["value"]
                for flow in (callee, outer)
                for item in (await caller.call("GET", f"/v1/workflows/{flow}/variables"))["items"]
            }
    finally:
        await server.stop()
    assert {run["status"] for run in runs} == {"success"}
    for run in runs:
        assert run["executionState"]["end"]["result"]["message"] == '["0","1","2"]'
    assert values == {"called": RUNS * ITEMS, "mine": RUNS * ITEMS}
    _check_tables(server.database_path)


def _check_tables(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        count = connection.execute("SELECT count(*) FROM runs WHERE parent_pk IS NOT NULL").fetchone()[0]
        left = connection.execute("SELECT count(*) FROM run_signals").fetchone()[0]
        doubled = connection.execute(
            "SELECT run_pk, path FROM executions WHERE node_id = 'call' GROUP BY run_pk, path HAVING count(*) > 1"
        ).fetchall()
    connection.close()
    assert (count, left, doubled) == (RUNS * ITEMS, 0, [])


async def test_time_passes_while_the_server_is_away(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path / "data")
    server.start()
    await server.wait_ready()
    try:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as session:
            caller = Caller(server, session)
            nodes = {
                "root": {"type": "manual", "children": ["w"]},
                "w": {"type": "wait", "payload": {"timeoutMs": 1000}, "children": ["late"]},
                "late": {**_say("late"), "branch": "timed_out"},
            }
            flow = await _make(caller, "late", nodes)
            run_id = (await caller.call("POST", f"/v1/workflows/{flow}/run", {}))["runId"]
            await asyncio.sleep(0.2)
            server.kill()
            await asyncio.sleep(1.0)
            server.start()
            await server.wait_ready()
            async with asyncio.timeout(60):
                while (run := await caller.call("GET", f"/v1/runs/{run_id}"))["finishedAt"] is None:
                    await asyncio.sleep(0.05)
    finally:
        await server.stop()
    assert run["executionState"]["late"]["status"] == "success"
