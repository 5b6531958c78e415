"""Reads rows of a managed table.

Use it to look up what earlier runs or people have stored: a customer by id, the open orders above an amount. `where`
maps columns to conditions: `{"status": "open", "amount": {"$gte": "10.5"}}`; all must hold. Operators are `$eq`, `$ne`,
`$gt`, `$gte`, `$lt`, `$lte` and `$in`. Integers and decimals compare exactly, text by its bytes, null sorts first. For
one value that a workflow keeps between its runs, variables are simpler.

A run sees the rows as they are when the node runs. A simulation also sees its own writes, which nobody else does.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from dustrun.sdk import Context, Effect, Fields, Origin, TableQuery, action


class Input(Fields):
    """The rows to read."""

    table: str = Field(
        description="Name or id of the table.", min_length=1, max_length=128, json_schema_extra={"x-widget": "table"}
    )
    where: dict[str, Any] = Field({}, description="Conditions by column; default is every row.")
    sort: str | None = Field(
        None,
        max_length=64,
        description="Column to sort by, with `-` in front for descending order; default is the primary key.",
    )
    limit: int = Field(100, ge=1, le=1000, description="Maximum number of rows.")
    offset: int = Field(0, ge=0, le=10_000_000, description="Number of rows to skip.")


class Output(Fields):
    """The rows."""

    rows: list[dict[str, Any]] = Field(description="The rows found.")
    first: dict[str, Any] | None = Field(description="The first row; null if there is none.")
    count: int = Field(description="Number of rows read.")
    has_more: bool = Field(description="Whether there are more rows.")


@action(
    effect=Effect.READ,
    input=Input,
    output=Output,
    example_input={"table": "orders", "where": {"status": "open", "amount": {"$gte": "10.5"}}, "sort": "-amount"},
    example_output={
        "rows": [{"id": "ord_1", "status": "open", "amount": 12}],
        "first": {"id": "ord_1", "status": "open", "amount": 12},
        "count": 1,
        "hasMore": False,
    },
    origins=[Origin("table", "table")],
    tags=("tables", "data"),
)
async def read_table(input: Input, ctx: Context) -> Output:
    """Reads the rows."""
    query = TableQuery(input.table, input.where, input.sort, input.limit, input.offset)
    found = await ctx.tables.read(query)
    first = found.rows[0] if found.rows else None
    return Output(rows=found.rows, first=first, count=len(found.rows), has_more=found.has_more)
