"""One PostgreSQL statement for many rows, derived from the statement for one: the rows travel as arrays."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from typing import Any

import sqlalchemy as sa

from dustrun.records import dataclass
from dustrun.storage.db.metadata import metadata
from dustrun.storage.db.pipeline.call import Numbered

_INSERT = re.compile(r"(INSERT INTO (\w+) \(([^)]*)\)) VALUES \((.*?)\)((?: ON CONFLICT .*?)?)(?: RETURNING (.*))?$")
_UPDATE = re.compile(r"(UPDATE \w+ SET .*) WHERE (.*?)(?: RETURNING (.*))?$")
_CONFLICT = re.compile(r" ON CONFLICT \(([^)]*)\) DO NOTHING$")
_SUM = re.compile(r" ON CONFLICT \(([^)]*)\) DO UPDATE SET (\w+) = \w+\.\2 \+ excluded\.\2$")
_PARAMETER = re.compile(r"%\((\w+)\)s(?:::(\w+))?")
_ARRAYS = {"VARCHAR": "text", "TEXT": "text", "BIGINT": "bigint", "INTEGER": "integer"}

Values = Mapping[str, Any]


def _integers(values: Sequence[int | None]) -> str:
    return "{" + ",".join(["NULL" if value is None else str(int(value)) for value in values]) + "}"


def _texts(values: Sequence[str | None]) -> str:
    return "{" + ",".join(["NULL" if value is None else _quoted(value) for value in values]) + "}"


def _quoted(value: str) -> str:
    if "\x00" in value:  # as for other texts
        value = value.replace("\x00", "\ufffd")
    if "\\" in value:
        value = value.replace("\\", "\\\\")
    if '"' in value:
        value = value.replace('"', '\\"')
    return f'"{value}"'


_WRITE: dict[str, Callable[[Sequence[Any]], str]] = {"text": _texts, "bigint": _integers, "integer": _integers}


@dataclass(frozen=True, slots=True)
class SetForm:
    """A statement that executes a statement for many rows. `types`: of the parameters that differ from row to row.

    Each row it returns begins with `lead` columns that say which row it belongs to: its number from 1, or with a
    conflict clause the values of `key`. Without `lead` the rows come in the order of the parameters."""

    text: Numbered
    types: dict[str, str]
    lead: int
    key: tuple[str, ...] = ()
    """Parameters that identify the affected row: two rows with the same need two statements."""
    finds_by_key: bool = False
    """Whether the values of `key` lead each row that it returns, else the number of its parameters."""
    is_planned_anew: bool = False
    """It joins a table: a plan kept from when that was small would scan it."""
    fixed: dict[str, Any] = field(default_factory=dict)
    summed: str | None = None
    """A parameter that is added to what the table has; rows with the same `key` are added up first."""

    def parameters(self, rows: Sequence[Values]) -> dict[str, Any]:
        """The arrays that carry the rows."""
        if self.summed is not None:
            rows = self._add_up(rows, self.summed)
        arrays = {name: _WRITE[kind]([row[name] for row in rows]) for name, kind in self.types.items()}
        return {**self.fixed, **arrays}

    def _add_up(self, rows: Sequence[Values], summed: str) -> list[Values]:
        sums: dict[tuple[Any, ...], dict[str, Any]] = {}
        for row in rows:
            known = sums.setdefault(self.key_of(row), {**row, summed: 0})
            known[summed] += row[summed]
        return [sums[key] for key in sorted(sums)]

    def key_of(self, row: Values) -> tuple[Any, ...]:
        """What identifies the row that these parameters affect."""
        return tuple(row[name] for name in self.key)


def certain(update: str, rows: str = "1") -> str:
    """An UPDATE that is refused unless it changes so many rows."""
    what = f"CASE WHEN count(*) = {rows} THEN '0' ELSE 'not all of the expected rows' END"
    returning = "" if " RETURNING " in update else " RETURNING 1"
    return f"WITH changed AS ({update}{returning}) SELECT CAST({what} AS integer) FROM changed"  # noqa: S608 - of statements of ours


def derive(sql: str, fixed: Values, *, is_certain: bool = False) -> SetForm | None:
    """The set form of an INSERT of values or an UPDATE; None for anything else. `fixed`: parameters that are the same
    for all rows. `is_certain`: an UPDATE is refused unless it changes a row for each."""
    inserted = _INSERT.match(sql)
    if inserted is not None:
        return _of_insert(inserted, fixed)
    updated = _UPDATE.match(sql)
    return None if updated is None else _of_update(updated, fixed, is_certain)


def _of_insert(found: re.Match[str], fixed: Values) -> SetForm | None:
    head, table, columns, values, conflict, returning = found.groups()
    types = _types(values, fixed) or _types_of_columns(table, columns, values)
    once, added = _CONFLICT.match(conflict), _SUM.match(conflict)
    if types is None or (conflict and once is None and added is None):
        return None
    unique = once or added
    key = tuple(unique[1].split(", ")) if unique is not None else ()
    if not set(key) <= types.keys():
        return None
    summed = added[2] if added is not None else None
    returned = "" if summed else ", ".join((*key, *([returning] if returning else [])))
    rows = f"SELECT {_renamed(values, types)} FROM {_unnested(types)} ORDER BY v.nth"  # noqa: S608 - of statements of ours
    more = f" RETURNING {returned}" if returned else ""
    lead = 0 if summed else len(key)
    text = f"{head} {rows}{conflict}{more}"
    return SetForm(Numbered(text), types, lead, key, finds_by_key=lead > 0, fixed=_used(values, fixed), summed=summed)


def _of_update(found: re.Match[str], fixed: Values, is_certain: bool) -> SetForm | None:
    head, where, returning = found.groups()
    types = _types(f"{head} {where}", fixed)
    if types is None:
        return None
    key = tuple(name for name, _ in _PARAMETER.findall(where) if name in types)
    returned = ", ".join(("v.nth", *([returning] if returning else [])))
    text = f"{_renamed(head, types)} FROM {_unnested(types)} WHERE {_renamed(where, types)} RETURNING {returned}"
    if is_certain:
        name, kind = next(iter(types.items()))
        text = certain(text, f"cardinality(%({name})s::{kind}[])")
    return SetForm(Numbered(text), types, 1, key, is_planned_anew=True, fixed=_used(f"{head} {where}", fixed))


def _types(text: str, fixed: Values) -> dict[str, str] | None:
    """Array types of the parameters that the text casts; None unless it casts all of them."""
    found = [(name, _ARRAYS.get(kind)) for name, kind in _PARAMETER.findall(text) if name not in fixed]
    types = {name: kind for name, kind in found if kind is not None}
    return types if found and len(types) == len({name for name, _ in found}) else None


def _types_of_columns(table: str, columns: str, values: str) -> dict[str, str] | None:
    """Array types from the table's columns, where the values are bare parameters."""
    names = [_PARAMETER.fullmatch(value.strip()) for value in values.split(",")]
    kinds = [_kind_of(metadata.tables[table].c[column.strip()].type) for column in columns.split(",")]
    found = {name[1]: kind for name, kind in zip(names, kinds, strict=True) if name is not None and kind is not None}
    return found if len(found) == len(names) else None


def _kind_of(column_type: sa.types.TypeEngine[Any]) -> str | None:
    if isinstance(column_type, sa.BigInteger):
        return "bigint"
    if isinstance(column_type, sa.Integer):
        return "integer"
    return "text" if isinstance(column_type, sa.Text) else None


def _used(text: str, fixed: Values) -> dict[str, Any]:
    return {name: fixed[name] for name, _ in _PARAMETER.findall(text) if name in fixed}


def _renamed(text: str, types: Mapping[str, str]) -> str:
    return _PARAMETER.sub(lambda found: f'v."{found[1]}"' if found[1] in types else found[0], text)


def _unnested(types: Mapping[str, str]) -> str:
    arrays = ", ".join(f"%({name})s::{kind}[]" for name, kind in types.items())
    names = ", ".join(f'"{name}"' for name in types)
    return f"unnest({arrays}) WITH ORDINALITY AS v({names}, nth)"
