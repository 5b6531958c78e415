"""Rows of the users and groups that a directory provisions."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import fields

import sqlalchemy as sa
from sqlalchemy import bindparam as b

from dustrun.records import dataclass
from dustrun.storage.db.statement import Row, Statement, Tx
from dustrun.storage.db.tables import api_keys as k
from dustrun.storage.db.tables import directory_groups as g
from dustrun.storage.db.tables import directory_members as m
from dustrun.storage.db.tables import directory_users as u
from dustrun.storage.db.tables import people as p


@dataclass(frozen=True, slots=True, kw_only=True)
class UserRow:
    """A user of the directory, whose person has the same id; `names` JSON, times in milliseconds. `by_groups`: whether
    they have been in a group, from when on groups alone decide what they may do."""

    person_id: str
    org_id: str
    user_name: str
    external_id: str | None
    names: str
    by_groups: bool
    created_at: int
    changed_at: int


@dataclass(frozen=True, slots=True)
class SeenUser:
    """A user, with what their person says."""

    row: UserRow
    email: str
    is_active: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupRow:
    """A group of the directory."""

    id: str
    org_id: str
    name: str
    external_id: str | None
    created_at: int
    changed_at: int


USER_FIELDS: Mapping[str, sa.ColumnElement[str]] = {
    "id": u.c.person_id,
    "username": u.c.user_key,
    "externalid": u.c.external_id,
    "emails.value": p.c.email,
}
"""The columns that users are found by."""
GROUP_FIELDS: Mapping[str, sa.ColumnElement[str]] = {
    "id": g.c.id,
    "displayname": g.c.name,
    "externalid": g.c.external_id,
}
"""The columns that groups are found by."""
_USER_NAMES = tuple(field.name for field in fields(UserRow))
_GROUP_NAMES = tuple(field.name for field in fields(GroupRow))
_USER_COLUMNS = [u.c[name] for name in _USER_NAMES]
_GROUP_COLUMNS = [g.c[name] for name in _GROUP_NAMES]
_SEEN = (*_USER_COLUMNS, p.c.email, k.c.revoked_at, k.c.expires_at)
_OF_PEOPLE = u.join(p, p.c.id == u.c.person_id).join(k, k.c.id == p.c.key_id)
_ADD_USER = Statement(sa.insert(u))
_ADD_GROUP = Statement(sa.insert(g))
_DECIDES = Statement(sa.select(u.c.by_groups).where(u.c.person_id == b("person_id")))
_BY_GROUPS = Statement(sa.update(u).where(u.c.person_id == b("of_person")).values(by_groups=1))
_DROP_USER = Statement(sa.delete(u).where(u.c.person_id == b("of_person")))
_DROP_MEMBERSHIPS = Statement(sa.delete(m).where(m.c.person_id == b("of_person")))
_DROP_GROUP = Statement(sa.delete(g).where(g.c.id == b("of_group")))
_ADD_MEMBER = Statement(sa.insert(m))
_DROP_MEMBER = Statement(sa.delete(m).where(m.c.group_id == b("of_group"), m.c.person_id == b("of_person")))
_MEMBERS = Statement(sa.select(m.c.person_id).where(m.c.group_id == b("group_id")).order_by(m.c.person_id))
_IS_MEMBER = Statement(sa.select(m.c.person_id).where(m.c.group_id == b("group_id"), m.c.person_id == b("person_id")))
_SET_EMAIL = Statement(sa.update(p).where(p.c.id == b("of_id")).values(email=b("new_email"), name=b("new_name")))
_UPDATE_USER = Statement(
    sa.update(u)
    .where(u.c.person_id == b("of_person"))
    .values(
        user_name=b("new_user_name"),
        user_key=b("new_user_key"),
        external_id=b("new_external_id"),
        names=b("new_names"),
        changed_at=b("now", type_=sa.BigInteger),
    )
)
_UPDATE_GROUP = Statement(
    sa.update(g)
    .where(g.c.id == b("of_group"))
    .values(name=b("new_name"), external_id=b("new_external_id"), changed_at=b("now", type_=sa.BigInteger))
)


def insert_user(tx: Tx, row: UserRow) -> None:
    """Inserts a user."""
    values = {name: getattr(row, name) for name in _USER_NAMES} | {"by_groups": int(row.by_groups)}
    tx.do(_ADD_USER, **values, user_key=row.user_name.lower())


def update_user(tx: Tx, row: UserRow, *, email: str, name: str) -> None:
    """Stores what the directory says of a user anew, and address and name of the person."""
    tx.do(
        _UPDATE_USER,
        of_person=row.person_id,
        new_user_name=row.user_name,
        new_user_key=row.user_name.lower(),
        new_external_id=row.external_id,
        new_names=row.names,
        now=row.changed_at,
    )
    tx.do(_SET_EMAIL, of_id=row.person_id, new_email=email, new_name=name)


def drop_user(tx: Tx, person_id: str) -> None:
    """Forgets a user; the person stays."""
    tx.do(_DROP_MEMBERSHIPS, of_person=person_id)
    tx.do(_DROP_USER, of_person=person_id)


def list_users(
    tx: Tx, org_id: str, wanted: Mapping[str, str], *, now: int, limit: int, offset: int
) -> tuple[int, list[SeenUser]]:
    """How many users of the organisation have these values, and some of them, by id. The names are of `USER_FIELDS`."""
    where = [u.c.org_id == org_id, *(USER_FIELDS[name] == value for name, value in wanted.items())]
    count = tx.one(Statement(sa.select(sa.func.count()).select_from(_OF_PEOPLE).where(*where)))
    query = sa.select(*_SEEN).select_from(_OF_PEOPLE).where(*where).order_by(u.c.person_id)
    found = tx.all(Statement(query.limit(limit).offset(offset))) if limit else []
    return (int(count[0]) if count else 0), [_seen(row, now) for row in found]


def find_user(tx: Tx, org_id: str, name: str, value: str, *, now: int) -> SeenUser | None:
    """Finds a user by one of `USER_FIELDS`."""
    found = list_users(tx, org_id, {name: value}, now=now, limit=1, offset=0)[1]
    return found[0] if found else None


def _seen(row: Row, now: int) -> SeenUser:
    *own, email, revoked_at, expires_at = row
    is_active = revoked_at is None and (expires_at is None or expires_at > now)
    named = dict(zip(_USER_NAMES, own, strict=True))
    return SeenUser(UserRow(**named | {"by_groups": bool(named["by_groups"])}), email, is_active)


def decides(tx: Tx, person_id: str) -> bool:
    """Whether groups of the directory decide what a person may do."""
    found = tx.one(_DECIDES, person_id=person_id)
    return found is not None and bool(found[0])


def let_groups_decide(tx: Tx, person_id: str) -> None:
    """From now on groups decide what a user may do."""
    tx.do(_BY_GROUPS, of_person=person_id)


def insert_group(tx: Tx, row: GroupRow) -> None:
    """Inserts a group without members."""
    tx.do(_ADD_GROUP, **{name: getattr(row, name) for name in _GROUP_NAMES})


def update_group(tx: Tx, row: GroupRow) -> None:
    """Changes the name of a group."""
    tx.do(_UPDATE_GROUP, of_group=row.id, new_name=row.name, new_external_id=row.external_id, now=row.changed_at)


def drop_group(tx: Tx, group_id: str) -> None:
    """Deletes a group that has no members."""
    tx.do(_DROP_GROUP, of_group=group_id)


def list_groups(
    tx: Tx, org_id: str, wanted: Mapping[str, str], member: str | None, *, limit: int, offset: int
) -> tuple[int, list[GroupRow]]:
    """How many groups of the organisation have these values and this member, and some of them, by id. The names are of
    `GROUP_FIELDS`."""
    where = [g.c.org_id == org_id, *(GROUP_FIELDS[name] == value for name, value in wanted.items())]
    if member is not None:
        where.append(g.c.id.in_(sa.select(m.c.group_id).where(m.c.person_id == member)))
    count = tx.one(Statement(sa.select(sa.func.count()).select_from(g).where(*where)))
    query = sa.select(*_GROUP_COLUMNS).where(*where).order_by(g.c.id).limit(limit).offset(offset)
    found = tx.all(Statement(query)) if limit else []
    return (int(count[0]) if count else 0), [GroupRow(**dict(zip(_GROUP_NAMES, row, strict=True))) for row in found]


def find_group(tx: Tx, org_id: str, name: str, value: str) -> GroupRow | None:
    """Finds a group by one of `GROUP_FIELDS`."""
    found = list_groups(tx, org_id, {name: value}, None, limit=1, offset=0)[1]
    return found[0] if found else None


def list_members(tx: Tx, group_id: str) -> list[str]:
    """Lists the members of a group."""
    return [row[0] for row in tx.all(_MEMBERS, group_id=group_id)]


def is_member(tx: Tx, group_id: str, person_id: str) -> bool:
    """Whether a user is in a group."""
    return tx.one(_IS_MEMBER, group_id=group_id, person_id=person_id) is not None


def known_users(tx: Tx, org_id: str, person_ids: Collection[str]) -> set[str]:
    """Those of these ids that are users of the organisation."""
    query = sa.select(u.c.person_id).where(u.c.org_id == org_id, u.c.person_id.in_(sorted(person_ids)))
    return {row[0] for row in tx.all(Statement(query))}


def list_groups_of(tx: Tx, person_ids: Collection[str]) -> dict[str, list[GroupRow]]:
    """The groups of some users, by user."""
    query = sa.select(m.c.person_id, *_GROUP_COLUMNS).join(g, g.c.id == m.c.group_id)
    query = query.where(m.c.person_id.in_(sorted(person_ids))).order_by(m.c.person_id, g.c.id)
    found: dict[str, list[GroupRow]] = {}
    for person_id, *row in tx.all(Statement(query)):
        found.setdefault(person_id, []).append(GroupRow(**dict(zip(_GROUP_NAMES, row, strict=True))))
    return found


def add_member(tx: Tx, group_id: str, person_id: str) -> None:
    """Puts a user into a group that they are not in."""
    tx.do(_ADD_MEMBER, group_id=group_id, person_id=person_id)


def drop_member(tx: Tx, group_id: str, person_id: str) -> None:
    """Takes a user out of a group."""
    tx.do(_DROP_MEMBER, of_group=group_id, of_person=person_id)
