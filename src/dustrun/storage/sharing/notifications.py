"""LISTEN and NOTIFY of PostgreSQL: wake-ups between processes. They may be lost; whoever hears them looks in the
tables."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

import sqlalchemy as sa

from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Statement, Tx

_CHANNEL: Final = "dustrun"
MOST_BYTES: Final = 7900
"""Of one notification; the database takes less than 8,000."""
# A notification's transaction is a commit like any other: without this it would wait for the disk, and hold up the
# commits of the writers, about as many times as they do.
_NOTIFY = Statement(sa.text(f"SELECT set_config('synchronous_commit', 'off', true), pg_notify('{_CHANNEL}', :payload)"))


class ConnectionLost(Exception):
    """The connection that listens has died, or could not be made."""


def send(tx: Tx, payload: str) -> None:
    """Sends a payload with the commit, which does not wait for the disk."""
    tx.one(_NOTIFY, payload=payload)


class Channel:
    """What the processes of a store tell each other goes through it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def notify(self, payload: str) -> None:
        """Sends a payload to every process that listens, this one too."""
        await self._database.look_up(lambda tx: send(tx, payload))

    async def listen(self, quiet_s: float) -> AsyncIterator[str | None]:
        """Notifications from now on, by a connection of their own: first None, as soon as it listens, then payloads,
        and None again after each quiet time. Raises `ConnectionLost`."""
        import psycopg  # slow import: PostgreSQL's driver

        engine = self._database.engine
        _, options = engine.dialect.create_connect_args(engine.url)
        options = {**options, "application_name": f"{self._database.name} listens"}
        try:
            connection: psycopg.AsyncConnection[Any] = await psycopg.AsyncConnection.connect(**options, autocommit=True)
            async with connection:
                await connection.execute(f"LISTEN {_CHANNEL}".encode())
                yield None
                while True:
                    async for heard in connection.notifies(timeout=quiet_s):
                        yield heard.payload
                    await connection.execute("SELECT 1")  # finds out that a connection has died
                    yield None
        except (psycopg.Error, OSError) as error:
            raise ConnectionLost(str(error)) from error
