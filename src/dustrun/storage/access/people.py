"""Rows of people, and what of an organisation is in the name of some keys."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import fields
from typing import Final, NamedTuple

import sqlalchemy as sa
from sqlalchemy import bindparam as b

from dustrun.records import dataclass
from dustrun.storage.db.statement import Statement, Tx
from dustrun.storage.db.tables import people as t
from dustrun.storage.db.tables import runs, sign_in_links, web_sessions
from dustrun.storage.db.trigger_tables import form_links, subscriptions

BY_DIRECTORY: Final = "directory"
"""`invited_by` of a person whom the directory has made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonRow:
    """One person; times in milliseconds. `key_id`: the key that their sessions stand for, whose secret nobody has."""

    id: str
    org_id: str
    name: str
    email: str
    key_id: str
    invited_by: str
    created_at: int
    joined_at: int | None = None
    role: str | None = None


class SessionSeen(NamedTuple):
    """A session of a person, without its secrets."""

    hash: str
    key_id: str
    created_at: int
    seen_at: int


_NAMES = tuple(field.name for field in fields(PersonRow))
_COLUMNS = [t.c[name] for name in _NAMES]
_INSERT = Statement(sa.insert(t))
_FIND = Statement(sa.select(*_COLUMNS).where(t.c.org_id == b("org_id"), t.c.id == b("id")))
_FIND_BY_EMAIL = Statement(sa.select(*_COLUMNS).where(t.c.org_id == b("org_id"), t.c.email == b("email")))
_PAGE = Statement(
    sa.select(*_COLUMNS)
    .where(t.c.org_id == b("org_id"))
    .order_by(t.c.id.desc())
    .limit(b("limit", type_=sa.Integer))
    .offset(b("offset", type_=sa.Integer))
)
_HOMES = Statement(sa.select(t.c.key_id).where(t.c.org_id == b("org_id")))
_UPDATE = Statement(
    sa.update(t).where(t.c.id == b("of_id")).values(name=b("new_name"), key_id=b("new_key"), role=b("new_role"))
)
_OF_ROLE = Statement(sa.select(*_COLUMNS).where(t.c.org_id == b("org_id"), t.c.role == b("role")).order_by(t.c.id))
_FORGET_ROLE = Statement(sa.update(t).where(t.c.org_id == b("of_org"), t.c.role == b("of_role")).values(role=sa.null()))
_JOIN = Statement(
    sa.update(t)
    .where(t.c.key_id == b("of_key"), t.c.joined_at.is_(None))
    .values(joined_at=b("now", type_=sa.BigInteger))
)
_DROP_LINKS = Statement(sa.delete(sign_in_links).where(sign_in_links.c.key_id == b("of_key")))


def insert(tx: Tx, row: PersonRow) -> None:
    """Inserts a person."""
    tx.do(_INSERT, **{name: getattr(row, name) for name in _NAMES})


def find(tx: Tx, org_id: str, person_id: str) -> PersonRow | None:
    """Finds a person of the organisation."""
    found = tx.one(_FIND, org_id=org_id, id=person_id)
    return PersonRow(**dict(zip(_NAMES, found, strict=True))) if found else None


def find_by_email(tx: Tx, org_id: str, email: str) -> PersonRow | None:
    """Finds the person of the organisation who has an address."""
    found = tx.one(_FIND_BY_EMAIL, org_id=org_id, email=email)
    return PersonRow(**dict(zip(_NAMES, found, strict=True))) if found else None


def list_page(tx: Tx, org_id: str, *, limit: int, offset: int) -> list[PersonRow]:
    """Lists one page of the organisation's people, newest first."""
    found = tx.all(_PAGE, org_id=org_id, limit=limit, offset=offset)
    return [PersonRow(**dict(zip(_NAMES, row, strict=True))) for row in found]


def home_keys(tx: Tx, org_id: str) -> set[str]:
    """The keys that sessions of people stand for: no program can use them, since nobody has their secrets."""
    return {row[0] for row in tx.all(_HOMES, org_id=org_id)}


def update(tx: Tx, person_id: str, *, name: str, key_id: str, role: str | None) -> None:
    """Changes a person's name, the key of their sessions, and their role."""
    tx.do(_UPDATE, of_id=person_id, new_name=name, new_key=key_id, new_role=role)


def list_of_role(tx: Tx, org_id: str, role: str) -> list[PersonRow]:
    """Lists the people of the organisation who have a role."""
    return [PersonRow(**dict(zip(_NAMES, row, strict=True))) for row in tx.all(_OF_ROLE, org_id=org_id, role=role)]


def forget_role(tx: Tx, org_id: str, role: str) -> None:
    """Takes a role from whoever has it; their keys stay as they are."""
    tx.do(_FORGET_ROLE, of_org=org_id, of_role=role)


def join(tx: Tx, key_id: str, now: int) -> None:
    """Notes that the person whose sessions stand for this key, if it is one's, has come."""
    tx.do(_JOIN, of_key=key_id, now=now)


def drop_links(tx: Tx, key_id: str) -> None:
    """Takes back the links that sign in as a key."""
    tx.do(_DROP_LINKS, of_key=key_id)


def list_sessions(tx: Tx, key_ids: Collection[str], *, seen_after: int, created_after: int) -> list[SessionSeen]:
    """Lists the sessions that stand for some keys and have not ended by themselves, newest first."""
    s = web_sessions.c
    query = sa.select(s.hash, s.key_id, s.created_at, s.seen_at).where(s.key_id.in_(sorted(key_ids)))
    query = query.where(s.seen_at >= seen_after, s.created_at >= created_after)
    return [SessionSeen(*row) for row in tx.all(Statement(query.order_by(s.created_at.desc(), s.hash)))]


def end_sessions(tx: Tx, key_ids: Collection[str]) -> list[str]:
    """Ends every session that stands for some keys; returns their hashes."""
    ended = sa.delete(web_sessions).where(web_sessions.c.key_id.in_(sorted(key_ids))).returning(web_sessions.c.hash)
    return [row[0] for row in tx.all(Statement(ended))]


def list_open_runs(tx: Tx, org_id: str, key_ids: Collection[str], *, limit: int) -> list[str]:
    """Lists the runs in the name of some keys that have not ended, newest first."""
    query = sa.select(runs.c.id).where(runs.c.org_id == org_id, runs.c.status.in_(("running", "waiting")))
    query = query.where(runs.c.triggered_by.in_(sorted(key_ids))).order_by(runs.c.pk.desc()).limit(limit)
    return [row[0] for row in tx.all(Statement(query))]


def list_form_links(tx: Tx, org_id: str, key_ids: Collection[str], *, now: int, limit: int) -> list[str]:
    """Lists the open links to forms in the name of some keys."""
    f = form_links.c
    query = sa.select(f.id).where(f.org_id == org_id, f.key_id.in_(sorted(key_ids)))
    query = query.where(f.revoked_at.is_(None), f.expires_at > now).order_by(f.id).limit(limit)
    return [row[0] for row in tx.all(Statement(query))]


def list_publishers(tx: Tx, org_id: str) -> Sequence[tuple[str, str]]:
    """Lists the workflow and the stored principal of each trigger of the organisation that has not ended."""
    s = subscriptions.c
    query = sa.select(s.workflow_id, s.principal).where(s.org_id == org_id, s.state != "ended").order_by(s.pk)
    return [(row[0], row[1]) for row in tx.all(Statement(query))]
