"""Rows of hands: which keys wrote a thing that can shape a spend, and what they could spend from when they did."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields

import sqlalchemy as sa

from dustrun.records import dataclass
from dustrun.storage.db.statement import Statement, Tx
from dustrun.storage.db.tables import api_keys as keys
from dustrun.storage.db.tables import hands as t

_PATTERNS = 5
UNKNOWN = ""
"""The key of writers that nobody knows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HandRow:
    """A key that wrote a thing. `wallets`: the least that it could spend from, as in versions; `writes`: how often it
    wrote without being free to spend from all; `changed_at`: when it last did, or first wrote."""

    kind: str
    object: str
    key_id: str
    wallets: str | None
    writes: int
    changed_at: int


_NAMES = tuple(field.name for field in fields(HandRow))
_LIST = Statement(
    sa.select(*(t.c[name] for name in _NAMES))
    .where(
        t.c.org_id == sa.bindparam("org_id"),
        t.c.kind == sa.bindparam("kind"),
        t.c.object == sa.bindparam("object"),
    )
    .order_by(t.c.key_id)
)
_OBJECTS = Statement(
    sa.select(t.c.object)
    .distinct()
    .where(
        t.c.org_id == sa.bindparam("org_id"),
        t.c.kind == sa.bindparam("kind"),
        t.c.object.like(sa.bindparam("pattern"), escape="\\"),
    )
)
_ADMIN = keys.c.permissions.like('%"admin"%')
_LIMITS = (keys.c.workflow_ids, keys.c.wallet_ids, keys.c.connector_ids)
_IS_LIMITED = sa.or_(*(column.is_not(None) for column in _LIMITS))
_OTHERS = Statement(
    sa.select(sa.literal(1))
    .where(
        keys.c.org_id == sa.bindparam("org_id"),
        sa.or_(_IS_LIMITED, sa.not_(sa.or_(_ADMIN, keys.c.permissions.like('%"wallet:spend"%')))),
        sa.or_(_ADMIN, *(keys.c.permissions.like(sa.bindparam(f"like{at}")) for at in range(_PATTERNS))),
    )
    .limit(1)
)
_COUNTS = Statement(
    sa.text(
        "SELECT (SELECT count(*) FROM hands WHERE org_id = :org_id),"
        " (SELECT sum(writes) FROM hands WHERE org_id = :org_id),"
        " (SELECT count(*) FROM api_keys WHERE org_id = :org_id AND revoked_at IS NOT NULL),"
        " (SELECT count(*) FROM version_acceptances WHERE workflow_id = :workflow_id)"
    )
)
_PUT = Statement(
    sa.text(
        "INSERT INTO hands (org_id, kind, object, key_id, wallets, writes, changed_at)"
        " VALUES (:org_id, :kind, :object, :key_id, :wallets, :writes, :changed_at)"
        " ON CONFLICT (org_id, kind, object, key_id) DO UPDATE SET wallets = :wallets,"
        " writes = hands.writes + :writes, changed_at = :changed_at"
    )
)


def list_of(tx: Tx, org_id: str, kind: str, object_: str) -> list[HandRow]:
    """The hands of a thing; none: nobody has written it since hands are kept."""
    found = tx.all(_LIST, org_id=org_id, kind=kind, object=object_)
    return [HandRow(**dict(zip(_NAMES, row, strict=True))) for row in found]


def deleted(name: str) -> str:
    """The write that the deletion of a thing is: others can have the name afterwards."""
    return f"deleted/{name}"


def list_objects(tx: Tx, org_id: str, kind: str, begin: str) -> list[str]:
    """The things of a kind that have hands, whose names begin so."""
    pattern = begin.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
    return [row[0] for row in tx.all(_OBJECTS, org_id=org_id, kind=kind, pattern=pattern)]


def others_could(tx: Tx, org_id: str, permissions: Sequence[str]) -> bool:
    """Whether the organisation has, or had, a key with one of these permissions that cannot spend from every wallet in
    every workflow."""
    named = [f'%"{one}"%' for one in permissions]
    patterns = {f"like{at}": named[min(at, len(named) - 1)] for at in range(_PATTERNS)}
    return tx.one(_OTHERS, org_id=org_id, **patterns) is not None


def ask_counts(tx: Tx, org_id: str, workflow_id: str | None) -> Callable[[], str]:
    """Asks for what differs whenever a hand of the organisation has written since, a key was revoked, or an acceptance
    of the workflow withdrawn; the function returns it after a wait."""
    asked = tx.soon(_COUNTS, org_id=org_id, workflow_id=workflow_id or "")
    return lambda: repr([str(one) for one in asked.value or ()])


def put(tx: Tx, org_id: str, row: HandRow) -> None:
    """Adds a hand; of one that is there, adds to its writes and replaces what it could spend from."""
    tx.do(_PUT, org_id=org_id, **{name: getattr(row, name) for name in _NAMES})
