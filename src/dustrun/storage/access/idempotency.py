"""Rows of Idempotency-Keys: claimed before a request's work, completed with its response in the same transaction."""

from __future__ import annotations

import sqlalchemy as sa

from dustrun.records import dataclass
from dustrun.storage.db.statement import Statement, Tx
from dustrun.storage.db.tables import idempotency_keys as t

# `ON CONFLICT DO NOTHING`: on PostgreSQL the insert waits for another process's uncommitted claim.
_CLAIM = Statement(
    sa.text(
        "INSERT INTO idempotency_keys (org_id, key, request_hash, status, created_at)"
        " VALUES (:org_id, :key, :request_hash, 0, :created_at) ON CONFLICT (org_id, key) DO NOTHING"
    )
)
_COMPLETE = Statement(
    sa.update(t)
    .where(t.c.org_id == sa.bindparam("of_org"), t.c.key == sa.bindparam("of_key"))
    .values(status=sa.bindparam("status"), response=sa.bindparam("response"), resource_id=sa.bindparam("resource_id"))
)
_FIND = Statement(
    sa.select(t.c.request_hash, t.c.status, t.c.response, t.c.resource_id).where(
        t.c.org_id == sa.bindparam("org_id"),
        t.c.key == sa.bindparam("key"),
        t.c.created_at > sa.bindparam("after", type_=sa.BigInteger),
    )
)
_EXPIRE = Statement(
    sa.delete(t).where(
        t.c.org_id == sa.bindparam("org_id"),
        t.c.key == sa.bindparam("key"),
        t.c.created_at <= sa.bindparam("before", type_=sa.BigInteger),
    )
)
_PRUNE = Statement(sa.delete(t).where(t.c.created_at <= sa.bindparam("before", type_=sa.BigInteger)))


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """The response to the first request with a key; `response` is None if it contained a secret."""

    request_hash: str
    status: int
    response: str | None
    resource_id: str | None


def claim(tx: Tx, *, org_id: str, key: str, request_hash: str, now_ms: int, expired_before_ms: int) -> bool:
    """Claims the key for this request; False if another request has it."""
    tx.do(_EXPIRE, org_id=org_id, key=key, before=expired_before_ms)
    return tx.run(_CLAIM, org_id=org_id, key=key, request_hash=request_hash, created_at=now_ms) == 1


def complete(tx: Tx, *, org_id: str, key: str, status: int, response: str | None, resource_id: str | None) -> None:
    """Stores the response with the claim."""
    tx.do(_COMPLETE, of_org=org_id, of_key=key, status=status, response=response, resource_id=resource_id)


def find(tx: Tx, *, org_id: str, key: str, after_ms: int) -> StoredAnswer | None:
    """Finds a key's stored response that is newer than `after_ms`."""
    row = tx.one(_FIND, org_id=org_id, key=key, after=after_ms)
    return StoredAnswer(*row) if row else None


def prune(tx: Tx, *, before_ms: int) -> int:
    """Deletes expired keys; returns the number of deleted rows."""
    return tx.run(_PRUNE, before=before_ms)
