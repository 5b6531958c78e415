"""Rows of the processes that share a store. Only the database's clock decides who lives."""

from __future__ import annotations

import os
import socket
from typing import Final

import sqlalchemy as sa

from dustrun import clock
from dustrun.records import dataclass
from dustrun.storage.db.statement import Statement, Tx

NOW_MS: Final = "CAST(extract(epoch FROM clock_timestamp()) * 1000 AS bigint)"
_FORGET_AFTER_MS: Final = 86_400_000
_BEAT = Statement(
    sa.text(
        "INSERT INTO processes (id, roles, version, started_at, alive_until, name, skew_ms)"  # noqa: S608 - a constant of ours
        f" VALUES (:id, :roles, :version, {NOW_MS}, {NOW_MS} + :keep_ms, :name, :skew_ms)"
        " ON CONFLICT (id) DO UPDATE SET alive_until = excluded.alive_until, skew_ms = excluded.skew_ms"
    )
)
_LIVING = Statement(
    sa.text(f"SELECT id, roles, version, name, skew_ms FROM processes WHERE alive_until > {NOW_MS} ORDER BY id")  # noqa: S608 - the same
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

    skew_ms: int | None = None
    """By how much its clock was ahead of the database's when it last said that it lives."""


def beat(tx: Tx, process_id: str, roles: str, version: str, keep_ms: int, skew_ms: int | None = None) -> None:
    """Says that this process lives, for the next `keep_ms`, and how far its clock is ahead of the database's."""
    name = f"{socket.gethostname()}:{os.getpid()}"
    tx.do(_BEAT, id=process_id, roles=roles, version=version, keep_ms=keep_ms, name=name, skew_ms=skew_ms)
    tx.do(_FORGET)


def list_living(tx: Tx) -> list[ProcessRow]:
    """Lists the processes that live."""
    return [ProcessRow(row[0], frozenset(row[1].split(",")), row[2], row[3], row[4]) for row in tx.all(_LIVING)]


def end(tx: Tx, process_id: str) -> None:
    """A process has stopped: what it held is free at once."""
    tx.do(_END, id=process_id)


def clock_skew(tx: Tx) -> int:
    """By how many milliseconds this machine's clock is ahead of the database's, at least: an answer that comes late,
    since others write first, makes no difference."""
    before = clock.now_ms()
    row = tx.one(_NOW)
    assert row is not None
    there, after = int(row[0]), clock.now_ms()
    return before - there if before > there else min(0, after - there)
