"""Rows of stream tokens: short-lived secrets that open one stream, stored hashed."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import bindparam as b

from dustrun.records import dataclass
from dustrun.storage.db.statement import Statement, Tx
from dustrun.storage.db.tables import api_keys, stream_tokens

_INSERT = Statement(
    sa.insert(stream_tokens).values(
        hash=b("hash"),
        key_id=b("key_id"),
        org_id=b("org_id"),
        stream=b("stream"),
        created_at=b("created_at", type_=sa.BigInteger),
    )
)
_FIND = Statement(
    sa.select(
        stream_tokens.c.hash,
        stream_tokens.c.key_id,
        stream_tokens.c.org_id,
        stream_tokens.c.stream,
        stream_tokens.c.created_at,
        stream_tokens.c.first_used_at,
        api_keys.c.revoked_at,
        api_keys.c.expires_at,
        api_keys.c.workflow_ids,
    )
    .join(api_keys, api_keys.c.id == stream_tokens.c.key_id)
    .where(stream_tokens.c.hash == b("hash_"))
)
_USE = Statement(
    sa.update(stream_tokens)
    .where(stream_tokens.c.hash == b("hash_"), stream_tokens.c.first_used_at.is_(None))
    .values(first_used_at=b("now", type_=sa.BigInteger))
)
_PRUNE = Statement(sa.delete(stream_tokens).where(stream_tokens.c.created_at < b("before", type_=sa.BigInteger)))


@dataclass(frozen=True, slots=True)
class TokenRow:
    """A token, with data of the key that created it."""

    hash: str
    key_id: str
    org_id: str
    stream: str
    created_at: int
    first_used_at: int | None
    key_revoked_at: int | None
    key_expires_at: int | None
    key_workflow_ids: str | None


def insert(tx: Tx, *, hash: str, key_id: str, org_id: str, stream: str, now: int) -> None:
    """Inserts a token."""
    tx.do(_INSERT, hash=hash, key_id=key_id, org_id=org_id, stream=stream, created_at=now)


def find(tx: Tx, token_hash: str) -> TokenRow | None:
    """Finds a token by its hash."""
    row = tx.one(_FIND, hash_=token_hash)
    return TokenRow(*row) if row else None


def use(tx: Tx, token_hash: str, now: int) -> None:
    """Records the first use."""
    tx.do(_USE, hash_=token_hash, now=now)


def prune(tx: Tx, before: int) -> int:
    """Deletes tokens created before a time."""
    return tx.run(_PRUNE, before=before)
