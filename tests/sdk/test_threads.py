"""Long work leaves the event loop alone, and learns that nobody waits for it any longer."""

from __future__ import annotations

import asyncio
import contextvars
import threading

import pytest

from dustrun.sdk.threads import run_in_thread, run_sized


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


async def test_work_on_a_large_value_runs_in_a_thread_with_the_callers_context() -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
    variable.set("of the caller")
    here = threading.get_ident()

    def work(_: str) -> tuple[int, str]:
        return threading.get_ident(), variable.get()

    assert await run_sized([1], work, "x") == (here, "of the caller")
    thread, seen = await run_sized([1] * 2001, work, "x")
    assert (thread != here, seen) == (True, "of the caller")
