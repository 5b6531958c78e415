"""Three durable steps a workflow with DBOS on SQLite, 50 in flight. Runs in DBOS's own environment."""

import asyncio
import json
import resource
import sys
import time

from dbos import DBOS, DBOSConfig

IN_FLIGHT = 50


@DBOS.step()
async def step(value: int) -> int:
    return value


@DBOS.workflow()
async def three(value: int) -> int:
    return await step(await step(await step(value)))


@DBOS.workflow()
async def forty(value: int) -> int:
    for _ in range(40):
        value = await step(value)
    return value


async def rate(runs: int) -> float:
    numbers = iter(range(runs))
    begun = time.perf_counter()

    async def work() -> None:
        for number in numbers:
            await three(number)

    await asyncio.gather(*(work() for _ in range(IN_FLIGHT)))
    return runs / (time.perf_counter() - begun)


async def timed(workflow: object, count: int) -> list[float]:
    times = []
    for _ in range(count):
        begun = time.perf_counter()
        await workflow(1)  # type: ignore[operator]
        times.append(time.perf_counter() - begun)
    return sorted(times)


async def main(path: str, runs: int, started_at: float) -> None:
    DBOS(config=DBOSConfig(name="bench", system_database_url=f"sqlite:///{path}", log_level="ERROR"))
    DBOS.launch()
    ready_s = time.time() - started_at
    idle_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    await rate(50)
    rates = sorted([await rate(runs) for _ in range(3)])
    alone = await timed(three, 100)
    chain = await timed(forty, 10)
    print(
        json.dumps(
            {
                "readyS": round(ready_s, 2),
                "idleRssMib": round(idle_mib, 1),
                "runsPerSecond": round(rates[1], 1),
                "aloneP50Ms": round(alone[50] * 1000, 2),
                "aloneP99Ms": round(alone[98] * 1000, 2),
                "chain40S": round(chain[5], 4),
            }
        )
    )
    DBOS.destroy()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))
