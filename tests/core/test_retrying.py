"""When a delivery is tried again, and when a hook is given up."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dustrun.core.hooks import Schedule, is_probed
from dustrun.settings import Settings

DELAYS = Settings.model_fields["hook_retry_s"].default
SCHEDULE = Schedule(DELAYS, 5)


def test_the_default_tries_for_about_a_day() -> None:
    total = sum(SCHEDULE.next_ms(attempt, 50, 0.0, None) or 0 for attempt in range(1, len(DELAYS) + 1))
    assert 23 * 3_600_000 < total <= 24 * 3_600_000
    assert SCHEDULE.next_ms(len(DELAYS) + 1, 50, 0.0, None) is None


@given(st.integers(1, 60), st.integers(0, 50), st.floats(0, 0.999), st.none() | st.integers(0, 10**6))
def test_a_delay_is_never_shorter_than_planned_or_asked(
    attempts: int, most: int, jitter: float, asked: int | None
) -> None:
    found = SCHEDULE.next_ms(attempts, most, jitter, asked)
    if attempts > min(most, len(DELAYS)):
        assert found is None
    else:
        assert found is not None
        assert found >= DELAYS[attempts - 1] * 1000
        assert found >= min(asked or 0, 3600) * 1000
        assert found <= max(DELAYS[attempts - 1] * 1100, 3_600_000)


@given(st.integers(0, 10_000))
def test_a_failing_receiver_is_left_in_peace_for_a_minute_at_most(failures: int) -> None:
    pause = SCHEDULE.pause_ms(failures)
    assert (pause > 0) == is_probed(failures)
    assert pause <= 60_000


@pytest.mark.parametrize(
    ("days", "failing_ms", "expected"), [(5, 432_000_000, True), (5, 431_999_999, False), (0, 10**12, False)]
)
def test_a_hook_is_given_up_after_days(days: float, failing_ms: int, expected: bool) -> None:
    assert Schedule(DELAYS, days).is_hopeless(1000, 1000 + failing_ms) is expected
