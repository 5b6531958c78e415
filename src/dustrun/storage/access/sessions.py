"""Rows of browser sessions and of the one-time links that start one; secrets are stored hashed."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import fields

import sqlalchemy as sa
from sqlalchemy import bindparam as b

from dustrun.records import dataclass
from dustrun.storage.db.statement import Statement, Tx
from dustrun.storage.db.tables import sign_in_links, web_sessions


@dataclass(frozen=True, slots=True)
class SessionRow:
    """A browser's session; times in milliseconds. `csrf_hash` is of the token that its writes must send.
    `by_passkey`: 1 if a passkey began it."""

    hash: str
    csrf_hash: str
    key_id: str
    org_id: str
    created_at: int
    seen_at: int
    by_passkey: int | None = None


_COLUMNS = [web_sessions.c[field.name] for field in fields(SessionRow)]
_INSERT = Statement(sa.insert(web_sessions))
_FIND = Statement(sa.select(*_COLUMNS).where(web_sessions.c.hash == b("hash_")))
_SEE = Statement(
    sa.update(web_sessions).where(web_sessions.c.hash == b("hash_")).values(seen_at=b("now", type_=sa.BigInteger))
)
_DELETE = Statement(sa.delete(web_sessions).where(web_sessions.c.hash == b("hash_")))
_PRUNE = Statement(
    sa.delete(web_sessions).where(
        sa.or_(
            web_sessions.c.seen_at < b("seen_before", type_=sa.BigInteger),
            web_sessions.c.created_at < b("created_before", type_=sa.BigInteger),
        )
    )
)
_ADD_LINK = Statement(sa.insert(sign_in_links))
_TAKE_LINK = Statement(
    sa.delete(sign_in_links)
    .where(sign_in_links.c.hash == b("hash_"))
    .returning(sign_in_links.c.key_id, sign_in_links.c.org_id, sign_in_links.c.expires_at)
)
_OPEN_LINK = Statement(
    sa.select(sign_in_links.c.hash)
    .where(sign_in_links.c.key_id == b("of_key"), sign_in_links.c.expires_at > b("now", type_=sa.BigInteger))
    .limit(1)
)
_PRUNE_LINKS = Statement(sa.delete(sign_in_links).where(sign_in_links.c.expires_at < b("now", type_=sa.BigInteger)))


def insert(tx: Tx, row: SessionRow) -> None:
    """Inserts a session."""
    tx.do(_INSERT, **{field.name: getattr(row, field.name) for field in fields(SessionRow)})


def find(tx: Tx, hash: str) -> SessionRow | None:
    """Finds a session by the hash of its id."""
    found = tx.one(_FIND, hash_=hash)
    return SessionRow(*found) if found else None


def see(tx: Tx, hash: str, now: int) -> None:
    """Notes that a session is in use."""
    tx.do(_SEE, hash_=hash, now=now)


def delete(tx: Tx, hash: str) -> None:
    """Ends a session."""
    tx.do(_DELETE, hash_=hash)


def list_there(tx: Tx, hashes: Collection[str]) -> set[str]:
    """Those of some sessions that have not ended; a few hundred at once."""
    query = sa.select(web_sessions.c.hash).where(web_sessions.c.hash.in_(sorted(hashes)))
    return {row[0] for row in tx.all(Statement(query))}


def prune(tx: Tx, *, seen_before: int, created_before: int, now: int) -> None:
    """Deletes sessions and links that have expired."""
    tx.do(_PRUNE, seen_before=seen_before, created_before=created_before)
    tx.do(_PRUNE_LINKS, now=now)


def add_link(tx: Tx, *, hash: str, key_id: str, org_id: str, expires_at: int) -> None:
    """Stores a link that signs in as a key, once."""
    tx.do(_ADD_LINK, hash=hash, key_id=key_id, org_id=org_id, expires_at=expires_at)


def take_link(tx: Tx, hash: str) -> tuple[str, str, int] | None:
    """Uses up a link: its key, organisation and expiry; None if there is none."""
    found = tx.one(_TAKE_LINK, hash_=hash)
    return (found[0], found[1], int(found[2])) if found else None


def has_link(tx: Tx, key_id: str, now: int) -> bool:
    """Whether a link that signs in as a key was not used, and has not expired."""
    return tx.one(_OPEN_LINK, of_key=key_id, now=now) is not None
