"""A store's files at a kill: they stay as they are, or the power fails too while SQLite syncs its last commit.

A commit that was being synced may be there, not be there, or be there in part: the write-ahead log is cut accordingly.
Commits that were reported as synced stay; those that the store does not sync may go too.
"""

from __future__ import annotations

import random
import shutil
import struct
from pathlib import Path

KEPT, LOST, TORN = "kept", "lost", "torn"


def move_on(folder: Path, dead: Path) -> None:
    """Gives the next server a copy of the files, so that what is left of the dead one can only reach its own."""
    folder.rename(dead)
    shutil.copytree(dead, folder)


def fail_power(folder: Path, chance: random.Random, unsynced: int = 1) -> str:
    """Decides what is left of the last commits in the log of a stopped store, as many as were not synced: `KEPT`,
    `LOST` or `TORN`."""
    wal, shm = folder / "dustrun.db-wal", folder / "dustrun.db-shm"
    ends, copied = _commits(wal, shm)
    fate = chance.choice((KEPT, LOST, TORN))
    kept = [end for end in ends[:-1][-unsynced:] if end >= copied]
    if not kept or not unsynced or fate == KEPT:
        return KEPT  # what is in the database file already cannot be lost alone
    with wal.open("r+b") as file:
        if fate == LOST:
            file.truncate(kept[0])
        else:  # the length is there, and some of the content
            begin = chance.randrange(kept[0], ends[-1])
            file.seek(begin)
            file.write(bytes(ends[-1] - begin))
    shm.unlink(missing_ok=True)
    return fate


def mark(folder: Path) -> bytes:
    """What every commit that adds to the write-ahead log changes: the part of its index's header that counts them."""
    shm = folder / "dustrun.db-shm"
    if not shm.exists():
        return b""
    with shm.open("rb") as file:
        return file.read(40)[8:]


def _commits(wal: Path, shm: Path) -> tuple[list[int], int]:
    """The offsets in the log after which each commit is complete, and up to which it is in the database file."""
    raw = wal.read_bytes() if wal.exists() else b""
    if len(raw) < 32:
        return [], 0
    page, salts = struct.unpack(">I", raw[8:12])[0], raw[16:24]
    ends, at = [], 32
    while at + 24 + page <= len(raw) and raw[at + 8 : at + 16] == salts:
        at += 24 + page
        if struct.unpack(">I", raw[at - page - 20 : at - page - 16])[0]:  # the size after a commit
            ends.append(at)
    copied = struct.unpack("=I", shm.read_bytes()[96:100])[0] if shm.exists() else 0
    return ends, copied * (24 + page) + 32
