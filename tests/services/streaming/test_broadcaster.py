"""Readers of one run: thousands of them hold up nobody, and none loses an event."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from dustrun.services.streaming.broadcaster import WOKEN_AT_ONCE, Broadcaster, Subscription
from dustrun.storage.runs.journal import Event

READERS = 500
EVENTS = [Event(number, "log", 0, "{}") for number in range(1, 5)]


@dataclass(frozen=True)
class Written:
    """A run."""

    pk: int = 7
    id: str = "run_a"
    org_id: str = "org_a"
    workflow_id: str | None = None


class Turns:
    """How many readers went on in each turn of the event loop."""

    def __init__(self) -> None:
        self.counts = [0]
        self._timer = asyncio.get_running_loop().call_soon(self._begin)

    def _begin(self) -> None:
        self.counts.append(0)
        self._timer = asyncio.get_running_loop().call_soon(self._begin)

    def end(self) -> None:
        self._timer.cancel()


async def _read(subscription: Subscription[Event], turns: Turns) -> list[int]:
    seen: list[int] = []
    while len(seen) < len(EVENTS):
        assert await subscription.wait(10)
        turns.counts[-1] += 1
        seen += [event.seq for event in subscription.take()]
    return seen


async def test_readers_of_one_run_go_on_a_few_in_each_turn_and_lose_nothing() -> None:
    hub = Broadcaster()
    turns = Turns()
    reading = [asyncio.create_task(_read(hub.watch_run("org_a", "run_a"), turns)) for _ in range(READERS)]
    await asyncio.sleep(0)
    hub.publish(Written(), EVENTS[:2])
    await asyncio.sleep(0)
    hub.publish(Written(), EVENTS[2:])  # while most readers have not seen the first ones
    seen = await asyncio.wait_for(asyncio.gather(*reading), 20)
    turns.end()
    assert seen == [[1, 2, 3, 4]] * READERS
    assert 0 < max(turns.counts) <= WOKEN_AT_ONCE


async def test_readers_of_many_runs_share_the_turns() -> None:
    hub = Broadcaster()
    turns = Turns()
    runs = [Written(pk, f"run_{pk}") for pk in range(READERS)]
    reading = [asyncio.create_task(_read(hub.watch_run("org_a", run.id), turns)) for run in runs]
    await asyncio.sleep(0)
    for run in runs:
        hub.publish(run, EVENTS)
    assert await asyncio.wait_for(asyncio.gather(*reading), 20) == [[1, 2, 3, 4]] * READERS
    turns.end()
    assert 0 < max(turns.counts) <= WOKEN_AT_ONCE


async def test_all_readers_are_woken_to_read_the_tables() -> None:
    hub = Broadcaster()
    runs = [hub.watch_run("org_a", "run_a") for _ in range(WOKEN_AT_ONCE * 2)]
    readers: list[Subscription[Any]] = [*runs, hub.watch_activity("org_a")]
    hub.lose_all()
    hub.lose_all()
    assert await asyncio.wait_for(asyncio.gather(*(one.wait(10) for one in readers)), 20)
    assert [one.lost for one in readers] == [True] * (WOKEN_AT_ONCE * 2 + 1)
    assert await readers[-1].wait(0.05) is False  # woken once
