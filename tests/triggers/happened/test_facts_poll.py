from __future__ import annotations

from typing import Any

from dustrun.sdk.trigger import Fact
from dustrun.triggers.happened.facts_poll import OVERLAP_MS, begin, news_of, since_of

NOW = 1_800_000_000_000


def fact(number: int, at: int, **more: Any) -> Fact:
    return Fact(f"f{number}", "final", at, {"n": number}, **more)


def test_each_fact_is_told_once_also_one_that_was_committed_late() -> None:
    cursor: Any = begin(NOW)
    told: list[int] = []
    facts = [fact(0, NOW - 1), fact(1, NOW + 10), fact(2, NOW + 5_000)]  # the first was before the trigger
    late = fact(3, NOW + 20)
    for now, known in ((NOW + 6_000, facts), (NOW + 7_000, [*facts, late]), (NOW + 9_000_000, [*facts, late])):
        found = news_of([one for one in known if one.at >= since_of(cursor, now)], cursor, now, None, ["final"])
        told += [one.payload["n"] for one in found.events]
        cursor = found.cursor
    assert told == [1, 2, 3]
    assert cursor == {"since": NOW + 9_000_000, "seen": []}


def test_many_facts_of_one_instant_are_told_over_several_looks() -> None:
    facts, cursor, told = [fact(number, NOW) for number in range(120)], begin(NOW), list[str]()
    for _ in range(3):
        found = news_of(facts, cursor, NOW + 10, None, ["final"])
        told += [one.key for one in found.events]
        assert (found.after_ms == 0) == (len(told) < 120)
        cursor = found.cursor
    assert (len(told), len(set(told))) == (120, 120)
    assert news_of(facts, cursor, NOW + 20, None, ["final"]).cursor is cursor  # nothing to write


def test_what_a_workflow_has_led_to_starts_none_of_its_runs() -> None:
    facts = [fact(1, NOW, depth=2, through=("wf_a", "wf_b")), fact(2, NOW, depth=10), fact(3, NOW)]
    events = news_of(facts, begin(NOW), NOW, "wf_b", ["final"]).events
    assert [one.no_run.reason if one.no_run else None for one in events] == ["circle", "depth", None]
    assert [one.payload["depth"] for one in events] == [3, 11, 1]
    assert news_of(facts, begin(NOW), NOW, None, ["reverted"]).events == []
    assert OVERLAP_MS == 60_000
