"""Rows of the processes that share a store. Only the database's clock decides who lives."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from dustrun.storage.db.statement import Statement, Tx

NOW_MS: Final = "CAST(extract(epoch FROM clock_timestamp()) * 1000 AS bigint)"
_FORGET_AFTER_MS: Final = 86_400_000
_BEAT = Statement(
    sa.text(
        "INSERT INTO processes (id, roles, version, started_at, alive_until, name)"  # noqa: S608 - a constant of ours
        f" VALUES (:id, :roles, :version, {NOW_MS}, {NOW_MS} + :keep_ms, :name)"
        " ON CONFLICT (id) DO UPDATE SET alive_until = excluded.alive_until"
    )
)
_LIVING = Statement(
    sa.text(f"SELECT id, roles, version, name FROM processes WHERE alive_until > {NOW_MS} ORDER BY id")  # noqa: S608 - the same
)
_END = Statement(sa.text("DELETE FROM processes WHERE id = :id"))
_FORGET = Statement(
    sa.text(f"DELETE FROM processes WHERE alive_until < {NOW_MS} - {_FORGET_AFTER_MS}")  # noqa: S608 - the same
)

_NOW = Statement(sa.text(f"SELECT {NOW_MS}"))


@dataclass(frozen=True, slots=True)
class ProcessRow:
    """A process that lives."""

    id: str
    roles: frozenset[str]
    version: str
    name: str | None = None
    """Host and process id, for people."""


def beat(tx: Tx, process_id: str, roles: str, version: str, keep_ms: int) -> None:
    """Says that this process lives, for the next `keep_ms`."""
    name = f"{socket.gethostname()}:{os.getpid()}"
    tx.do(_BEAT, id=process_id, roles=roles, version=version, keep_ms=keep_ms, name=name)
    tx.do(_FORGET)


def list_living(tx: Tx) -> list[ProcessRow]:
    """Lists the processes that live."""
    return [ProcessRow(row[0], frozenset(row[1].split(",")), row[2], row[3]) for row in tx.all(_LIVING)]


def end(tx: Tx, process_id: str) -> None:
    """A process has stopped: what it held is free at once."""
    tx.do(_END, id=process_id)


def database_now(tx: Tx) -> int:
    """The database's clock, in milliseconds UTC."""
    row = tx.one(_NOW)
    assert row is not None
    return int(row[0])
