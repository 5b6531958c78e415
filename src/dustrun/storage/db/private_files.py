"""Data files that only their owner may read, whatever the folder and the umask."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

PRIVATE = 0o600
_BESIDE = ("", "-wal", "-shm", "-journal")


def create_private(path: Path) -> None:
    """Creates an empty file with mode 0600 unless it exists. SQLite gives its write-ahead log the same mode."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE))


def close_to_others(database: Path) -> None:
    """Sets mode 0600 on a SQLite file and the files beside it that an earlier version or a copy left open. Raises
    `PermissionError` if they belong to another user."""
    for ending in _BESIDE:
        path = database.with_name(database.name + ending)
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_mode & 0o077:
                path.chmod(PRIVATE)
