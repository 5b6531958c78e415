"""Whether and when a failed attempt is made again."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dustrun.core.run.retry import GiveUp, RetryAt, decide
from dustrun.core.workflow.definition import RetryPolicy

NOW = 1_700_000_000_000
STEADY = RetryPolicy(max_attempts=10, backoff_ms=1000, max_backoff_ms=60_000, jitter=False)
SHAKY = STEADY.model_copy(update={"jitter": True})


def wait(policy: RetryPolicy, attempt: int, *, jitter: float = 0.0, after_ms: int | None = None) -> int:
    decision = decide(policy, attempt, retryable=True, now=NOW, jitter=jitter, after_ms=after_ms)
    assert isinstance(decision, RetryAt)
    return decision.at - NOW


@pytest.mark.parametrize(
    ("policy", "attempt", "retryable"),
    [
        (None, 1, True),
        (STEADY, 1, False),
        (STEADY, 10, True),
        (STEADY, 11, True),
        (RetryPolicy(), 1, True),
    ],
)
def test_it_gives_up(policy: RetryPolicy | None, attempt: int, retryable: bool) -> None:
    assert decide(policy, attempt, retryable=retryable, now=NOW, jitter=0.0) == GiveUp()


def test_waits_double_up_to_the_longest() -> None:
    assert [wait(STEADY, attempt) for attempt in range(1, 10)] == [
        1000,
        2000,
        4000,
        8000,
        16_000,
        32_000,
        60_000,
        60_000,
        60_000,
    ]


@pytest.mark.parametrize(("jitter", "expected"), [(0.0, 4000), (0.5, 3000), (0.999999, 2001)])
def test_jitter_shortens_by_up_to_a_half(jitter: float, expected: int) -> None:
    assert wait(SHAKY, 3, jitter=jitter) == expected
    assert wait(STEADY, 3, jitter=jitter) == 4000


@pytest.mark.parametrize(("after_ms", "expected"), [(None, 1000), (10, 1000), (5000, 5000), (500_000, 500_000)])
def test_what_the_other_side_asks_for_is_the_least_wait(after_ms: int | None, expected: int) -> None:
    assert wait(STEADY, 1, after_ms=after_ms) == expected


def test_no_backoff_is_at_once() -> None:
    assert wait(STEADY.model_copy(update={"backoff_ms": 0}), 5) == 0


policies = st.builds(
    RetryPolicy,
    max_attempts=st.integers(1, 100),
    backoff_ms=st.integers(0, 86_400_000),
    max_backoff_ms=st.integers(0, 86_400_000),
    jitter=st.booleans(),
)


@given(policies, st.integers(1, 120), st.floats(0, 1, exclude_max=True), st.none() | st.integers(0, 10**7))
def test_a_decision_is_whole_in_time_and_ends(
    policy: RetryPolicy, attempt: int, jitter: float, after_ms: int | None
) -> None:
    decision = decide(policy, attempt, retryable=True, now=NOW, jitter=jitter, after_ms=after_ms)
    if isinstance(decision, GiveUp):
        assert attempt >= policy.max_attempts
        return
    assert attempt < policy.max_attempts
    assert type(decision.at) is int
    waited = decision.at - NOW
    assert (after_ms or 0) <= waited <= max(policy.max_backoff_ms, after_ms or 0)


@given(policies, st.integers(1, 98))
def test_waits_never_shrink(policy: RetryPolicy, attempt: int) -> None:
    def at(number: int) -> Any:
        many = policy.model_copy(update={"max_attempts": 100})
        return decide(many, number, retryable=True, now=NOW, jitter=0.0)

    assert at(attempt).at <= at(attempt + 1).at
