"""Rows of connectors; their secrets are stored only encrypted."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import fields
from typing import Any

import sqlalchemy as sa

from dustrun.records import dataclass
from dustrun.storage.data.named import used_by_others
from dustrun.storage.db.statement import Statement, Tx
from dustrun.storage.db.tables import connectors as t
from dustrun.storage.db.tables import workflow_versions as v
from dustrun.storage.db.tables import workflows as w


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectorRow:
    """One connector; times in milliseconds, `allowed_hosts`, `masked`, `tools` and `failure` JSON."""

    id: str
    org_id: str
    type: str
    name: str
    description: str | None
    version: int
    moves_money: int
    allowed_hosts: str
    masked: str
    sealed: str
    sealed_token: str | None = None
    token_expires_at: int | None = None
    created_at: int
    updated_at: int
    tools: str | None = None
    failing_since: int | None = None
    failure: str | None = None
    connected_at: int | None = None
    sealed_refresh: str | None = None
    renewing_since: int | None = None
    rotates: int | None = None


_NAMES = tuple(field.name for field in fields(ConnectorRow))
_COLUMNS = [t.c[name] for name in _NAMES]
_INSERT = Statement(sa.insert(t).values({name: sa.bindparam(name, type_=t.c[name].type) for name in _NAMES}))
_FIND = Statement(sa.select(*_COLUMNS).where(t.c.org_id == sa.bindparam("org_id"), t.c.id == sa.bindparam("id")))
GRANT = ("sealed_token", "token_expires_at", "connected_at", "sealed_refresh", "renewing_since", "rotates")
"""What a person's consent has brought, and the current access token."""
_CHANGED = (
    *("name", "description", "version", "moves_money", "allowed_hosts", "masked", "sealed", "updated_at", "tools"),
    *GRANT,
)
_UPDATE = Statement(
    sa.update(t)
    .where(t.c.id == sa.bindparam("of_id"))
    .values(
        **{name: sa.bindparam(name, type_=t.c[name].type) for name in _CHANGED},
        **dict.fromkeys(("failing_since", "failure"), sa.null()),
    )
)
_BEGIN_FAILING = Statement(
    sa.update(t)
    .where(t.c.id == sa.bindparam("of_id"), t.c.version == sa.bindparam("of_version"), t.c.failing_since.is_(None))
    .values(failing_since=sa.bindparam("since", type_=sa.BigInteger), failure=sa.bindparam("how"))
)
_END_FAILING = Statement(
    sa.update(t)
    .where(t.c.id == sa.bindparam("of_id"), t.c.failing_since == sa.bindparam("was_since", type_=sa.BigInteger))
    .values(failing_since=sa.null(), failure=sa.null())
)
_KEEP_TOKEN = Statement(
    sa.update(t)
    .where(t.c.id == sa.bindparam("of_id"), t.c.version == sa.bindparam("of_version"))
    .values(
        sealed=sa.bindparam("sealed"),
        sealed_token=sa.bindparam("sealed_token"),
        token_expires_at=sa.bindparam("token_expires_at", type_=sa.BigInteger),
    )
)
_COUNT = Statement(sa.select(sa.func.count()).select_from(t).where(t.c.org_id == sa.bindparam("org_id")))
_DELETE = Statement(sa.delete(t).where(t.c.id == sa.bindparam("id")))


def _row(found: tuple[Any, ...]) -> ConnectorRow:
    return ConnectorRow(**dict(zip(_NAMES, found, strict=True)))


def insert(tx: Tx, row: ConnectorRow) -> None:
    """Inserts a connector."""
    tx.do(_INSERT, **{name: getattr(row, name) for name in _NAMES})


def find(tx: Tx, org_id: str, connector_id: str) -> ConnectorRow | None:
    """Finds a connector of the organisation."""
    found = tx.one(_FIND, org_id=org_id, id=connector_id)
    return _row(found) if found else None


def list_page(
    tx: Tx,
    org_id: str,
    *,
    type_: str | None,
    limit: int,
    offset: int,
    own: Collection[str] | None = None,
    only: Collection[str] | None = None,
) -> list[ConnectorRow]:
    """Lists one page of the organisation's connectors, newest first, optionally of one type.

    `own`: only those that no other workflow than these uses; `only`: those of these ids."""
    query = sa.select(*_COLUMNS).where(t.c.org_id == org_id)
    if only is not None:
        query = query.where(t.c.id.in_(sorted(only)))
    if own is not None:
        query = query.where(~_used_by_others(org_id, own))
    if type_ is not None:
        query = query.where(t.c.type == type_)
    return [_row(found) for found in tx.all(Statement(query.order_by(t.c.id.desc()).limit(limit).offset(offset)))]


def count(tx: Tx, org_id: str) -> int:
    """How many connectors the organisation has."""
    row = tx.one(_COUNT, org_id=org_id)
    return int(row[0]) if row else 0


def is_used_by_others(tx: Tx, org_id: str, connector_id: str, own: Collection[str]) -> bool:
    """Whether workflows other than `own` use a connector."""
    query = sa.select(t.c.id).where(t.c.id == connector_id, _used_by_others(org_id, own))
    return tx.one(Statement(query)) is not None


def _used_by_others(org_id: str, own: Collection[str]) -> sa.ColumnElement[bool]:
    return used_by_others(org_id, own, sa.literal('"') + t.c.id + '"')


def update(tx: Tx, row: ConnectorRow) -> None:
    """Updates a connector after a change by a person; drops how its calls failed."""
    tx.do(_UPDATE, of_id=row.id, **{name: getattr(row, name) for name in _CHANGED})


def begin_failing(tx: Tx, row: ConnectorRow, at: int, failure: str) -> bool:
    """Notes that its calls fail; False if that is known, or it was changed in the meantime."""
    return tx.run(_BEGIN_FAILING, of_id=row.id, of_version=row.version, since=at, how=failure) == 1


def end_failing(tx: Tx, row: ConnectorRow) -> bool:
    """Notes that its calls succeed again; False if that is known."""
    return tx.run(_END_FAILING, of_id=row.id, was_since=row.failing_since) == 1


def keep_token(tx: Tx, row: ConnectorRow, *, sealed: str, sealed_token: str, expires_at: int) -> bool:
    """Stores an access token and the data to request the next; False if the connector changed in the meantime."""
    return bool(
        tx.run(
            _KEEP_TOKEN,
            of_id=row.id,
            of_version=row.version,
            sealed=sealed,
            sealed_token=sealed_token,
            token_expires_at=expires_at,
        )
    )


def delete(tx: Tx, connector_id: str) -> None:
    """Deletes a connector."""
    tx.do(_DELETE, id=connector_id)


def list_users(tx: Tx, org_id: str, connector_id: str) -> list[tuple[str, str]]:
    """Ids and names of unarchived workflows whose draft or live version uses the connector."""
    query = (
        sa.select(w.c.id, w.c.name)
        .distinct()
        .join_from(w, v, v.c.workflow_id == w.c.id)
        .where(
            w.c.org_id == org_id,
            w.c.status != "archived",
            sa.or_(v.c.version == w.c.draft_version, v.c.version == w.c.live_version),
            v.c.definition.contains(f'"{connector_id}"', autoescape=True),
        )
        .order_by(w.c.id)
    )
    return [(str(found[0]), str(found[1])) for found in tx.all(Statement(query))]
