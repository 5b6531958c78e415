"""Detects that a store was copied.

A server records the store's location at each start. If the location has changed, the store was copied or moved.
Software
cannot tell which, so the store is treated like a restored backup until a person runs `dustrun moved`. The location is
the file's creation time (SQLite: it survives restarts, renames, mounts and host changes, but not copying) or the
cluster
and database id (PostgreSQL). Copies below that level, such as disk images, are not detected.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa

from dustrun import clock, log
from dustrun.core.values import exact_json
from dustrun.errors import Permanent
from dustrun.records import dataclass
from dustrun.settings import Settings
from dustrun.storage.db import migrate, store_facts
from dustrun.storage.db.database import Database
from dustrun.storage.db.lock import ProcessLock
from dustrun.storage.db.statement import Statement, Tx
from dustrun.storage.runs import runs

_logger = log.get(__name__)
_MARKS: Final = (store_facts.RESTORED_AT, store_facts.RESTORED_FROM, store_facts.RESTORED_RUNS)
_MAY_ASK: Final = Statement(
    sa.text(
        "SELECT to_regprocedure('pg_control_system()') IS NOT NULL"
        " AND has_function_privilege(to_regprocedure('pg_control_system()'), 'execute')"
    )
)
_CLUSTER: Final = Statement(
    sa.text(
        "SELECT s.system_identifier, d.oid FROM pg_control_system() s, pg_database d"
        " WHERE d.datname = current_database()"
    )
)
_STATX_BTIME: Final = 0x800
_AT_FDCWD: Final = -100
COPIED: Final = (
    "The store is not where it was last served: it was copied or moved. Until a person decides, its open runs do not "
    "spend, as after a restore. If it was moved, and no server will ever run on the original, stop this server and "
    "run: dustrun moved"
)


@dataclass(frozen=True, slots=True)
class StoreLocation:
    """Identifying marks of a store's location, any of which may be unknown."""

    marks: dict[str, str]

    def is_same(self, other: StoreLocation) -> bool:
        """Whether the most reliable mark that both have is equal; True if they have none in common."""
        common = [name for name in self.marks if name in other.marks]
        return not common or self.marks[common[0]] == other.marks[common[0]]


def need_store(url: str) -> None:
    """Raises `Permanent` if the store does not exist, because opening a missing SQLite file would create it."""
    parsed = sa.make_url(url)
    if parsed.get_backend_name() == "sqlite" and not Path(parsed.database or "").is_file():
        raise Permanent(
            f'There is no store "{parsed.database}". Check that data_dir (DUSTRUN_DATA_DIR) is the right folder.'
        )


def find(database: Database) -> StoreLocation:
    """Determines the store's current location, most reliable mark first."""
    if not database.is_sqlite:
        return StoreLocation(database.read_now(_cluster_of))
    name = database.engine.url.database
    return StoreLocation(_marks_of(Path(name)) if name else {})


def _cluster_of(tx: Tx) -> dict[str, str]:
    allowed = tx.one(_MAY_ASK)
    if allowed is None or not allowed[0]:
        return {}
    found = tx.one(_CLUSTER)
    return {"database": f"{found[0]} {found[1]}"} if found is not None else {}


def _marks_of(path: Path) -> dict[str, str]:
    born, inode = _birth_ns(path), str(path.stat().st_ino)
    return {"inode": inode} if born is None else {"born": str(born), "inode": inode}


def _birth_ns(path: Path) -> int | None:
    """The file's creation time in nanoseconds, by `statx`; None if the file system has none."""
    if not sys.platform.startswith("linux"):
        born = getattr(path.stat(), "st_birthtime", None)
        return None if born is None else int(born * 1_000_000)
    statx = getattr(ctypes.CDLL(None, use_errno=True), "statx", None)
    found = ctypes.create_string_buffer(256)
    if statx is None or statx(_AT_FDCWD, os.fsencode(path), 0, _STATX_BTIME, found) != 0:
        return None
    if not struct.unpack_from("=I", found, 0)[0] & _STATX_BTIME:
        return None
    seconds, part = struct.unpack_from("=qI", found, 80)
    return int(seconds) * 1_000_000_000 + int(part)


def recorded(tx: Tx) -> StoreLocation | None:
    """The location at the last start; None if none was recorded."""
    text = store_facts.find(tx, store_facts.PLACE)
    return None if text is None else StoreLocation(exact_json.loads(text))


def recognise(database: Database) -> bool:
    """Records the location at server start, and marks a store that was copied or moved; returns whether it was.

    The caller holds the store's lock."""
    here = find(database)
    before = database.read_now(recorded)
    if before == here or not here.marks:
        return False
    is_elsewhere = before is not None and not before.is_same(here)

    def unit(tx: Tx) -> None:
        _note(tx, here)
        if is_elsewhere:
            _mark(tx)

    _write(database, unit)
    if is_elsewhere:
        _logger.warning(COPIED)
    return is_elsewhere


def _note(tx: Tx, here: StoreLocation) -> None:
    store_facts.put(tx, store_facts.PLACE, exact_json.dumps_text(here.marks))


def is_copy(tx: Tx) -> bool:
    """Whether the store is marked as a copy (not as a restored backup)."""
    at, taken = (store_facts.find(tx, name) for name in _MARKS[:2])
    return at is not None and taken is None


def _mark(tx: Tx) -> None:
    """Marks the store as after a restore: its runs may have continued elsewhere."""
    if not is_copy(tx):
        known = {name: store_facts.find(tx, name) for name in _MARKS}
        store_facts.put(tx, store_facts.BEFORE_COPY, exact_json.dumps_text(known))
    store_facts.forget(tx, store_facts.RESTORED_FROM)
    store_facts.put(tx, store_facts.RESTORED_AT, str(clock.now_ms()))
    store_facts.put(tx, store_facts.RESTORED_RUNS, str(runs.newest_pk(tx)))


def say_moved(settings: Settings) -> bool:
    """Removes the copy mark because a person confirmed that the store was moved; returns whether there was one.

    Raises `Conflict` while a server uses the store, and `Permanent` if there is no store.
    """
    need_store(settings.store_url())
    database = Database(settings.store_url(), synchronous=settings.sqlite_synchronous)
    lock = ProcessLock(database, settings.data_dir)
    try:
        lock.take()
        migrate.upgrade(database)
        here = find(database)
        before = database.read_now(recorded)
        copied = database.read_now(is_copy)
        if not copied and (before is None or before.is_same(here)):
            return False
        _write(database, lambda tx: _take_back(tx, here))
        return True
    finally:
        lock.release()
        database.close()


def _take_back(tx: Tx, here: StoreLocation) -> None:
    _note(tx, here)
    if not is_copy(tx):
        return
    known = exact_json.loads(store_facts.find(tx, store_facts.BEFORE_COPY) or "{}")
    store_facts.forget(tx, store_facts.BEFORE_COPY)
    for name in _MARKS:
        store_facts.forget(tx, name)
        if known.get(name) is not None:
            store_facts.put(tx, name, known[name])


def _write(database: Database, unit: Callable[[Tx], Any]) -> None:
    tx = database.begin()
    try:
        unit(tx)
    except BaseException:
        database.rollback()
        raise
    database.commit()
