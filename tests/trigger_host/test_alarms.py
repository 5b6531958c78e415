"""Times at which something is due."""

from __future__ import annotations

import asyncio

from dustrun import clock
from dustrun.trigger_host.due_work import Alarms


def test_names_are_due_in_order_and_once() -> None:
    alarms = Alarms(lambda name: None)
    for name, at in (("c", 30), ("a", 10), ("b", 20), ("d", 40)):
        alarms.set(name, at)
    assert alarms.take_due(30) == ["a", "b", "c"]
    assert alarms.take_due(30) == []
    assert len(alarms) == 1


def test_a_new_time_replaces_the_old_one() -> None:
    alarms = Alarms(lambda name: None)
    alarms.set("a", 10)
    alarms.set("a", 50)
    alarms.set("b", 20)
    alarms.drop("b")
    assert alarms.take_due(40) == []
    assert alarms.take_due(50) == ["a"]


async def test_an_earlier_time_wakes_the_loop() -> None:
    done: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    alarms = Alarms(done.set_result)
    alarms.start()
    alarms.set("late", clock.now_ms() + 3_600_000)
    alarms.set("soon", clock.now_ms() + 1)
    assert await asyncio.wait_for(done, 5) == "soon"
    await alarms.stop()
