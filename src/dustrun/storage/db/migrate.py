"""Brings the store's schema up to this version: forward only.

Alembic is loaded only for an older store: an empty one is made from `tables.py` at once, which a test holds to be the
same as all migrations together. It takes a quarter of the time of a first start, and Alembic stays in memory.

Migrations are `migrations/versions/NNNN_<what>.py`; the number is the revision, the highest one is the head.
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from dustrun.errors import Permanent, Temporary
from dustrun.storage.db.database import Database
from dustrun.storage.db.tables import metadata

FOLDER = Path(__file__).parents[1] / "migrations"
_FILE = re.compile(r"^(\d{4})_\w+\.py$")
# Any fixed number; it only keeps two starting processes from migrating one PostgreSQL at the same time.
_LOCK = 7_236_117
# as Alembic makes it
_VERSION = sa.Table(
    "alembic_version",
    sa.MetaData(),
    sa.Column("version_num", sa.String(32), primary_key=True),
    sa.PrimaryKeyConstraint("version_num", name="alembic_version_pkc"),
)


@lru_cache(maxsize=1)
def head() -> str:
    """The newest revision that this version of the program knows."""
    return max(known())


@lru_cache(maxsize=1)
def known() -> frozenset[str]:
    """Every revision that this version of the program knows."""
    files = (_FILE.match(path.name) for path in (FOLDER / "versions").iterdir())
    return frozenset(found.group(1) for found in files if found)


def stored(connection: Connection) -> str | None:
    """The store's revision; None for an empty store."""
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    row = connection.exec_driver_sql("SELECT version_num FROM alembic_version").fetchone()
    return str(row[0]) if row else None


def revision_of(database: Database) -> str | None:
    """The store's revision; None for an empty store. Raises `Permanent` when the store is not ours, `Temporary` when it
    cannot be reached."""
    try:
        with database.engine.connect() as connection:
            return stored(connection)
    except sa.exc.OperationalError as error:
        raise Temporary(f"The store cannot be opened: {error.orig}.") from error
    except sa.exc.DatabaseError as error:
        raise Permanent(f"The store is no database of ours: {error.orig}.") from error


def upgrade(database: Database, revision: str | None = None) -> None:
    """Applies every migration that the store lacks, or those up to a revision, in one transaction.

    Raises `Permanent` when the store is not ours or of a newer version, `Temporary` when it cannot be reached.
    """
    found = revision_of(database)
    if found == (revision or head()):
        return
    _refuse_newer(found)
    if found is None and revision is None:
        _create(database)
    else:
        _apply(database, revision or "head")


def _refuse_newer(revision: str | None) -> None:
    if revision is not None and revision > head():
        raise Permanent(
            f'The store has schema "{revision}", newer than "{head()}", the newest that this version of Dustrun knows. '
            "Start the newer version again, or restore a backup that was made before it ran."
        )


def _create(database: Database) -> None:
    """The whole schema, unless another process has made it meanwhile."""
    with database.engine.begin() as connection:
        lock(connection)
        if stored(connection) is None:
            metadata.create_all(connection, checkfirst=False)
            _VERSION.create(connection, checkfirst=False)
            connection.execute(_VERSION.insert().values(version_num=head()))


def _apply(database: Database, revision: str) -> None:
    # slow import: only a store that must change pays for it
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    with database.engine.connect() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


def lock(connection: Connection) -> None:
    """Keeps others from migrating until the transaction ends."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    else:
        connection.exec_driver_sql("BEGIN")
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
