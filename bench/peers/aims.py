"""What the figures of one run of all engines are held against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_SQLITE, _POSTGRESQL = "dustrun", "dustrun on PostgreSQL"
_TIMES_RESTATE = 4
_RATE, _MOST_OF = "at least", "at most"

# What is measured, where its figure is, and the bound.
AIMS: Sequence[tuple[str, Sequence[str], str, float]] = (
    ("pure workflows a second on SQLite", (_SQLITE, "pure", "runsPerSecond"), _RATE, 2500),
    ("pure workflows a second on PostgreSQL", (_POSTGRESQL, "pure", "runsPerSecond"), _RATE, 1000),
    ("processor ms of a pure workflow on SQLite", (_SQLITE, "pure", "cpuMsPerRun"), _MOST_OF, 0.42),
    ("processor ms of a pure workflow on PostgreSQL", (_POSTGRESQL, "pure", "cpuMsPerRun"), _MOST_OF, 0.8),
    ("ms for 3 steps alone on SQLite, p50", (_SQLITE, "aloneP50Ms"), _MOST_OF, 3),
    ("s for 40 steps alone on SQLite", (_SQLITE, "chain40S"), _MOST_OF, 0.022),
    ("s until ready on SQLite", (_SQLITE, "readyS"), _MOST_OF, 1.3),
    ("MiB when idle on SQLite", (_SQLITE, "idleRssMib"), _MOST_OF, 105),
)


def judge(peers: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Each aim, the figure, and whether it is met; an aim whose figure is missing is not met."""
    times = (_times_restate(peers, name) for name in (_SQLITE, _POSTGRESQL))
    return [*times, *(_aim(what, bound, limit, _at(peers, path)) for what, path, bound, limit in AIMS)]


def _times_restate(peers: Mapping[str, Any], name: str) -> dict[str, Any]:
    ours, theirs = _at(peers, (name, "runsPerSecond")), _at(peers, ("restate", "runsPerSecond"))
    ratio = round(ours / theirs, 2) if ours and theirs else None
    return _aim(f"times as many workflows a second as Restate: {name}", _RATE, _TIMES_RESTATE, ratio)


def _aim(what: str, bound: str, limit: float, figure: float | None) -> dict[str, Any]:
    met = figure is not None and (figure >= limit if bound == _RATE else figure <= limit)
    return {"aim": f"{bound} {limit} {what}", "measured": figure, "met": met}


def _at(peers: Mapping[str, Any], path: Sequence[str]) -> float | None:
    found: Any = peers
    for name in path:
        found = found.get(name, {})
    return found if isinstance(found, int | float) else None
