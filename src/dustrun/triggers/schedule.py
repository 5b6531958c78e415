"""Starts a run at the times of a recurrence rule (RFC 5545), or once at a given time.

Use it for what a calendar says: the last working day of each month, every second Tuesday until June, or once next
Friday. A rule that ends also ends the trigger.
"""

from __future__ import annotations

import functools
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from pydantic import Field, field_validator, model_validator

from dustrun.core.triggers.schedules.preview import payload_of
from dustrun.core.triggers.schedules.recurrence import Recurrence, compile_recurrence, min_gap
from dustrun.core.triggers.schedules.timed_config import TimedConfig, TimedOutput, too_frequent
from dustrun.core.triggers.schedules.wall_clock import EPOCH, instant_of, zone
from dustrun.sdk import Finding, TriggerConfig, TriggerContext
from dustrun.sdk.trigger import timed


class Config(TriggerConfig, TimedConfig):
    """When it runs: `rrule` or `at`."""

    rrule: str | None = Field(
        None,
        description="A `DTSTART` line and an `RRULE` line of RFC 5545, and `RDATE` or `EXDATE` lines if needed. "
        "`DTSTART;TZID=Europe/Berlin:…` names the zone.",
    )
    at: str | None = Field(
        None, description="The one time to run: RFC 3339, or without a distance from UTC a local time of `timezone`."
    )
    timezone: str | None = Field(
        None, description="IANA time zone, if neither `rrule` nor `at` names one. Default: UTC."
    )

    @field_validator("timezone")
    @classmethod
    def _check_timezone(cls, timezone: str | None) -> str | None:
        return zone(timezone).key if timezone is not None else None

    @field_validator("at")
    @classmethod
    def _check_at(cls, at: str | None) -> str | None:
        if at is not None:
            _read_time(at)
        return at

    @model_validator(mode="after")
    def _check_rule(self) -> Self:
        if (self.rrule is None) == (self.at is None):
            raise ValueError("Give either rrule or at.")
        if self.rrule is not None:
            compile_recurrence(self.rrule, self.timezone)
        elif not self._has_moment():
            raise ValueError(f"{self.at!r} is no moment of the years 1 to 9999 in UTC.")
        return self

    def _has_moment(self) -> bool:
        try:
            return self.at_ms is not None
        except (ValueError, OverflowError):
            return False

    @functools.cached_property
    def recurrence(self) -> Recurrence | None:
        """The rule, ready to be searched; None for a single time."""
        return compile_recurrence(self.rrule, self.timezone) if self.rrule is not None else None

    @property
    def zone_name(self) -> str:
        """The zone whose clock it follows."""
        return self.recurrence.where.key if self.recurrence is not None else self.timezone or "UTC"

    @functools.cached_property
    def at_ms(self) -> int | None:
        """The single time, in milliseconds since 1970."""
        if self.at is None:
            return None
        time = _read_time(self.at)
        if time.tzinfo is not None:
            return (time.astimezone(UTC).replace(tzinfo=None) - EPOCH) // timedelta(milliseconds=1)
        return instant_of(zone(self.zone_name), time.replace(microsecond=0)) * 1000


def _read_time(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text[:40]!r} is no time; write 2026-01-31T09:00:00 or 2026-01-31T08:00:00Z.") from None


async def check(ctx: TriggerContext, config: Config) -> list[Finding]:
    """Refuses what is over already, and what fires more often than the operator allows."""
    field = "rrule" if config.recurrence is not None else "at"
    if next_fire.next_fire is not None and next_fire.next_fire(config, ctx.now_ms, None) is None:
        return [Finding(field, "It never fires again: its last time has passed.")]
    if config.recurrence is None:
        return []
    found = too_frequent(field, min_gap(config.recurrence), ctx.min_interval_ms, config.jitter_ms)
    return [Finding(*one) for one in found]


def _sample(config: Config) -> dict[str, Any]:
    at = config.at_ms
    if config.recurrence is not None:
        at = (config.recurrence.next_after(0) or 0) * 1000
    return payload_of(config.zone_name, at or 0)


@timed(
    config=Config,
    output=TimedOutput,
    check=check,
    policy=lambda config: config.policy(config.zone_name),
    sample=_sample,
    example_config={"rrule": "DTSTART;TZID=Europe/Berlin:20260130T090000\nRRULE:FREQ=MONTHLY;BYDAY=FR;BYSETPOS=-1"},
    example_output={
        "scheduledAt": "2026-01-30T08:00:00.000Z",
        "localTime": "2026-01-30T09:00:00+01:00",
        "timezone": "Europe/Berlin",
        "body": {
            "scheduledAt": "2026-01-30T08:00:00.000Z",
            "localTime": "2026-01-30T09:00:00+01:00",
            "timezone": "Europe/Berlin",
        },
        "source": "schedule",
        "triggeredAt": "2026-01-30T08:00:00.004Z",
    },
)
def next_fire(config: Config, after_ms: int, _: Any) -> int | None:
    """The first time after another; None once the rule has ended."""
    if config.at_ms is not None:
        return config.at_ms if config.at_ms > after_ms else None
    assert config.recurrence is not None
    found = config.recurrence.next_after(after_ms // 1000)
    return None if found is None else found * 1000
