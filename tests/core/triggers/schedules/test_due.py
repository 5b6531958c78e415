from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dustrun.core.triggers.schedules.due import (
    GRACE_MS,
    MAX_COUNTED,
    Drop,
    Fire,
    NextFire,
    Policy,
    ScheduleProgress,
    Wait,
    decide,
    jitter,
)

MINUTE = 60_000
HOUR = 60 * MINUTE


def hourly(after: int) -> int:
    return (after // HOUR + 1) * HOUR


def play(
    place: ScheduleProgress, now: int, policy: Policy, next_fire: NextFire = hourly
) -> tuple[list[Fire | Drop], ScheduleProgress, int | None]:
    """All that a schedule does at one moment, where it is then, and until when it waits."""
    done: list[Fire | Drop] = []
    while True:
        found = decide(place, now, policy, "sub_1", next_fire)
        if isinstance(found, Wait):
            return done, place, found.until
        done.append(found)
        place = found.after


def fired(done: list[Fire | Drop]) -> list[int]:
    return [one.at // HOUR for one in done if isinstance(one, Fire)]


@pytest.mark.parametrize("on_missed", ["skip", "once", "all"])
def test_a_fire_on_time_is_never_missed(on_missed: Any) -> None:
    done, place, until = play(ScheduleProgress(5 * HOUR), 5 * HOUR + GRACE_MS, Policy(on_missed=on_missed))
    assert (done, place, until) == ([Fire(5 * HOUR, ScheduleProgress(6 * HOUR))], ScheduleProgress(6 * HOUR), 6 * HOUR)


def test_skip_drops_what_was_missed() -> None:
    done, place, _ = play(ScheduleProgress(5 * HOUR), 8 * HOUR + 2 * MINUTE, Policy(on_missed="skip"))
    assert done == [Drop(5 * HOUR, 8 * HOUR, 4, ScheduleProgress(9 * HOUR))]
    assert place == ScheduleProgress(9 * HOUR)


def test_skip_keeps_the_last_one_if_it_is_on_time() -> None:
    done, _, _ = play(ScheduleProgress(5 * HOUR), 8 * HOUR + 1, Policy(on_missed="skip"))
    assert done == [Drop(5 * HOUR, 7 * HOUR, 3, ScheduleProgress(8 * HOUR)), Fire(8 * HOUR, ScheduleProgress(9 * HOUR))]


def test_once_runs_the_last_one_and_tells_how_many_it_stands_for() -> None:
    done, _, _ = play(ScheduleProgress(5 * HOUR), 8 * HOUR + 2 * MINUTE, Policy(on_missed="once"))
    assert done == [Fire(8 * HOUR, ScheduleProgress(9 * HOUR), missed=3)]


def test_all_runs_each_one_up_to_the_cap_and_drops_the_oldest() -> None:
    assert fired(play(ScheduleProgress(5 * HOUR), 8 * HOUR + 2 * MINUTE, Policy(on_missed="all"))[0]) == [5, 6, 7, 8]
    done, _, _ = play(ScheduleProgress(5 * HOUR), 8 * HOUR + 2 * MINUTE, Policy(on_missed="all", missed_cap=2))
    assert done[0] == Drop(5 * HOUR, 6 * HOUR, 2, ScheduleProgress(7 * HOUR))
    assert fired(done) == [7, 8]


@pytest.mark.parametrize(("on_missed", "runs"), [("skip", 1), ("once", 1), ("all", 10)])  # the last one is on time
def test_years_of_missed_minutes_take_few_steps(on_missed: Any, runs: int) -> None:
    asked = 0

    def minutely(after: int) -> int:
        nonlocal asked
        asked += 1
        return (after // MINUTE + 1) * MINUTE

    now = 3 * 365 * 24 * HOUR + 1
    done, place, _ = play(ScheduleProgress(MINUTE), now, Policy(on_missed=on_missed), minutely)
    assert place.next == now - 1 + MINUTE
    assert len(fired(done)) == runs
    assert asked < 20 * MAX_COUNTED


def test_a_waiting_fire_comes_before_everything_else() -> None:
    done, place, _ = play(ScheduleProgress(9 * HOUR, (5 * HOUR, 6 * HOUR)), 8 * HOUR, Policy())
    assert done == [
        Fire(5 * HOUR, ScheduleProgress(9 * HOUR, (6 * HOUR,)), waited=True),
        Fire(6 * HOUR, ScheduleProgress(9 * HOUR), waited=True),
    ]
    assert place == ScheduleProgress.read(place.cursor())


def test_a_schedule_without_a_next_time_waits_for_ever() -> None:
    assert decide(ScheduleProgress(None), 10**15, Policy(), "sub_1", hourly) == Wait(None)


def test_the_last_time_of_a_finite_schedule_fires() -> None:
    done, place, until = play(ScheduleProgress(5 * HOUR), 5 * HOUR, Policy(), lambda after: None)
    assert (fired(done), place, until) == ([5], ScheduleProgress(None), None)


def test_a_clock_that_was_set_back_fires_nothing_again() -> None:
    done, place, until = play(ScheduleProgress(9 * HOUR), 3 * HOUR, Policy())
    assert (done, place, until) == ([], ScheduleProgress(9 * HOUR), 9 * HOUR)


@given(st.integers(0, 10**13), st.integers(0, HOUR))
def test_jitter_delays_by_at_most_so_much_and_is_always_the_same(at: int, most: int) -> None:
    assert 0 <= jitter("sub_1", at, most) <= most
    assert jitter("sub_1", at, most) == jitter("sub_1", at, most)


def test_jitter_differs_between_schedules_and_times() -> None:
    assert len({jitter(f"sub_{n}", at, HOUR) for n in range(30) for at in range(30)}) > 850


def test_a_jittered_fire_waits_and_keeps_its_time() -> None:
    policy = Policy(jitter_ms=30 * MINUTE)
    late = jitter("sub_1", 5 * HOUR, 30 * MINUTE)
    assert decide(ScheduleProgress(5 * HOUR), 5 * HOUR + late - 1, policy, "sub_1", hourly) == Wait(5 * HOUR + late)
    assert decide(ScheduleProgress(5 * HOUR), 5 * HOUR + late, policy, "sub_1", hourly) == Fire(
        5 * HOUR, ScheduleProgress(6 * HOUR)
    )


@given(
    st.sampled_from(["skip", "once", "all"]),
    st.integers(1, 12),
    st.lists(st.integers(1, 30 * HOUR), min_size=1, max_size=8),
    st.integers(0, 2 * HOUR),
)
def test_no_time_is_fired_twice_or_out_of_order_or_forgotten(
    on_missed: Any, cap: int, waits: list[int], most_jitter: int
) -> None:
    """Whenever the schedule is looked at: what fired and what was dropped are all hours, each once."""
    policy = Policy(on_missed=on_missed, missed_cap=cap, jitter_ms=most_jitter)
    place, now, seen = ScheduleProgress(HOUR), 0, []
    for wait in waits:
        now += wait
        done, place, _ = play(place, now, policy)
        for one in done:
            if isinstance(one, Drop):
                seen += list(range(one.first, one.last + 1, HOUR))
                assert one.count == (one.last - one.first) // HOUR + 1
            else:
                seen += [one.at - back * HOUR for back in range(one.missed, -1, -1)]
    assert place.next is not None
    assert seen == list(range(HOUR, place.next, HOUR))
