"""What is configured in the SQLite library itself, for the whole process."""

from __future__ import annotations

import _sqlite3
import ctypes
import sys
from typing import Final

_CONFIG_MEMSTATUS: Final = 9  # https://sqlite.org/c3ref/c_config_covering_index_scan.html


def stop_counting_memory() -> None:
    """Switches off SQLite's count of the memory that it uses, which nobody reads: for it, each allocation and release
    locks a mutex (measured: 3 % of the instructions of a run with three writes).

    Call it before the process opens its first connection. Where Python's module hides the library's functions, as one
    that contains the library may, nothing changes."""
    if sys.platform != "linux":
        return  # elsewhere, ctypes may pass arguments of functions like this one in the wrong place
    library = ctypes.CDLL(_sqlite3.__file__) if hasattr(_sqlite3, "__file__") else ctypes.CDLL(None)
    if not hasattr(library, "sqlite3_config") or library.sqlite3_shutdown() != 0:
        return
    library.sqlite3_config(_CONFIG_MEMSTATUS, ctypes.c_int(0))
    library.sqlite3_initialize()
