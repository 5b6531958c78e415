"""Alembic's environment: applies the migrations in the transaction of the connection from `migrate.py`."""

from __future__ import annotations

from alembic import context

from dustrun.storage.db import migrate
from dustrun.storage.db.tables import metadata

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata, transactional_ddl=True)
with context.begin_transaction():
    migrate.lock(connection)
    context.run_migrations()
    migrate.note_oldest(connection)
