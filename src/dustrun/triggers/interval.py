"""Starts a run every so often.

Use it for what only has to come again and again, at no particular time of the day: every 90 seconds, every 36 hours.
The times are counted from `startAt`, so neither a restart nor a new version moves them, and daylight saving plays no
part. For times of the day, use `cronjob`.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import Field, field_validator

from dustrun.core.triggers.schedules.preview import payload_of
from dustrun.core.triggers.schedules.timed_config import TimedConfig, TimedOutput, too_frequent
from dustrun.core.triggers.schedules.wall_clock import EPOCH
from dustrun.sdk import Finding, TriggerConfig, TriggerContext
from dustrun.sdk.trigger import timed


class Config(TriggerConfig, TimedConfig):
    """How often it runs."""

    every_ms: int = Field(
        ge=1000, le=31_536_000_000, multiple_of=1000, description="Milliseconds between two runs: whole seconds."
    )
    start_at: str | None = Field(
        None,
        description="The first time, RFC 3339 with the distance from UTC; the others are counted from it. Null: they "
        "are counted from 1970, so every hour is every full hour of UTC.",
        examples=["2026-01-31T09:00:00Z"],
    )

    @field_validator("start_at")
    @classmethod
    def _check_start(cls, text: str | None) -> str | None:
        if text is not None:
            _moment(text)
        return text

    @property
    def start_ms(self) -> int:
        """The first time, in milliseconds since 1970."""
        return 0 if self.start_at is None else _moment(self.start_at)


def _moment(text: str) -> int:
    try:
        time = datetime.fromisoformat(text)
        if time.tzinfo is None:
            raise ValueError
        return (time.astimezone(UTC).replace(tzinfo=None) - EPOCH) // timedelta(milliseconds=1)
    except (ValueError, OverflowError):
        message = f"{text[:40]!r} is no time with a distance from UTC; write 2026-01-31T09:00:00Z."
        raise ValueError(message) from None


async def check(ctx: TriggerContext, config: Config) -> list[Finding]:
    """Refuses an interval that is shorter than the operator allows."""
    found = too_frequent("everyMs", config.every_ms // 1000, ctx.min_interval_ms, config.jitter_ms)
    return [Finding(*one) for one in found]


@timed(
    config=Config,
    output=TimedOutput,
    check=check,
    policy=lambda config: config.policy("UTC"),
    sample=lambda config: payload_of("UTC", max(config.start_ms, 1_767_225_600_000)),
    example_config={"everyMs": 5_400_000, "startAt": "2026-01-31T09:00:00Z"},
    example_output={
        "scheduledAt": "2026-01-31T10:30:00.000Z",
        "localTime": "2026-01-31T10:30:00+00:00",
        "timezone": "UTC",
        "body": {
            "scheduledAt": "2026-01-31T10:30:00.000Z",
            "localTime": "2026-01-31T10:30:00+00:00",
            "timezone": "UTC",
        },
        "source": "interval",
        "triggeredAt": "2026-01-31T10:30:00.004Z",
    },
)
def next_fire(config: Config, after_ms: int, _: Any) -> int | None:
    """The first time after another."""
    passed = (after_ms - config.start_ms) // config.every_ms
    return config.start_ms + max(0, passed + 1) * config.every_ms
