"""The run call measured over HTTP: rate, latency, long chains, streams, memory, start-up. DBOS beside it."""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench import load
from bench.peers import dbos

IN_FLIGHT = 50
READERS = 5000
POST = """if True:
    import http.client, json, time
    print("ready", flush=True)
    port, key, workflow_id = input().split()
    connection = http.client.HTTPConnection("127.0.0.1", int(port))
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    connection.connect()
    begun = time.perf_counter()
    body = json.dumps({"runId": "run_many"})
    connection.request("POST", f"/v1/workflows/{workflow_id}/run", body, headers)
    answer = connection.getresponse()
    assert answer.status == 200, answer.read()
    answer.read()
    print(begun, time.perf_counter() - begun, flush=True)
"""
AIMS = {
    "runsPerSecond": 1500,
    "runsPerSecondWithStreams": 600,
    "aloneP50Ms": 4,
    "chain40S": 0.025,
    "idleRssMib": 110,
    "readyS": 1.5,
}


async def rate(
    process: load.Process, workflow_id: str, runs: int, tag: str, in_flight: int = IN_FLIGHT
) -> dict[str, float]:
    """Runs a second, each started over HTTP and seen to end on the workflow's stream."""
    endings = load.Endings()
    async with load.stream(process, f"/v1/workflows/{workflow_id}/runs/stream") as reader:
        following = asyncio.create_task(endings.follow(reader))
        numbers = iter(range(runs))
        cpu = process.cpu_s()
        begun = time.perf_counter()

        async def work() -> None:
            connection = load.Connection(process)
            for number in numbers:
                run_id = f"run_{tag}-{number}"
                ended = endings.expect(run_id)
                status, answer = await connection.call("POST", f"/v1/workflows/{workflow_id}/run", {"runId": run_id})
                assert status == 200, answer
                await ended
            connection.close()

        await asyncio.gather(*(work() for _ in range(in_flight)))
        seconds = time.perf_counter() - begun
        used = process.cpu_s() - cpu
        following.cancel()
    return {"runsPerSecond": round(runs / seconds, 1), "cpuMsPerRun": round(used / runs * 1000, 3)}


async def _follow_one(process: load.Process, connection: load.Connection, workflow_id: str, run_id: str) -> float:
    """Milliseconds from the POST to `run_finished` on the run's own stream, opened first."""
    async with load.stream(process, f"/v1/runs/{run_id}/stream") as reader:
        await reader.readline()
        begun = time.perf_counter()
        status, answer = await connection.call("POST", f"/v1/workflows/{workflow_id}/run", {"runId": run_id})
        assert status == 200, answer
        while not (await reader.readline()).startswith(b"event: run_finished"):
            pass
        return (time.perf_counter() - begun) * 1000


async def _rate_with_streams(process: load.Process, workflow_id: str, runs: int) -> float:
    numbers = iter(range(runs))
    begun = time.perf_counter()

    async def work() -> None:
        connection = load.Connection(process)
        for number in numbers:
            await _follow_one(process, connection, workflow_id, f"run_s-{number}")
        connection.close()

    await asyncio.gather(*(work() for _ in range(IN_FLIGHT)))
    return round(runs / (time.perf_counter() - begun), 1)


