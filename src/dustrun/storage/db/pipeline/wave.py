"""Statements that units want to execute next, merged: equal ones of several units become one."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.engine import Dialect

from dustrun.records import dataclass
from dustrun.storage.db.metadata import metadata
from dustrun.storage.db.pipeline.call import NumberedSql, StatementAnswer, StatementCall
from dustrun.storage.db.statement import Certain, PendingResult, Row, Statement

# One PostgreSQL statement for many rows, derived from the statement for one: the rows travel as arrays.


_INSERT = re.compile(r"(INSERT INTO (\w+) \(([^)]*)\)) VALUES \((.*?)\)((?: ON CONFLICT .*?)?)(?: RETURNING (.*))?$")
_UPDATE = re.compile(r"(UPDATE \w+ SET .*) WHERE (.*?)(?: RETURNING (.*))?$")
_CONFLICT = re.compile(r" ON CONFLICT \(([^)]*)\) DO NOTHING$")
_SUM = re.compile(r" ON CONFLICT \(([^)]*)\) DO UPDATE SET (\w+) = \w+\.\2 \+ excluded\.\2$")
_PARAMETER = re.compile(r"%\((\w+)\)s(?:::(\w+))?")
_ARRAYS = {"VARCHAR": "text", "TEXT": "text", "BIGINT": "bigint", "INTEGER": "integer"}


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

    text: NumberedSql
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
        """The identity of the row that these parameters affect."""
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
    return SetForm(
        NumberedSql(text), types, lead, key, finds_by_key=lead > 0, fixed=_used(values, fixed), summed=summed
    )


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
    return SetForm(NumberedSql(text), types, 1, key, is_planned_anew=True, fixed=_used(f"{head} {where}", fixed))


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


Wanted = Literal["nothing", "count", "one", "all", "returned"]
Values = Mapping[str, Any]


class FixedSql(Statement):
    """SQL without parameters, such as `SAVEPOINT`."""

    def __init__(self, sql: str, dialect: Dialect) -> None:
        super().__init__(sa.text(""))
        self.bound[dialect.name] = (sql.replace("%", "%%"), dict, {})


@dataclass(slots=True, eq=False)
class Request:
    """A statement that a unit executes, once for each row of parameters, and what it wants to know of it."""

    statement: Statement
    rows: Sequence[Values]
    wanted: Wanted
    result: Any = None
    returned: Sequence[PendingResult] = ()


class Forms:
    """A statement as PostgreSQL gets it, for one row and for many."""

    def __init__(self, statement: Statement, dialect: Dialect) -> None:
        sql, self.take, fixed = statement.compile(dialect)
        self.many = derive(sql, fixed, is_certain=isinstance(statement, Certain))
        self.one = NumberedSql(certain(sql) if isinstance(statement, Certain) else sql)
        self.is_query = sql.startswith("SELECT ")


def forms_of(statement: Statement, dialect: Dialect) -> Forms:
    """The forms of a statement, made once."""
    if statement.derived is None:
        statement.derived = Forms(statement, dialect)
    forms: Forms = statement.derived
    return forms


class Step:
    """Requests of one statement, executed together; in their order if it cannot be one statement for all."""

    def __init__(self, forms: Forms) -> None:
        self._forms = forms
        self._many = forms.many
        self._requests: list[Request] = []
        self._rows: list[Values] = []
        self._keys: set[tuple[Any, ...]] = set()
        self._call_of: list[int] = []

    def add(self, request: Request) -> None:
        """Adds a unit's request."""
        self._requests.append(request)
        self._rows.extend(request.rows)
        if self._many is not None and self._many.key and self._many.summed is None:
            self._keys.update(map(self._many.key_of, request.rows))
            if len(self._keys) < len(self._rows):
                self._many = None  # one statement affects a row once only

    def calls(self) -> list[StatementCall]:
        """The statements to send."""
        if self._many is not None and len(self._rows) > 1:
            return [self._many.text.call(self._many.parameters(self._rows), is_prepared=not self._many.is_planned_anew)]
        calls: list[StatementCall] = []
        self._call_of = []
        known: dict[Any, int] = {}
        for row in self._rows:
            call = self._forms.one.call(self._forms.take(row))
            asked = call.values if self._forms.is_query else len(calls)
            if asked not in known:
                known[asked] = len(calls)
                calls.append(call)
            self._call_of.append(known[asked])
        return calls

    def resolve(self, answers: Sequence[StatementAnswer]) -> None:
        """Gives each request its result; `answers` to what `calls` returned."""
        if self._call_of:
            found = [answers[index] for index in self._call_of]
        else:
            assert self._many is not None
            found = _apart(self._many, self._rows, answers[0])
        at = 0
        for request in self._requests:
            request.result = _result(request, found[at : at + len(request.rows)])
            at += len(request.rows)


def _apart(form: SetForm, rows: Sequence[Values], answer: StatementAnswer) -> list[StatementAnswer]:
    """The answer to one statement for many rows, by row."""
    if form.lead == 0:
        return [StatementAnswer([row], 1) for row in answer.rows] or [StatementAnswer((), 1)] * len(rows)
    found: dict[Any, list[Row]] = {}
    for row in answer.rows:
        found.setdefault(tuple(row[: form.lead]), []).append(row[form.lead :])
    keys = map(form.key_of, rows) if form.finds_by_key else ((number,) for number in range(1, len(rows) + 1))
    mine = [found.get(key, []) for key in keys]
    return [StatementAnswer(one, len(one)) for one in mine]


def _result(request: Request, answers: Sequence[StatementAnswer]) -> Any:
    if request.wanted == "count":
        return sum(answer.count for answer in answers)
    if request.wanted == "all":
        rows = list(answers[0].rows)
        for returned in request.returned:
            returned.value = rows
        return rows
    if request.wanted == "one":
        row = answers[0].rows[0] if answers[0].rows else None
        for returned in request.returned:
            returned.value = row
        return row
    for returned, answer in zip(request.returned, answers, strict=False):
        returned.value = answer.rows[0][0]
    return None


@dataclass(slots=True)
class Wave:
    """The steps of one round trip."""

    dialect: Dialect
    steps: list[Step] = field(default_factory=list)
    _newest: dict[Statement, int] = field(default_factory=dict)
    _reached: dict[int, int] = field(default_factory=dict)
    _sizes: list[int] = field(default_factory=list)

    def add(self, unit: int, request: Request) -> None:
        """Adds a request of a unit, after all that this unit has added before."""
        if not request.rows:
            return
        index = self._newest.get(request.statement, -1)
        if index < self._reached.get(unit, 0):
            index = self._newest[request.statement] = len(self.steps)
            self.steps.append(Step(forms_of(request.statement, self.dialect)))
        self.steps[index].add(request)
        self._reached[unit] = index

    def calls(self) -> list[StatementCall]:
        """The statements to send."""
        found = [step.calls() for step in self.steps]
        self._sizes = [len(calls) for calls in found]
        return [call for calls in found for call in calls]

    def resolve(self, answers: Sequence[StatementAnswer]) -> None:
        """Gives each request its result; `answers` to what `calls` returned."""
        at = 0
        for step, size in zip(self.steps, self._sizes, strict=True):
            step.resolve(answers[at : at + size])
            at += size
