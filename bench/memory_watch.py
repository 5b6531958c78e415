"""The resident memory of processes over time, and whether it stays flat."""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

_MIB = 1024
_SETTLED = 1 / 3
"""The part of the time in which caches fill; the line goes through the rest."""


def resident_mib(pids: Iterable[int]) -> float:
    """What some processes hold together; what they share counts once."""
    kib = 0
    for pid in pids:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    kib += int(line.split()[1])
    return kib / _MIB


class MemoryWatch:
    """Looks at each group of processes again and again."""

    def __init__(self, groups: Mapping[str, Callable[[], list[int]]]) -> None:
        self._groups = groups
        self._begun = time.monotonic()
        self.samples: dict[str, list[tuple[float, float]]] = {name: [] for name in groups}

    async def work(self, every_s: float) -> None:
        """Looks until it is cancelled."""
        self._begun = time.monotonic()
        while True:
            for name, pids in self._groups.items():
                mib = await asyncio.to_thread(lambda found=pids: resident_mib(found()))  # type: ignore[misc]
                self.samples[name].append((time.monotonic() - self._begun, mib))
            await asyncio.sleep(every_s)

    def settled(self, name: str) -> list[tuple[float, float]]:
        """The samples of a group after the time in which caches fill."""
        samples = self.samples[name]
        from_s = samples[-1][0] * _SETTLED
        return [one for one in samples if one[0] >= from_s]

    def mib_per_hour(self, name: str) -> float:
        """The slope of the line through a group's settled samples."""
        settled = self.settled(name)
        if len(settled) < 2:
            return 0.0
        return statistics.linear_regression(*zip(*settled, strict=True)).slope * 3600

    def report(self) -> dict[str, Any]:
        """Of each group: a tenth of its samples, evenly spaced, and the slope."""
        return {
            name: {
                "mib": [round(mib, 1) for _, mib in _some(samples)],
                "mostMib": round(max(mib for _, mib in samples), 1),
                "settledS": round(self.settled(name)[-1][0] - self.settled(name)[0][0]),
                "mibPerHour": round(self.mib_per_hour(name), 2),
            }
            for name, samples in self.samples.items()
            if samples
        }


def _some(samples: list[tuple[float, float]], most: int = 13) -> list[tuple[float, float]]:
    """Evenly spaced ones, the first and the last among them."""
    count = min(most, len(samples))
    return [samples[round(number * (len(samples) - 1) / max(1, count - 1))] for number in range(count)]
