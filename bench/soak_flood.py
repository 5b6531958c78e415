"""Sources that send as fast as they are read, for minutes, to triggers that start a run for each message: the server's
memory stays flat, since it reads no more than it has written.

    scripts/soak flood [--scale SECONDS] [--seed S] [--set only=postgresql]

One real server over HTTP, with SQLite, then with PostgreSQL, and two sources: a WebSocket and an event stream, with
messages of a kilobyte. Its memory is measured once a few hundred messages of each have run, then every second of the
flood: at no moment may it hold `_MOST_MIB` more than before. What the sources have sent and nobody has recorded is in
the buffers of both ends: it may be `_MOST_AHEAD` messages. Each message has run once and in order, as far as they came.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa

from bench.cluster_callers import AnyApi
from bench.memory_watch import MemoryWatch, resident_mib
from dustrun.core.values.exact_json import loads_own
from dustrun.storage.db.trigger_tables import trigger_events
from testkit.postgres import Cluster
from testkit.server_process import ServerProcess
from testkit.streaming import Source, streaming

_MOST_MIB: Final = 60.0
_MOST_AHEAD: Final = 20_000
_WARM: Final = 300
_WITHIN_S: Final = 300.0
_SETTINGS: Final = {"outbound_allow": "127.0.0.1", "rate_limit_per_second": "0"}
Json = dict[str, Any]


def run(scale: int | None = None, seed: int = 0, only: str = "") -> Json:
    """A flood of `scale` seconds (default 120) with each store."""
    found: Json = {"failures": []}
    for store in [only] if only else ["sqlite", "postgresql"]:
        with tempfile.TemporaryDirectory(prefix="dustrun-flood-") as folder:
            found[store] = asyncio.run(_run(Path(folder), store, scale or 120, random.Random(seed)))
        found["failures"] += [f"{store}: {failure}" for failure in found[store].pop("failures")]
    return {"bounds": {"mibAboveIdle": _MOST_MIB, "ahead": _MOST_AHEAD}, **found}


async def _run(folder: Path, store: str, seconds: int, chance: random.Random) -> Json:
    async with AsyncExitStack() as stack:
        settings = dict(_SETTINGS)
        if store == "postgresql":
            cluster = Cluster()
            stack.callback(cluster.end)
            settings["database_url"] = cluster.fresh()
        server = ServerProcess(folder / "data", settings)
        url = settings.get("database_url", f"sqlite:///file:{server.database_path}?mode=ro&uri=true")
        engine = sa.create_engine(url, poolclass=sa.NullPool)
        stack.push_async_callback(server.stop)
        server.start()
        await server.wait_ready(120)
        api = AnyApi([server.base], server.owner_key, chance, timeout_s=20)
        stack.push_async_callback(api.close)
        sources = {kind: await stack.enter_async_context(streaming()) for kind in ("websocket", "sse")}
        workflows = {kind: await _publish(api, kind, source) for kind, source in sources.items()}
        for kind, source in sources.items():
            source.padding = 1_000
            await _until(lambda source=source: bool(source.resumed))
            source.emit(_WARM)
            await _until(lambda kind=kind: _count(engine, workflows[kind]) >= _WARM)
        await asyncio.sleep(5)
        idle = resident_mib([server.server_pid])
        watch = MemoryWatch({"server": lambda: [server.server_pid]})
        for source in sources.values():
            source.emit(100_000_000)
        watching = asyncio.create_task(watch.work(1.0))
        await asyncio.sleep(seconds)
        watching.cancel()
        most = max(mib for _, mib in watch.samples["server"])
        samples = watch.report()["server"]["mib"]
        found: Json = {"idleMib": round(idle, 1), "mostAboveIdleMib": round(most - idle, 1), "mib": samples}
        failures = []
        if most - idle > _MOST_MIB:
            failures.append(f"the server held {most - idle:.1f} MiB more than before the flood")
        for kind, source in sources.items():
            sent = source.sent  # before what is recorded, which only grows
            numbers = await asyncio.to_thread(_numbers, engine, workflows[kind])
            found[kind] = {"sent": sent, "taken": len(numbers), "ahead": sent - len(numbers)}
            if numbers != list(range(1, len(numbers) + 1)):
                failures.append(f"{kind}: not each message once and in order")
            if sent - len(numbers) > _MOST_AHEAD:
                failures.append(f"{kind}: {sent - len(numbers)} messages were sent ahead")
            if len(numbers) < 2 * _WARM:
                failures.append(f"{kind}: only {len(numbers)} messages were taken, so this proves little")
    return {**found, "seconds": seconds, "failures": failures}


async def _publish(api: AnyApi, kind: str, source: Source) -> str:
    config: Json = {"url": f"{source.url}/sse"}
    if kind == "websocket":
        config = {
            "url": f"{source.url}/ws".replace("http", "ws", 1),
            "subscribe": [{"op": "subscribe"}],
            "filter": 'message.type == "tick"',
        }
    say = {"type": "log", "payload": {"message": "{{$trigger.body.message.n}}"}}
    nodes = {"root": {"type": kind, "payload": config, "children": ["say"]}, "say": say}
    _, made = await api.call("POST", "/v1/workflows", {"name": kind, "description": "", "definition": {"nodes": nodes}})
    await api.call("POST", f"/v1/workflows/{made['id']}/publish", {})
    return str(made["id"])


async def _until(holds: Any) -> None:
    until = time.monotonic() + _WITHIN_S
    while not await asyncio.to_thread(holds):
        if time.monotonic() > until:
            raise TimeoutError("the first messages were not taken in time")
        await asyncio.sleep(0.2)


def _count(engine: sa.Engine, workflow_id: str) -> int:
    t = trigger_events.c
    with engine.connect() as connection:
        query = sa.select(sa.func.count()).where(t.workflow_id == workflow_id)
        return int(connection.execute(query).scalar_one())


def _numbers(engine: sa.Engine, workflow_id: str) -> list[int]:
    """The messages that have events, in the order in which they were recorded."""
    t = trigger_events.c
    with engine.connect() as connection:
        query = sa.select(t.payload).where(t.workflow_id == workflow_id).order_by(t.pk)
        return [int(loads_own(payload)["message"]["n"]) for (payload,) in connection.execute(query)]
