"""Files of the data folder: those that only their owner may read, whatever the folder and the umask, and the one that
tells commands on the same machine which server runs on it: its address and process."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import asdict
from pathlib import Path

from dustrun.records import dataclass

NAME = "server.json"
PRIVATE = 0o600
_BESIDE = ("", "-wal", "-shm", "-journal")
_ANY = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104 - compared, not bound


@dataclass(frozen=True, slots=True)
class RunningServer:
    """The server of a data folder: how this machine reaches it, and its process id."""

    address: str
    pid: int


def address_of(host: str, port: int) -> str:
    """The URL by which this machine reaches a server that listens there."""
    named = _ANY.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{named}:{port}"


def write(folder: Path, server: RunningServer) -> None:
    """Writes the file atomically, with mode 0600."""
    path = folder / NAME
    fresh = path.with_name(f"{NAME}.{server.pid}.new")
    fresh.unlink(missing_ok=True)
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        json.dump(asdict(server), file)
    fresh.replace(path)


def read(folder: Path) -> RunningServer | None:
    """The server that wrote the file, which a crash may have left behind; None without a usable file."""
    try:
        found = json.loads((folder / NAME).read_text(encoding="utf-8"))
        return RunningServer(str(found["address"]), int(found["pid"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def remove(folder: Path, pid: int) -> None:
    """Removes the file if this process wrote it."""
    found = read(folder)
    if found is not None and found.pid == pid:
        with contextlib.suppress(FileNotFoundError):
            (folder / NAME).unlink()


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
