"""Rows of passkeys: the public keys that people's authenticators sign in with."""

from __future__ import annotations

from dataclasses import fields

import sqlalchemy as sa
from sqlalchemy import bindparam as b

from dustrun.records import dataclass
from dustrun.storage.db.statement import Statement, Tx
from dustrun.storage.db.tables import passkeys as t


@dataclass(frozen=True, slots=True, kw_only=True)
class PasskeyRow:
    """One passkey; times in milliseconds, `credential_id` and `public_key` in base64url."""

    id: str
    org_id: str
    person_id: str
    name: str
    credential_id: str
    public_key: str
    sign_count: int
    created_at: int
    last_used_at: int | None = None


_NAMES = tuple(field.name for field in fields(PasskeyRow))
_COLUMNS = [t.c[name] for name in _NAMES]
_INSERT = Statement(sa.insert(t))
_FIND = Statement(sa.select(*_COLUMNS).where(t.c.credential_id == b("credential_id")))
_OF_PERSON = Statement(sa.select(*_COLUMNS).where(t.c.person_id == b("person_id")).order_by(t.c.id.desc()))
_ANY = Statement(sa.select(t.c.id).where(t.c.person_id == b("person_id")).limit(1))
_RENAME = Statement(sa.update(t).where(t.c.id == b("of_id")).values(name=b("new_name")))
_USE = Statement(
    sa.update(t)
    .where(t.c.id == b("of_id"), t.c.sign_count == b("before", type_=sa.BigInteger))
    .values(sign_count=b("count", type_=sa.BigInteger), last_used_at=b("now", type_=sa.BigInteger))
)
_DELETE = Statement(sa.delete(t).where(t.c.id == b("of_id")))


def insert(tx: Tx, row: PasskeyRow) -> None:
    """Inserts a passkey."""
    tx.do(_INSERT, **{name: getattr(row, name) for name in _NAMES})


def find(tx: Tx, credential_id: str) -> PasskeyRow | None:
    """Finds a passkey of any organisation by its credential."""
    found = tx.one(_FIND, credential_id=credential_id)
    return PasskeyRow(**dict(zip(_NAMES, found, strict=True))) if found else None


def list_of_person(tx: Tx, person_id: str) -> list[PasskeyRow]:
    """Lists a person's passkeys, newest first."""
    return [PasskeyRow(**dict(zip(_NAMES, row, strict=True))) for row in tx.all(_OF_PERSON, person_id=person_id)]


def has_any(tx: Tx, person_id: str) -> bool:
    """Whether a person has a passkey."""
    return tx.one(_ANY, person_id=person_id) is not None


def rename(tx: Tx, passkey_id: str, name: str) -> None:
    """Gives a passkey another name."""
    tx.do(_RENAME, of_id=passkey_id, new_name=name)


def note_use(tx: Tx, row: PasskeyRow, *, count: int, now: int) -> bool:
    """Notes that a passkey was used; False if it was used or removed meanwhile."""
    return bool(tx.run(_USE, of_id=row.id, before=row.sign_count, count=count, now=now))


def delete(tx: Tx, passkey_id: str) -> None:
    """Deletes a passkey."""
    tx.do(_DELETE, of_id=passkey_id)
