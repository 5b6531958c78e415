"""Rows of who people are at identity providers, and of sign-ins that have begun there."""

from __future__ import annotations

from dataclasses import fields

import sqlalchemy as sa
from sqlalchemy import bindparam as b

from dustrun.records import dataclass
from dustrun.storage.db.statement import Statement, Tx
from dustrun.storage.db.tables import identities as t
from dustrun.storage.db.tables import sign_in_attempts as attempts


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityRow:
    """Who a person is at an issuer; times in milliseconds. `sealed`: the refresh token. `ended_at`: when the issuer, or
    their groups there, no longer let them in."""

    id: str
    org_id: str
    person_id: str
    issuer: str
    subject: str
    sealed: str | None
    checked_at: int
    ended_at: int | None = None


_NAMES = tuple(field.name for field in fields(IdentityRow))
_COLUMNS = [t.c[name] for name in _NAMES]
_INSERT = Statement(sa.insert(t))
_FIND = Statement(
    sa.select(*_COLUMNS).where(t.c.org_id == b("org_id"), t.c.issuer == b("issuer"), t.c.subject == b("subject"))
)
_GET = Statement(sa.select(*_COLUMNS).where(t.c.id == b("id")))
_OF_PERSON = Statement(sa.select(*_COLUMNS).where(t.c.person_id == b("person_id")).order_by(t.c.id))
_DUE = Statement(
    sa.select(*_COLUMNS)
    .where(t.c.issuer == b("issuer"), t.c.sealed.is_not(None), t.c.checked_at <= b("before", type_=sa.BigInteger))
    .order_by(t.c.checked_at, t.c.id)
    .limit(b("most", type_=sa.Integer))
)
_LET_IN = Statement(
    sa.update(t)
    .where(t.c.id == b("of_id"))
    .values(sealed=b("new_sealed"), checked_at=b("now", type_=sa.BigInteger), ended_at=sa.null())
)
_END = Statement(
    sa.update(t).where(t.c.person_id == b("of_person")).values(sealed=sa.null(), ended_at=b("at", type_=sa.BigInteger))
)
_BEGIN = Statement(sa.insert(attempts))
_TAKE = Statement(
    sa.delete(attempts).where(attempts.c.hash == b("hash_")).returning(attempts.c.browser_hash, attempts.c.begun_at)
)
_PRUNE = Statement(sa.delete(attempts).where(attempts.c.begun_at < b("before", type_=sa.BigInteger)))


def insert(tx: Tx, row: IdentityRow) -> None:
    """Inserts an identity."""
    tx.do(_INSERT, **{name: getattr(row, name) for name in _NAMES})


def find(tx: Tx, org_id: str, issuer: str, subject: str) -> IdentityRow | None:
    """Finds an identity by who it is at the issuer."""
    found = tx.one(_FIND, org_id=org_id, issuer=issuer, subject=subject)
    return IdentityRow(**dict(zip(_NAMES, found, strict=True))) if found else None


def get(tx: Tx, identity_id: str) -> IdentityRow | None:
    """Finds an identity by its id."""
    found = tx.one(_GET, id=identity_id)
    return IdentityRow(**dict(zip(_NAMES, found, strict=True))) if found else None


def list_of_person(tx: Tx, person_id: str) -> list[IdentityRow]:
    """Lists a person's identities."""
    return [IdentityRow(**dict(zip(_NAMES, row, strict=True))) for row in tx.all(_OF_PERSON, person_id=person_id)]


def list_due(tx: Tx, issuer: str, *, before: int, most: int) -> list[IdentityRow]:
    """Lists identities that the issuer last let in before some time, oldest first."""
    found = tx.all(_DUE, issuer=issuer, before=before, most=most)
    return [IdentityRow(**dict(zip(_NAMES, row, strict=True))) for row in found]


def let_in(tx: Tx, identity_id: str, *, sealed: str, now: int) -> None:
    """Notes that the issuer has let an identity in, and what to ask it with the next time."""
    tx.do(_LET_IN, of_id=identity_id, new_sealed=sealed, now=now)


def end(tx: Tx, person_id: str, *, at: int | None) -> None:
    """Forgets what to ask issuers about a person with. `at`: when one no longer let them in; None: somebody here has
    decided, and no issuer lets them in again."""
    tx.do(_END, of_person=person_id, at=at)


def begin(tx: Tx, *, hash: str, browser_hash: str, now: int, keep_after: int) -> None:
    """Stores a sign-in that begins, and forgets those from before `keep_after`."""
    tx.do(_PRUNE, before=keep_after)
    tx.do(_BEGIN, hash=hash, browser_hash=browser_hash, begun_at=now)


def take(tx: Tx, hash: str) -> tuple[str, int] | None:
    """Uses up a sign-in: the hash of its browser's secret, and when it began; None if there is none."""
    found = tx.one(_TAKE, hash_=hash)
    return (found[0], int(found[1])) if found else None
