"""Connectors and wallets by name, and names by id: what a portable file refers to."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

import sqlalchemy as sa

from dustrun.storage.db.ledger_tables import wallets
from dustrun.storage.db.statement import Statement, Tx
from dustrun.storage.db.tables import connectors, workflows
from dustrun.storage.db.tables import workflow_versions as v
from dustrun.storage.db.tables import workflows as w

_TABLES: Final = {"conn": connectors, "wal": wallets, "wf": workflows}
_NAMES: Final = {
    prefix: Statement(sa.select(t.c.name).where(t.c.org_id == sa.bindparam("org_id"), t.c.id == sa.bindparam("id")))
    for prefix, t in _TABLES.items()
}
_CONNECTORS: Final = Statement(
    sa.select(connectors.c.id)
    .where(
        connectors.c.org_id == sa.bindparam("org_id"),
        connectors.c.name == sa.bindparam("name"),
        connectors.c.type == sa.bindparam("type"),
    )
    .order_by(connectors.c.id)
)
_WALLETS: Final = Statement(
    sa.select(wallets.c.id)
    .where(
        wallets.c.org_id == sa.bindparam("org_id"),
        wallets.c.name == sa.bindparam("name"),
        wallets.c.archived_at.is_(None),
    )
    .order_by(wallets.c.id)
)


def find_name(tx: Tx, org_id: str, object_id: str) -> str | None:
    """The name of a connector, wallet or workflow of the organisation."""
    statement = _NAMES.get(object_id.partition("_")[0])
    found = None if statement is None else tx.one(statement, org_id=org_id, id=object_id)
    return None if found is None else str(found[0])


def list_connectors(tx: Tx, org_id: str, name: str, type_: str) -> list[str]:
    """Ids of the connectors of that type and exact name."""
    return [str(found[0]) for found in tx.all(_CONNECTORS, org_id=org_id, name=name, type=type_)]


def list_wallets(tx: Tx, org_id: str, name: str) -> list[str]:
    """Ids of the unarchived wallets of that exact name."""
    return [str(found[0]) for found in tx.all(_WALLETS, org_id=org_id, name=name)]


_WRITERS: Final = Statement(
    sa.select(v.c.workflow_id, v.c.version)
    .select_from(w.join(v, v.c.workflow_id == w.c.id))
    .where(
        w.c.org_id == sa.bindparam("org_id"),
        w.c.status != "archived",
        sa.or_(v.c.version == w.c.draft_version, v.c.version == w.c.live_version),
        v.c.definition.contains(sa.literal('"write-table"')),
        sa.or_(
            v.c.definition.contains(sa.bindparam("by_name", type_=sa.Text)),
            v.c.definition.contains(sa.bindparam("by_id", type_=sa.Text)),
        ),
    )
    .order_by(v.c.workflow_id, v.c.version)
    .limit(sa.bindparam("most", type_=sa.Integer))
)


def list_writers(tx: Tx, org_id: str, table_id: str, name: str, most: int) -> list[tuple[str, int]]:
    """The drafts and live versions of unarchived workflows that name a table and write to tables."""
    texts = {"by_name": f'"table":"{name}"', "by_id": f'"table":"{table_id}"'}
    return [(str(row[0]), int(row[1])) for row in tx.all(_WRITERS, org_id=org_id, most=most, **texts)]


# Which workflows use an object, told by the text of their definitions.


def used_by_others(org_id: str, own: Collection[str], *texts: sa.ColumnElement[str]) -> sa.ColumnElement[bool]:
    """Whether the draft or live version of an unarchived workflow other than `own` contains one of the texts."""
    mentions: list[Any] = [v.c.definition.contains(text) for text in texts]
    return (
        sa.select(sa.literal(1))
        .select_from(w.join(v, v.c.workflow_id == w.c.id))
        .where(
            w.c.org_id == org_id,
            w.c.id.not_in(sorted(own)),
            w.c.status != "archived",
            sa.or_(v.c.version == w.c.draft_version, v.c.version == w.c.live_version),
            sa.or_(*mentions),
        )
        .exists()
    )
