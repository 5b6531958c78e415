"""What `scripts/soak steady` reads of memory: what processes hold, and whether that grows once caches are full."""

from __future__ import annotations

import os

from bench.memory_watch import MemoryWatch, resident_mib

_MINUTE = 60.0


def test_memory_that_grows_only_while_caches_fill_is_flat() -> None:
    watch = MemoryWatch({"flat": list, "leaks": list})
    minutes = range(31)
    watch.samples["flat"] = [(n * _MINUTE, 100.0 + min(n, 10) * 5) for n in minutes]
    watch.samples["leaks"] = [(n * _MINUTE, 100.0 + n / 2) for n in minutes]
    found = watch.report()
    assert (found["flat"]["mibPerHour"], found["flat"]["settledS"]) == (0, 20 * _MINUTE)
    assert found["leaks"]["mibPerHour"] == 30
    assert (found["leaks"]["mib"][0], found["leaks"]["mib"][-1], found["leaks"]["mostMib"]) == (100, 115, 115)


def test_memory_is_what_this_process_holds_and_a_process_that_has_gone_holds_none() -> None:
    """The system may take pages back between two looks, so the largest difference of some counts."""
    found = []
    for _ in range(3):
        before = resident_mib([os.getpid()])
        held = bytearray(os.urandom(1)) * (64 << 20)
        found.append(resident_mib([os.getpid(), 2**22 + 1]) - before)
        del held
    assert 60 < max(found) < 100
