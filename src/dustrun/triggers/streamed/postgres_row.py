"""Starts a run for each row that is added to a PostgreSQL table, or changed.

`cursorColumn` must rise: an id that counts up finds added rows; the time of the last change, set by a trigger of the
database, finds changed ones too. Rows start runs in its order, each value of a row once. With `channel` the database
wakes the trigger (`NOTIFY`), else it looks every `pollMs`.

Transactions that commit late may show rows below those that were seen. `overlapMs` (of a time) and `overlap` (of a
number) say how far back each look goes for such rows; what commits later than that is not found. Removed rows, and
changes that are undone between two looks, are not seen.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from pydantic import Field, field_validator

from dustrun.clock import to_rfc3339
from dustrun.core.expression import ExpressionError
from dustrun.core.triggers.polling import compile_over
from dustrun.core.values import exact_json
from dustrun.errors import Invalid, Temporary
from dustrun.records import dataclass
from dustrun.sdk import Finding, PolledEvent, TriggerConfig, TriggerContext
from dustrun.sdk.context import NoConnection
from dustrun.sdk.fields import raw
from dustrun.sdk.threads import run_in_thread
from dustrun.sdk.trigger import NoRun, Received, streamed
from dustrun.triggers._event_output import EventOutput, example_output
from dustrun.triggers.streamed.place import key_of

if TYPE_CHECKING:
    import psycopg

_ROW: Final = ("row",)
_NAME: Final = r"^[^\x00]{1,63}$"
_AT_ONCE: Final = 50
_MOST_LATE: Final = 2_000
_OPENS_WITHIN_S: Final = 15
_TIMES: Final = frozenset({"timestamp without time zone", "timestamp with time zone", "date"})
_NUMBERS: Final = frozenset({"smallint", "integer", "bigint", "numeric"})


class Config(TriggerConfig):
    """Which rows start a run."""

    table: str = Field(min_length=1, max_length=63, pattern=_NAME, description="The table, or a view.")
    schema_name: str = Field("public", pattern=_NAME, description="The schema that it is in.")
    key_column: str = Field("id", pattern=_NAME, description="The column that identifies a row.")
    cursor_column: str = Field(
        pattern=_NAME, description="A number or time that rises with each row that is added or changed; indexed."
    )
    condition: str | None = raw(
        None, max_length=4000, description='Which rows start a run, like `row.status == "paid"`; null: all.'
    )
    channel: str | None = Field(
        None,
        pattern=_NAME,
        description="The channel on which the database says that there is something new; null: none.",
    )
    poll_ms: int = Field(10_000, ge=100, le=86_400_000, description="Milliseconds between two looks.")
    overlap_ms: int = Field(
        10_000,
        ge=0,
        le=86_400_000,
        description="How far back a look goes for rows that were committed late, of a time.",
    )
    overlap: int = Field(
        100, ge=0, le=_MOST_LATE, description="How far back a look goes for rows that were committed late, of a number."
    )
    max_bytes: int = Field(262_144, ge=1024, le=1_048_576, description="The largest row, in bytes of JSON.")

    @field_validator("condition")
    @classmethod
    def _check_condition(cls, text: str | None) -> str | None:
        if text is not None:
            compile_over(text, _ROW)
        return text


class Output(EventOutput):
    """One row."""

    table: str = Field(description="The table.")
    key: str = Field(description="What identifies the row, as text.")
    cursor: str = Field(description="The value of its cursor column, as text.")
    row: dict[str, Any] | None = Field(description="Its columns; null if it is larger than `maxBytes`.")
    seen_at: str = Field(description="When it was seen, RFC 3339.")


Row = tuple[str, str, str | None]
"""Cursor, key and JSON of a row; no JSON if it is too large."""


@dataclass(slots=True)
class _Table:
    """A table over one connection. `back` is the SQL of how far back a look goes, `seen` what it has found there."""

    config: Config
    connection: psycopg.AsyncConnection[Any]
    kind: str
    back: str
    seen: OrderedDict[tuple[str, str], None]

    async def _rows(self, where: str, order: str, count: int, values: dict[str, Any]) -> list[Row]:
        from psycopg import sql  # slow import

        config = self.config
        names = {"cursor": sql.Identifier("r", config.cursor_column), "key": sql.Identifier("r", config.key_column)}
        query = sql.SQL(
            "SELECT {cursor}::text, {key}::text, CASE WHEN octet_length(j.t) <= %(most)s THEN j.t END"
            " FROM {table} AS r, LATERAL (SELECT to_jsonb(r)::text AS t) AS j"
            " WHERE {cursor} IS NOT NULL AND {where} ORDER BY {cursor} {order}, {key}::text {order} LIMIT %(count)s"
        ).format(
            **names,
            table=sql.Identifier(config.schema_name, config.table),
            where=sql.SQL(where).format(**names),
            order=sql.SQL(order),
        )
        answer = await self.connection.execute(query, {**values, "most": config.max_bytes, "count": count})
        return [(str(cursor), str(key), text) for cursor, key, text in await answer.fetchall()]

    async def newest(self) -> Row | None:
        """The row that was added or changed last."""
        found = await self._rows("true", "DESC", 1, {})
        return found[0] if found else None

    async def after(self, at: list[str] | None) -> list[Row]:
        """The rows after a place, in order."""
        if at is None:
            return await self._rows("true", "ASC", _AT_ONCE, {})
        where = f"({{cursor}}, {{key}}::text) > (CAST(%(value)s AS {self.kind}), %(key)s)"
        return await self._rows(where, "ASC", _AT_ONCE, {"value": at[0], "key": at[1]})

    async def late(self, at: list[str], start: list[str] | None) -> list[Row]:
        """The rows at or before a place, and after the start, that no look has seen yet."""
        value = f"CAST(%(value)s AS {self.kind})"
        where = f"{{cursor}} >= {value} - {self.back} AND ({{cursor}}, {{key}}::text) <= ({value}, %(key)s)"
        values = {"value": at[0], "key": at[1]}
        if start is not None:
            where += f" AND ({{cursor}}, {{key}}::text) > (CAST(%(from)s AS {self.kind}), %(from_key)s)"
            values |= {"from": start[0], "from_key": start[1]}
        found = [one for one in await self._rows(where, "DESC", _MOST_LATE, values) if one[:2] not in self.seen]
        return found[::-1]

    def note(self, rows: list[Row]) -> None:
        """These have been seen."""
        for one in rows:
            self.seen[one[:2]] = None
        while len(self.seen) > 2 * _MOST_LATE:
            self.seen.popitem(last=False)


async def _open(ctx: TriggerContext, config: Config) -> psycopg.AsyncConnection[Any]:
    """A connection that only reads. Raises `Temporary` without what the driver says of the address."""
    import psycopg  # slow import

    if ctx.connection is None:
        raise Invalid('The trigger needs a connector of the type "postgres".')
    data = ctx.connection.data
    (address, *_) = await ctx.http.addresses(data.host, data.port)
    more: dict[str, Any] = {"sslrootcert": "system"} if data.tls == "verify-full" else {}
    try:
        connection = await psycopg.AsyncConnection.connect(
            host=data.host,
            hostaddr=address,
            port=data.port,
            dbname=data.database,
            user=data.user,
            password=data.password,
            sslmode=data.tls,
            connect_timeout=_OPENS_WITHIN_S,
            options="-c default_transaction_read_only=on -c statement_timeout=30000",
            application_name="dustrun",
            autocommit=True,
            **more,
        )
    except psycopg.OperationalError as error:
        status = 401 if "password authentication failed" in str(error) else None
        raise NoConnection(f"The database cannot be connected to: {_reason(error)}", status) from None
    if config.channel is not None:
        await connection.execute(psycopg.sql.SQL("LISTEN {}").format(psycopg.sql.Identifier(config.channel)))
    return connection


def _reason(error: Exception) -> str:
    return " ".join(str(error).rpartition("failed: ")[2].split())[:300]


async def _table(config: Config, connection: psycopg.AsyncConnection[Any]) -> _Table:
    found = await connection.execute(
        "SELECT format_type(a.atttypid, NULL) FROM pg_attribute a WHERE a.attrelid ="
        " to_regclass(format('%%I.%%I', %s::text, %s::text)) AND a.attname = %s AND NOT a.attisdropped",
        (config.schema_name, config.table, config.cursor_column),
    )
    row = await found.fetchone()
    if row is None:
        where = f'"{config.schema_name}"."{config.table}"'
        raise Temporary(f'There is no table {where} with a column "{config.cursor_column}" that the user may see.')
    kind = str(row[0])
    if kind not in _TIMES | _NUMBERS:
        raise Temporary(f'The column "{config.cursor_column}" is {kind}; it must be a number or a time.')
    back = f"interval '{config.overlap_ms} milliseconds'" if kind in _TIMES else str(config.overlap)
    if kind == "date":
        back = "1"
    return _Table(config, connection, kind, back, OrderedDict())


def _events(config: Config, rows: list[Row], cursors: list[dict[str, Any]], now: int, _: object) -> list[PolledEvent]:
    found = []
    for (value, key, text), cursor in zip(rows, cursors, strict=True):
        row, no_run = None if text is None else exact_json.loads(text), None
        if row is None:
            no_run = NoRun("payload", f"The row is larger than {config.max_bytes} bytes (maxBytes).", is_failure=True)
        elif config.condition is not None:
            try:
                if compile_over(config.condition, _ROW).value(row=row) is not True:
                    continue
            except ExpressionError as error:
                no_run = NoRun("filter", f"`condition` cannot be evaluated: {error}", is_failure=True)
        payload = {"table": config.table, "key": key, "cursor": value, "row": row, "seenAt": to_rfc3339(now)}
        found.append(PolledEvent(key_of(f"{key}:{value}"), payload, now, cursor, no_run))
    return found


async def _check(_: TriggerContext, config: Config) -> list[Finding]:
    if config.key_column == config.cursor_column:
        return []
    return (
        []
        if config.overlap or config.overlap_ms
        else [Finding("overlap", "rows of transactions that commit late will not be found", "warning")]
    )


_EXAMPLE = {
    "table": "orders",
    "key": "17",
    "cursor": "2026-01-31 12:00:00.123456+00",
    "row": {"id": 17, "status": "paid", "updated_at": "2026-01-31T12:00:00.123456+00:00"},
    "seenAt": "2026-01-31T12:00:00.200Z",
}


@streamed(
    config=Config,
    output=Output,
    check=_check,
    connector="postgres",
    connector_required=True,
    peeks=True,
    example_config={"table": "orders", "cursorColumn": "updated_at", "channel": "orders_changed"},
    example_output=example_output(_EXAMPLE, "postgres-row"),
)
async def listen(ctx: TriggerContext, config: Config, cursor: Any) -> AsyncIterator[Received]:
    """Looks for rows after the cursor, and waits for the next."""
    import psycopg  # slow import

    connection = await _open(ctx, config)
    try:
        table = await _table(config, connection)
        if cursor is None:
            newest = await table.newest()
            start = None if newest is None else [newest[0], newest[1]]
            cursor = {"at": start, "start": start}
        yield Received((), cursor)
        while True:
            for is_late in (True, False):
                while True:
                    at, start = cursor["at"], cursor["start"]
                    if is_late:
                        rows = await table.late(at, start) if at is not None else []
                        cursors = [cursor for _ in rows]
                    else:
                        rows = await table.after(at)
                        cursors = [{"at": [one[0], one[1]], "start": start} for one in rows]
                        cursor = cursors[-1] if cursors else cursor
                    if rows:
                        size = sum(len(one[2] or "") for one in rows)
                        found = await run_in_thread(partial(_events, config, rows, cursors, ctx.now_ms), size)
                        yield Received(found, cursor)
                        table.note(rows)
                    if is_late or len(rows) < _AT_ONCE:
                        break
            async for _ in connection.notifies(timeout=config.poll_ms / 1000, stop_after=1):
                pass
    except psycopg.Error as error:
        raise Temporary(f"The database says: {_reason(error)}") from None
    finally:
        await connection.close()
