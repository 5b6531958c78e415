"""Reads of single rows by their key, on the event loop: on SQLite they take less time than their way to a reader's
thread and back."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy.engine import Engine
from sqlalchemy.pool import PoolProxiedConnection

from dustrun.storage.db.statement import Tx

T = TypeVar("T")


class LookUps:
    """One connection to SQLite that never waits: a store in trouble is an error at once."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._opening = threading.Lock()
        self._connection: PoolProxiedConnection | None = None

    @property
    def is_open(self) -> bool:
        """Whether the connection is open."""
        return self._connection is not None

    def open(self) -> None:
        """Opens the connection unless it is open; call it in a thread, because it may wait for other processes."""
        with self._opening:
            if self._connection is None:
                connection = self._engine.raw_connection()
                connection.detach()  # readers need all that the pool has
                with contextlib.closing(connection.cursor()) as cursor:
                    cursor.execute("PRAGMA busy_timeout=0")
                self._connection = connection

    def run(self, query: Callable[[Tx], T]) -> T:
        """Runs a query in one snapshot."""
        assert self._connection is not None
        with contextlib.closing(self._connection.cursor()) as cursor:
            cursor.execute("BEGIN")
            try:
                return query(Tx(cursor, self._engine.dialect))
            finally:
                cursor.execute("COMMIT")

    def close(self) -> None:
        """Closes the connection; it can be opened again."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
