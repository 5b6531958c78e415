"""The sources that stores keep with what runs write, so that whoever spends by it knows them.

By part: a column of a row, or `""` for whether there is such a row, which counts for every column. A variable has `""`
alone. What the owner's keys wrote by hand keeps none: hands judge that."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

from dustrun.core.sources.source import ANY

Parts = Mapping[str, frozenset[str]]
"""Sources by part; in what a node writes, `*` are columns that are not told apart."""
_BY_HANDS: Final = frozenset({"definition", "table", "connector", "import", "setting", "run", "starter"})
_MOST: Final = 20
NONE: Final[frozenset[str]] = frozenset()


def kept_of(sources: Iterable[str]) -> frozenset[str]:
    """The sources worth keeping, few and short: without those whose writers are kept as hands, and tables, whose rows
    have their own; events by their trigger alone; `*` for all of a kind with many names."""
    by_kind: dict[str, set[str]] = {}
    for one in sources:
        kind, _, name = one.partition(":")
        if kind not in _BY_HANDS:
            short = f"{kind}:{re.split(r'[.[]', name)[0]}" if kind == "trigger" else one
            by_kind.setdefault(kind, set()).add(short)
    few = {kind: found if len(found) <= _MOST else {f"{kind}:{ANY}"} for kind, found in by_kind.items()}
    return NONE.union(*few.values())


def of_part(parts: Parts, part: str) -> frozenset[str]:
    """The sources that shaped a part; of `*` all that shaped any."""
    if part == ANY:
        return NONE.union(*parts.values())
    return parts.get("", NONE) | parts.get(part, NONE)


def given_to(written: Parts, columns: Iterable[str], key: str) -> dict[str, frozenset[str]]:
    """By column, what shaped a row that a node writes. Which key it has, whoever names it chooses."""
    shared = written.get("", NONE) | written.get(ANY, NONE) | written.get(key, NONE)
    return {"": shared} | {column: written.get(column, NONE) | shared for column in columns}


def changed(before: Parts, written: Parts, columns: Collection[str], key: str) -> dict[str, frozenset[str]]:
    """The sources of a row after some columns of it were written: those forget what shaped them before."""
    given = given_to(written, columns, key)
    return {**before, **{column: given[column] for column in columns}}


def joined(many: Iterable[Parts]) -> dict[str, frozenset[str]]:
    """The sources of several rows together."""
    found: dict[str, frozenset[str]] = {}
    for parts in many:
        for part, sources in parts.items():
            found[part] = found.get(part, NONE) | sources
    return found


def as_json(parts: Parts) -> dict[str, list[str]]:
    """Parts as they are stored; what every column has anyway is not repeated."""
    shared = parts.get("", NONE)
    own = {part: sorted(found if part == "" else found - shared) for part, found in sorted(parts.items())}
    return {part: found for part, found in own.items() if found}


def of_json(stored: Any) -> dict[str, frozenset[str]]:
    """Reads `as_json`; nothing was kept of what is not there."""
    return {part: frozenset(found) for part, found in (stored or {}).items()}
