"""How many bytes an organisation stores in its runs: a sum that is kept, so that nobody adds up a million runs.

Nothing is counted while a run advances. What has started, waited or ended since the last time is found in the activity,
by its number, and measured then (`measure`, in a reader); one transaction writes the sizes, adds what they grew by to
the sums and moves the number (`keep`). So a crash loses nothing, and the runs of an older store are measured the same
way. Retention subtracts what it deletes.
"""

from __future__ import annotations

import functools
from collections import Counter
from typing import Any

import sqlalchemy as sa
from sqlalchemy import bindparam as b

from dustrun.records import dataclass
from dustrun.storage.db import store_facts
from dustrun.storage.db.statement import Statement, Tx, is_one_of, numbered
from dustrun.storage.db.tables import activity, events, executions, run_sizes, run_values, runs, stored_bytes

TOGETHER = 200
"""Activities of one step."""
_TEXTS = (
    (runs, runs.c.pk, ("definition", "payload", "prop_values", "error", "summary")),
    (executions, executions.c.run_pk, ("input", "result", "error", "facts")),
    (events, events.c.run_pk, ("data",)),
    (run_values, run_values.c.run_pk, ("content",)),
)

_NEXT = Statement(
    sa.select(activity.c.id, activity.c.run_pk)
    .where(activity.c.id > b("after", type_=sa.BigInteger))
    .order_by(activity.c.id)
    .limit(TOGETHER)
)
_NEWEST = Statement(sa.select(sa.func.max(activity.c.id)))
_ADD = Statement(
    sa.text(
        "INSERT INTO stored_bytes (org_id, bytes) VALUES (:org_id, :bytes)"
        " ON CONFLICT (org_id) DO UPDATE SET bytes = stored_bytes.bytes + excluded.bytes"
    )
)
_SET = Statement(
    sa.text(
        "INSERT INTO run_sizes (run_pk, bytes) VALUES (:run_pk, :bytes)"
        " ON CONFLICT (run_pk) DO UPDATE SET bytes = excluded.bytes"
    )
)
_OF = Statement(sa.select(stored_bytes.c.bytes).where(stored_bytes.c.org_id == b("org_id")))


@dataclass(frozen=True, slots=True)
class Measured:
    """The sizes of the runs of some activities: from the one after `after` to `until`."""

    after: int
    until: int
    sizes: dict[int, int]


def find_newest(tx: Tx) -> int:
    """The number of the newest activity."""
    row = tx.one(_NEWEST)
    return int(row[0] or 0) if row else 0


def measure(tx: Tx) -> Measured | None:
    """The sizes of the next runs; None if all are measured."""
    after = int(store_facts.find(tx, store_facts.MEASURED) or 0)
    rows = tx.all(_NEXT, after=after)
    if not rows:
        return None
    sizes: Counter[int] = Counter()
    pks = sorted({int(row[1]) for row in rows})
    for statement in _sizes_of(len(pks), tx.is_sqlite):
        for pk, size in tx.all(statement, **numbered("pk", pks)):
            sizes[pk] += int(size)
    return Measured(after, int(rows[-1][0]), dict(sizes))


def keep(tx: Tx, measured: Measured) -> bool:
    """Writes what was measured; False if another server has been faster."""
    if int(store_facts.find(tx, store_facts.MEASURED) or 0) != measured.after:
        return False
    pks = list(measured.sizes)
    owners: dict[int, str] = dict(tx.all(_owners_of(len(pks)), **numbered("pk", pks))) if pks else {}
    before: dict[int, int] = dict(tx.all(_known_of(len(pks)), **numbered("pk", pks))) if pks else {}
    grown: Counter[str] = Counter()
    for pk, org_id in owners.items():
        grown[org_id] += measured.sizes[pk] - before.get(pk, 0)
    tx.many(_SET, [{"run_pk": pk, "bytes": measured.sizes[pk]} for pk in owners])
    tx.many(_ADD, [{"org_id": org_id, "bytes": more} for org_id, more in sorted(grown.items()) if more])
    store_facts.put(tx, store_facts.MEASURED, str(measured.until))
    return True


def of(tx: Tx, org_id: str) -> int:
    """The bytes that an organisation stores in its runs, as far as they were measured."""
    row = tx.one(_OF, org_id=org_id)
    return int(row[0]) if row else 0


@functools.lru_cache(maxsize=TOGETHER)
def _sizes_of(count: int, is_sqlite: bool) -> list[Statement]:
    found = []
    for table, pk, names in _TEXTS:
        size = sum((_bytes_of(table.c[name], is_sqlite) for name in names), sa.literal(0))
        found.append(Statement(sa.select(pk, sa.func.sum(size)).where(*is_one_of(pk, "pk", count)).group_by(pk)))
    return found


def _bytes_of(column: sa.ColumnElement[Any], is_sqlite: bool) -> sa.ColumnElement[int]:
    size = sa.func.length(sa.cast(column, sa.LargeBinary)) if is_sqlite else sa.func.octet_length(column)
    return sa.func.coalesce(size, 0)


@functools.lru_cache(maxsize=TOGETHER)
def _owners_of(count: int) -> Statement:
    """Runs that are about to be deleted belong to no organisation, and are not counted again."""
    return Statement(sa.select(runs.c.pk, runs.c.org_id).where(*is_one_of(runs.c.pk, "pk", count), runs.c.org_id != ""))


@functools.lru_cache(maxsize=TOGETHER)
def _known_of(count: int) -> Statement:
    return Statement(
        sa.select(run_sizes.c.run_pk, run_sizes.c.bytes).where(*is_one_of(run_sizes.c.run_pk, "pk", count))
    )
