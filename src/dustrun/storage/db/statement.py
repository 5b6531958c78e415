"""Statements compiled once per dialect: SQLAlchemy generates the SQL, then the driver executes it directly.

Measured: building and executing statements through SQLAlchemy doubles the writer's CPU time.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from operator import itemgetter
from typing import Any

from sqlalchemy import ColumnElement, Executable, Select, Update, bindparam, false
from sqlalchemy.engine import Dialect

Row = tuple[Any, ...]
Take = Callable[[Mapping[str, Any]], Any]  # converts values by name to the driver's parameters


def _take(order: Sequence[str] | None, fixed: Mapping[str, Any]) -> Take:
    """Returns that conversion; `order` is of positional parameters, None if the driver takes names."""
    if order is None:
        return lambda values: {**fixed, **values} if fixed else values
    if len(order) == 1:
        (name,) = order
        return lambda values: (values[name] if name in values else fixed[name],)
    pick: Take = itemgetter(*order) if order else lambda _: ()
    return (lambda values: pick({**fixed, **values})) if fixed else pick


class Statement:
    """One SQL statement with named parameters; `compile(dialect)` makes it one of a driver."""

    __slots__ = ("_source", "bound", "derived")

    def __init__(self, source: Executable) -> None:
        self._source = source
        self.bound: dict[str, tuple[str, Take, Mapping[str, Any]]] = {}
        """The results of `compile`, by the dialect's name."""
        self.derived: Any = None
        """The form that the database's own part of this package derived from it."""

    def compile(self, dialect: Dialect) -> tuple[str, Take, Mapping[str, Any]]:
        """The SQL text, the function that converts values to the driver's parameters, and the parameters that the
        statement itself gives."""
        bound = self.bound.get(dialect.name)
        if bound is None:
            compiled: Any = self._source.compile(dialect=dialect, compile_kwargs={"render_postcompile": True})  # type: ignore[attr-defined]
            order = compiled.positiontup if compiled.positional else None
            fixed = {
                name: value for name, value in compiled.construct_params(_check=False).items() if value is not None
            }
            bound = self.bound[dialect.name] = (compiled.string, _take(order, fixed), fixed)
        return bound


def is_one_of(column: ColumnElement[Any], name: str, count: int | None) -> list[ColumnElement[bool]]:
    """The condition that a column has one of so many values, which `numbered` gives; none for None. A plain list of
    values would be compiled anew at each call."""
    if count is None:
        return []
    return [column.in_([bindparam(f"{name}_{at}") for at in range(count)]) if count else false()]


def numbered(name: str, values: Collection[Any] | None) -> dict[str, Any]:
    """The values of `is_one_of`, by parameter."""
    return {f"{name}_{at}": one for at, one in enumerate(values or ())}


def count_of(values: Collection[Any] | None) -> int | None:
    """How many values `is_one_of` takes."""
    return None if values is None else len(values)


class Insertion(Statement):
    """An INSERT that returns the integer primary key of its row. SQLite's driver knows that key without RETURNING,
    which doubles the time of the statement (measured)."""

    __slots__ = ("bare",)

    def __init__(self, bare: Executable, returning: Executable) -> None:
        super().__init__(returning)
        self.bare = Statement(bare)


class Certain(Statement):
    """An UPDATE of one row that is expected to be there. PostgreSQL refuses it otherwise, so that nobody need wait for
    its answer."""

    __slots__ = ()


class Change(Statement):
    """An UPDATE of one row that returns columns of it. On SQLite, the UPDATE alone and `read` after it take less time
    than RETURNING (measured). `still`: a condition that what the caller expects is true; then nothing need be read."""

    __slots__ = ("bare", "if_still", "read")

    def __init__(self, bare: Update, read: Select[Any], still: ColumnElement[bool] | None = None) -> None:
        super().__init__(bare.returning(*read.selected_columns))
        self.bare, self.read = Statement(bare), Statement(read)
        self.if_still = None if still is None else Certain(bare.where(still))


class Rows(Statement):
    """A statement that is executed once per row; `names`: of a row's values, in their order."""

    __slots__ = ("names", "pick")

    def __init__(self, source: Executable, names: Sequence[str]) -> None:
        super().__init__(source)
        self.names = tuple(names)
        self.pick: Callable[[Row], Row] | None = None
        """Puts a row's values into the order of SQLite's parameters."""

    def compile(self, dialect: Dialect) -> tuple[str, Take, Mapping[str, Any]]:
        """See `Statement`."""
        bound = super().compile(dialect)
        if dialect.name == "sqlite":
            assert not bound[2], "each row gives all values"
            self.pick = itemgetter(*bound[1]({name: number for number, name in enumerate(self.names)}))
        return bound


class PendingResult:
    """A statement's result, known later: see `Tx.last` and `Tx.soon`."""

    __slots__ = ("value",)

    value: Any


