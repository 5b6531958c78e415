"""What a result must say about where it was measured: versions, processors, and how fast the disk syncs. No names."""

from __future__ import annotations

import os
import platform
import sqlite3
import statistics
import subprocess
import tempfile
import time
from importlib import metadata
from pathlib import Path
from typing import Any

_PACKAGES = ("dustrun", "fastapi", "starlette", "uvicorn", "uvloop", "sqlalchemy", "pydantic", "orjson", "aiohttp")
_SYNCS = 50


def fsync_ms(folder: Path | None = None) -> float:
    """The median time of one 4 KiB append and fsync in `folder` (default: the temporary folder), in milliseconds."""
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        return round(statistics.median(_one_sync_ms(file.fileno()) for _ in range(_SYNCS)), 3)


def _one_sync_ms(descriptor: int) -> float:
    started = time.perf_counter()
    os.write(descriptor, b"\0" * 4096)
    os.fsync(descriptor)
    return (time.perf_counter() - started) * 1000


def commit(root: Path) -> str:
    """The commit that was measured, with `+changes` when the code differed from it; results do not count."""
    head = _git(root, "rev-parse", "HEAD") or "unknown"
    changed = _git(root, "status", "--porcelain", "--untracked-files=no", "--", "src", "bench", ":!bench/results")
    return f"{head}+changes" if changed else head


def _git(root: Path, *words: str) -> str:
    try:
        done = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()


def describe() -> dict[str, Any]:
    """Versions and machine."""
    return {
        "versions": {
            "python": platform.python_version(),
            "sqlite": sqlite3.sqlite_version,
            **{name: metadata.version(name) for name in _PACKAGES},
        },
        "machine": {
            "system": f"{platform.system()} {platform.machine()}",
            "cpus": os.cpu_count(),
            "memoryMiB": _memory_mib(),
            "fsyncMs": fsync_ms(),
        },
    }


def _memory_mib() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
    except (AttributeError, ValueError, OSError):
        return None
