"""When a cron schedule fires next, through changes of the clock.

A schedule with fixed hours fires a skipped time right after the gap, and a repeated time once. A schedule whose hour
field is a wildcard or a step fires whenever the clock shows a time that fits: `*/15 * * * *` goes on every 15 minutes.
"""

from __future__ import annotations

import copy
from datetime import datetime

from dustrun.core.triggers.schedules.cron_text import Cron, parse
from dustrun.core.triggers.schedules.wall_clock import next_by_elapsed, next_by_wall, zone


def next_fire(text: str, zone_name: str, after_ms: int) -> int | None:
    """The first fire after a time, both in milliseconds since 1970."""
    cron, where = parse(text), zone(zone_name)

    def next_wall(wall: datetime) -> datetime | None:
        return _next_wall(cron, wall)

    search = next_by_elapsed if cron.elapsed else next_by_wall
    instant = search(where, after_ms // 1000, next_wall)
    return None if instant is None else instant * 1000


def _next_wall(cron: Cron, wall: datetime) -> datetime | None:
    sim = copy.copy(cron.sim)
    sim.dt = wall
    return next(sim, None)
