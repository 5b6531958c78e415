"""The migrations: together they are the schema, and they never go back."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa

from dustrun.errors import Permanent
from dustrun.storage import migrate
from dustrun.storage.database import Database
from dustrun.storage.tables import metadata


def _schema(database: Database) -> list[tuple[str, str]]:
    with database.engine.connect() as connection:
        rows = connection.exec_driver_sql(
            "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL AND name <> 'alembic_version' ORDER BY name"
        ).fetchall()
    return [(str(name), " ".join(str(sql).split())) for name, sql in rows]


def _open(path: Path) -> Database:
    return Database(f"sqlite:///{path}")


def test_all_migrations_make_the_schema_of_the_tables(tmp_path: Path) -> None:
    fresh, migrated = _open(tmp_path / "fresh.db"), _open(tmp_path / "migrated.db")
    metadata.create_all(fresh.engine)
    migrate.upgrade(migrated)
    assert _schema(migrated) == _schema(fresh)
    fresh.close()
    migrated.close()


def test_upgrade_twice_changes_nothing(tmp_path: Path) -> None:
    database = _open(tmp_path / "store.db")
    migrate.upgrade(database)
    before = _schema(database)
    migrate.upgrade(database)
    with database.engine.connect() as connection:
        assert migrate.stored(connection) == migrate.head()
    assert _schema(database) == before
    database.close()


def test_upgrade_of_a_store_at_head_does_not_load_alembic(tmp_path: Path) -> None:
    database = _open(tmp_path / "store.db")
    migrate.upgrade(database)
    database.close()
    program = (
        "import sys; from dustrun.storage.database import Database; from dustrun.storage import migrate;"
        f"migrate.upgrade(Database('sqlite:///{tmp_path / 'store.db'}')); print('alembic' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_upgrade_refuses_a_store_of_a_newer_version(tmp_path: Path) -> None:
    database = _open(tmp_path / "store.db")
    migrate.upgrade(database)
    with database.engine.connect() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
        connection.commit()
    with pytest.raises(Permanent, match='schema "9999", newer than'):
        migrate.upgrade(database)
    database.close()


def test_upgrade_of_a_file_that_is_no_database_says_so(tmp_path: Path) -> None:
    (tmp_path / "store.db").write_bytes(b"this is no database, " * 100)
    database = _open(tmp_path / "store.db")
    with pytest.raises(Permanent, match="no database"):
        migrate.upgrade(database)
    database.close()


def test_upgrade_that_breaks_leaves_nothing_behind(tmp_path: Path) -> None:
    database = _open(tmp_path / "store.db")
    with database.engine.connect() as connection:
        connection.execute(sa.text("CREATE TABLE workflows (id TEXT)"))
        connection.commit()
    with pytest.raises(sa.exc.OperationalError):
        migrate.upgrade(database)
    assert [name for name, _ in _schema(database)] == ["workflows"]
    database.close()
