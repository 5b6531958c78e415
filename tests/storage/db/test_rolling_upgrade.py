"""Rolling upgrade: a newer version's migration leaves the older version working, or says that it does not."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from dustrun.errors import Permanent
from dustrun.storage.db import migrate
from dustrun.storage.db.database import Database
from testkit.composition import composed

_FROM = "0017"
"""The first migration that only adds; there were no servers beside each other before."""
_ADDS = {"create_table", "create_index", "add_column", "f", "get_bind"}
_SETTING = re.compile(r"'ALTER TABLE \w+ SET \(fillfactor = \d+\)'")
"""How a table's rows lie on the disk concerns no version."""
_FILLING = re.compile(r"['\"]INSERT INTO (\w+) \(")
_INDEXING = re.compile(
    r"['\"]CREATE (?:VIRTUAL TABLE \w+ USING fts5\(.*content='(\w+)'"
    r"|TRIGGER \w+ AFTER \w+ ON (\w+) |INDEX \w+ ON (\w+) )"
)
"""An index that a table of the same migration has, and what keeps it."""


def takes_away(source: str) -> list[str]:
    """What a migration does that the version before might not survive, unless it says that it contracts."""
    tree = ast.parse(source)
    if any(isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "contracts" for node in tree.body):
        return []
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)]
    made = {ast.literal_eval(call.args[0]) for call in calls if ast.unparse(call.func) == "op.create_table"}
    remade = {ast.unparse(call.args[0]) for call in calls if ast.unparse(call.func) == "op.create_index"}
    found = []
    for call in calls:
        assert isinstance(call.func, ast.Attribute)
        if ast.unparse(call.func) == "op.drop_index" and ast.unparse(call.args[0]) in remade:
            continue  # what the version before asks is answered by the index of the same name
        of, name = ast.unparse(call.func.value), call.func.attr
        is_setting = name == "execute" and _SETTING.fullmatch(ast.unparse(call.args[0])) is not None
        said = ast.unparse(call.args[0]) if name == "execute" else ""
        filled = _FILLING.match(said) or _INDEXING.match(said)
        is_new = filled is not None and filled[filled.lastindex or 1] in made  # no version before knows the table
        if of == "op" and name not in _ADDS and not is_setting and not is_new:
            found.append(f"op.{name}")
        if of == "op" and name == "add_column" and not _is_optional(call):
            found.append("op.add_column of a column that must be given")
    return found


def _is_optional(call: ast.Call) -> bool:
    column = ast.unparse(call)
    return "nullable=True" in column or "server_default=" in column


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ('op.add_column("runs", sa.Column("a", sa.Text(), nullable=True))', []),
        ('op.add_column("runs", sa.Column("a", sa.Text(), nullable=False, server_default=""))', []),
        ('op.create_table("t", sa.Column("id", sa.Text(), nullable=False))', []),
        ('op.add_column("runs", sa.Column("a", sa.Text()))', ["op.add_column of a column that must be given"]),
        ('op.drop_column("runs", "a")', ["op.drop_column"]),
        ('op.drop_index("ix", "runs")\nop.create_index("ix", "runs", ["a", "b"])', []),
        ('op.drop_index("ix", "runs")\nop.create_index("iy", "runs", ["a", "b"])', ["op.drop_index"]),
        ('op.alter_column("runs", "a", new_column_name="b")', ["op.alter_column"]),
        ('op.execute("UPDATE runs SET a = 1")', ["op.execute"]),
        ('op.execute("ALTER TABLE runs SET (fillfactor = 50)")', []),
        ('op.create_table("t", sa.Column("id", sa.Text()))\nop.execute("INSERT INTO t (id) SELECT id FROM runs")', []),
        ('op.execute("INSERT INTO t (id) SELECT id FROM runs")', ["op.execute"]),
        ('op.create_table("t")\nop.execute("CREATE TRIGGER a AFTER INSERT ON t BEGIN SELECT 1; END")', []),
        (
            'op.create_table("t")\nop.execute("CREATE TRIGGER a AFTER INSERT ON runs BEGIN SELECT 1; END")',
            ["op.execute"],
        ),
        ('op.execute("ALTER TABLE runs DROP COLUMN a")', ["op.execute"]),
        ('contracts = "0018"\nop.drop_column("runs", "a")', []),
    ],
)
def test_what_takes_away_is_found(body: str, expected: list[str]) -> None:
    assert takes_away(body) == expected


def test_migrations_only_add_or_say_that_they_contract() -> None:
    files = sorted((migrate.FOLDER / "versions").glob("0*.py"))
    wrong = {file.name: takes_away(file.read_text()) for file in files if file.name[:4] >= _FROM}
    assert {name: found for name, found in wrong.items() if found} == {}


@pytest.fixture
def store(store_url: str) -> Iterator[Database]:
    database = Database(store_url)
    migrate.upgrade(database)
    yield database
    database.close()


def _become_newer(database: Database, oldest: str) -> None:
    """What the next version would do to the store: add, and note which code may run on it."""
    with database.engine.connect() as connection:
        for statement in (
            "ALTER TABLE runs ADD COLUMN of_the_next_version TEXT",
            "CREATE TABLE of_the_next_version (id TEXT PRIMARY KEY)",
            "UPDATE alembic_version SET version_num = '9999'",
            f"UPDATE oldest_revision SET revision = '{oldest}'",
        ):
            connection.execute(sa.text(statement))
        connection.commit()


async def test_older_version_runs_on_a_newer_store_that_only_has_more(
    store: Database, store_url: str, tmp_path: Path
) -> None:
    _become_newer(store, migrate.head())
    async with composed(tmp_path, database_url=store_url) as server:
        flow = await server.owner.create_workflow()
        reply = await server.owner.post(f"/v1/workflows/{flow['id']}/run-sync", {"payload": {}})
        assert reply.status == 200, reply.body
    assert migrate.revision_of(store) == "9999"


def test_older_version_does_not_run_where_something_is_gone(store: Database) -> None:
    _become_newer(store, "9998")
    with pytest.raises(Permanent, match="may be gone from it"):
        migrate.upgrade(store)
    assert not migrate.allows(store, migrate.head())
