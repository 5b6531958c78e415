"""Three durable steps a flow with Prefect, 50 in flight, or the most that its server bears: on SQLite it answers 503
when too many write at once. Runs in Prefect's own environment."""

import asyncio
import statistics
import sys
from collections.abc import AsyncIterator
from typing import Any

from prefect import flow, task  # type: ignore[import-not-found]

from bench.peers import measuring

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


async def figures(runs: int, server: int) -> AsyncIterator[dict[str, Any]]:
    await three(0)
    yield measuring.alone(await measuring.timed(three, 20))
    yield measuring.chain(await measuring.timed(forty, 3))
    yield await rate_that_it_bears(runs, server)


async def rate_that_it_bears(runs: int, server: int) -> dict[str, Any]:
    """The median of three rounds with the most flows in flight with which all of them succeed."""
    for in_flight in IN_FLIGHT:
        try:
            found = [
                await measuring.rate(three, runs, measuring.own_and(server), in_flight=in_flight) for _ in range(3)
            ]
        except* Exception as errors:
            print(f"{in_flight} in flight: {errors.exceptions[0]!r}", file=sys.stderr)
        else:
            return {"inFlight": in_flight, **{key: statistics.median(one[key] for one in found) for key in found[0]}}
    return {"inFlight": 0, "incomplete": "flows failed even one at a time"}


if __name__ == "__main__":
    asyncio.run(measuring.say(figures(int(sys.argv[1]), int(sys.argv[2]))))
