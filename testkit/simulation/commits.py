"""Commits that fail for a while: a full disk, writes that fail or end in the middle, and commits of unknown outcome.

The errors are real ones of SQLite where it can be made to meet them: a limit of pages is what a full disk is to it, and
a limit on the size of files fails its writes to the log. A commit of unknown outcome is what PostgreSQL's dead
connection leaves behind: nobody sees what was written before the next transaction of the writer begins, and then it is
there, or not.
"""

from __future__ import annotations

import contextlib
import random
import resource
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from dustrun.errors import CommitUnknown
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Tx

FULL, WRITE, TORN, UNKNOWN, SLOW = "full", "write", "torn", "unknown", "slow"
KINDS: Final = (FULL, WRITE, TORN, UNKNOWN, SLOW)
SLOW_S: Final = 10.0
_NO_LIMIT: Final = 4_294_967_294
"""Of pages, as SQLite has it."""
_PART: Final = 5000
"""Of so many bytes some are still written by a commit that ends in the middle."""


class Commits:
    """What the disk does to all commits of a store, over its server's lives. `kind`: its trouble at the moment, or
    nothing; it meets `share` of 1000 commits."""

    def __init__(self, chance: random.Random, say: Callable[[str], None]) -> None:
        self.kind = ""
        self.share = 1000
        self.counts: Counter[str] = Counter()
        self.chance = chance
        self._say = say

    def meets(self) -> str:
        """The trouble that the next commit is in, or nothing."""
        is_met = self.kind in (WRITE, TORN, UNKNOWN) and self.chance.randrange(1000) < self.share
        return self.kind if is_met else ""

    def note(self, what: str, says: str) -> None:
        """Counts what happened, and tells it."""
        self.counts[what] += 1
        self._say(says)


class Store(Database):
    """A store on that disk."""

    def __init__(self, commits: Commits, url: str, **options: Any) -> None:
        super().__init__(url, **options)
        self._commits = commits
        self._is_full = self._is_in_doubt = False

    def begin(self, *, waits: bool = True) -> Tx:
        """Begins the writer's transaction, once the one in doubt has ended."""
        if self._is_in_doubt and not waits:
            raise sqlite3.OperationalError("the writer's last transaction has not ended")
        self._settle()
        self._limit_pages()
        return super().begin(waits=waits)

    def commit(self) -> None:
        """Commits, as the disk allows."""
        trouble = self._commits.meets()
        if trouble == UNKNOWN:
            self._is_in_doubt = True
            self._commits.note("commits of unknown outcome", "nobody knows what becomes of a commit")
            raise CommitUnknown("The connection to the store died during a commit; look the id up.", retry_after_s=2)
        most = self._size_of_log() + self._commits.chance.randrange(_PART) if trouble == TORN else 0
        try:
            with _files_end_at(most) if trouble else contextlib.nullcontext():
                super().commit()
        except sqlite3.Error as error:
            self._commits.note("failed commits", f"a commit fails: {error}")
            raise

    def rollback(self) -> None:
        """Rolls back, but for what is in doubt."""
        if not self._is_in_doubt:
            super().rollback()

    def _limit_pages(self) -> None:
        """A full disk: the file cannot grow, whatever room it has."""
        is_full = self._commits.kind == FULL
        if is_full != self._is_full:
            limit = 1 if is_full else _NO_LIMIT
            self.open_writer().execute(f"PRAGMA max_page_count={limit}")  # never below what there is
            self._is_full = is_full

    def _settle(self) -> None:
        """What was in doubt is there now, or it is not."""
        connection = self.open_writer() if self._is_in_doubt else None
        self._is_in_doubt = False
        if connection is not None and connection.in_transaction:
            fate = self._commits.chance.choice(("COMMIT", "ROLLBACK"))
            connection.execute(fate)
            self._commits.note(f"in doubt: {fate}", f"what was in doubt ends: {fate}")

    def _size_of_log(self) -> int:
        log = Path(f"{self.engine.url.database}-wal")
        return log.stat().st_size if log.exists() else 0


@contextlib.contextmanager
def _files_end_at(size: int) -> Iterator[None]:
    """Context manager: no file can be written beyond that; the kernel says so to whoever tries."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
