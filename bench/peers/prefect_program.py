"""Three durable steps a flow with Prefect, 50 in flight, or the most that its server bears: on SQLite it answers 503
when too many write at once. Runs in Prefect's own environment."""

import asyncio
import json
import sys
import time

from prefect import flow, task  # type: ignore[import-not-found]

IN_FLIGHT = (50, 20, 10, 5, 2, 1)


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


async def rate(runs: int, in_flight: int) -> float:
    numbers = iter(range(runs))
    begun = time.perf_counter()

    async def work() -> None:
        for number in numbers:
            await three(number)

    async with asyncio.TaskGroup() as group:
        for _ in range(in_flight):
            group.create_task(work())
    return runs / (time.perf_counter() - begun)


async def rate_that_it_bears(runs: int) -> dict[str, object]:
    """The median of three rounds with the most flows in flight with which all of them succeed."""
    for in_flight in IN_FLIGHT:
        try:
            rates = sorted([await rate(runs, in_flight) for _ in range(3)])
        except* Exception as errors:
            print(f"{in_flight} in flight: {errors.exceptions[0]!r}", file=sys.stderr)
        else:
            return {"runsPerSecond": round(rates[1], 1), "inFlight": in_flight}
    return {"inFlight": 0}


async def timed(workflow: object, count: int) -> list[float]:
    times = []
    for number in range(count):
        begun = time.perf_counter()
        await workflow(number)  # type: ignore[operator]
        times.append(time.perf_counter() - begun)
    return sorted(times)


async def main(runs: int) -> None:
    await three(0)
    alone, chain = await timed(three, 20), await timed(forty, 3)
    borne = await rate_that_it_bears(runs)
    print(
        json.dumps(
            {
                **borne,
                "aloneP50Ms": round(alone[10] * 1000, 2),
                "aloneP99Ms": round(alone[19] * 1000, 2),
                "chain40S": round(chain[1], 4),
            }
        )
    )


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
