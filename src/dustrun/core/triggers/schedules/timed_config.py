"""The configuration and the output that all triggers have in common that fire at set times."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from dustrun.core.triggers.schedules.due import MAX_KEPT, Policy
from dustrun.core.values.fields import Fields


class TimedConfig(Fields):
    """Settings that every schedule has."""

    on_missed: Literal["skip", "once", "all"] = Field(
        "once",
        description="Times that passed while the server was down: `skip` drops them, `once` runs the latest one, `all` "
        "runs each.",
        json_schema_extra={"x-group": "Delivery"},
    )
    missed_cap: int = Field(
        10,
        ge=1,
        le=MAX_KEPT,
        description="With `all`: maximum number of missed times that run; the latest ones.",
        json_schema_extra={"x-group": "Delivery"},
    )
    overlap: Literal["allow", "skip", "queue"] = Field(
        "allow",
        description="If the previous run has not ended: `allow` starts another, `skip` starts none, `queue` starts it "
        "when the previous one has ended.",
        json_schema_extra={"x-group": "Delivery"},
    )
    jitter_ms: int = Field(
        0,
        ge=0,
        le=3_600_000,
        description="Maximum delay of a run in milliseconds, fixed for each time; spreads schedules that share a time.",
        json_schema_extra={"x-group": "Delivery"},
    )

    def policy(self, zone_name: str) -> Policy:
        """The schedule's rules for late and overlapping fires."""
        return Policy(self.on_missed, self.missed_cap, self.overlap, self.jitter_ms, zone_name)


class TimedOutput(Fields):
    """The time for which it runs."""

    scheduled_at: str = Field(description="The time of the schedule, RFC 3339 in UTC.")
    local_time: str = Field(description="The same time as local time of the zone.")
    timezone: str = Field(description="The zone.")
    missed: int = Field(0, description="Number of earlier missed times that this run stands for.")
    body: dict[str, Any] = Field(description="The whole payload.")
    source: str = Field(description="What started the run.")
    triggered_at: str = Field(description="When the run was started, RFC 3339.")


def too_frequent(field: str, gap_s: int | None, min_interval_ms: int, jitter_ms: int) -> list[tuple[str, str]]:
    """Why times so close together are refused: the field and a sentence."""
    if gap_s is None:
        return []
    if gap_s * 1000 < min_interval_ms:
        return [(field, f"Fires every {gap_s} s at times; this server allows at least {min_interval_ms / 1000:g} s.")]
    if jitter_ms >= gap_s * 1000:
        return [("jitterMs", f"Must be less than the shortest time between two fires, {gap_s * 1000} ms.")]
    return []
