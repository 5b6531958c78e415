"""What a large payload costs: its run, reading that run, and the store, beside decoding and encoding it once.

    scripts/bench large [--quick] [--scale REPEATS] [--store postgresql] [--sizes 0.9,9]

One workflow keeps the body of its call in a node that is synced, so the payload is in the run, in the trigger's result,
and in the node's input, result and facts: five places. `text` is one long string, `records` a list of small objects.
Processor time is the server's, the median of the repeats, also as a multiple of the limit: decoding and encoding the
payload with `json` in this process. `held` is the longest that a health check on another connection waited meanwhile
(the median).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, Final

from bench import load
from testkit.postgres import Cluster

_PIECES: Final = {
    "text": "x" * 1_000 + "\n",
    "records": {"id": "item-1", "name": "A name of it", "count": 12, "at": "1.5"},
}
_DEFINITION: Final = {
    "nodes": {
        "root": {"type": "manual", "children": ["keep"]},
        "keep": {"type": "bench-write", "payload": {"value": "{{$trigger.body}}"}},
    }
}
_PROBE_S: Final = 0.002
AIM_HELD_MS: Final = 100
Answer = Callable[[], Awaitable[Any]]


def run(
    scale: int | None = None, seed: int = 0, store: str = "sqlite", sizes: str = "0.9,9", *, quick: bool = False
) -> dict[str, Any]:
    """`scale` = repeats; `sizes` in megabytes."""
    del seed
    repeats = scale or (2 if quick else 7)
    limits = dict.fromkeys(("DUSTRUN_MAX_BODY_BYTES", "DUSTRUN_MAX_RESULT_BYTES"), str(64 << 20))
    found: dict[str, Any] = {"store": store, "payloads": [], "aimHeldMs": AIM_HELD_MS, "failures": []}
    with tempfile.TemporaryDirectory() as folder, _database(store) as url:
        where = {"DUSTRUN_DATABASE_URL": url} if url else {}
        with load.server(Path(folder) / "data", **limits, **where) as process:
            for size in map(float, sizes.split(",")):
                for kind in _PIECES:
                    one = asyncio.run(_measure(process, kind, size, repeats))
                    found["payloads"].append(one)
                    if one["heldMs"] > AIM_HELD_MS and not quick:
                        found["failures"].append(f"{size} MB of {kind} hold the loop for {one['heldMs']} ms")
    return found


@contextlib.contextmanager
def _database(store: str) -> Iterator[str | None]:
    if store == "sqlite":
        yield None
        return
    cluster = Cluster(durable=True)
    try:
        yield cluster.fresh()
    finally:
        cluster.stop()


async def _measure(process: load.Process, kind: str, megabytes: float, repeats: int) -> dict[str, Any]:
    piece = _PIECES[kind]
    count = int(megabytes * 1e6 / len(json.dumps(piece)))
    payload: dict[str, Any] = {"body": piece * count if isinstance(piece, str) else [piece] * count}
    text = json.dumps(payload)
    limit = statistics.median(_once_ms(text) for _ in range(5))
    connection = load.Connection(process)
    workflow_id = await load.create(connection, f"{kind} {megabytes}", _DEFINITION)
    runs = [f"run_{kind}-{count}-{number}" for number in range(repeats)]

    async def start(run_id: str) -> None:
        async with load.stream(process, f"/v1/runs/{run_id}/stream") as reader:
            await reader.readline()
            asked = {"runId": run_id, "payload": payload}
            status, answer = await connection.call("POST", f"/v1/workflows/{workflow_id}/run", asked)
            assert status == 200, str(answer)[:500]
            while not (await reader.readline()).startswith(b"event: run_finished"):
                pass

    async def read(run_id: str, query: str = "") -> None:
        status, answer = await connection.call_raw("GET", f"/v1/runs/{run_id}{query}")  # decoding would hold the probe
        assert status == 200, answer[:500]
        assert b'"status":"success"' in answer

    parts: dict[str, Callable[[str], Awaitable[None]]] = {
        "run": start,
        "read": read,
        "readShort": lambda run_id: read(run_id, "?omitLargerThan=10000"),
    }
    result: dict[str, Any] = {"kind": kind, "megabytes": round(len(text) / 1e6, 2), "limitMs": round(limit, 1)}
    held = 0.0
    for name, part in parts.items():
        took = [await _used(process, lambda part=part, one=one: part(one)) for one in runs]  # type: ignore[misc]
        used = statistics.median(cpu for cpu, _ in took)
        held = max(held, statistics.median(wait for _, wait in took))
        result |= {f"{name}CpuMs": round(used, 1), f"{name}TimesLimit": round(used / limit, 1)}
    connection.close()
    stored = _stored(process.data_dir, runs[-1])
    if stored is not None:
        result["storedTimesPayload"] = round(stored / len(text), 2)
    return {**result, "heldMs": round(held, 1)}


def _once_ms(text: str) -> float:
    begun = time.process_time()
    json.dumps(json.loads(text))
    return (time.process_time() - begun) * 1000


async def _used(process: load.Process, answer: Answer) -> tuple[float, float]:
    """The server's processor time and the longest wait of a health check meanwhile, in milliseconds."""
    waits: list[float] = [0.0]
    probe = load.Connection(process)
    await probe.open()

    async def watch() -> None:
        while True:
            begun = time.perf_counter()
            await probe.call("GET", "/healthz")
            waits.append((time.perf_counter() - begun) * 1000)
            await asyncio.sleep(_PROBE_S)

    watching = asyncio.create_task(watch())
    cpu = process.cpu_s()
    await answer()
    await asyncio.sleep(0.05)  # what is encoded or sent after the answer
    used = process.cpu_s() - cpu
    watching.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await watching
    probe.close()
    return used * 1000, max(waits)


def _stored(data_dir: Path, run_id: str) -> int | None:
    """The bytes of a run's texts in SQLite."""
    file = data_dir / "dustrun.db"
    if not file.exists():
        return None
    sizes = {
        "runs": "payload",
        "executions": "coalesce(input, '') || coalesce(result, '') || coalesce(facts, '')",
        "events": "data",
    }
    sizes["run_values"] = "content"
    with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
        (pk,) = connection.execute("SELECT pk FROM runs WHERE id = ?", [run_id]).fetchone()
        tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        found = 0
        for table, column in sizes.items():
            if table in tables:
                key = "pk" if table == "runs" else "run_pk"
                query = f"SELECT coalesce(sum(length(CAST({column} AS BLOB))), 0) FROM {table} WHERE {key} = ?"
                found += connection.execute(query, [pk]).fetchone()[0]
    return found
