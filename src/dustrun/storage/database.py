"""One database, two dialects: connections, pragmas, transactions, translated errors, the process lock."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from dustrun.errors import Bug, DustrunError, Temporary, Uncertain
from dustrun.storage.statement import Tx

T = TypeVar("T")
_BUSY_MS = 5000
_READERS = 4
# SQLite's codes of a disk or lock trouble: nothing of the transaction was kept.
_SQLITE_TROUBLE = frozenset(
    {
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_PROTOCOL,
    }
)


def create_engine(url: str, *, synchronous: str = "FULL") -> Engine:
    """An engine whose connections are set up as the store needs them."""
    parsed = sa.make_url(url)
    if parsed.get_backend_name() != "sqlite":
        return sa.create_engine(parsed, pool_size=_READERS, max_overflow=2, pool_pre_ping=True)
    if parsed.database:
        Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
    engine = sa.create_engine(
        parsed,
        connect_args={"check_same_thread": False},
        poolclass=sa.pool.QueuePool,
        pool_size=_READERS,
        max_overflow=2,
    )

    @sa.event.listens_for(engine, "connect")
    def _set_up(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # we say BEGIN ourselves; the driver would guess
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute(f"PRAGMA synchronous={synchronous}")
        cursor.execute(f"PRAGMA busy_timeout={_BUSY_MS}")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.execute("PRAGMA temp_store=MEMORY")
        cursor.execute("PRAGMA cache_size=-16000")
        cursor.close()

    return engine


class Database:
    """The store's connections: one for the writer, a few for readers."""

    def __init__(self, url: str, *, synchronous: str = "FULL") -> None:
        self.engine = create_engine(url, synchronous=synchronous)
        self.dialect = self.engine.dialect
        self.is_sqlite = self.dialect.name == "sqlite"
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="reader")
        self._connection: Any = None
        self._cursor: Any = None

    # --- the writer's side: only the writer's thread calls these ---

    def begin(self) -> Tx:
        """Opens the writer's transaction."""
        if self._connection is None:
            self._connection = self.engine.raw_connection()
            self._cursor = self._connection.cursor()
        if self.is_sqlite:
            self._cursor.execute("BEGIN IMMEDIATE")
        return Tx(self._cursor, self.dialect)

    def commit(self) -> None:
        """Makes the writer's transaction durable; a connection that dies here leaves the outcome unknown."""
        try:
            if self.is_sqlite:
                self._cursor.execute("COMMIT")
            else:
                self._connection.commit()
        except self.dialect.loaded_dbapi.OperationalError as error:
            if self.is_sqlite:
                self.rollback()
                raise
            raise Uncertain("The connection to the store died in a commit; look the id up.", retry_after_s=2) from error

    def rollback(self) -> None:
        """Drops the writer's transaction."""
        try:
            if not self.is_sqlite:
                self._connection.rollback()
            elif self._connection.driver_connection.in_transaction:
                self._cursor.execute("ROLLBACK")
        except self.dialect.loaded_dbapi.Error:
            self.reopen_writer()

    def mend_writer(self) -> None:
        """After a group that failed as a whole. A connection of SQLite that can roll back stays: closing the last one
        of the process lets go of the shared memory, and on a full disk readers could not get it back."""
        if self.is_sqlite and self._connection is not None:
            self.rollback()
        else:
            self.reopen_writer()

    def reopen_writer(self) -> None:
        """Throws the writer's connection away; the next `begin` opens a new one."""
        connection, self._connection, self._cursor = self._connection, None, None
        if connection is not None:
            connection.invalidate()

    def close_writer(self) -> None:
        """Gives the writer's connection back."""
        connection, self._connection, self._cursor = self._connection, None, None
        if connection is not None:
            connection.close()

    def is_fatal(self, error: Exception) -> bool:
        """Whether the error spoils the whole transaction, not just one unit."""
        dbapi = self.dialect.loaded_dbapi
        if self.is_sqlite:
            code = getattr(error, "sqlite_errorcode", None)
            return code is not None and code & 0xFF in _SQLITE_TROUBLE
        return isinstance(error, dbapi.OperationalError | dbapi.InterfaceError)

    def translate(self, error: Exception) -> DustrunError:
        """A driver's error as ours: the store is unavailable, or we have a defect."""
        if isinstance(error, DustrunError):
            return error
        if self.is_fatal(error):
            return Temporary("The store is unavailable; nothing was started.", retry_after_s=2)
        return Bug(f"The store refused a statement: {type(error).__name__}.")

    # --- the readers' side ---

    def read_now(self, query: Callable[[Tx], T]) -> T:
        """Runs a query on a reader's connection in this thread."""
        try:
            connection = self.engine.raw_connection()
        except (sa.exc.OperationalError, self.dialect.loaded_dbapi.OperationalError) as error:
            raise Temporary("The store is unavailable; nothing was started.", retry_after_s=2) from error
        try:
            cursor = connection.cursor()
            if self.is_sqlite:
                cursor.execute("BEGIN")
            try:
                return query(Tx(cursor, self.dialect))
            except self.dialect.loaded_dbapi.Error as error:
                raise self.translate(error) from error
            finally:
                connection.rollback()
        finally:
            connection.close()

    async def read(self, query: Callable[[Tx], T]) -> T:
        """Runs a query in a reader's thread."""
        return await asyncio.get_running_loop().run_in_executor(self._readers, self.read_now, query)

    def close(self) -> None:
        """Closes every connection."""
        self._readers.shutdown(wait=True)
        self.engine.dispose()
