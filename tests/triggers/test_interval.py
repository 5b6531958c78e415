from __future__ import annotations

import pytest
from pydantic import ValidationError

from dustrun.catalog import load

TRIGGER = load().triggers["interval"]
NINE = 1_769_850_000_000  # 2026-01-31T09:00:00Z


def fires(after: int, **config: object) -> list[int | None]:
    """The next three fires, in milliseconds from nine."""
    assert TRIGGER.next_fire is not None
    checked = TRIGGER.config.model_validate(config)
    found: list[int | None] = []
    for _ in range(3):
        at = TRIGGER.next_fire(checked, after, None)
        assert at is not None
        found.append(at - NINE)
        after = at
    return found


def test_the_times_are_counted_from_the_first_whenever_somebody_asks() -> None:
    every = 5_400_000
    config = {"everyMs": every, "startAt": "2026-01-31T10:00:00+01:00"}
    assert fires(NINE - 1_000_000_000, **config) == [0, every, 2 * every]
    assert fires(NINE, **config) == fires(NINE + every - 1, **config) == [every, 2 * every, 3 * every]
    assert fires(NINE, everyMs=3_600_000) == [3_600_000, 7_200_000, 10_800_000]


@pytest.mark.parametrize(
    "config", [{"everyMs": 1500}, {"everyMs": 0}, {"everyMs": 1000, "startAt": "2026-01-31T09:00"}]
)
def test_what_is_no_interval_is_refused(config: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        TRIGGER.config.model_validate(config)
