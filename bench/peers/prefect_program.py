"""Three durable steps a flow with Prefect, 50 in flight. Runs in Prefect's own environment."""

import asyncio
import json
import sys
import time

from prefect import flow, task  # type: ignore[import-not-found]

IN_FLIGHT = 50


@task
async def step(value: int) -> int:
    return value


@flow
async def three(value: int) -> int:
    return await step(await step(await step(value)))


@flow
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
    for number in range(count):
        begun = time.perf_counter()
        await workflow(number)  # type: ignore[operator]
        times.append(time.perf_counter() - begun)
    return sorted(times)


async def main(runs: int) -> None:
    await three(0)
    rates = sorted([await rate(runs) for _ in range(3)])
    alone, chain = await timed(three, 20), await timed(forty, 3)
    print(
        json.dumps(
            {
                "runsPerSecond": round(rates[1], 1),
                "aloneP50Ms": round(alone[10] * 1000, 2),
                "aloneP99Ms": round(alone[19] * 1000, 2),
                "chain40S": round(chain[1], 4),
            }
        )
    )


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
