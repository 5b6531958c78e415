"""Rows of leases: what only one process does at a time.

A lease lives as long as the process that holds it. A process that was frozen may find that another has its lease; what
it would still write is checked against the fence in the same transaction.
"""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from dustrun.errors import Temporary
from dustrun.storage.db.statement import Statement, Tx
from dustrun.storage.sharing.processes import NOW_MS

ONCE: Final = "once:"
"""Begins the names of leases for work that comes once, of which no row is kept."""
IS_DEAD: Final = f"NOT EXISTS (SELECT 1 FROM processes p WHERE p.id = {{holder}} AND p.alive_until > {NOW_MS})"  # noqa: S608 - constants of ours
_TAKE = Statement(
    sa.text(
        "INSERT INTO leases (name, holder, fence) VALUES (:name, :holder, 1)"  # noqa: S608 - constants of ours
        " ON CONFLICT (name) DO UPDATE SET holder = excluded.holder,"
        " fence = leases.fence + CASE WHEN leases.holder = excluded.holder THEN 0 ELSE 1 END"
        f" WHERE leases.holder = excluded.holder OR {IS_DEAD.format(holder='leases.holder')}"
        " RETURNING fence"
    )
)
_FIND = Statement(sa.text("SELECT fence FROM leases WHERE name = :name AND holder = :holder"))
_RELEASE = Statement(sa.text("UPDATE leases SET holder = '' WHERE name = :name AND holder = :holder"))
_FORGET = Statement(sa.text("DELETE FROM leases WHERE name = :name AND holder = :holder"))
_FORGET_ALL = Statement(sa.text(f"DELETE FROM leases WHERE holder = :holder AND name LIKE '{ONCE}%'"))  # noqa: S608 - a constant of ours
_RELEASE_ALL = Statement(sa.text("UPDATE leases SET holder = '' WHERE holder = :holder"))


class LeaseLost(Temporary):
    """Another process holds the lease now; nothing was written."""


def take(tx: Tx, name: str, holder: str) -> int | None:
    """Takes a lease, or keeps it; returns its fence, or None while a living process holds it."""
    row = tx.one(_TAKE, name=name, holder=holder)
    return int(row[0]) if row is not None else None


def check(tx: Tx, name: str, holder: str, fence: int) -> None:
    """Raises `LeaseLost` unless the lease is still held under this fence."""
    row = tx.one(_FIND, name=name, holder=holder)
    if row is None or int(row[0]) != fence:
        raise LeaseLost("Another server took over while this one was held up; nothing was written.", retry_after_s=1)


def release(tx: Tx, name: str, holder: str) -> None:
    """Gives a lease back; its fence stays."""
    tx.do(_RELEASE, name=name, holder=holder)


def forget(tx: Tx, name: str, holder: str) -> None:
    """Ends a lease whose work is done and will not come again."""
    tx.do(_FORGET, name=name, holder=holder)


def release_all(tx: Tx, holder: str) -> None:
    """Gives back whatever a process holds."""
    tx.do(_FORGET_ALL, holder=holder)
    tx.do(_RELEASE_ALL, holder=holder)
