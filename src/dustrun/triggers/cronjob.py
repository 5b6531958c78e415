"""Starts a run at the times of a cron expression.

Use it for what happens every so often: every 15 minutes, each working day at nine. The zone decides what the hours
mean. With fixed hours, a time that the clock skips runs once right after the gap, and one that it shows twice runs
once; with `*` or a step as the hour, the schedule follows elapsed time.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field, field_validator

from dustrun.core.triggers.schedules import cron
from dustrun.core.triggers.schedules.cron import parse
from dustrun.core.triggers.schedules.preview import payload_of
from dustrun.core.triggers.schedules.timed_config import TimedConfig, TimedOutput, too_frequent
from dustrun.core.triggers.schedules.wall_clock import zone
from dustrun.sdk import Finding, TriggerConfig, TriggerContext
from dustrun.sdk.trigger import timed


class Config(TriggerConfig, TimedConfig):
    """When it runs."""

    schedule: str = Field(
        description="Five fields (minute, hour, day of month, month, weekday) or six with seconds first; or `@hourly`, "
        "`@daily`, `@weekly`, `@monthly`, `@yearly`. If day of month or weekday begins with `*`, both must fit, "
        "otherwise either."
    )
    timezone: str = Field("UTC", description="IANA time zone, such as `Europe/Berlin`.")

    @field_validator("schedule")
    @classmethod
    def _check_schedule(cls, schedule: str) -> str:
        parse(schedule)
        return schedule

    @field_validator("timezone")
    @classmethod
    def _check_timezone(cls, timezone: str) -> str:
        return zone(timezone).key


async def check(ctx: TriggerContext, config: Config) -> list[Finding]:
    """Refuses a schedule that fires more often than the operator allows."""
    found = too_frequent("schedule", parse(config.schedule).min_gap, ctx.min_interval_ms, config.jitter_ms)
    return [Finding(*one) for one in found]


@timed(
    config=Config,
    output=TimedOutput,
    check=check,
    policy=lambda config: config.policy(config.timezone),
    sample=lambda config: payload_of(
        config.timezone, cron.next_fire(config.schedule, config.timezone, 1_767_225_600_000) or 0
    ),
    example_config={"schedule": "0 9 * * MON-FRI", "timezone": "Europe/Berlin"},
    example_output={
        "scheduledAt": "2026-01-02T08:00:00.000Z",
        "localTime": "2026-01-02T09:00:00+01:00",
        "timezone": "Europe/Berlin",
        "body": {
            "scheduledAt": "2026-01-02T08:00:00.000Z",
            "localTime": "2026-01-02T09:00:00+01:00",
            "timezone": "Europe/Berlin",
        },
        "source": "cronjob",
        "triggeredAt": "2026-01-02T08:00:00.004Z",
    },
)
def next_fire(config: Config, after_ms: int, _: Any) -> int | None:
    """The first time after another."""
    return cron.next_fire(config.schedule, config.timezone, after_ms)
