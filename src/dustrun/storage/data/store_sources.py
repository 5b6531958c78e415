"""Rows of what shaped a store since its beginning: of a table by column, and of a variable."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import sqlalchemy as sa

from dustrun.core.sources.kept import joined
from dustrun.storage.db.statement import Statement, Tx
from dustrun.storage.db.tables import store_sources as t

_MOST = 1_000
_PLACE = (t.c.object == sa.bindparam("object"), t.c.layer.in_((0, sa.bindparam("layer", type_=sa.BigInteger))))
_LIST = Statement(sa.select(t.c.part, t.c.source, t.c.is_change).where(*_PLACE))
_LIKE = Statement(sa.select(t.c.source).distinct().where(t.c.object.like(sa.bindparam("pattern"), escape="\\")))
_ADD = Statement(
    sa.text(
        "INSERT INTO store_sources (object, layer, part, source, is_change)"
        " VALUES (:object, :layer, :part, :source, :is_change) ON CONFLICT DO NOTHING"
    )
)


def list_of(tx: Tx, object_: str, layer: int = 0, *, only_changes: bool = False) -> dict[str, frozenset[str]]:
    """What shaped a store, by part; in a simulation, what that has written too. `only_changes`: what changed or took
    away something that was there."""
    found = tx.all(_LIST, object=object_, layer=layer)
    return joined({part: frozenset((source,))} for part, source, is_change in found if is_change or not only_changes)


def list_under(tx: Tx, begin: str) -> frozenset[str]:
    """What shaped any store whose name begins so."""
    pattern = begin.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
    return frozenset(row[0] for row in tx.all(_LIKE, pattern=pattern))


def add(tx: Tx, object_: str, layer: int, given: Mapping[str, Iterable[str]], *, is_change: bool) -> None:
    """Adds to what shaped a store, once each. If they become too many, all of a kind are one."""
    wanted = {(part, source) for part, sources in given.items() for source in sources}
    if not wanted:
        return
    known = {(part, source, bool(change)) for part, source, change in tx.all(_LIST, object=object_, layer=layer)}
    fresh = {one for one in wanted if (*one, is_change) not in known}
    if len(known) + len(fresh) > _MOST:
        fresh = {(part, _any_of(source)) for part, source in fresh}
    rows = [
        {"object": object_, "layer": layer, "part": part, "source": source, "is_change": int(is_change)}
        for part, source in sorted(fresh)
    ]
    tx.many(_ADD, rows)


def _any_of(source: str) -> str:
    kind, found, _ = source.partition(":")
    return f"{kind}:*" if found else source
