"""Keeps the memory of a process that holds keys from being written to disk or read by its user's other processes."""

from __future__ import annotations

import contextlib
import ctypes
import resource
import sys

_PR_SET_DUMPABLE = 4


def shield_process() -> bool:
    """No core file, and on Linux not dumpable, so neither a debugger of the same user may look in; False where the
    system offers only the first."""
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if not sys.platform.startswith("linux"):
        return False
    failed: int = ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    return not failed
