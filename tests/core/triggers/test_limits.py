"""Whether an event may start a run."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dustrun.core.triggers.event import TriggerEvent
from dustrun.core.triggers.limits import Admit, StartLimits, decide

FREE = StartLimits("active", None, None, None)


def test_without_limits_every_event_starts_a_run() -> None:
    assert decide(FREE, 5) == Admit(None)


def test_the_last_run_is_taken_once() -> None:
    assert decide(replace(FREE, remain_runs=1), 5) == Admit(0)
    assert Admit(0).takes_last
    assert not Admit(None).takes_last


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (replace(FREE, remain_runs=0), "exhausted"),
        (replace(FREE, remain_runs=0, status="paused"), "exhausted"),
        (replace(FREE, status="paused"), "paused"),
        (replace(FREE, status="archived"), "inactive"),
        (replace(FREE, cooldown_ms=1000, last_triggered_at=4), "cooldown"),
        (replace(FREE, cooldown_ms=1000, last_triggered_at=9000), "cooldown"),
    ],
)
def test_an_event_is_skipped_with_its_reason(limits: StartLimits, reason: str) -> None:
    assert getattr(decide(limits, 1003), "reason", None) == reason


def test_the_cooldown_ends_to_the_millisecond() -> None:
    limits = replace(FREE, cooldown_ms=1000, last_triggered_at=4)
    assert decide(limits, 1004) == Admit(None)


@pytest.mark.parametrize("key", ["", "x" * 301])
def test_a_key_has_1_to_300_characters(key: str) -> None:
    with pytest.raises(ValueError, match="1 to 300 characters"):
        TriggerEvent(key, {}, 0)
