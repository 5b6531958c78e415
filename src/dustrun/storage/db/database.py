"""One database, two dialects: connections, pragmas, transactions, translated errors, the process lock."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from dustrun import ids
from dustrun.errors import Bug, DustrunError, Temporary, Uncertain
from dustrun.storage.db.statement import Tx

T = TypeVar("T")
_END_OWN = (
    "SELECT pg_terminate_backend(a.pid, 5000) FROM pg_stat_activity a JOIN pg_locks l ON l.pid = a.pid"
    " WHERE a.application_name = %(name)s AND a.pid <> pg_backend_pid()"
    " AND l.locktype = 'advisory' AND l.objid = %(key)s AND l.database = a.datid"
)
_HELD_BY_ANOTHER = (
    "SELECT count(*) FROM pg_stat_activity a JOIN pg_locks l ON l.pid = a.pid"
    " WHERE a.application_name LIKE 'dustrun%%' AND a.application_name <> %(name)s"
    " AND l.locktype = 'advisory' AND l.granted AND l.objid = %(key)s AND l.database = a.datid"
)
_BUSY_MS = 5000
_READERS = 4
# A server that does not answer must not hold the writer for the quarter of an hour that TCP would try.
_POSTGRESQL_OPTIONS: dict[str, Any] = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
    "client_encoding": "utf8",
    "prepare_threshold": 2,
}
# Classes of SQLSTATE that spoil the transaction or the connection and that time may mend: connection, transaction
# rollback, resources, locks, operator's intervention, system; and 25006, a server that only reads after a failover.
_POSTGRESQL_TROUBLE = ("08", "40", "53", "55", "57", "58", "25006")
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
_SQLITE_DAMAGE = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


def create_engine(url: str, *, synchronous: str = "FULL", name: str = "dustrun") -> Engine:
    """An engine whose connections are set up as the store needs them; PostgreSQL shows them under `name`."""
    parsed = sa.make_url(url)
    if parsed.get_backend_name() != "sqlite":
        return _create_postgresql(parsed, name)
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
        _use_wal(cursor)
        cursor.execute(f"PRAGMA synchronous={synchronous}")
        cursor.execute(f"PRAGMA busy_timeout={_BUSY_MS}")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.execute("PRAGMA temp_store=MEMORY")
        cursor.execute("PRAGMA cache_size=-16000")
        cursor.close()

    return engine


def _use_wal(cursor: sqlite3.Cursor) -> None:
    """SQLite does not wait for another process that is switching a new file over at the same moment, so we do."""
    for _ in range(50):
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                raise
            time.sleep(0.02)
    cursor.execute("PRAGMA journal_mode=WAL")


def _texts_without_nul() -> Any:
    """PostgreSQL keeps no NUL in a text and would refuse the whole statement; SQLite keeps it. The border refuses NUL
    where people name things; elsewhere (an id in a path, a branch of a definition) U+FFFD stands for it.
    """
    # optional dependency: only a server on PostgreSQL loads the driver
    from psycopg.types.string import StrDumperUnknown

    class WithoutNul(StrDumperUnknown):
        def dump(self, obj: str) -> Any:
            return super().dump(obj.replace("\x00", "\ufffd") if "\x00" in obj else obj)

    return WithoutNul


def _create_postgresql(url: sa.URL, name: str) -> Engine:
    # what the operator says in the URL wins
    options = {option: value for option, value in _POSTGRESQL_OPTIONS.items() if option not in url.query}
    engine = sa.create_engine(
        url, pool_size=_READERS, max_overflow=2, connect_args={**options, "application_name": name}
    )

    text_dumper = _texts_without_nul()

    @sa.event.listens_for(engine, "connect")
    def _set_up(connection: Any, _record: Any) -> None:
        connection.adapters.register_dumper(str, text_dumper)
        connection.autocommit = True  # as with SQLite we say BEGIN ourselves
        connection.execute(
            "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
        )

    return engine


class Claimed(Exception):
    """Another session holds the lock that the writer's connection must hold."""


