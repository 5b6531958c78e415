"""Rows of what shaped a store: of a table by column since its beginning, and of a variable since it was overwritten,
and before that for the runs that may have read it then."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import sqlalchemy as sa

from dustrun.core.sources.kept import joined
from dustrun.storage.db.statement import Statement, Tx
from dustrun.storage.db.tables import runs
from dustrun.storage.db.tables import store_sources as t

NOW: Final = 2**63 - 1
"""As the oldest run that reads: one that begins now."""
_MOST = 1_000
_PLACE = (t.c.object == sa.bindparam("object"), t.c.layer.in_((0, sa.bindparam("layer", type_=sa.BigInteger))))
_WAS_SEEN = sa.or_(t.c.until_run.is_(None), t.c.until_run >= sa.bindparam("oldest", type_=sa.BigInteger))
_LIST = Statement(sa.select(t.c.part, t.c.source, t.c.is_change).where(*_PLACE, _WAS_SEEN))
_LIKE = Statement(
    sa.select(t.c.source).distinct().where(t.c.object.like(sa.bindparam("pattern"), escape="\\"), _WAS_SEEN)
)
_END = Statement(
    sa.update(t)
    .where(t.c.object == sa.bindparam("the_object"), t.c.until_run.is_(None))
    .values(until_run=sa.select(sa.func.coalesce(sa.func.max(runs.c.pk), 0)).scalar_subquery())
)
_ADD = Statement(
    sa.text(
        "INSERT INTO store_sources (object, layer, part, source, is_change)"
        " VALUES (:object, :layer, :part, :source, :is_change) ON CONFLICT (object, layer, part, source, is_change)"
        " DO UPDATE SET until_run = NULL"
    )
)


def list_of(
    tx: Tx, object_: str, layer: int = 0, *, only_changes: bool = False, oldest: int = NOW
) -> dict[str, frozenset[str]]:
    """The sources of a store, by part; in a simulation, what that has written too. `only_changes`: what changed or took
    away something that was there. `oldest`: the pk of the first run that may have read it."""
    found = tx.all(_LIST, object=object_, layer=layer, oldest=oldest)
    return joined({part: frozenset((source,))} for part, source, is_change in found if is_change or not only_changes)


def list_under(tx: Tx, begin: str, oldest: int = NOW) -> frozenset[str]:
    """The sources of all stores whose names begin so; `oldest` as in `list_of`."""
    pattern = begin.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
    return frozenset(row[0] for row in tx.all(_LIKE, pattern=pattern, oldest=oldest))


def add(tx: Tx, object_: str, layer: int, given: Mapping[str, Iterable[str]], *, is_change: bool) -> None:
    """Adds to what shaped a store, once each. If they become too many, all of a kind are one."""
    wanted = {(part, source) for part, sources in given.items() for source in sources}
    if not wanted:
        return
    found = tx.all(_LIST, object=object_, layer=layer, oldest=NOW)
    known = {(part, source, bool(change)) for part, source, change in found}
    fresh = {one for one in wanted if (*one, is_change) not in known}
    if len(known) + len(fresh) > _MOST:
        fresh = {(part, _any_of(source)) for part, source in fresh}
    rows = [
        {"object": object_, "layer": layer, "part": part, "source": source, "is_change": int(is_change)}
        for part, source in sorted(fresh)
    ]
    tx.many(_ADD, rows)


def replace(tx: Tx, object_: str, given: Mapping[str, Iterable[str]]) -> None:
    """Sets what shapes a variable from now on, in the unit that overwrites it. Units take turns, so runs that begin
    afterwards have a higher pk than any that may have read what was there."""
    found = tx.all(_LIST, object=object_, layer=0, oldest=NOW)
    if {(part, source) for part, source, _ in found} - {(part, one) for part, some in given.items() for one in some}:
        tx.do(_END, the_object=object_)
    add(tx, object_, 0, given, is_change=True)


def _any_of(source: str) -> str:
    kind, found, _ = source.partition(":")
    return f"{kind}:*" if found else source
