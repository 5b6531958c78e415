"""The run call measured over HTTP: rate, latency, long chains, streams, memory, start-up. DBOS beside it."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from bench import load
from bench.peers import dbos

IN_FLIGHT = 50
AIMS = {
    "runsPerSecond": 1500,
    "runsPerSecondWithStreams": 600,
    "aloneP50Ms": 4,
    "chain40S": 0.025,
    "idleRssMib": 120,
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


async def _many_readers(process: load.Process, workflow_id: str, readers: int) -> dict[str, float]:
    """One run with many readers of its stream: memory that they cost, and until the last has seen the end."""
    before = process.rss_mib()
    connection = load.Connection(process)
    opened = asyncio.Semaphore(100)
    waiting = 0

    async def read() -> float:
        nonlocal waiting
        async with opened, load.stream(process, "/v1/runs/run_many/stream") as reader:
            await reader.readline()
            waiting += 1
            opened.release()
            try:
                while not (await reader.readline()).startswith(b"event: run_finished"):
                    pass
            finally:
                await opened.acquire()
            return time.perf_counter()

    tasks = [asyncio.create_task(read()) for _ in range(readers)]
    while waiting < readers:
        await asyncio.sleep(0.02)
    memory = process.rss_mib() - before
    begun = time.perf_counter()
    status, answer = await connection.call("POST", f"/v1/workflows/{workflow_id}/run", {"runId": "run_many"})
    assert status == 200, answer
    last = max(await asyncio.gather(*tasks))
    connection.close()
    return {"readers": readers, "memoryMib": round(memory, 1), "lastReaderMs": round((last - begun) * 1000, 1)}


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
        "manyReaders": await _many_readers(process, three, 1000),
        "rssMibAfterwards": process.rss_mib(),
    }


def run(scale: int | None = None, seed: int = 0, *, quick: bool = False, peers: bool = True) -> dict[str, Any]:
    """`scale` = runs in each round of the rate."""
    del seed
    runs = scale or (300 if quick else 3000)
    more = {"DUSTRUN_MAX_WAITING_STREAMS": "2000"}
    with tempfile.TemporaryDirectory() as folder, load.server(Path(folder) / "data", **more) as process:
        ours = asyncio.run(_measure(process, runs))
    result: dict[str, Any] = {"inFlight": IN_FLIGHT, "nodesPerRun": 3, "aims": AIMS, "dustrun": ours}
    if peers:
        result["dbos"] = dbos.measure(max(100, runs // 10))
        result["ratioToDbos"] = round(ours["runsPerSecond"] / result["dbos"]["runsPerSecond"], 1)
    return result
