"""`/v1/tables`: managed tables, their columns, and export of their rows."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from dustrun.core.data.table import Column, Schema
from dustrun.errors import Code
from dustrun.operations.declaration.answers import Answer, From, PageAnswer, Time
from dustrun.operations.declaration.fields import MAX_OFFSET, Description, Paged
from dustrun.operations.declaration.operation import Named, Noun
from dustrun.operations.declaration.parts import Call
from dustrun.services.access.paging import Page
from dustrun.services.data.managed_tables import ExportedRows
from dustrun.services.data.table_rows import Table

noun = Noun("Tables")

TableId = Annotated[str, Named("id"), Field(description="Id or name of the table.", max_length=128)]
TableName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,62}$")]


class CreateTable(Schema):
    """A new table."""

    name: TableName = Field(
        description=(
            "A lowercase letter, then lowercase letters, digits, _ or -. Nodes refer to the table by this name."
        ),
        examples=["orders"],
    )
    description: Description = Field("", description="Free text.")


class TableAnswer(Answer):
    """A table."""

    id: Annotated[str, From("row.id")]
    name: Annotated[str, From("row.name")]
    description: Annotated[str, From("row.description")]
    primary_key: Annotated[str, From("schema.primary_key")] = Field(description="Name of the primary key column.")
    columns: Annotated[list[Column], From(_columns)] = Field(description="The columns, including the primary key.")
    row_count: Annotated[int, From("row.row_count")]
    byte_count: Annotated[int, From("row.byte_count")] = Field(description="Size of all rows as JSON, in bytes.")
    created_by: Annotated[str, From("row.created_by")] = Field(description="Id of the key.")
    created_at: Annotated[Time, From("row.created_at")]
    updated_at: Annotated[Time, From("row.updated_at")]


class TableExport(Answer):
    """Part of a table, exported."""

    file_name: str
    content_type: str
    content: str
    rows: int = Field(description="Number of exported rows.")
    has_more: bool = Field(description="Whether there are more; continue with an `offset` increased by `rows`.")


def _columns(table: Table) -> list[dict[str, Any]]:
    return [column.model_dump(by_alias=True) for column in table.schema.by_name().values()]


@noun.post(
    "/v1/tables",
    permission="table:write",
    answers=TableAnswer,
    refusals=[Code.TABLE_VALUE_TAKEN, Code.TABLE_LIMIT],
    example={
        "name": "orders",
        "primaryKey": "id",
        "columns": [{"name": "id", "type": "text"}, {"name": "amount", "type": "decimal", "required": True}],
    },
)
async def create_table(call: Call, body: CreateTable) -> Table:
    """Create a table. Its columns cannot be changed later."""
    schema = Schema(primary_key=body.primary_key, columns=body.columns)
    return await call.parts.data.tables.create(call.principal, body.name, body.description, schema)


@noun.get("/v1/tables", permission="table:read", answers=PageAnswer[TableAnswer])
async def list_tables(call: Call, paging: Paged) -> Page[Table]:
    """List the tables, ordered by name."""
    return await call.parts.data.tables.list_page(call.principal, paging)


@noun.get("/v1/tables/{id}", permission="table:read", answers=TableAnswer, refusals=[Code.TABLE_UNKNOWN])
async def get_table(call: Call, table_id: TableId) -> Table:
    """Get one table, by id or name."""
    return await call.parts.data.tables.get(call.principal, table_id)


@noun.delete(
    "/v1/tables/{id}",
    permission="table:write",
    reads="table:read",
    answers=TableAnswer,
    refusals=[Code.TABLE_UNKNOWN],
)
async def delete_table(call: Call, table_id: TableId) -> Table:
    """Delete a table with all its rows. Nodes that use it will fail."""
    return await call.parts.data.tables.delete(call.principal, table_id)


@noun.get(
    "/v1/tables/{id}/export",
    permission="table:read",
    answers=TableExport,
    refusals=[Code.TABLE_UNKNOWN],
)
async def export_table(
    call: Call,
    table_id: TableId,
    format: Annotated[Literal["csv", "jsonl"], Field(description="CSV, or one JSON object per line.")] = "csv",
    offset: Annotated[int, Field(ge=0, le=MAX_OFFSET, description="Number of rows to skip.")] = 0,
) -> ExportedRows:
    """Export up to 10,000 rows or about 16 MiB as text, ordered by primary key."""
    return await call.parts.data.tables.export(call.principal, table_id, format, offset)
