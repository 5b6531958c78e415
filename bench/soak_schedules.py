"""Schedules around every change of every zone's clock in 2020–2030, against a walk through every minute.

`scale`: how many zones with different data; all without it. Each expression is also tried as the recurrence that
means the same, where there is one.
"""

from __future__ import annotations

import itertools
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

from bench.schedule_oracle import HOUR, Change, Fields, Window, changes, wall, zone_groups
from dustrun.core.triggers.schedules import cron
from dustrun.core.triggers.schedules.recurrence import compile_recurrence

#: expression → the same as a recurrence, if there is one
EXPRESSIONS: dict[str, str | None] = {
    "*/15 * * * *": "FREQ=MINUTELY;INTERVAL=15",
    "7 * * * *": None,
    "0 */2 * * *": None,
    "*/20 1-3 * * *": "FREQ=DAILY;BYHOUR=1,2,3;BYMINUTE=0,20,40",
    "30 2 * * *": "FREQ=DAILY;BYHOUR=2;BYMINUTE=30",
    "0 0,23 * * *": "FREQ=DAILY;BYHOUR=0,23;BYMINUTE=0",
    "59 1,2 * * SUN": "FREQ=WEEKLY;BYDAY=SU;BYHOUR=1,2;BYMINUTE=59",
    "15 0-5 * * 6,0": "FREQ=WEEKLY;BYDAY=SA,SU;BYHOUR=0,1,2,3,4,5;BYMINUTE=15",
    "*/7 3 * * *": None,
    "45 23 28-31 * *": "FREQ=MONTHLY;BYMONTHDAY=28,29,30,31;BYHOUR=23;BYMINUTE=45",
    "0 2 1 * 0": None,
    "10 0-23/3 * * *": None,
}
WINDOW_HOURS = 26


def _enumerate(next_after: Callable[[int], int | None], start: int, end: int) -> list[int]:
    found: list[int] = []
    at = next_after(start)
    while at is not None and at < end:
        found.append(at)
        at = next_after(at)
    return found


def _cron(expression: str, zone: str) -> Callable[[int], int | None]:
    def next_after(after: int) -> int | None:
        found = cron.next_fire(expression, zone, after * 1000)
        return None if found is None else found // 1000

    return next_after


def _rule(text: str, zone: str, window: Window) -> Callable[[int], int | None]:
    begins = wall(zone, window.start) - timedelta(days=0 if "MINUTELY" in text else 40)
    begins -= timedelta(minutes=begins.minute % 15, seconds=begins.second)
    return compile_recurrence(f"DTSTART;TZID={zone}:{begins:%Y%m%dT%H%M%S}\nRRULE:{text}", None).next_after


def _cases(change: Change, names: list[str], chosen: random.Random) -> Iterator[tuple[str, list[int], list[int]]]:
    """What was found, and what should have been, for each way to write each schedule; by one of the zone's names."""
    window = Window(change, WINDOW_HOURS)
    for expression, rule in EXPRESSIONS.items():
        name = chosen.choice(names)
        expected = window.fires(Fields(expression))
        yield f"{expression} in {name}", _enumerate(_cron(expression, name), window.start, window.end), expected
        if rule is None:
            continue
        found = _enumerate(_rule(rule, name, window), window.start, window.end)
        if "MINUTELY" in rule:  # counted from its start: every 15 minutes, whatever the clock does
            first = found[0] if found else window.start
            expected = list(range(first, window.end, 900)) if first - window.start <= 900 else []
        yield f"{rule} in {name}", found, expected


def run(scale: int | None = None, seed: int = 0, *, zones: str = "", changes_each: str = "1000") -> dict[str, Any]:
    """Checks each expression at each change of each zone: the counts, and where it fired at another time."""
    chosen = random.Random(seed)
    groups = zone_groups()
    if zones:
        groups = {name: [name] for name in zones.split(",")}
    wanted = list(groups)
    if scale is not None and not zones:
        wanted = chosen.sample(wanted, min(scale, len(wanted)))
    counts: Counter[str] = Counter()
    failures: dict[str, str] = {}
    slowest = 0.0
    for zone in wanted:
        counts["zones"] += len(groups[zone])
        for change in itertools.islice(changes(zone), int(changes_each)):
            kind = "forward" if change.after > change.before else "back"
            counts[f"changes {kind}"] += 1
            for label, found, expected in _cases(change, groups[zone], chosen):
                counts["schedules"] += 1
                counts["fires"] += len(expected)
                if found != expected:
                    failures[f"{label} at {change.at}"] = _difference(found, expected)
            started = time.process_time()
            cron.next_fire("30 2 29 2 *", zone, (change.at - HOUR) * 1000)
            slowest = max(slowest, time.process_time() - started)
    return {
        "zones with different data": len(wanted),
        **counts,
        "slowest search ms": round(slowest * 1000, 2),
        "failures": dict(list(failures.items())[:50]),
        "failed": len(failures),
    }


def _difference(found: list[int], expected: list[int]) -> str:
    return f"too many: {sorted(set(found) - set(expected))[:5]}, missing: {sorted(set(expected) - set(found))[:5]}"
