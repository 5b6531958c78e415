from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from dustrun.sdk.trigger import Fact, Polled, TriggerContext
from dustrun.triggers.happened.facts_poll import begin, news

NOW = 1_800_000_000_000


def fact(number: int, at: int = NOW, **more: Any) -> Fact:
    return Fact(f"f{number}", "final", at, {"n": number}, number=number, **more)


class Known:
    """Facts that are known to a trigger of one workflow, and the time."""

    def __init__(self, *facts: Fact, own: str | None = None, at_once: int = 50) -> None:
        self.facts, self.workflow_id, self.now_ms, self._at_once = self, own, NOW, at_once
        self.known = list(facts)

    async def newest(self) -> int:
        return max((one.number for one in self.known), default=0)

    async def happened(self, _: str, after: int) -> tuple[Sequence[Fact], int, bool]:
        found = [one for one in self.known if one.number > after][: self._at_once]
        return found, found[-1].number if found else after, len(found) == self._at_once

    async def by_time(self, _: str, since: int) -> Sequence[Fact]:
        return [one for one in self.known if one.at >= since]

    async def look(self, cursor: Any, stuck: Sequence[Fact] = (), *, wants: str = "final") -> Polled:
        return await news(
            cast(TriggerContext, self), "approval", cursor, lambda one: one.what in (wants, "stuck"), stuck
        )


async def test_each_fact_is_told_once_however_old_it_is_when_it_is_committed() -> None:
    server, told = Known(fact(0)), list[int]()
    cursor = begin(0, NOW)
    for late in (fact(1), fact(2, NOW - 600_000), fact(3, 0)):
        server.known.append(late)
        server.now_ms += 9_000_000
        found = await server.look(cursor)
        told += [one.payload["n"] for one in found.events]
        cursor = found.cursor
    assert told == [1, 2, 3]
    assert (await server.look(cursor)).cursor == cursor  # nothing to write
    assert (await server.look(None)) == Polled((), begin(3, server.now_ms))


async def test_many_facts_are_told_over_several_looks_and_each_event_has_its_own_cursor() -> None:
    server, cursor, told = Known(*map(fact, range(1, 121))), begin(0, NOW), list[Any]()
    for _ in range(3):
        found = await server.look(cursor)
        assert (found.after_ms == 0) == (len(told) < 100)
        told += [(one.key, one.cursor["after"]) for one in found.events]
        cursor = found.cursor
    assert told == [(f"f{n}", n) for n in range(1, 121)]


async def test_what_a_server_without_numbers_has_not_told_is_told_once() -> None:
    seen, fresh, before = fact(1), fact(2, NOW + 5), fact(3, NOW - 10)
    server = Known(seen, fresh, before)
    found = await server.look({"since": NOW + 9, "seen": ["f1"], "from": NOW})
    assert ([one.key for one in found.events], found.cursor) == (["f2"], begin(3, NOW))
    assert (await server.look(found.cursor)).events == []


async def test_what_is_stuck_is_told_once_until_it_moves() -> None:
    stuck = [Fact(f"s{n}", "stuck", NOW + n, {"n": n}) for n in range(-1, 60)]
    server, cursor, told = Known(), begin(0, NOW), list[str]()
    for lasting in (stuck, stuck, stuck[:30], stuck):
        found = await server.look(cursor, lasting)
        told += [one.key for one in found.events]
        cursor = found.cursor
    # the first was stuck before; those that moved are told again, under the key of before unless they were signed anew
    assert told == [f"s{n}" for n in range(60)] + [f"s{n}" for n in range(29, 60)]


async def test_what_a_workflow_has_led_to_starts_none_of_its_runs() -> None:
    facts = [fact(1, depth=2, through=("wf_a", "wf_b")), fact(2, depth=10), fact(3)]
    server = Known(*facts, own="wf_b")
    events = (await server.look(begin(0, NOW))).events
    assert [one.no_run.reason if one.no_run else None for one in events] == ["circle", "depth", None]
    assert [one.payload["depth"] for one in events] == [3, 11, 1]
    assert (await server.look(begin(0, NOW), wants="reverted")).events == []
