"""Work on names when they are due."""

from __future__ import annotations

import asyncio
from itertools import pairwise

from dustrun import clock
from dustrun.trigger_host.due_work import DueWork

_LASTS_S = 0.02


async def test_a_worker_rests_for_as_long_as_it_worked() -> None:
    """However many names are due at once, half of the time belongs to others."""
    begun: list[float] = []

    async def work(name: str) -> int | None:
        begun.append(clock.monotonic_s())
        await asyncio.sleep(_LASTS_S)
        return None

    due = DueWork(work, 1)
    due.start()
    for number in range(4):
        due.set_due(f"n{number}")
    async with asyncio.timeout(60):
        while len(begun) < 4:
            await asyncio.sleep(0.005)
    await due.stop()
    assert all(later - sooner >= 2 * _LASTS_S for sooner, later in pairwise(begun))


async def test_a_name_that_is_due_again_is_worked_on_again() -> None:
    begun: list[str] = []

    async def work(name: str) -> int | None:
        begun.append(name)
        return clock.now_ms() if len(begun) < 3 else None

    due = DueWork(work, 8)
    due.start()
    due.set("a", clock.now_ms())
    async with asyncio.timeout(60):
        while len(begun) < 3:
            await asyncio.sleep(0.005)
    await due.stop()
    assert begun == ["a"] * 3


async def test_it_works_again_after_it_was_stopped_more_often_than_started() -> None:
    """A host that fails to begin stops what has already stopped."""
    begun: list[str] = []

    async def work(name: str) -> int | None:
        begun.append(name)
        return None

    due = DueWork(work, 2)
    due.start()
    await due.stop()
    await due.stop()
    due.start()
    due.set_due("a")
    async with asyncio.timeout(60):
        while not begun:
            await asyncio.sleep(0.005)
    await due.stop()
    assert begun == ["a"]
