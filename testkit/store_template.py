"""A SQLite file at the newest schema, copied for each test: creating the tables takes longer than opening a server."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

import sqlalchemy as sa

from dustrun.storage.db import migrate
from dustrun.storage.db.database import Database


@functools.cache
def _template() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "dustrun.db"
        database = Database(f"sqlite:///{path}")
        migrate.upgrade(database)
        database.close()
        return path.read_bytes()


def fill(url: str) -> None:
    """Writes the template where `url` names a SQLite file that does not exist yet, in a folder that does."""
    parsed = sa.make_url(url)
    path = Path(parsed.database or "")
    if parsed.get_backend_name() == "sqlite" and path.parent.is_dir() and not path.exists():
        path.write_bytes(_template())


def fill_folder(data_dir: Path, database_url: str | None) -> None:
    """Makes the folder of a server that is about to start as a process, with the template in it unless its store is
    elsewhere."""
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    if database_url is None:
        fill(f"sqlite:///{data_dir / 'dustrun.db'}")
