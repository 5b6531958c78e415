"""Backing a store up while a server works on it: one snapshot of all tables, into one file.

The secrets in it stay sealed; the master key is no part of the store and never of a backup.
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

_FETCH = 1000


def back_up(url: str, path: Path, *, replace: bool = False) -> Manifest:
    """Writes the store behind `url` to a file of mode 0600.

    Raises `Conflict` when the file exists and is not to be replaced, `Permanent` when there is no store, or one of
    another version; then nothing is written.
    """
    if path.exists() and not replace:
        raise Conflict(f'The file "{path}" exists. Choose another name, or say --replace.')
    if not path.parent.is_dir():
        raise Permanent(f'There is no folder "{path.parent}".')
    copy_detection.need_store(url)
    database = Database(url)
    try:
        schema = _schema_of(database)
        with _snapshot(database) as snapshot:
            return _write(snapshot, path, schema, database.dialect.name)
    finally:
        database.close()


def _schema_of(database: Database) -> str:
    revision = migrate.revision_of(database)
    if revision is None:
        raise Permanent("The store is empty: no server has ever started on it.")
    if revision != migrate.head():
        raise Permanent(
            f'The store has schema "{revision}", this version of Dustrun "{migrate.head()}". Back it up with the '
            "version that serves it."
        )
    return revision


class _Snapshot:
    """The tables as they are at one instant."""

    def __init__(self, connection: Any, *, is_sqlite: bool) -> None:
        self._connection = connection
        self._is_sqlite = is_sqlite

    def rows(self, table: sa.Table) -> Iterator[Row]:
        """Every row, fetched bit by bit."""
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
            connection.execute("SELECT 1 FROM sqlite_master").fetchone()  # the snapshot is taken by the first look
        else:
            connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        yield _Snapshot(connection, is_sqlite=database.is_sqlite)
        connection.execute("ROLLBACK")
    finally:
        pooled.invalidate()


def _write(snapshot: _Snapshot, path: Path, schema: str, dialect: str) -> Manifest:
    taken_at = clock.now_ms()
    archive = ArchiveWriter(path)
    try:
        for table in metadata.sorted_tables:
            archive.add_table(table.name, [column.name for column in table.columns], snapshot.rows(table))
        return archive.finish(dustrun=dustrun.__version__, schema=schema, dialect=dialect, taken_at=taken_at)
    except BaseException:
        archive.drop()
        raise
