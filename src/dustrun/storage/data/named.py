"""Connectors and wallets by name, and names by id: what a portable file refers to."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from dustrun.storage.db.ledger_tables import wallets
from dustrun.storage.db.statement import Statement, Tx
from dustrun.storage.db.tables import connectors, workflows

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
