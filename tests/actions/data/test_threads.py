"""Long work leaves the event loop alone, and learns that nobody waits for it any longer."""

from __future__ import annotations

import asyncio
import threading

import pytest

from dustrun.actions.data._threads import run_in_thread


async def test_short_work_is_done_at_once_and_long_work_in_a_thread() -> None:
    here = threading.get_ident()
    assert await run_in_thread(lambda _: threading.get_ident(), 10) == here
    assert await run_in_thread(lambda _: threading.get_ident(), 100_000) != here


async def test_work_that_is_no_longer_waited_for_is_told() -> None:
    told = threading.Event()

    def work(stop: threading.Event) -> None:
        stop.wait(10)
        told.set()

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await run_in_thread(work, 100_000)
    assert await asyncio.to_thread(told.wait, 10)
