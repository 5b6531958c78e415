"""Inserts, updates or deletes rows of a managed table.

`insert` adds rows and fails if a primary key or a unique value is taken; `upsert` updates an existing row or adds it;
`update` sets `values` in the rows that match `where`; `delete` removes them. One call changes at most 1000 rows,
atomically. For one value that a workflow keeps, `set-variable` is simpler.

A node writes exactly once, whatever crashes and however often it is retried. In a simulation the rows go to an overlay
that only this run and the runs it calls can read; the effects report lists them.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from dustrun.sdk import Context, Effect, Fields, Origin, TableChange, action

_WANTED = {
    "insert": frozenset({"rows"}),
    "upsert": frozenset({"rows"}),
    "update": frozenset({"where", "values"}),
    "delete": frozenset({"where"}),
}


class Input(Fields):
    """The change to make."""

    table: str = Field(
        description="Name or id of the table.", min_length=1, max_length=128, json_schema_extra={"x-widget": "table"}
    )
    mode: Literal["insert", "upsert", "update", "delete"] = Field("insert", description="The kind of change.")
    rows: dict[str, Any] | list[dict[str, Any]] | None = Field(
        None, description="For `insert` and `upsert`: a row, or a list of rows, as columns and values."
    )
    where: dict[str, Any] | None = Field(
        None, description="For `update` and `delete`: conditions by column, as in `read-table`."
    )
    values: dict[str, Any] | None = Field(None, description="For `update`: columns and their new values.")

    @model_validator(mode="after")
    def _check(self) -> Input:
        wanted = _WANTED[self.mode]
        given = {name for name in ("rows", "where", "values") if getattr(self, name) is not None}
        if given != wanted:
            raise ValueError(f"the mode {self.mode} requires {' and '.join(sorted(wanted))}, and nothing else")
        return self


class Output(Fields):
    """The changes made."""

    keys: list[Any] = Field(description="The primary keys of the rows, in order.")
    inserted: int = Field(description="Number of rows added.")
    updated: int = Field(description="Number of rows updated.")
    deleted: int = Field(description="Number of rows deleted.")


@action(
    effect=Effect.WRITE,
    input=Input,
    output=Output,
    example_input={
        "table": "orders",
        "mode": "upsert",
        "rows": {"id": "ord_1", "status": "paid", "amount": "{{$trigger.body.amount}}"},
    },
    example_output={"keys": ["ord_1"], "inserted": 0, "updated": 1, "deleted": 0},
    idempotent=True,
    inside=True,
    origins=[Origin("table", "table")],
    tags=("tables", "data"),
)
async def write_table(input: Input, ctx: Context) -> Output:
    """Changes the rows."""
    rows = [input.rows] if isinstance(input.rows, dict) else input.rows or []
    written = await ctx.tables.write(
        TableChange(input.table, input.mode, tuple(rows), input.where or {}, input.values or {})
    )
    return Output(keys=written.keys, inserted=written.inserted, updated=written.updated, deleted=written.deleted)
