"""When a polled trigger is asked."""

from __future__ import annotations

from dustrun.core.triggers.polling import PollPlace, backoff_ms, spread_ms

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000


def test_failures_double_the_wait_up_to_an_hour() -> None:
    assert [backoff_ms(MINUTE, failures) for failures in (1, 2, 3, 7, 8, 500)] == [
        MINUTE,
        2 * MINUTE,
        4 * MINUTE,
        HOUR,
        HOUR,
        HOUR,
    ]
    assert backoff_ms(DAY, 9) == DAY


def test_a_source_may_ask_for_a_longer_wait_of_a_day_at_most() -> None:
    assert backoff_ms(MINUTE, 1, 90.0) == 90_000
    assert backoff_ms(MINUTE, 3, 1.0) == 4 * MINUTE
    assert backoff_ms(MINUTE, 1, 1e9) == DAY


def test_overdue_looks_are_spread_over_the_interval() -> None:
    found = [spread_ms(f"sub_{number}", 10_000) for number in range(1000)]
    assert all(0 <= one < 10_000 for one in found)
    assert all(sum(one // 1000 == second for one in found) > 50 for second in range(10))
    assert spread_ms("sub_7", 10_000) == found[7]
    assert max(spread_ms(f"sub_{number}", DAY) for number in range(1000)) < 30_000


def test_a_place_goes_through_its_stored_form() -> None:
    for place in (PollPlace(None), PollPlace({"seen": ["a"]}, ({"key": "a", "payload": {}, "at": 1},))):
        assert PollPlace.read(place.stored()) == place
    assert PollPlace.read(None) is None
