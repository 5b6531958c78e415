"""Keeps the memory of a process with keys from being dumped to disk or read by the user's other processes."""

from __future__ import annotations

import contextlib
import ctypes
import resource
import sys

_PR_SET_DUMPABLE = 4


def shield_process() -> bool:
    """Disables core dumps and, on Linux, debugging by the same user; False if only the first is available."""
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if not sys.platform.startswith("linux"):
        return False
    failed: int = ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    return not failed
