"""The event loop of simulations: virtual time, one order from one seed, threads as steps, hangs, and deaths."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from testkit.simulation.loop import Hang, Loop, no_threads

Work = Callable[[Loop], Coroutine[Any, Any, None]]


def _lived(work: Work, seed: int = 1, *, shuffles: bool = False) -> Loop:
    loop = Loop(seed, shuffles=shuffles)
    try:
        done = loop.outside(work(loop))
        done.add_done_callback(lambda _done: loop.stop())
        loop.run_forever()
        done.result()
    finally:
        loop.close()
    return loop


def test_a_week_of_sleep_takes_no_time() -> None:
    async def work(_loop: Loop) -> None:
        await asyncio.sleep(7 * 86_400)

    assert _lived(work).time() == 7 * 86_400


def test_threads_are_steps_whose_order_comes_from_the_seed() -> None:
    def order(seed: int) -> list[int]:
        found: list[int] = []

        async def work(loop: Loop) -> None:
            await asyncio.gather(*(loop.run_in_executor(None, found.append, number) for number in range(8)))

        _lived(work, seed)
        return found

    assert order(1) == order(1)
    assert len({tuple(order(seed)) for seed in range(5)}) > 1


def test_a_real_thread_is_refused() -> None:
    with no_threads(), pytest.raises(RuntimeError, match="leaves the simulation: mine"):
        threading.Thread(target=print, name="mine").start()


def test_a_hang_names_its_task() -> None:
    async def waits_for_nobody(loop: Loop) -> None:
        await loop.create_future()

    with pytest.raises(Hang, match=r"Nothing is left to run at 0\.000 s.*waits_for_nobody"):
        _lived(waits_for_nobody)


def test_time_that_does_not_advance_names_its_task() -> None:
    async def turns_round(_loop: Loop) -> None:
        while True:
            await asyncio.sleep(0)

    with pytest.raises(Hang, match=r"Time does not advance.*turns_round"):
        _lived(turns_round)


def test_whoever_asks_without_end_is_named_too() -> None:
    async def asks_again(_loop: Loop) -> None:
        while True:
            await asyncio.sleep(0.000_01)

    with pytest.raises(Hang, match=r"Time does not advance: 20,000 steps since .* of the last 1,000: .*asks_again"):
        _lived(asks_again)


def test_what_goes_on_and_never_ends_is_named_too() -> None:
    async def goes_on(loop: Loop) -> None:
        loop.ends_by_s = 1000.0
        while True:
            await asyncio.sleep(10)

    with pytest.raises(Hang, match=r"The world goes on at 10\d\d s and does not end\. .*goes_on"):
        _lived(goes_on)


def test_of_a_killed_server_nothing_runs_again_and_the_world_goes_on() -> None:
    said: list[str] = []

    async def serve() -> None:
        try:
            await asyncio.sleep(10)
            said.append("served")
        finally:
            said.append("cleaned up")

    dead = []

    async def work(loop: Loop) -> None:
        dead.append(loop.inside(serve()))
        loop.kill_after(2, "commit")
        assert not loop.point("commit")
        await asyncio.sleep(1)
        assert not loop.point("sink")
        assert loop.point("commit", writing=True)
        await asyncio.sleep(100)
        said.append("the world goes on")
        assert not loop.point("commit")

    deaths: list[bool] = []

    async def with_deaths(loop: Loop) -> None:
        loop.on_kill = deaths.append
        await work(loop)

    assert _lived(with_deaths).lives == 1
    assert said == ["the world goes on"]
    assert deaths == [True]
    dead[0].get_coro().close()


def test_tasks_in_a_set_have_one_order_in_each_process() -> None:
    ended: list[int] = []

    async def wait(number: int) -> None:
        try:
            await asyncio.sleep(100)
        finally:
            ended.append(number)

    async def fail_together() -> None:
        between = []  # other things lie between the tasks, as in a process that has done something else before
        async with asyncio.TaskGroup() as tasks:  # which holds them in a set
            for number in range(20):
                between.append([object() for _ in range(number * 7)])
                tasks.create_task(wait(number))
            await asyncio.sleep(1)
            raise ValueError

    async def work(_loop: Loop) -> None:
        with pytest.raises(ExceptionGroup):
            await fail_together()

    _lived(work)
    assert ended == list(range(20))
