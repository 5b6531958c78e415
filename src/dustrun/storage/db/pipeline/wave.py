"""What units want to execute next, merged: equal statements of several units become one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.engine import Dialect

from dustrun.records import dataclass
from dustrun.storage.db.pipeline.call import Answer, Call, Numbered
from dustrun.storage.db.pipeline.set_form import SetForm, certain, derive
from dustrun.storage.db.statement import Certain, Returned, Row, Statement

Wanted = Literal["nothing", "count", "one", "all", "returned"]
Values = Mapping[str, Any]


class Fixed(Statement):
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
    returned: Sequence[Returned] = ()


class Forms:
    """A statement as PostgreSQL gets it, for one row and for many."""

    def __init__(self, statement: Statement, dialect: Dialect) -> None:
        sql, self.take, fixed = statement.compile(dialect)
        self.many = derive(sql, fixed, is_certain=isinstance(statement, Certain))
        self.one = Numbered(certain(sql) if isinstance(statement, Certain) else sql)
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

    def calls(self) -> list[Call]:
        """The statements to send."""
        if self._many is not None and len(self._rows) > 1:
            return [self._many.text.call(self._many.parameters(self._rows), is_prepared=not self._many.is_planned_anew)]
        calls: list[Call] = []
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

    def resolve(self, answers: Sequence[Answer]) -> None:
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


def _apart(form: SetForm, rows: Sequence[Values], answer: Answer) -> list[Answer]:
    """The answer to one statement for many rows, by row."""
    if form.lead == 0:
        return [Answer([row], 1) for row in answer.rows] or [Answer((), 1)] * len(rows)
    found: dict[Any, list[Row]] = {}
    for row in answer.rows:
        found.setdefault(tuple(row[: form.lead]), []).append(row[form.lead :])
    keys = map(form.key_of, rows) if form.finds_by_key else ((number,) for number in range(1, len(rows) + 1))
    mine = [found.get(key, []) for key in keys]
    return [Answer(one, len(one)) for one in mine]


def _result(request: Request, answers: Sequence[Answer]) -> Any:
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

    def calls(self) -> list[Call]:
        """The statements to send."""
        found = [step.calls() for step in self.steps]
        self._sizes = [len(calls) for calls in found]
        return [call for calls in found for call in calls]

    def resolve(self, answers: Sequence[Answer]) -> None:
        """Gives each request its result; `answers` to what `calls` returned."""
        at = 0
        for step, size in zip(self.steps, self._sizes, strict=True):
            step.resolve(answers[at : at + size])
            at += size
