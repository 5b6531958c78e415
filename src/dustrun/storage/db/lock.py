"""The process lock: only one server may use a store, or only servers that share it."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from dustrun.errors import Conflict
from dustrun.storage.db.database import Claimed, Database

_ADVISORY_KEY = 0x64757374  # "dust"
_REFUSAL = (
    "Another server is already running on this store. Stop it, or give this one its own store (--data-dir, "
    "--database-url). Several servers can share a PostgreSQL store if all of them have the setting `shared`."
)
_NEEDS_POSTGRESQL = (
    "The setting `shared` needs PostgreSQL (--database-url postgresql://…): a SQLite store has one server. Without "
    "`shared`, this one is it."
)


def file_of(database: Database, data_dir: Path) -> Path:
    """The lock file of a SQLite store: next to the resolved database file, so that every path to it gives the same."""
    name = database.engine.url.database
    return Path(name).resolve().with_suffix(".lock") if name else data_dir / "dustrun.lock"


class ProcessLock:
    """A lock on a file beside the store (SQLite) or an advisory lock of the writer's connection (PostgreSQL)."""

    def __init__(self, database: Database, data_dir: Path) -> None:
        self._database = database
        self._path = file_of(database, data_dir)
        self._file: int | None = None

    def take(self) -> None:
        """Acquires the lock or raises `Conflict`; servers that share the store hold it together."""
        if self._database.is_shared and not self._database.can_be_shared:
            raise Conflict(_NEEDS_POSTGRESQL)
        if not self._database.is_sqlite:
            self._take_advisory()
        elif not self._database.is_shared:
            self._take_file()

    def _take_file(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._file)
            self._file = None
            raise Conflict(_REFUSAL) from None

    def _take_advisory(self) -> None:
        try:
            self._database.claim(_ADVISORY_KEY)
        except Claimed:
            raise Conflict(_REFUSAL) from None

    def release(self) -> None:
        """Releases the lock."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
        if not self._database.is_sqlite:
            self._database.close_writer()
