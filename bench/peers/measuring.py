"""The same rounds for every peer, 50 workflows in flight and one alone; each figure is given as soon as it is there.

The programs of the peers import this module in their own environments: it needs nothing but the standard library.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from bench.peers import IN_FLIGHT, Stuck

Workflow = Callable[[int], Awaitable[object]]
Clock = Callable[[], float]

ENDS_WITHIN_S = 30.0
"""A workflow of some milliseconds that takes this long never ends."""


async def measure(
    three: Workflow, forty: Workflow, runs: int, cpu_s: Clock, *, within_s: float = ENDS_WITHIN_S
) -> AsyncIterator[dict[str, Any]]:
    """Runs `three` in rounds of `runs`, then both alone, and yields figures; `cpu_s` is the processor time used so far,
    in seconds. Raises `Stuck` if a workflow does not end within `within_s` seconds."""
    await rate(three, max(IN_FLIGHT, runs // 10), cpu_s, within_s=within_s)
    rounds = []
    for _ in range(3):
        rounds.append(await rate(three, runs, cpu_s, within_s=within_s))
        yield {key: round(statistics.median(one[key] for one in rounds), 3) for key in rounds[0]}
    few = max(20, min(100, runs))
    yield alone(await timed(three, few, within_s=within_s))
    yield chain(await timed(forty, max(5, few // 5), within_s=within_s))


async def rate(
    workflow: Workflow, runs: int, cpu_s: Clock, *, in_flight: int = IN_FLIGHT, within_s: float = ENDS_WITHIN_S
) -> dict[str, float]:
    """Workflows a second, and the processor time of each in milliseconds."""
    numbers, ended = iter(range(runs)), 0
    begun, used = time.perf_counter(), cpu_s()

    def so_far() -> str:
        return f"{ended} of {runs} with {in_flight} in flight ended"

    async def work() -> None:
        nonlocal ended
        for number in numbers:
            await _ended(workflow(number), within_s, so_far)
            ended += 1

    async with asyncio.TaskGroup() as group:
        for _ in range(in_flight):
            group.create_task(work())
    seconds = time.perf_counter() - begun
    return {"runsPerSecond": round(runs / seconds, 1), "cpuMsPerRun": round((cpu_s() - used) / runs * 1000, 3)}


async def timed(workflow: Workflow, count: int, *, within_s: float = ENDS_WITHIN_S) -> list[float]:
    """Seconds of each of `count` workflows, one after the other; the first tenth warms up."""
    times: list[float] = []
    for number in range(count):
        begun = time.perf_counter()
        await _ended(workflow(number), within_s, lambda: f"{len(times)} of {count} alone ended")
        times.append(time.perf_counter() - begun)
    return sorted(times[count // 10 :])


async def _ended(workflow: Awaitable[object], within_s: float, so_far: Callable[[], str]) -> None:
    try:
        async with asyncio.timeout(within_s):
            await workflow
    except TimeoutError:
        raise Stuck(f"a workflow did not end within {within_s:g} s; {so_far()} before") from None


def alone(times: Sequence[float]) -> dict[str, float]:
    """The figures of workflows of 3 steps, one at a time; sorted seconds."""
    p50, p99 = times[len(times) // 2], times[int(len(times) * 0.99)]
    return {"aloneP50Ms": round(p50 * 1000, 2), "aloneP99Ms": round(p99 * 1000, 2)}


def chain(times: Sequence[float]) -> dict[str, float]:
    """The figure of workflows of 40 steps, one at a time; sorted seconds."""
    return {"chain40S": round(times[len(times) // 2], 4)}


async def collect(found: dict[str, Any], figures: AsyncIterator[dict[str, Any]]) -> None:
    """Adds each figure to `found` as it comes, and why no more of them came, if they stopped, as `incomplete`."""
    try:
        async for one in figures:
            found.update(one)
    except* Stuck as stuck:
        found["incomplete"] = first(stuck)


def first(group: BaseExceptionGroup[Stuck]) -> str:
    """What the first of several workflows says that are stuck for the same reason."""
    one: BaseException = group
    while isinstance(one, BaseExceptionGroup):
        one = one.exceptions[0]
    return str(one)


async def say(figures: AsyncIterator[dict[str, Any]]) -> None:
    """For a program: prints each figure as a line of JSON as it comes."""
    found: dict[str, Any] = {}

    async def each() -> AsyncIterator[dict[str, Any]]:
        async for one in figures:
            print(json.dumps(one), flush=True)
            yield one

    await collect(found, each())
    if "incomplete" in found:
        print(json.dumps({"incomplete": found["incomplete"]}), flush=True)


def own_and(pid: int) -> Clock:
    """The processor time of this process, and of that process with all that it started; Linux only."""
    return lambda: time.process_time() + sum(_cpu_s(one) for one in _family(pid))


def _family(pid: int) -> list[int]:
    children: list[int] = []
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
        for task in Path(f"/proc/{pid}/task").iterdir():
            children += [int(child) for child in (task / "children").read_text().split()]
    return [pid, *(one for child in children for one in _family(child))]


def _cpu_s(pid: int) -> float:
    """Also of the threads that have ended, unlike the sum over the threads that live."""
    try:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):  # it has just ended
        return 0.0
    return (int(words[11]) + int(words[12])) / _TICKS


_TICKS = os.sysconf("SC_CLK_TCK")
