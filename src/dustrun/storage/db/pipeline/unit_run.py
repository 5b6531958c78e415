"""A unit of work that stops wherever it asks the database something, so that others can ask at the same time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from greenlet import GreenletExit, getcurrent, greenlet
from sqlalchemy.engine import Dialect

from dustrun.errors import Bug
from dustrun.storage.db.group_commit import Waiter
from dustrun.storage.db.pipeline.wave import FixedSql, Request, Wanted, forms_of
from dustrun.storage.db.statement import Change, PendingResult, Row, Statement, Tx

Send = Callable[[Request], None]
_NONE = Statement(sa.text(""))


class PipelinedTx(Tx):
    """The transaction as a unit sees it: what needs no answer is collected, and the rest stops the unit."""

    __slots__ = ("_expects", "_later", "_must_wait", "_parent", "has_expected", "has_written")

    def __init__(self, dialect: Dialect, later: Send, *, expects: bool = False) -> None:
        self._dialect, self._name = dialect, dialect.name
        self._later = later
        self._parent = getcurrent()
        self._counts = None
        self._must_wait = False
        self._expects = expects
        self.has_expected = False
        self.has_written = False

    @property
    def cursor(self) -> Any:
        """There is none."""
        raise Bug("A unit of the writer has no cursor of its own.")

    def run(self, statement: Statement, **values: Any) -> int:
        """See `Tx`."""
        return int(self._ask(statement, [values], "count"))

    def do(self, statement: Statement, **values: Any) -> None:
        """See `Tx`."""
        self.has_written = True
        self._later(Request(statement, [values], "nothing"))

    def many(self, statement: Statement, rows: Sequence[Mapping[str, Any]]) -> None:
        """See `Tx`."""
        self.has_written = self.has_written or bool(rows)
        self._later(Request(statement, rows, "nothing"))

    def last(self, statement: Statement, rows: Sequence[Mapping[str, Any]]) -> list[PendingResult]:
        """See `Tx`."""
        found = [PendingResult() for _ in rows]
        if rows:
            self.has_written = True
            self._later(Request(statement, rows, "returned", returned=found))
        return found

    def change(self, statement: Change, *, expected: Row | None = None, **values: Any) -> Row | None:
        """See `Tx`. What is expected is taken for true: else the database refuses the statement, and the unit is
        repeated."""
        if expected is None or statement.if_still is None or not self._expects:
            return self.one(statement, **values)
        self.has_expected = self.has_written = True
        self._later(Request(statement.if_still, [values], "nothing"))
        return expected

    def one(self, statement: Statement, **values: Any) -> Row | None:
        """See `Tx`."""
        row: Row | None = self._ask(statement, [values], "one")
        return row

    def soon(self, statement: Statement, **values: Any) -> PendingResult:
        """See `Tx`."""
        return self._ask_soon(statement, values, "one")

    def soon_all(self, statement: Statement, **values: Any) -> PendingResult:
        """See `Tx`."""
        return self._ask_soon(statement, values, "all")

    def _ask_soon(self, statement: Statement, values: Mapping[str, Any], wanted: Wanted) -> PendingResult:
        found = PendingResult()
        self._must_wait = True
        self._later(Request(statement, [values], wanted, returned=(found,)))
        return found

    def wait(self) -> None:
        """See `Tx`."""
        if self._must_wait:
            self._parent.switch(Request(_NONE, (), "nothing"))
            self._must_wait = False

    def all(self, statement: Statement, **values: Any) -> list[Row]:
        """See `Tx`."""
        rows: list[Row] = self._ask(statement, [values], "all")
        return rows

    def raw(self, sql: str) -> None:
        """See `Tx`."""
        self._ask(FixedSql(sql, self._dialect), [{}], "nothing")

    def _ask(self, statement: Statement, rows: Sequence[Mapping[str, Any]], wanted: Wanted) -> Any:
        request = Request(statement, rows, wanted)
        self._parent.switch(request)
        self._must_wait = False
        if not forms_of(statement, self._dialect).is_query:
            # a change that returns its rows has not changed any if there are none
            self.has_written = self.has_written or wanted == "nothing" or bool(request.result)
        return request.result


class UnitRun:
    """One unit on its way. `asked`: what it waits for; None once it has ended, with a result or an error. `expects`:
    it need not wait to know whether what it expects is true."""

    def __init__(self, number: int, waiter: Waiter, dialect: Dialect, later: Send, *, expects: bool = False) -> None:
        self.number = number
        self.waiter = waiter
        self.asked: Request | None = None
        self.error: Exception | None = None
        self.refused: Exception | None = None
        """The database's error for a statement of it."""
        self._greenlet = greenlet(self._run)
        self._tx = PipelinedTx(dialect, later, expects=expects)

    @property
    def has_written(self) -> bool:
        """Whether it has changed anything, or may have."""
        return self._tx.has_written

    @property
    def has_expected(self) -> bool:
        """Whether it went on with what it expected."""
        return self._tx.has_expected

    def go_on(self) -> None:
        """Runs it until it asks something else."""
        self.asked = self._greenlet.switch()

    def fail(self, error: Exception) -> None:
        """Raises an error in it where it waits."""
        self.asked = self._greenlet.throw(error)

    def abandon(self) -> None:
        """Ends it where it waits."""
        if self.asked is not None:
            self._greenlet.throw(GreenletExit)
            self.asked = None

    def _run(self) -> None:
        try:
            self.waiter.result = self.waiter.unit(self._tx)
        except Exception as error:
            self.error = error
