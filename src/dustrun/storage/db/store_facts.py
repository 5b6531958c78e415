"""Key-value facts about the store as a whole."""

from __future__ import annotations

import sqlalchemy as sa

from dustrun.storage.db.statement import Statement, Tx
from dustrun.storage.db.tables import store_facts as t

RESTORED_AT = "restored_at"
"""Milliseconds since the epoch: the store came out of a backup then, or was found to be a copy; what happened after the
backup or the copy is missing."""
RESTORED_FROM = "restored_from"
"""Milliseconds since the epoch: when that backup was taken; nobody knows it of a copy."""
RESTORED_RUNS = "restored_runs"
"""The key of the newest run in that backup or copy: up to it, runs may have gone on elsewhere."""
PLACE = "place"
"""Where the store was last served (`storage/backup/copy_detection.py`)."""
BEFORE_COPY = "before_copy"
"""The three facts above as they were before the store was found to be a copy."""
AUDIT_HEAD = "audit_head"
"""The number of chained audit rows and the hash of the newest (`storage/access/audit.py`)."""
LINK_SECRET = "link_secret"  # noqa: S105 - the name of a fact
"""Of servers that share the store: the secret of links that resume runs (`services/runs/resume_links.py`)."""
ENGINE = "engine"
"""Who decides which of the processes that share the store advances a run."""
MEASURED = "measured"
"""The number of the newest activity whose run was measured (`storage/access/stored_bytes.py`)."""

_FIND = Statement(sa.select(t.c.value).where(t.c.name == sa.bindparam("the_name")))
_DELETE = Statement(sa.delete(t).where(t.c.name == sa.bindparam("the_name")))
_INSERT = Statement(sa.insert(t))


def find(tx: Tx, name: str) -> str | None:
    """Finds a fact by name."""
    row = tx.one(_FIND, the_name=name)
    return str(row[0]) if row else None


def put(tx: Tx, name: str, value: str) -> None:
    """Sets a fact, replacing the old value."""
    tx.do(_DELETE, the_name=name)
    tx.do(_INSERT, name=name, value=value)


def forget(tx: Tx, name: str) -> None:
    """Deletes a fact."""
    tx.do(_DELETE, the_name=name)
