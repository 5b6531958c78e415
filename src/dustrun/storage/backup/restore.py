"""Restores a backup into a store that no server uses, across databases too; all or nothing."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from dustrun import clock
from dustrun.errors import Conflict, Permanent
from dustrun.storage.backup.archive import Archive, Manifest, TableEntry
from dustrun.storage.db import migrate, store_facts
from dustrun.storage.db.database import Database
from dustrun.storage.db.lock import ProcessLock
from dustrun.storage.db.statement import Tx
from dustrun.storage.db.tables import SEARCHES
from dustrun.storage.runs import runs
from dustrun.storage.secrets.master_key import MasterKeyFile


def restore(
    url: str, data_dir: Path, path: Path, *, replace: bool = False, master_key_file: Path | None = None
) -> Manifest:
    """Restores the backup into the store at `url` and marks the store as restored. Without a master key file, it does
    not verify who made the backup.

    Raises `Permanent` if the file is damaged or of a newer version, `Conflict` if a server uses the store, or if it is
    not empty and may not be replaced. The whole file is verified before anything changes.
    """
    archive = Archive(path)
    try:
        _refuse_unknown(archive.manifest)
        if master_key_file is not None:
            masters = MasterKeyFile(master_key_file)
            archive.authenticate(masters.read(), masters.path)
        if sa.make_url(url).get_backend_name() == "sqlite":
            _need_space(data_dir, archive)
        archive.check()
        database = Database(url)
        lock = ProcessLock(database, data_dir)
        try:
            lock.take()
            _fill(database, archive, replace)
        finally:
            lock.release()
            database.close()
        return archive.manifest
    finally:
        archive.close()


def _need_space(folder: Path, archive: Archive) -> None:
    """Raises `Permanent` if the disk is too full: rows in SQLite take about as much space as in the backup."""
    free = shutil.disk_usage(folder).free
    if archive.unpacked_bytes > free:
        raise Permanent(
            f'The backup unpacks to {archive.unpacked_bytes // 2**20} MiB, but the disk of "{folder}" has '
            f"{free // 2**20} MiB free. Nothing was changed."
        )


def _refuse_unknown(manifest: Manifest) -> None:
    if manifest.schema > migrate.head():
        raise Permanent(
            f'The backup has schema "{manifest.schema}", newer than "{migrate.head()}", the newest that this '
            f"version of Dustrun knows. Restore it with Dustrun {manifest.dustrun} or later."
        )
    if manifest.schema not in migrate.known():
        raise Permanent(f'The backup has schema "{manifest.schema}", which no version of Dustrun has.')


def _fill(database: Database, archive: Archive, replace: bool) -> None:
    manifest = archive.manifest
    if migrate.revision_of(database) is None:
        migrate.upgrade(database, manifest.schema)
    stored = migrate.revision_of(database)
    if stored != manifest.schema:
        raise Permanent(
            f'The store has schema "{stored}", the backup "{manifest.schema}". Restore it into an empty store (another '
            "--data-dir or --database-url); it is upgraded there."
        )
    tx = database.begin()
    try:
        names = _check_columns(database, manifest)
        _empty(tx, manifest, names, replace)
        for entry in manifest.tables:
            _load(tx, database, archive, entry)
        for name in (
            store_facts.PLACE,
            store_facts.BEFORE_COPY,
        ):  # these facts are about the store that the backup was taken from
            store_facts.forget(tx, name)
        store_facts.put(tx, store_facts.RESTORED_AT, str(clock.now_ms()))
        store_facts.put(tx, store_facts.RESTORED_FROM, str(manifest.taken_at))
        store_facts.put(tx, store_facts.RESTORED_RUNS, str(runs.newest_pk(tx)))
    except BaseException:
        database.rollback()
        raise
    database.commit()
    migrate.upgrade(database)


def _check_columns(database: Database, manifest: Manifest) -> set[str]:
    """The store's tables; raises if the backup has a table or column that the schema does not have."""
    inspector = sa.inspect(database.engine)
    names = {name for name in inspector.get_table_names() if not name.startswith(SEARCHES)} - migrate.OF_THE_SCHEMA
    for entry in manifest.tables:
        if entry.name not in names:
            raise Permanent(f'The backup has a table "{entry.name}", which is not in the schema.')
        beyond = set(entry.columns) - {column["name"] for column in inspector.get_columns(entry.name)}
        if beyond or not entry.columns:
            said = ", ".join(sorted(beyond)) or "none at all"
            raise Permanent(f'The backup has columns of table "{entry.name}" that do not match the schema: {said}.')
    return names


def _empty(tx: Tx, manifest: Manifest, names: set[str], replace: bool) -> None:
    in_order = [entry.name for entry in manifest.tables]
    for name in [*(names - set(in_order)), *reversed(in_order)]:
        if not replace and _has_rows(tx, name):
            raise Conflict(
                f'The store is not empty: its table "{name}" has rows. Restore into another store, or use '
                "--replace, which deletes everything in this one."
            )
        tx.raw(f'DELETE FROM "{name}"')  # noqa: S608 - a name of the schema


def _has_rows(tx: Tx, name: str) -> bool:
    tx.raw(f'SELECT 1 FROM "{name}" LIMIT 1')  # noqa: S608 - a name of the schema
    return tx.cursor.fetchone() is not None


def _load(tx: Tx, database: Database, archive: Archive, entry: TableEntry) -> None:
    columns = ", ".join(f'"{name}"' for name in entry.columns)
    marks = ", ".join(["?" if database.is_sqlite else "%s"] * len(entry.columns))
    insert = f'INSERT INTO "{entry.name}" ({columns}) VALUES ({marks})'  # noqa: S608 - names of the schema
    cursor: Any = tx.cursor
    refused: Any = database.engine.dialect.loaded_dbapi.Error
    try:
        for piece in archive.rows(entry):
            cursor.executemany(insert, piece)
    except (refused, OverflowError) as error:
        raise Permanent(
            f'The rows of table "{entry.name}" cannot be inserted: {str(error).strip()}. Nothing was changed.'
        ) from error
    if not database.is_sqlite:
        _set_sequence(cursor, entry)


def _set_sequence(cursor: Any, entry: TableEntry) -> None:
    """Moves PostgreSQL's sequences past the restored rows; SQLite does that by itself."""
    cursor.execute(
        "SELECT column_name FROM information_schema.columns WHERE table_schema = current_schema() AND table_name = %s"
        " AND (column_default LIKE 'nextval(%%' OR is_identity = 'YES')",
        (entry.name,),
    )
    for (column,) in cursor.fetchall():
        cursor.execute(
            f"SELECT setval(pg_get_serial_sequence(%s, %s), (SELECT coalesce(max({column}), 0) + 1 FROM {entry.name}),"  # noqa: S608
            " false)",
            (entry.name, column),
        )