class Tx:
    """One open transaction on a driver connection; used only by the writer's thread or one reader's."""

    __slots__ = ("_counts", "_cursor", "_dialect", "_name")

    def __init__(self, cursor: Any, dialect: Dialect) -> None:
        self._cursor = cursor
        self._dialect = dialect
        self._name = dialect.name
        self._counts: dict[tuple[Statement, tuple[tuple[str, Any], ...]], int] | None = None

    @property
    def cursor(self) -> Any:
        """The driver's cursor, for bulk operations on whole tables."""
        return self._cursor

    @property
    def is_sqlite(self) -> bool:
        """Whether the store is SQLite, for the few queries that differ between the databases."""
        return self._name == "sqlite"

    def run(self, statement: Statement, **values: Any) -> int:
        """Executes a statement; returns the number of affected rows."""
        sql, take, _ = statement.bound.get(self._name) or statement.compile(self._dialect)
        self._cursor.execute(sql, take(values))
        return int(self._cursor.rowcount)

    def do(self, statement: Statement, **values: Any) -> None:
        """Executes a statement of which nothing need be known; PostgreSQL gets it with the next one."""
        self.run(statement, **values)

    def count(self, statement: Statement, **key: Any) -> None:
        """Adds one to a row's `total` by a statement that makes the row if need be; units of one group that count the
        same add up."""
        if self._counts is None:
            self.do(statement, **key, total=1)
        else:
            of = (statement, tuple(key.items()))
            self._counts[of] = self._counts.get(of, 0) + 1

    def gather_counts(self) -> None:
        """From here on, counts are written by `write_counts`: all that follows commits as a whole, or not at all."""
        self._counts = {}

    def write_counts(self) -> None:
        """Writes what was counted."""
        for (statement, key), total in (self._counts or {}).items():
            self.do(statement, **dict(key), total=total)

    def many(self, statement: Statement, rows: Sequence[Mapping[str, Any]]) -> None:
        """Executes a statement once per row."""
        if not rows:
            return
        sql, take, _ = statement.bound.get(self._name) or statement.compile(self._dialect)
        if len(rows) == 1:
            self._cursor.execute(sql, take(rows[0]))
        else:
            self._cursor.executemany(sql, [take(row) for row in rows])

    def rows(self, statement: Rows, rows: Sequence[Row]) -> None:
        """Executes a statement once per row of values."""
        if not rows:
            return
        if self._name != "sqlite":
            self.many(statement, [dict(zip(statement.names, row, strict=True)) for row in rows])
            return
        sql, _, _ = statement.bound.get(self._name) or statement.compile(self._dialect)
        assert statement.pick is not None
        if len(rows) == 1:
            self._cursor.execute(sql, statement.pick(rows[0]))
        else:
            self._cursor.executemany(sql, map(statement.pick, rows))

    def last(self, statement: Statement, rows: Sequence[Mapping[str, Any]]) -> list[PendingResult]:
        """Executes a statement once per row, after all others of the unit, and in the order in which units are told;
        returns the first value that each returns."""
        found = [PendingResult() for _ in rows]
        for row, returned in zip(rows, found, strict=True):
            if isinstance(statement, Insertion):
                returned.value = self.insert(statement, **row)
            else:
                first = self.one(statement, **row)
                assert first is not None
                returned.value = first[0]
        return found

    def insert(self, statement: Insertion, **values: Any) -> int | None:
        """Inserts a row; returns its integer primary key, or None if the statement found a conflict and did nothing."""
        if self._name != "sqlite":
            row = self.one(statement, **values)
            return None if row is None else int(row[0])
        is_new = self.run(statement.bare, **values) == 1
        return int(self._cursor.lastrowid) if is_new else None

    def change(self, statement: Change, *, expected: Row | None = None, **values: Any) -> Row | None:
        """Changes one row; returns the columns that the statement names, or None if it changed none. `expected`: what
        they will be if the statement's `still` is true."""
        if self._name != "sqlite":
            return self.one(statement, **values)
        if expected is not None and statement.if_still is not None and self.run(statement.if_still, **values):
            return expected
        return self.one(statement.read, **values) if self.run(statement.bare, **values) else None

    def one(self, statement: Statement, **values: Any) -> Row | None:
        """Executes a statement; returns the first row or None."""
        sql, take, _ = statement.bound.get(self._name) or statement.compile(self._dialect)
        self._cursor.execute(sql, take(values))
        row: Row | None = self._cursor.fetchone()
        return row

    def soon(self, statement: Statement, **values: Any) -> PendingResult:
        """Executes a query; its first row or None is known after the next statement whose result is. PostgreSQL gets
        both in one round trip."""
        found = PendingResult()
        found.value = self.one(statement, **values)
        return found

    def soon_all(self, statement: Statement, **values: Any) -> PendingResult:
        """Like `soon`, with all rows."""
        found = PendingResult()
        found.value = self.all(statement, **values)
        return found

    def wait(self) -> None:
        """From here on, the answers to `soon` and `soon_all` are known."""

    def all(self, statement: Statement, **values: Any) -> list[Row]:
        """Executes a statement; returns all rows."""
        sql, take, _ = statement.bound.get(self._name) or statement.compile(self._dialect)
        self._cursor.execute(sql, take(values))
        rows: list[Row] = self._cursor.fetchall()
        return rows

    def raw(self, sql: str) -> None:
        """Executes fixed SQL such as `SAVEPOINT`."""
        self._cursor.execute(sql)
