"""SQLite and PostgreSQL behind one interface: connections, transactions, translated errors, the writer's lock."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import Engine
from sqlalchemy.pool import PoolProxiedConnection

from dustrun import ids, log
from dustrun.errors import Bug, CommitUnknown, DustrunError, StoreUnavailable, Temporary
from dustrun.storage.db.server_file import create_private
from dustrun.storage.db.statement import Tx

_logger = log.get(__name__)

# Reads of single rows by their key, on the event loop: on SQLite they take less time than their way to a reader's
# thread and back.


class LookUps:
    """One connection to SQLite that never waits: a store in trouble is an error at once."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._opening = threading.Lock()
        self._connection: PoolProxiedConnection | None = None

    @property
    def is_open(self) -> bool:
        """Whether the connection is open."""
        return self._connection is not None

    def open(self) -> None:
        """Opens the connection unless it is open; call it in a thread, because it may wait for other processes."""
        with self._opening:
            if self._connection is None:
                connection = self._engine.raw_connection()
                connection.detach()  # readers need all that the pool has
                with contextlib.closing(connection.cursor()) as cursor:
                    cursor.execute("PRAGMA busy_timeout=0")
                self._connection = connection

    def run(self, query: Callable[[Tx], T]) -> T:
        """Runs a query in one snapshot."""
        assert self._connection is not None
        with contextlib.closing(self._connection.cursor()) as cursor:
            cursor.execute("BEGIN")
            try:
                return query(Tx(cursor, self._engine.dialect))
            finally:
                cursor.execute("COMMIT")

    def close(self) -> None:
        """Closes the connection; it can be opened again."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


T = TypeVar("T")
_END_OWN = (
    "SELECT pg_terminate_backend(a.pid, 5000) FROM pg_stat_activity a JOIN pg_locks l ON l.pid = a.pid"
    " WHERE a.application_name = %(name)s AND a.pid <> pg_backend_pid()"
    " AND l.locktype = 'advisory' AND l.objid = %(key)s AND l.database = a.datid"
)
_BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED"
_TURN = "SELECT pg_advisory_xact_lock(1685418869)"  # one more than the lock of the processes
_IDLE_MS = 5000
_HELD_BY_ANOTHER = (
    "SELECT count(*) FROM pg_stat_activity a JOIN pg_locks l ON l.pid = a.pid"
    " WHERE a.application_name LIKE 'dustrun%%' AND a.application_name <> %(name)s"
    " AND l.locktype = 'advisory' AND l.granted AND l.objid = %(key)s AND l.database = a.datid"
)
_BUSY_MS = 5000
_READERS = 4
_READERS_OF_SERVER = 16  # PostgreSQL: they mostly wait; made when all others are busy
# An unresponsive server must not block the writer for TCP's default timeout of about 15 minutes.
_POSTGRESQL_OPTIONS: dict[str, Any] = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
    "client_encoding": "utf8",
    "prepare_threshold": 2,
}
# SQLSTATE classes that abort the transaction or connection and may be transient: connection, transaction
# rollback, resources, locks, operator's intervention, system; and 25006, a server that only reads after a failover.
_POSTGRESQL_TROUBLE = ("08", "40", "53", "55", "57", "58", "25006")
# SQLite error codes for disk and lock trouble: nothing of the transaction was committed.
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
    """Creates an engine with the connection setup that the store needs; `name` is PostgreSQL's application_name."""
    parsed = sa.make_url(url)
    if parsed.get_backend_name() != "sqlite":
        return _create_postgresql(parsed, name)
    if parsed.database and parsed.database != ":memory:":
        create_private(Path(parsed.database))
    engine = sa.create_engine(
        parsed,
        connect_args={"check_same_thread": False},
        poolclass=sa.pool.QueuePool,
        pool_size=_READERS,
        max_overflow=2,
    )

    @sa.event.listens_for(engine, "connect")
    def _set_up(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # we issue BEGIN ourselves; the driver would guess
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
    """Switches to WAL; retries because SQLite does not wait while another process switches the same new file."""
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
    """Replaces NUL in texts with U+FFFD, because PostgreSQL rejects the whole statement; SQLite stores NUL.

    The API refuses NUL in names; elsewhere (an id in a path, a branch in a definition) it can still occur.
    """
    # optional dependency: the driver is loaded only for PostgreSQL
    from psycopg.types.string import StrDumperUnknown

    class WithoutNul(StrDumperUnknown):
        def dump(self, obj: str) -> Any:
            return super().dump(obj.replace("\x00", "\ufffd") if "\x00" in obj else obj)

    return WithoutNul


def _create_postgresql(url: sa.URL, name: str) -> Engine:
    # options in the operator's URL win
    options = {option: value for option, value in _POSTGRESQL_OPTIONS.items() if option not in url.query}
    engine = sa.create_engine(
        url, pool_size=_READERS_OF_SERVER, max_overflow=2, connect_args={**options, "application_name": name}
    )

    text_dumper = _texts_without_nul()

    @sa.event.listens_for(engine, "connect")
    def _set_up(connection: Any, _record: Any) -> None:
        connection.adapters.register_dumper(str, text_dumper)
        connection.autocommit = True  # as with SQLite, we issue BEGIN ourselves
        connection.execute(
            "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
        )

    return engine


class LooksUp(Protocol):
    """Reads few rows by their keys."""

    async def run(self, query: Callable[[Tx], T]) -> T:
        """Runs a query; again, from its beginning, if it has to."""
        ...


class Claimed(Exception):
    """Another session holds the advisory lock that the writer needs."""


class Database:
    """The store's connections: one for the writer, a pool for readers."""

    def __init__(self, url: str, *, synchronous: str = "FULL", is_shared: bool = False) -> None:
        self.name = ids.new_id("dustrun")
        """This process among those that share a store."""
        self.is_shared = is_shared
        """Whether other servers write to the store too (PostgreSQL)."""
        self.begins = (_BEGIN, _TURN) if is_shared else (_BEGIN,)
        """What begins a transaction of the writer on PostgreSQL. Those of a shared store take turns: each unit sees
        what all before it have done, as it does with one writer."""
        self.engine = create_engine(url, synchronous=synchronous, name=self.name)
        self.dialect = self.engine.dialect
        self.is_sqlite = self.dialect.name == "sqlite"
        readers = _READERS if self.is_sqlite else _READERS_OF_SERVER
        self._readers = ThreadPoolExecutor(readers, thread_name_prefix="reader")
        self._look_ups = LookUps(self.engine)
        self.look_ups_of_server: LooksUp | None = None
        """On PostgreSQL, while the writer works: what reads without a thread."""
        self._connection: Any = None
        self._cursor: Any = None
        self._claim: int | None = None
        self._writer_waits = True
        self.trouble = log.Trouble(_logger, log.ERROR, "the store is unavailable")
        """Of reads, and of writes."""
        self.is_taken = False
        """Set when another server took over the lock: this process's in-memory state is stale."""

    # --- writer: called by one thread at a time (`claim`: before the writer starts) ---

    def claim(self, key: int) -> None:
        """Takes an advisory lock (PostgreSQL) with the writer's connection and every one that replaces it.

        So no other server writes, and a new connection starts only after a lost connection's transaction has ended.
        Raises `Claimed` if another session holds the lock.
        """
        self._claim = key
        try:
            self._open_writer()
        except self.dialect.loaded_dbapi.Error as error:
            raise Temporary(f"The store cannot be opened: {error}.") from error

    @property
    def has_writer(self) -> bool:
        """Whether the writer's connection has been opened."""
        return self._connection is not None

    def open_writer(self) -> Any:
        """Opens the writer's connection unless it is open; returns the driver's."""
        if self._connection is None:
            self._open_writer()
        return self._connection.driver_connection

    @property
    def can_be_shared(self) -> bool:
        """Whether several servers can use the store at the same time."""
        return not self.is_sqlite

    def _open_writer(self) -> None:
        connection = self.engine.raw_connection()
        try:
            cursor = connection.cursor()
            if self.is_shared:
                # a process that is frozen inside a transaction must not hold up the others
                cursor.execute(f"SET idle_in_transaction_session_timeout = {_IDLE_MS}")
            if self._claim is not None and not self._take_claim(cursor, self._claim):
                raise Claimed
        except Exception:
            self._throw_away(connection)
            raise
        self._connection, self._cursor, self._writer_waits = connection, cursor, True

    def _take_claim(self, cursor: Any, key: int) -> bool:
        take = "SELECT pg_try_advisory_lock_shared(%s)" if self.is_shared else "SELECT pg_try_advisory_lock(%s)"
        cursor.execute(take, (key,))
        if cursor.fetchone()[0]:
            return True
        # the database may not have noticed yet that our old connection is dead
        cursor.execute(_END_OWN, {"name": self.name, "key": key})
        cursor.execute(take, (key,))
        if cursor.fetchone()[0]:
            return True
        cursor.execute(_HELD_BY_ANOTHER, {"name": self.name, "key": key})
        self.is_taken = bool(cursor.fetchone()[0])
        return False

    def begin(self, *, waits: bool = True) -> Tx:
        """Begins the writer's transaction, on a new connection if the old one died. `waits`: until another process
        that writes to the SQLite file has finished, for some seconds; else that is an error."""
        try:
            if self._connection is not None:
                try:
                    return self._begin(waits)
                except self.dialect.loaded_dbapi.Error as error:
                    if self.is_sqlite or not self.is_fatal(error):
                        raise
                    self.reopen_writer()
            self._open_writer()
            return self._begin(waits)
        except Claimed:
            message = "Another session holds the store; nothing was started."
            raise StoreUnavailable(message, retry_after_s=2) from None

    def _begin(self, waits: bool) -> Tx:
        if self.is_sqlite and waits != self._writer_waits:
            self._cursor.execute(f"PRAGMA busy_timeout={_BUSY_MS if waits else 0}")
            self._writer_waits = waits
        for begin in ("BEGIN IMMEDIATE",) if self.is_sqlite else self.begins:
            self._cursor.execute(begin)
        return Tx(self._cursor, self.dialect)

    def commit(self) -> None:
        """Commits the writer's transaction; if the connection dies here, the outcome is unknown."""
        try:
            self._cursor.execute("COMMIT")
        except self.dialect.loaded_dbapi.Error as error:
            if self.is_sqlite or not self._connection.driver_connection.closed:
                self.rollback()
                raise
            raise CommitUnknown(
                "The connection to the store died during a commit; look the id up.", retry_after_s=2
            ) from error
        if not self.is_sqlite and self._cursor.statusmessage != "COMMIT":
            raise Bug("The store rolled back a transaction instead of committing it.")

    def rollback(self) -> None:
        """Rolls back the writer's transaction."""
        try:
            if not self.is_sqlite or self._connection.driver_connection.in_transaction:
                self._cursor.execute("ROLLBACK")
        except self.dialect.loaded_dbapi.Error:
            self.reopen_writer()

    def mend_writer(self) -> None:
        """Recovers the connection after a failed group. A SQLite connection that can roll back is kept: closing the
        process's last one releases the WAL's shared memory, which readers could not recreate on a full disk."""
        if self.is_sqlite and self._connection is not None:
            self.rollback()
        else:
            self.reopen_writer()

    def reopen_writer(self) -> None:
        """Discards the writer's connection; the next `begin` opens a new one."""
        connection, self._connection, self._cursor = self._connection, None, None
        if connection is not None:
            self._throw_away(connection)

    def _throw_away(self, connection: Any) -> None:
        """Closes a connection and invalidates pooled ones of the same age."""
        self.engine.pool._invalidate(connection)

    def close_writer(self) -> None:
        """Releases the writer's lock and closes its connection.

        The lock is released by a statement: the session of a closed connection may hold it a moment longer, and a
        server that starts then would be refused.
        """
        if self._claim is not None and self._connection is not None:
            with contextlib.suppress(self.dialect.loaded_dbapi.Error):  # a dead connection holds nothing
                self._cursor.execute("ROLLBACK")
                unlock = "pg_advisory_unlock_shared" if self.is_shared else "pg_advisory_unlock"
                self._cursor.execute(f"SELECT {unlock}(%s)", (self._claim,))
        self.reopen_writer()

    def is_fatal(self, error: Exception) -> bool:
        """Whether the error aborts the whole transaction, not just one unit."""
        dbapi = self.dialect.loaded_dbapi
        if self.is_sqlite:
            code = getattr(error, "sqlite_errorcode", None)
            return code is not None and code & 0xFF in _SQLITE_TROUBLE
        state = getattr(error, "sqlstate", None)
        if state is None:
            return isinstance(error, dbapi.OperationalError | dbapi.InterfaceError)
        return str(state).startswith(_POSTGRESQL_TROUBLE)

    def translate(self, error: Exception) -> DustrunError:
        """Translates a driver's error: the store is unavailable, damaged, or Dustrun has a bug."""
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
            return StoreUnavailable("The store is unavailable; nothing was started.", retry_after_s=2)
        return Bug(f"The store refused a statement: {type(error).__name__}.")

    # --- readers ---

    def read_now(self, query: Callable[[Tx], T], *, is_one_statement: bool = False) -> T:
        """Runs a query on a reader's connection in this thread; retries once if the connection was dead."""
        read = self._read_bare if is_one_statement and not self.is_sqlite else self._read_once
        try:
            try:
                result = read(query)
            except self.dialect.loaded_dbapi.Error as error:
                if self.is_sqlite or not self.is_fatal(error):
                    raise
                result = read(query)
        except (self.dialect.loaded_dbapi.Error, sa.exc.SQLAlchemyError) as error:
            translated = self.translate(error)
            if isinstance(translated, StoreUnavailable):
                self.trouble.meet(error, "reads")
            raise translated from error
        if self.trouble.failing:
            self.trouble.end("reads")
        return result

    def _read_once(self, query: Callable[[Tx], T]) -> T:
        """Runs the query in one snapshot."""
        connection = self.engine.raw_connection()
        try:
            cursor = connection.cursor()
            cursor.execute("BEGIN" if self.is_sqlite else "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            result = query(Tx(cursor, self.dialect))
            cursor.execute("COMMIT")  # not ROLLBACK, which makes the driver drop its prepared statements
            return result
        except self.dialect.loaded_dbapi.Error as error:
            if self.is_fatal(error):
                self._throw_away(connection)
            raise
        finally:
            connection.close()  # rolls back what is still open

    def _read_bare(self, query: Callable[[Tx], T]) -> T:
        """Runs a query of one statement, which needs no transaction, and one round trip instead of three."""
        connection = self.engine.raw_connection()
        try:
            return query(Tx(connection.cursor(), self.dialect))
        except self.dialect.loaded_dbapi.Error as error:
            if self.is_fatal(error):
                self._throw_away(connection)
            raise
        finally:
            connection.close()

    async def read(self, query: Callable[[Tx], T]) -> T:
        """Runs a query in a reader's thread."""
        return await asyncio.get_running_loop().run_in_executor(self._readers, self.read_now, query)

    async def look_up(self, query: Callable[[Tx], T]) -> T:
        """Runs a query of a few statements, each of which reads few rows by a key. Only what it asks by `soon` and
        `soon_all` before it waits is sure to be of one moment. On SQLite that is on the event loop, or if the store is
        in trouble, in a reader's thread, which may wait; on PostgreSQL queries at the same time share round trips."""
        if self.look_ups_of_server is not None:
            return await self.look_ups_of_server.run(query)
        if not self.is_sqlite:
            bare = partial(self.read_now, query, is_one_statement=True)
            return await asyncio.get_running_loop().run_in_executor(self._readers, bare)
        try:
            if not self._look_ups.is_open:
                await asyncio.get_running_loop().run_in_executor(self._readers, self._look_ups.open)
            return self._look_ups.run(query)
        except (sqlite3.Error, sa.exc.SQLAlchemyError):
            self._look_ups.close()
            return await self.read(query)

    def close(self) -> None:
        """Closes every connection, the writer's too: the pool forgets those that are in use, it does not close them."""
        self._readers.shutdown(wait=True)
        self._look_ups.close()
        self.close_writer()
        self.engine.dispose()
