"""Gives a process a share of one processor: a scale model of a machine that has more processors than this one.

By control groups of version 1, controller `cpu` (Linux kernel documentation, "CFS Bandwidth Control")."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup/cpu")
_PERIOD_US = 10_000  # the usual 100,000 would stop a process for tens of milliseconds at a time


@contextlib.contextmanager
def confined(pid: int, share: float) -> Iterator[None]:
    """Until the end, the process and its threads get at most this share of one processor; 0.25 is a quarter."""
    group = _ROOT / f"dustrun-bench-{pid}"
    try:
        group.mkdir()
    except OSError as error:
        raise SystemExit(f"A share of a processor needs {_ROOT}, writable (cgroups version 1): {error}.") from error
    try:
        (group / "cpu.cfs_period_us").write_text(str(_PERIOD_US))
        (group / "cpu.cfs_quota_us").write_text(str(round(share * _PERIOD_US)))
        (group / "cgroup.procs").write_text(str(pid))
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):  # it may have ended; else the group cannot be removed
            (_ROOT / "cgroup.procs").write_text(str(pid))
        group.rmdir()
