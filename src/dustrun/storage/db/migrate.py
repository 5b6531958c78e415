"""Upgrades the store's schema to this version; forward only.

Alembic is loaded only to upgrade an older store, because importing it takes a quarter of the time of a first start and
stays in memory. A new store is created from `tables.py`; a test proves that this equals applying all migrations.

Migrations are `migrations/versions/NNNN_<what>.py`; the number is the revision, the highest one is the head.

From 0017 on a migration only adds, so that servers of the version before go on beside one of the new version. What
takes something away is a step of its own, in a later version, and says with `contracts = "NNNN"` which revision the
first version knows that no longer reads it. The store notes the highest of these: code that knows less must not run on
it, and all other code may, also if the store has revisions that it does not know.
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from dustrun import log
from dustrun.errors import Permanent, Temporary
from dustrun.storage.db.database import Database
from dustrun.storage.db.tables import metadata

_logger = log.get(__name__)
FOLDER = Path(__file__).parents[1] / "migrations"
_FILE = re.compile(r"^(\d{4})_\w+\.py$")
_CONTRACTS = re.compile(r'^contracts = "(\d{4})"$', re.MULTILINE)
_FIRST_OLDEST = "0017"
# Any fixed number; keeps two starting processes from migrating the same PostgreSQL database at once.
_LOCK = 7_236_117
# as Alembic creates it
_VERSION = sa.Table(
    "alembic_version",
    sa.MetaData(),
    sa.Column("version_num", sa.String(32), primary_key=True),
    sa.PrimaryKeyConstraint("version_num", name="alembic_version_pkc"),
)

# not of the metadata: it tells of the schema, as the other one does, and is in no backup
_OLDEST = sa.Table("oldest_revision", sa.MetaData(), sa.Column("revision", sa.String(32), primary_key=True))
OF_THE_SCHEMA = frozenset({_VERSION.name, _OLDEST.name})
"""Tables that tell of the schema, and hold nothing of the store's."""


@lru_cache(maxsize=1)
def head() -> str:
    """The newest revision that this version knows."""
    return max(known())


@lru_cache(maxsize=1)
def known() -> frozenset[str]:
    """Every revision that this version knows."""
    files = (_FILE.match(path.name) for path in (FOLDER / "versions").iterdir())
    return frozenset(found.group(1) for found in files if found)


def stored(connection: Connection) -> str | None:
    """The store's revision; None for an empty store."""
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    row = connection.exec_driver_sql("SELECT version_num FROM alembic_version").fetchone()
    return str(row[0]) if row else None


def revision_of(database: Database) -> str | None:
    """The store's revision; None for an empty store.

    Raises `Permanent` if the database is not Dustrun's, and `Temporary` if it is unreachable."""
    try:
        with database.engine.connect() as connection:
            return stored(connection)
    except sa.exc.OperationalError as error:
        raise Temporary(f"The store cannot be opened: {error.orig}.") from error
    except sa.exc.DatabaseError as error:
        raise Permanent(f"The database is not a Dustrun store: {error.orig}.") from error


def upgrade(database: Database, revision: str | None = None) -> None:
    """Applies all missing migrations, or those up to `to`, in one transaction.

    Raises `Permanent` if the store is not Dustrun's or has a newer schema that this version must not use, `Temporary`
    if it is unreachable.
    """
    found = revision_of(database)
    if found == (revision or head()):
        return
    if found is not None and found > head():
        check_newer(database, found)
        return
    if found is None and revision is None:
        _create(database)
    else:
        _apply(database, revision or "head")


def oldest() -> str:
    """The least revision that code must know to run on a store that has all migrations of this version."""
    texts = (path.read_text(encoding="utf-8") for path in (FOLDER / "versions").glob("*.py"))
    return max([_FIRST_OLDEST, *(str(found) for text in texts for found in _CONTRACTS.findall(text))])


def allows(database: Database, revision: str) -> bool:
    """Whether code that knows this revision may run on the store, which has a newer one."""
    with database.engine.connect() as connection:
        noted = _noted(connection)
    return noted is not None and noted <= revision


def check_newer(database: Database, revision: str) -> None:
    """Raises `Permanent` if this version must not run on a store whose schema is newer than it knows."""
    if not allows(database, head()):
        raise Permanent(
            f'The store has schema "{revision}", newer than "{head()}", the newest that this version of Dustrun knows, '
            "and something that this version needs may be gone from it. Go back to the newer version, or restore a "
            "backup from before it ran."
        )
    _logger.warning(
        "the store has a newer schema, which this version can use: update this server too",
        schema=revision,
        known=head(),
    )


def _noted(connection: Connection) -> str | None:
    if not sa.inspect(connection).has_table(_OLDEST.name):
        return None
    found = connection.execute(sa.select(_OLDEST.c.revision)).fetchone()
    return str(found[0]) if found is not None else None


def note_oldest(connection: Connection) -> None:
    """Notes `oldest` in the store, in the transaction that migrates it; never less than is noted."""
    noted = _noted(connection)
    if noted is not None and noted >= oldest():
        return
    _OLDEST.create(connection, checkfirst=True)
    connection.execute(sa.delete(_OLDEST))
    connection.execute(sa.insert(_OLDEST).values(revision=oldest()))


def _create(database: Database) -> None:
    """Creates the whole schema, unless another process just did."""
    with database.engine.begin() as connection:
        lock(connection)
        if stored(connection) is None:
            metadata.create_all(connection, checkfirst=False)
            _VERSION.create(connection, checkfirst=False)
            connection.execute(_VERSION.insert().values(version_num=head()))
            note_oldest(connection)


def _apply(database: Database, revision: str) -> None:
    # slow import: only upgrades need it
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    with database.engine.connect() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


def lock(connection: Connection) -> None:
    """Blocks other migrations until the transaction ends."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    else:
        connection.exec_driver_sql("BEGIN")
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
