"""The migrations: together they are the schema, and they never go back."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from dustrun.errors import Permanent, Temporary
from dustrun.storage.db import migrate
from dustrun.storage.db.database import Database
from testkit import older_stores

# by structure: a column that was added later stands elsewhere in the text of its table
_SQLITE_SCHEMA = (
    "SELECT t.name || '.' || c.name, c.cid || ' ' || c.type || ' ' || c.\"notnull\" || ' ' || c.pk || ' '"
    " || coalesce(c.dflt_value, 'none') FROM sqlite_master t, pragma_table_xinfo(t.name) c WHERE t.type = 'table'"
    " ORDER BY 1",
    "SELECT t.name || '.' || f.id || '.' || f.seq, f.\"table\" || ' ' || f.\"from\" || ' ' || f.\"to\" || ' '"
    " || f.on_update || ' ' || f.on_delete FROM sqlite_master t, pragma_foreign_key_list(t.name) f"
    " WHERE t.type = 'table' ORDER BY 1",
    "SELECT t.name || '.' || i.name || '.' || x.seqno, i.\"unique\" || ' ' || i.origin || ' ' || x.\"desc\" || ' '"
    " || coalesce(x.name, 'expression') FROM sqlite_master t, pragma_index_list(t.name) i,"
    " pragma_index_xinfo(i.name) x WHERE t.type = 'table' ORDER BY 1",
    "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL AND type <> 'table' ORDER BY name",
)
_POSTGRESQL_SCHEMA = (
    "SELECT table_name || '.' || column_name, concat_ws(' ', ordinal_position, data_type, is_nullable, column_default,"
    " is_identity, col_description(table_name::regclass, ordinal_position)) FROM information_schema.columns"
    " WHERE table_schema = 'public' ORDER BY 1",
    "SELECT relname, reloptions::text FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
    " ORDER BY 1",
    "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1",
    "SELECT conrelid::regclass || '.' || conname, pg_get_constraintdef(oid) FROM pg_constraint"
    " WHERE connamespace = 'public'::regnamespace ORDER BY 1",
)


def _schema(database: Database) -> list[tuple[str, str]]:
    """Everything of the schema that the two ways to make it could make differently."""
    with database.engine.connect() as connection:
        return [
            (str(name), " ".join(str(definition).split()))
            for query in (_SQLITE_SCHEMA if database.is_sqlite else _POSTGRESQL_SCHEMA)
            for name, definition in connection.exec_driver_sql(query)
        ]


def _open(path: Path) -> Database:
    return Database(f"sqlite:///{path}")


@pytest.fixture(params=["sqlite", "postgresql"])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], Database]]:
    """Makes empty stores of one dialect."""
    made: list[Database] = []

    def make() -> Database:
        if request.param == "sqlite":
            made.append(_open(tmp_path / f"{len(made)}.db"))
        else:
            made.append(Database(request.getfixturevalue("cluster").empty()))
        return made[-1]

    yield make
    for database in made:
        database.close()


def test_all_migrations_make_the_schema_of_the_tables(empty: Callable[[], Database]) -> None:
    fresh, migrated = empty(), empty()
    migrate.upgrade(fresh)
    migrate.upgrade(migrated, migrate.head())
    assert _schema(migrated) == _schema(fresh) != []


def test_upgrade_twice_changes_nothing(empty: Callable[[], Database]) -> None:
    database = empty()
    migrate.upgrade(database)
    before = _schema(database)
    migrate.upgrade(database)
    with database.engine.connect() as connection:
        assert migrate.stored(connection) == migrate.head()
    assert _schema(database) == before


def test_two_that_upgrade_at_once_do_it_once(empty: Callable[[], Database]) -> None:
    database = empty()
    url = database.engine.url.render_as_string(hide_password=False)
    program = f"from dustrun.storage.db import database, migrate; migrate.upgrade(database.Database({url!r}))"
    both = [subprocess.Popen([sys.executable, "-c", program]) for _ in range(2)]
    assert [process.wait(30) for process in both] == [0, 0]
    with database.engine.connect() as connection:
        assert migrate.stored(connection) == migrate.head()


@pytest.mark.parametrize("is_empty", [True, False])
def test_upgrade_of_a_store_that_is_empty_or_at_head_does_not_load_alembic(tmp_path: Path, is_empty: bool) -> None:
    if not is_empty:
        database = _open(tmp_path / "store.db")
        migrate.upgrade(database)
        database.close()
    program = (
        "import sys; from dustrun.storage.db.database import Database; from dustrun.storage.db import migrate;"
        f"migrate.upgrade(Database('sqlite:///{tmp_path / 'store.db'}')); print('alembic' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_upgrade_refuses_a_store_of_a_newer_version_that_took_something_away(empty: Callable[[], Database]) -> None:
    database = empty()
    migrate.upgrade(database)
    with database.engine.connect() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
        connection.execute(sa.text("UPDATE oldest_revision SET revision = '9998'"))
        connection.commit()
    with pytest.raises(Permanent, match='schema "9999", newer than'):
        migrate.upgrade(database)


def test_upgrade_of_a_file_that_is_no_database_says_so(tmp_path: Path) -> None:
    (tmp_path / "store.db").write_bytes(b"this is no database, " * 100)
    database = _open(tmp_path / "store.db")
    with pytest.raises(Permanent, match="not a Dustrun store"):
        migrate.upgrade(database)
    database.close()


def test_upgrade_that_breaks_leaves_nothing_behind(empty: Callable[[], Database]) -> None:
    database = empty()
    with database.engine.connect() as connection:
        connection.execute(sa.text("CREATE TABLE workflows (id TEXT)"))
        connection.commit()
    before = _schema(database)
    with pytest.raises(sa.exc.DBAPIError):
        migrate.upgrade(database)
    assert _schema(database) == before


def test_an_update_of_an_old_store_that_is_killed_leaves_it_old_and_goes_well_the_next_time(
    empty: Callable[[], Database],
) -> None:
    old, fresh = empty(), empty()
    migrate.upgrade(old, "0020")
    migrate.upgrade(fresh)
    before, url = _schema(old), old.engine.url.render_as_string(hide_password=False)
    for after in (10, 40):
        older_stores.kill_in_update(url, after)
        assert (migrate.revision_of(old), _schema(old)) == ("0020", before)
    migrate.upgrade(old)
    assert (migrate.revision_of(old), _schema(old)) == (migrate.head(), _schema(fresh))


def test_a_server_that_is_not_there_is_temporary() -> None:
    database = Database("postgresql+psycopg://nobody@/none?host=/nowhere")
    with pytest.raises(Temporary, match="cannot be opened"):
        migrate.upgrade(database)
    database.close()


def test_who_made_the_keys_that_there_are_is_taken_from_the_audit_log(empty: Callable[[], Database]) -> None:
    database = empty()
    migrate.upgrade(database, "0001")
    rows = [
        "INSERT INTO organizations (id, name, created_at) VALUES ('org', 'Default', 1)",
        *(
            "INSERT INTO api_keys (id, org_id, name, hash, permissions, created_at)"
            f" VALUES ('{key}', 'org', '{key}', '{key}', '[]', 1)"
            for key in ("owner", "made")
        ),
        "INSERT INTO audit (org_id, key_id, at, action, subject, detail)"
        " VALUES ('org', 'owner', 1, 'key.create', 'made', '{}')",
    ]
    with database.engine.connect() as connection:
        for row in rows:
            connection.execute(sa.text(row.replace(":", r"\:")))
        connection.commit()
    migrate.upgrade(database)
    with database.engine.connect() as connection:
        found = connection.exec_driver_sql("SELECT id, created_by FROM api_keys ORDER BY id").fetchall()
    assert [tuple(row) for row in found] == [("made", "owner"), ("owner", None)]
