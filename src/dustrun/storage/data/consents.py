"""Rows of consents: attempts that have begun, and when a connector's refresh token was sent and what came of it."""

from __future__ import annotations

from dataclasses import fields

import sqlalchemy as sa
from sqlalchemy import bindparam as b

from dustrun.records import dataclass
from dustrun.storage.data.connectors import ConnectorRow
from dustrun.storage.db.statement import Statement, Tx
from dustrun.storage.db.tables import connectors as t
from dustrun.storage.db.tables import consent_attempts as a


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptRow:
    """A consent that has begun. `id` is the hash of its state, `sealed` the PKCE verifier."""

    id: str
    org_id: str
    connector_id: str
    connector_version: int
    key_id: str
    browser_hash: str | None
    sealed: str
    begun_at: int


_NAMES = tuple(field.name for field in fields(AttemptRow))
_COLUMNS = [a.c[name] for name in _NAMES]
_OF_CONNECTOR = tuple(field.name for field in fields(ConnectorRow))
_CONNECTED = Statement(sa.select(*(t.c[name] for name in _OF_CONNECTOR)).where(t.c.connected_at.is_not(None)))
_BEGIN = Statement(sa.insert(a).values({name: b(name, type_=a.c[name].type) for name in _NAMES}))
_FIND = Statement(sa.select(*_COLUMNS).where(a.c.id == b("id")))
_END = Statement(sa.delete(a).where(a.c.id == b("of_id")))
_PRUNE = Statement(sa.delete(a).where(a.c.begun_at < b("before", type_=sa.BigInteger)))

_GRANT = {
    "sealed_token": b("sealed_token"),
    "token_expires_at": b("token_expires_at", type_=sa.BigInteger),
    "sealed_refresh": b("sealed_refresh", type_=sa.Text),
    "rotates": b("rotates", type_=sa.Integer),
}
_CONNECT = Statement(
    sa.update(t)
    .where(t.c.id == b("of_id"), t.c.version == b("of_version"))
    .values(
        **_GRANT,
        version=t.c.version + 1,
        connected_at=b("now", type_=sa.BigInteger),
        updated_at=b("now", type_=sa.BigInteger),
        **dict.fromkeys(("renewing_since", "failing_since", "failure"), sa.null()),
    )
)
_SENT = sa.and_(t.c.id == b("of_id"), t.c.renewing_since == b("was_since", type_=sa.BigInteger))
_SEND = Statement(
    sa.update(t)
    .where(t.c.id == b("of_id"), t.c.sealed_refresh == b("was_refresh"))
    .where(sa.or_(t.c.renewing_since.is_(None), t.c.rotates == 0))
    .values(renewing_since=b("now", type_=sa.BigInteger))
)
_RENEW = Statement(sa.update(t).where(_SENT).values(**_GRANT, renewing_since=sa.null()))
_NOT_TAKEN = Statement(sa.update(t).where(_SENT).values(renewing_since=sa.null()))
_REVOKED = Statement(sa.update(t).where(_SENT).values(renewing_since=sa.null(), sealed_refresh=sa.null()))


def list_connected(tx: Tx) -> list[ConnectorRow]:
    """All connectors of the store that somebody has consented to."""
    return [ConnectorRow(**dict(zip(_OF_CONNECTOR, found, strict=True))) for found in tx.all(_CONNECTED)]


def begin(tx: Tx, row: AttemptRow, *, keep_after: int) -> None:
    """Stores an attempt that begins, and forgets those from before `keep_after`."""
    tx.do(_PRUNE, before=keep_after)
    tx.do(_BEGIN, **{name: getattr(row, name) for name in _NAMES})


def find(tx: Tx, hash: str) -> AttemptRow | None:
    """Finds an attempt by the hash of its state."""
    found = tx.one(_FIND, id=hash)
    return AttemptRow(**dict(zip(_NAMES, found, strict=True))) if found else None


def end(tx: Tx, hash: str) -> bool:
    """Uses an attempt up; False if it was used before."""
    return tx.run(_END, of_id=hash) == 1


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedGrant:
    """The sealed tokens of a grant. `rotates`: whether its refresh tokens work once; None: not known."""

    token: str
    expires_at: int
    refresh: str | None
    rotates: bool | None

    def values(self) -> dict[str, object]:
        """By column."""
        return {
            "sealed_token": self.token,
            "token_expires_at": self.expires_at,
            "sealed_refresh": self.refresh,
            "rotates": None if self.rotates is None else int(self.rotates),
        }


def connect(tx: Tx, connector_id: str, version: int, grant: SealedGrant, now: int) -> bool:
    """Gives a connector its first grant, or a new one; False if it has changed since the consent began."""
    return tx.run(_CONNECT, of_id=connector_id, of_version=version, now=now, **grant.values()) == 1


def send_refresh(tx: Tx, row: ConnectorRow, now: int) -> bool:
    """Notes that the refresh token is about to be sent; False if it was replaced, or may have been sent before."""
    return tx.run(_SEND, of_id=row.id, was_refresh=row.sealed_refresh, now=now) == 1


def renew(tx: Tx, row: ConnectorRow, since: int, grant: SealedGrant) -> bool:
    """Stores what came of a refresh token; False if the connector has another grant by now, or none."""
    return tx.run(_RENEW, of_id=row.id, was_since=since, **grant.values()) == 1


def was_not_taken(tx: Tx, row: ConnectorRow, since: int) -> None:
    """Notes that the provider has not taken the refresh token, which works as before."""
    tx.run(_NOT_TAKEN, of_id=row.id, was_since=since)


def was_revoked(tx: Tx, row: ConnectorRow, since: int) -> None:
    """Drops a refresh token that the provider takes no longer."""
    tx.run(_REVOKED, of_id=row.id, was_since=since)
