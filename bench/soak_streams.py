"""Triggers over open connections, and of tables, whose server is killed: each message starts one run, in order.

    scripts/soak streams [--scale MESSAGES] [--seed S] [--kills 30]

The real server over HTTP with three workflows: a WebSocket that is resumed from a number, an event stream with ids, and
a managed table that is written over the API. While messages come and rows are written, the server is killed with
SIGKILL at random moments, half of them while it starts, and the sources break their connections. At the end each
message and each row has one event and one run, in their order, and no gap is on record.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from testkit.outbox_world import Api
from testkit.server_process import ServerProcess
from testkit.streaming import Source, streaming

Json = dict[str, Any]
_SETTINGS = {"outbound_allow": "127.0.0.1", "rate_limit_per_second": "0"}
_LONGEST_S = 300.0
_RESUME = '{"op": "subscribe", "since": cursor}'
_TABLE = {"name": "orders", "primaryKey": "n", "columns": [{"name": "n", "type": "integer"}]}


def _triggers(websocket: Source, sse: Source) -> dict[str, Json]:
    return {
        "websocket": {
            "url": f"{websocket.url}/ws".replace("http", "ws", 1),
            "subscribe": [{"op": "subscribe"}],
            "filter": 'message.type == "tick"',
            "cursor": "message.n ?? null",
            "resume": _RESUME,
        },
        "sse": {"url": f"{sse.url}/sse"},
        "table-row": {"table": "orders"},
    }


def run(scale: int | None = None, seed: int = 0, *, kills: str = "30") -> Json:
    """`scale` messages (default 1,500) of each source, and so many rows; and so many kills."""
    with tempfile.TemporaryDirectory(prefix="dustrun-streams-") as folder:
        return asyncio.run(_run(Path(folder), scale or 1500, random.Random(seed), int(kills)))


async def _run(folder: Path, count: int, chance: random.Random, kills: int) -> Json:
    server, begun = ServerProcess(folder / "data", _SETTINGS), time.monotonic()
    async with AsyncExitStack() as stack:
        stack.push_async_callback(server.stop)
        websocket, sse = [await stack.enter_async_context(streaming()) for _ in range(2)]
        server.start()
        await server.wait_ready(120)
        api = Api(server)
        stack.push_async_callback(api.close)
        await api.call("POST", "/v1/tables", _TABLE)
        workflows = {kind: await _publish(api, kind, config) for kind, config in _triggers(websocket, sse).items()}
        for source in (websocket, sse):
            while not source.resumed:  # a WebSocket is open before it has said what it wants
                await asyncio.sleep(0.05)
            source.emit()  # from here on there is a cursor to go on from
        await _until(api, workflows["websocket"], 1)
        await _until(api, workflows["sse"], 1)
        killing = asyncio.create_task(_kill(server, kills, chance))
        cuts = await asyncio.gather(
            *(_emit(source, count - 1, killing, random.Random(chance.random())) for source in (websocket, sse)),
            _write(api, count, killing),
        )
        await killing
        found = {kind: await _judge(api, kind, workflow, count) for kind, workflow in workflows.items()}
    failures = [failure for _, failures in found.values() for failure in failures]
    counts = {kind: counts for kind, (counts, _) in found.items()}
    cut = sum(one or 0 for one in cuts)
    return {"kills": kills, "cuts": cut, **counts, "seconds": round(time.monotonic() - begun, 1), "failures": failures}


async def _publish(api: Api, kind: str, config: Json) -> str:
    say = {"type": "log", "payload": {"message": "{{$trigger.body}}"}}
    nodes = {"root": {"type": kind, "payload": config, "children": ["say"]}, "say": say}
    _, made = await api.call("POST", "/v1/workflows", {"name": kind, "description": "", "definition": {"nodes": nodes}})
    await api.call("POST", f"/v1/workflows/{made['id']}/publish", {})
    return str(made["id"])


async def _emit(source: Source, count: int, killing: asyncio.Task[None], chance: random.Random) -> int:
    """Emits in bursts until all is emitted and nobody is killed any more; returns how often it cut connections."""
    cuts, left = 0, count
    while left or not killing.done():
        burst = min(left, chance.randint(0, 12))
        source.emit(burst)
        left -= burst
        if chance.random() < 0.05:
            source.cut()
            cuts += 1
        await asyncio.sleep(chance.uniform(0.0, 0.2))
    return cuts


async def _write(api: Api, count: int, killing: asyncio.Task[None]) -> int:
    """Writes rows in order; a call of unknown outcome is made again, and changes nothing if it was done."""
    for n in range(1, count + 1):
        await api.call("POST", "/v1/tables/orders/rows", {"rows": [{"n": n}], "mode": "upsert"})
        if not killing.done():
            await asyncio.sleep(0.01)
    return 0


async def _events(api: Api, workflow_id: str) -> list[Json]:
    found: list[Json] = []
    while True:
        path = f"/v1/workflows/{workflow_id}/trigger-events?limit=100&offset={len(found)}"
        _, page = await api.call("GET", path)
        found += page["items"]
        if not page["hasMore"]:
            return found[::-1]


async def _until(api: Api, workflow_id: str, count: int) -> list[Json]:
    until, found = time.monotonic() + _LONGEST_S, list[Json]()
    while len(found) < count and time.monotonic() < until:
        await asyncio.sleep(0.5)
        found = await _events(api, workflow_id)
    return found


async def _judge(api: Api, kind: str, workflow_id: str, count: int) -> tuple[Json, list[str]]:
    await _until(api, workflow_id, count)
    await asyncio.sleep(2)  # whatever would come twice
    events = await _events(api, workflow_id)
    numbers = [one["body"]["key"] if kind == "table-row" else one["body"]["message"]["n"] for one in events]
    _, runs = await api.call("GET", f"/v1/workflows/{workflow_id}/runs/count")
    _, gaps = await api.call("GET", f"/v1/workflows/{workflow_id}/trigger-gaps")
    wanted, failures = list(range(1, count + 1)), []
    if lost := sorted(set(wanted) - set(numbers)):
        failures.append(f"{kind}: lost {lost[:5]} ({len(lost)})")
    if len(numbers) != len(set(numbers)):
        failures.append(f"{kind}: {len(numbers) - len(set(numbers))} came twice")
    if not failures and numbers != wanted:
        failures.append(f"{kind}: not in order")
    if runs["total"] != len({one["runId"] for one in events if one["runId"]}) or runs["total"] != len(events):
        failures.append(f"{kind}: {len(events)} events and {runs['total']} runs do not match one to one")
    if gaps["items"]:
        failures.append(f"{kind}: {len(gaps['items'])} gaps, though its source keeps everything")
    return {"messages": count, "events": len(events), "runs": runs["total"]}, failures


async def _kill(server: ServerProcess, kills: int, chance: random.Random) -> None:
    """Half of the kills come while the server starts."""
    for _ in range(kills):
        if chance.random() < 0.5:
            await asyncio.sleep(chance.uniform(0.3, 3.0))
        else:
            await server.wait_ready(120)
            await asyncio.sleep(chance.uniform(0.0, 2.5))
        server.kill()
        server.start()
    await server.wait_ready(120)