class Database:
    """The store's connections: one for the writer, a few for readers."""

    def __init__(self, url: str, *, synchronous: str = "FULL") -> None:
        self._name = ids.new_id("dustrun")
        self.engine = create_engine(url, synchronous=synchronous, name=self._name)
        self.dialect = self.engine.dialect
        self.is_sqlite = self.dialect.name == "sqlite"
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="reader")
        self._connection: Any = None
        self._cursor: Any = None
        self._claim: int | None = None
        self.is_taken = False
        """Whether another server was seen to hold the lock that this one held: what is in memory here is old."""

    # --- the writer's side: only the writer's thread calls these, `claim` before there is one ---

    def claim(self, key: int) -> None:
        """On PostgreSQL: the writer's connection, and each one that replaces it, holds this advisory lock.

        So nobody else writes here, and a new connection begins only when the transaction of a lost one is over.
        Raises `Claimed` when someone else holds it.
        """
        self._claim = key
        try:
            self._open_writer()
        except self.dialect.loaded_dbapi.Error as error:
            raise Temporary(f"The store cannot be opened: {error}.") from error

    def _open_writer(self) -> None:
        connection = self.engine.raw_connection()
        try:
            cursor = connection.cursor()
            if self._claim is not None and not self._take_claim(cursor, self._claim):
                raise Claimed
        except Exception:
            self._throw_away(connection)
            raise
        self._connection, self._cursor = connection, cursor

    def _take_claim(self, cursor: Any, key: int) -> bool:
        cursor.execute("SELECT pg_try_advisory_lock(%s)", (key,))
        if cursor.fetchone()[0]:
            return True
        # our own lost connection may not be lost to the server yet
        cursor.execute(_END_OWN, {"name": self._name, "key": key})
        cursor.execute("SELECT pg_try_advisory_lock(%s)", (key,))
        if cursor.fetchone()[0]:
            return True
        cursor.execute(_HELD_BY_ANOTHER, {"name": self._name, "key": key})
        self.is_taken = bool(cursor.fetchone()[0])
        return False

    def begin(self) -> Tx:
        """Opens the writer's transaction, on a new connection when the one it had has died meanwhile."""
        try:
            if self._connection is not None:
                try:
                    return self._begin()
                except self.dialect.loaded_dbapi.Error as error:
                    if self.is_sqlite or not self.is_fatal(error):
                        raise
                    self.reopen_writer()
            self._open_writer()
            return self._begin()
        except Claimed:
            message = "The store is held by another session; nothing was started."
            raise Temporary(message, retry_after_s=2) from None

    def _begin(self) -> Tx:
        self._cursor.execute("BEGIN IMMEDIATE" if self.is_sqlite else "BEGIN ISOLATION LEVEL READ COMMITTED")
        return Tx(self._cursor, self.dialect)

    def commit(self) -> None:
        """Makes the writer's transaction durable; a connection that dies here leaves the outcome unknown."""
        try:
            self._cursor.execute("COMMIT")
        except self.dialect.loaded_dbapi.Error as error:
            if self.is_sqlite or not self._connection.driver_connection.closed:
                self.rollback()
                raise
            raise Uncertain("The connection to the store died in a commit; look the id up.", retry_after_s=2) from error
        if not self.is_sqlite and self._cursor.statusmessage != "COMMIT":
            raise Bug("The store rolled a transaction back that was to be committed.")

    def rollback(self) -> None:
        """Drops the writer's transaction."""
        try:
            if not self.is_sqlite or self._connection.driver_connection.in_transaction:
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
            self._throw_away(connection)

    def _throw_away(self, connection: Any) -> None:
        """Closes a connection; those that are as old as it are tried no more."""
        self.engine.pool._invalidate(connection)

    def close_writer(self) -> None:
        """Closes the writer's connection, and with it gives its lock back."""
        self.reopen_writer()

    def is_fatal(self, error: Exception) -> bool:
        """Whether the error spoils the whole transaction, not just one unit."""
        dbapi = self.dialect.loaded_dbapi
        if self.is_sqlite:
            code = getattr(error, "sqlite_errorcode", None)
            return code is not None and code & 0xFF in _SQLITE_TROUBLE
        state = getattr(error, "sqlstate", None)
        if state is None:
            return isinstance(error, dbapi.OperationalError | dbapi.InterfaceError)
        return str(state).startswith(_POSTGRESQL_TROUBLE)

    def translate(self, error: Exception) -> DustrunError:
        """A driver's error as ours: the store is unavailable, or we have a defect."""
        if isinstance(error, DustrunError):
            return error
        if isinstance(error, sa.exc.DBAPIError) and isinstance(error.orig, Exception):
            error = error.orig
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in _SQLITE_DAMAGE:
            return Bug(
                f"The database file is damaged: {error}. Stop the server, keep a copy of its folder, and restore the "
                "newest backup (dustrun restore FILE) into another folder."
            )
        if self.is_fatal(error) or isinstance(error, sa.exc.TimeoutError):
            return Temporary("The store is unavailable; nothing was started.", retry_after_s=2)
        return Bug(f"The store refused a statement: {type(error).__name__}.")

    # --- the readers' side ---

    def read_now(self, query: Callable[[Tx], T]) -> T:
        """Runs a query on a reader's connection in this thread; once more when that connection had died meanwhile."""
        try:
            try:
                return self._read_once(query)
            except self.dialect.loaded_dbapi.Error as error:
                if self.is_sqlite or not self.is_fatal(error):
                    raise
                return self._read_once(query)
        except (self.dialect.loaded_dbapi.Error, sa.exc.SQLAlchemyError) as error:
            raise self.translate(error) from error

    def _read_once(self, query: Callable[[Tx], T]) -> T:
        """One snapshot for all statements of the query."""
        connection = self.engine.raw_connection()
        try:
            cursor = connection.cursor()
            cursor.execute("BEGIN" if self.is_sqlite else "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            result = query(Tx(cursor, self.dialect))
            cursor.execute("COMMIT")  # not ROLLBACK, after which the driver forgets what it has prepared
            return result
        except self.dialect.loaded_dbapi.Error as error:
            if self.is_fatal(error):
                self._throw_away(connection)
            raise
        finally:
            connection.close()  # rolls back what is still open

    async def read(self, query: Callable[[Tx], T]) -> T:
        """Runs a query in a reader's thread."""
        return await asyncio.get_running_loop().run_in_executor(self._readers, self.read_now, query)

    def close(self) -> None:
        """Closes every connection, the writer's too: the pool forgets those that are in use, it does not close them."""
        self._readers.shutdown(wait=True)
        self.close_writer()
        self.engine.dispose()