async def alone(process: load.Process, workflow_id: str, runs: int, tag: str) -> list[float]:
    connection = load.Connection(process)
    times = [await _follow_one(process, connection, workflow_id, f"run_{tag}-{number}") for number in range(runs)]
    connection.close()
    return sorted(times[len(times) // 10 :])


def many_readers(process: load.Process, workflow_id: str, readers: int) -> dict[str, float]:
    """One run with many readers of its stream: the memory that they cost, what the POST takes beside them, and until
    the last has seen the end. The POST is sent by another process, since this one is busy with reading."""
    before = process.rss_mib()
    poster = subprocess.Popen([sys.executable, "-c", POST], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert poster.stdin is not None
    assert poster.stdout is not None
    try:
        poster.stdout.readline()
        memory = 0.0

        def post() -> None:
            nonlocal memory
            memory = process.rss_mib() - before
            print(process.port, process.key, workflow_id, file=poster.stdin, flush=True)

        last, lost = asyncio.run(_read_all(process, readers, post))
        begun, took = map(float, poster.stdout.readline().split())
    finally:
        poster.kill()
        poster.wait()
    return {
        "readers": readers,
        "memoryMib": round(memory, 1),
        "postMs": round(took * 1000, 1),
        "lastReaderMs": round((last - begun) * 1000, 1),
        "lost": lost,
    }


async def _read_all(process: load.Process, readers: int, post: Callable[[], None]) -> tuple[float, int]:
    """When the last reader has seen the end, and how many did not see every event."""
    opened = asyncio.Semaphore(100)
    waiting = 0

    async def read() -> list[int]:
        nonlocal waiting
        async with opened:
            stream = load.stream(process, "/v1/runs/run_many/stream")
            reader = await stream.__aenter__()
            await reader.readline()
            waiting += 1
        seen = []
        try:
            while (line := await reader.readline()) not in (b"", b"event: end\n"):
                if line.startswith(b"id: "):
                    seen.append(int(line[4:]))
            return seen
        finally:
            await stream.__aexit__(None, None, None)

    tasks = [asyncio.create_task(read()) for _ in range(readers)]
    while waiting < readers:
        await asyncio.sleep(0.02)
    post()
    seen = await asyncio.gather(*tasks)
    return time.perf_counter(), sum(ids != list(range(1, 9)) for ids in seen)


async def _measure(process: load.Process, runs: int) -> dict[str, Any]:
    connection = load.Connection(process)
    three = await load.create(connection, "three writes", load.chain(3))
    forty = await load.create(connection, "forty writes", load.chain(40))
    pure = await load.create(connection, "three pure", load.chain(3, "log"))
    connection.close()
    idle = process.rss_mib()
    await rate(process, three, max(200, runs // 10), "warm")
    rounds = [await rate(process, three, runs, f"r{number}") for number in range(3)]
    one = await alone(process, three, 300, "alone")
    chain = await alone(process, forty, 30, "forty")
    return {
        "readyS": round(process.started_s, 2),
        "idleRssMib": idle,
        "runsPerSecond": statistics.median(one["runsPerSecond"] for one in rounds),
        "cpuMsPerRun": statistics.median(one["cpuMsPerRun"] for one in rounds),
        "runsPerSecondPureNodes": (await rate(process, pure, runs, "p"))["runsPerSecond"],
        "runsPerSecondWithStreams": await _rate_with_streams(process, three, runs // 2),
        "aloneP50Ms": round(statistics.median(one), 2),
        "aloneP99Ms": round(one[int(len(one) * 0.99)], 2),
        "chain40S": round(statistics.median(chain) / 1000, 4),
        "rssMibAfterwards": process.rss_mib(),
        "workflowId": three,
    }


def run(scale: int | None = None, seed: int = 0, *, quick: bool = False, peers: bool = True) -> dict[str, Any]:
    """`scale` = runs in each round of the rate."""
    del seed
    runs = scale or (300 if quick else 3000)
    more = {"DUSTRUN_MAX_WAITING_STREAMS": str(READERS)}
    with tempfile.TemporaryDirectory() as folder, load.server(Path(folder) / "data", **more) as process:
        ours = asyncio.run(_measure(process, runs))
        ours["manyReaders"] = many_readers(process, ours.pop("workflowId"), 500 if quick else READERS)
    result: dict[str, Any] = {"inFlight": IN_FLIGHT, "nodesPerRun": 3, "aims": AIMS, "dustrun": ours}
    if peers:
        result["dbos"] = dbos.measure(max(100, runs // 10))
        result["ratioToDbos"] = round(ours["runsPerSecond"] / result["dbos"]["runsPerSecond"], 1)
    return result
