"""Statements compiled once per dialect: SQLAlchemy generates the SQL, then the driver executes it directly.

Measured: building and executing statements through SQLAlchemy doubles the writer's CPU time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any

from sqlalchemy import Executable, Select, Update
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
        """What `compile` has made, by the dialect's name."""
        self.derived: Any = None
        """What the database's own part of this package derived from it."""

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


class Insertion(Statement):
    """An INSERT that returns the integer primary key of its row. SQLite's driver knows that key without RETURNING,
    which doubles the time of the statement (measured)."""

    __slots__ = ("bare",)

    def __init__(self, bare: Executable, returning: Executable) -> None:
        super().__init__(returning)
        self.bare = Statement(bare)


class Change(Statement):
    """An UPDATE of one row that returns columns of it. On SQLite, the UPDATE alone and `read` after it take less time
    than RETURNING (measured)."""

    __slots__ = ("bare", "read")

    def __init__(self, bare: Update, read: Select[Any]) -> None:
        super().__init__(bare.returning(*read.selected_columns))
        self.bare, self.read = Statement(bare), Statement(read)


class Returned:
    """What a statement returns, known later: see `Tx.last` and `Tx.soon`."""

    __slots__ = ("value",)

    value: Any


class Tx:
    """One open transaction on a driver connection; used only by the writer's thread or one reader's."""

    __slots__ = ("_counts", "_cursor", "_dialect")

    def __init__(self, cursor: Any, dialect: Dialect) -> None:
        self._cursor = cursor
        self._dialect = dialect
        self._counts: dict[tuple[Statement, tuple[tuple[str, Any], ...]], int] | None = None

    @property
    def cursor(self) -> Any:
        """The driver's cursor, for bulk operations on whole tables."""
        return self._cursor

    @property
    def is_sqlite(self) -> bool:
        """Whether the store is SQLite, for the few queries that differ between the databases."""
        return self._dialect.name == "sqlite"

    def run(self, statement: Statement, **values: Any) -> int:
        """Executes a statement; returns the number of affected rows."""
        sql, take, _ = statement.bound.get(self._dialect.name) or statement.compile(self._dialect)
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
        sql, take, _ = statement.bound.get(self._dialect.name) or statement.compile(self._dialect)
        if len(rows) == 1:
            self._cursor.execute(sql, take(rows[0]))
        else:
            self._cursor.executemany(sql, [take(row) for row in rows])

    def last(self, statement: Statement, rows: Sequence[Mapping[str, Any]]) -> list[Returned]:
        """Executes a statement once per row, after all others of the unit, and in the order in which units are told;
        returns the first value that each returns."""
        found = [Returned() for _ in rows]
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
        if self._dialect.name != "sqlite":
            row = self.one(statement, **values)
            return None if row is None else int(row[0])
        is_new = self.run(statement.bare, **values) == 1
        return int(self._cursor.lastrowid) if is_new else None

    def change(self, statement: Change, **values: Any) -> Row | None:
        """Changes one row; returns the columns that the statement names, or None if it changed none."""
        if self._dialect.name != "sqlite":
            return self.one(statement, **values)
        return self.one(statement.read, **values) if self.run(statement.bare, **values) else None

    def one(self, statement: Statement, **values: Any) -> Row | None:
        """Executes a statement; returns the first row or None."""
        sql, take, _ = statement.bound.get(self._dialect.name) or statement.compile(self._dialect)
        self._cursor.execute(sql, take(values))
        row: Row | None = self._cursor.fetchone()
        return row

    def soon(self, statement: Statement, **values: Any) -> Returned:
        """Executes a query; its first row or None is known after the next statement whose result is. PostgreSQL gets
        both in one round trip."""
        found = Returned()
        found.value = self.one(statement, **values)
        return found

    def all(self, statement: Statement, **values: Any) -> list[Row]:
        """Executes a statement; returns all rows."""
        sql, take, _ = statement.bound.get(self._dialect.name) or statement.compile(self._dialect)
        self._cursor.execute(sql, take(values))
        rows: list[Row] = self._cursor.fetchall()
        return rows

    def raw(self, sql: str) -> None:
        """Executes fixed SQL such as `SAVEPOINT`."""
        self._cursor.execute(sql)
