"""Backs up a store while its server runs: one snapshot of all tables in one file.

Secrets stay encrypted; the master key is not part of the store and never part of a backup.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa

import dustrun
from dustrun import clock
from dustrun.errors import Conflict, Permanent
from dustrun.storage.backup import copy_detection
from dustrun.storage.backup.archive import ArchiveWriter, Manifest, Row
from dustrun.storage.db import migrate
from dustrun.storage.db.database import Database
from dustrun.storage.db.tables import metadata
from dustrun.storage.secrets.master_key import MasterKey
from dustrun.storage.secrets.vault import Vault

_FETCH = 1000


def back_up(url: str, path: Path, *, replace: bool = False, master_key_file: Path | None = None) -> Manifest:
    """Backs up the store at `url` to a file with mode 0600 and a MAC by the master key; without one only for files that
    nobody else can change.

    Raises `Temporary` (503003) if the master key does not belong to the store, `Conflict` if the file exists and may
    not be replaced, and `Permanent` if there is no store or it has another version's schema; then nothing is written.
    """
    if path.exists() and not replace:
        raise Conflict(f'The file "{path}" already exists. Choose another name, or use --replace.')
    if not path.parent.is_dir():
        raise Permanent(f'The folder "{path.parent}" does not exist.')
    copy_detection.need_store(url)
    database = Database(url)
    try:
        schema = _schema_of(database)
        key = None if master_key_file is None else Vault(master_key_file).key_of(database)
        with _snapshot(database) as snapshot:
            return _write(snapshot, path, schema, database.dialect.name, key)
    finally:
        database.close()


def _schema_of(database: Database) -> str:
    revision = migrate.revision_of(database)
    if revision is None:
        raise Permanent("The store is empty: no server has been started on it yet.")
    if revision != migrate.head():
        raise Permanent(
            f'The store has schema "{revision}", but this version of Dustrun needs "{migrate.head()}". Back it up '
            "with the version that runs on it."
        )
    return revision


class _Snapshot:
    """One consistent snapshot of all tables."""

    def __init__(self, connection: Any, *, is_sqlite: bool) -> None:
        self._connection = connection
        self._is_sqlite = is_sqlite

    def rows(self, table: sa.Table) -> Iterator[Row]:
        """Yields all rows of a table, fetched in batches."""
        columns = ", ".join(f'"{column.name}"' for column in table.columns)
        keys = ", ".join(f'"{column.name}"' for column in table.primary_key.columns)
        query = f'SELECT {columns} FROM "{table.name}" ORDER BY {keys}'  # noqa: S608 - names of ours
        cursor = self._connection.cursor() if self._is_sqlite else self._connection.cursor(name="backup")
        with contextlib.closing(cursor):
            cursor.execute(query)
            while rows := cursor.fetchmany(_FETCH):
                yield from rows


@contextlib.contextmanager
def _snapshot(database: Database) -> Iterator[_Snapshot]:
    pooled = database.engine.raw_connection()
    connection: Any = pooled.driver_connection
    try:
        if database.is_sqlite:
            connection.execute("BEGIN")
            connection.execute("SELECT 1 FROM sqlite_master").fetchone()  # the first read takes the snapshot
        else:
            connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        yield _Snapshot(connection, is_sqlite=database.is_sqlite)
        connection.execute("ROLLBACK")
    finally:
        pooled.invalidate()


def _write(snapshot: _Snapshot, path: Path, schema: str, dialect: str, key: MasterKey | None) -> Manifest:
    taken_at = clock.now_ms()
    archive = ArchiveWriter(path)
    try:
        for table in metadata.sorted_tables:
            archive.add_table(table.name, [column.name for column in table.columns], snapshot.rows(table))
        return archive.finish(dustrun=dustrun.__version__, schema=schema, dialect=dialect, taken_at=taken_at, key=key)
    except BaseException:
        archive.drop()
        raise
