"""Starts a run when a row of a managed table is added, changed or removed.

Use it to have one workflow fill a table and another one work through it. Every change starts one run, in the order in
which they came, also if a row changes twice before anybody looks, and whoever made it: a node, a person, a caller of
the API. `columns` and `condition` say which changes count. What a simulation writes into its own copy never counts;
what a dust test writes counts if `modes` names it.

A workflow may write into the table that it watches. After ten runs in a row that led to each other, the next change
is only recorded.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator

from dustrun.clock import to_rfc3339
from dustrun.core.expression import ExpressionError
from dustrun.core.triggers.limits import MAX_DEPTH
from dustrun.core.triggers.polling import compile_over
from dustrun.errors import NotFound, Temporary
from dustrun.sdk import Finding, Polled, PolledEvent, TriggerConfig, TriggerContext
from dustrun.sdk.fields import raw
from dustrun.sdk.tables import RowChange, TableNews
from dustrun.sdk.threads import run_beside
from dustrun.sdk.trigger import Lost, NoRun, polled
from dustrun.triggers._event_output import EventOutput, example_output

_LOOK_EVERY_MS = 10_000
"""If nobody says that something was changed; in the same store everybody does."""
_NAMES = ("row", "previous", "change")
Change = Literal["added", "changed", "removed"]


class Config(TriggerConfig):
    """Which changes start a run."""

    table: str = Field(
        description="Name or id of the table.", min_length=1, max_length=128, json_schema_extra={"x-widget": "table"}
    )
    changes: tuple[Change, ...] = Field(("added", "changed"), min_length=1, description="Which kinds of changes count.")
    columns: tuple[str, ...] | None = Field(
        None,
        min_length=1,
        max_length=50,
        description="A changed row counts only if one of these columns is another; null: any.",
    )
    condition: str | None = raw(
        None,
        max_length=4000,
        description='Condition over `row`, `previous` and `change`, like `row.status == "paid"`. `row` is null once it '
        "is removed, `previous` when it is added.",
    )
    modes: tuple[Literal["live", "dust"], ...] = Field(
        ("live",), min_length=1, description="The modes of the runs whose changes count."
    )

    @field_validator("condition")
    @classmethod
    def _check_condition(cls, text: str | None) -> str | None:
        if text is not None:
            compile_over(text, _NAMES)
        return text


class Output(EventOutput):
    """One change."""

    table: str = Field(description="The table's name.")
    table_id: str = Field(description="The table's id.")
    change: Change = Field(description="What happened to the row.")
    key: Any = Field(description="The row's primary key.")
    row: dict[str, Any] | None = Field(description="The row now; null if it was removed.")
    previous: dict[str, Any] | None = Field(description="The row before; null if it was added.")
    changed_columns: list[str] = Field(description="The columns that are another now.")
    run_id: str | None = Field(description="The run that changed it; null: a person, or a caller of the API.")
    depth: int = Field(description="How many runs in a row led to this one by such events, itself included.")
    changed_at: str = Field(description="When it was changed, RFC 3339.")


def _kind(change: RowChange) -> Change:
    if change.before is None:
        return "added"
    return "removed" if change.after is None else "changed"


def _columns(change: RowChange) -> list[str]:
    before, after = change.before or {}, change.after or {}
    return [name for name in {**before, **after} if before.get(name) != after.get(name)]


def _event(config: Config, news: TableNews, change: RowChange) -> PolledEvent | None:
    """The event of a change; None if it does not count."""
    kind, columns = _kind(change), _columns(change)
    if kind not in config.changes or change.mode not in config.modes:
        return None
    if kind == "changed" and config.columns is not None and not set(columns) & set(config.columns):
        return None
    no_run = None
    if config.condition is not None:
        try:
            values = {"row": change.after, "previous": change.before, "change": kind}
            if compile_over(config.condition, _NAMES).value(**values) is not True:
                return None
        except ExpressionError as error:
            no_run = NoRun("filter", f"`condition` cannot be evaluated: {error}", is_failure=True)
    depth = change.depth + 1
    if depth > MAX_DEPTH:
        no_run = NoRun("depth", f"More than {MAX_DEPTH} runs in a row were started by what the one before wrote.")
    row = change.after if change.after is not None else change.before
    assert row is not None
    payload = {
        "table": news.name,
        "tableId": news.table_id,
        "change": kind,
        "key": row[news.primary_key],
        "row": change.after,
        "previous": change.before,
        "changedColumns": columns,
        "runId": change.run_id,
        "depth": depth,
        "changedAt": to_rfc3339(change.changed_at),
    }
    cursor = {**news.cursor, "seq": change.seq}
    return PolledEvent(f"{news.table_id}:{change.seq}", payload, change.changed_at, cursor, no_run)


async def _check(ctx: TriggerContext, config: Config) -> list[Finding]:
    try:
        await ctx.tables.newest(config.table)
    except NotFound as error:
        return [Finding("table", error.message)]
    return []


async def _recent(ctx: TriggerContext, config: Config) -> dict[str, Any] | None:
    news = await ctx.tables.newest(config.table)
    wide = config.model_copy(update={"changes": ("added",), "condition": None, "modes": ("live",)})
    found = [_event(wide, news, change) for change in news.changes]
    return next((one.payload for one in found if one is not None), None)


_EXAMPLE: dict[str, Any] = {
    "table": "orders",
    "tableId": "tbl_01m8brt9hae4de3w6f0w3c1rmr",
    "change": "changed",
    "key": "A-17",
    "row": {"id": "A-17", "status": "paid", "amount": 25},
    "previous": {"id": "A-17", "status": "open", "amount": 25},
    "changedColumns": ["status"],
    "runId": None,
    "depth": 1,
    "changedAt": "2026-01-31T12:00:00.000Z",
}


@polled(
    config=Config,
    output=Output,
    check=_check,
    recent=_recent,
    interval_ms=lambda _: _LOOK_EVERY_MS,
    example_config={"table": "orders", "changes": ["changed"], "condition": 'row.status == "paid"'},
    example_output=example_output(_EXAMPLE, "table-row"),
)
async def poll(ctx: TriggerContext, config: Config, cursor: Any) -> Polled:
    """The changes after the cursor."""
    try:
        news = await ctx.tables.changes(config.table, cursor)
    except NotFound as error:
        raise Temporary(error.message) from None  # a table of that name may be made again
    found = await run_beside(lambda: [_event(config, news, change) for change in news.changes])
    lost = None
    if news.lost is not None:
        first, last = news.lost
        reason = f"Changes {first} to {last} of the table are not kept any more."
        lost = Lost({"table": news.table_id, "from": first, "to": last}, reason)
    return Polled([one for one in found if one is not None], news.cursor, 0 if news.has_more else None, lost=lost)
