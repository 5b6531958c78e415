"""`/v1/tables`: managed tables, their columns, and export of their rows."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import Path, Query
from pydantic import Field, StringConstraints

from dustrun.api.routing import Call, Routes
from dustrun.api.shapes.wire import MAX_OFFSET, Answer, Description, PageAnswer, Paged, Time, page_shape, time
from dustrun.core.data.table import Column, Schema
from dustrun.errors import Code
from dustrun.services.access.paging import Page
from dustrun.services.data.managed_tables import Exported
from dustrun.services.data.table_rows import Table

routes = Routes("Tables")
router = routes.router

TableId = Annotated[str, Path(alias="id", description="Id or name of the table.", max_length=128)]
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

    id: str
    name: str
    description: str
    primary_key: str = Field(description="Name of the primary key column.")
    columns: list[Column] = Field(description="The columns, including the primary key.")
    row_count: int
    byte_count: int = Field(description="Size of all rows as JSON, in bytes.")
    created_by: str = Field(description="Id of the key.")
    created_at: Time
    updated_at: Time


class TableExport(Answer):
    """Part of a table, exported."""

    file_name: str
    content_type: str
    content: str
    rows: int = Field(description="Number of exported rows.")
    has_more: bool = Field(description="Whether there are more; continue with an `offset` increased by `rows`.")


def _shape(table: Table) -> dict[str, Any]:
    row = table.row
    return {
        "id": row.id,
        "name": row.name,
        "description": row.description,
        "primaryKey": table.schema.primary_key,
        "columns": [column.model_dump(by_alias=True) for column in table.schema.by_name().values()],
        "rowCount": row.row_count,
        "byteCount": row.byte_count,
        "createdBy": row.created_by,
        "createdAt": time(row.created_at),
        "updatedAt": time(row.updated_at),
    }


def _export_shape(exported: Exported) -> dict[str, Any]:
    return {
        "fileName": exported.file_name,
        "contentType": exported.content_type,
        "content": exported.content,
        "rows": exported.rows,
        "hasMore": exported.has_more,
    }


@routes.post(
    "/v1/tables",
    permission="table:write",
    answers=TableAnswer,
    shape=_shape,
    refusals=[Code.TABLE_VALUE_TAKEN, Code.TABLE_LIMIT],
)
async def create_table(call: Call, body: CreateTable) -> Table:
    """Create a table. Its columns cannot be changed later."""
    schema = Schema(primary_key=body.primary_key, columns=body.columns)
    return await call.parts.data.tables.create(call.principal, body.name, body.description, schema)


@routes.get("/v1/tables", permission="table:read", answers=PageAnswer[TableAnswer], shape=page_shape(_shape))
async def list_tables(call: Call, paging: Paged) -> Page[Table]:
    """List the tables, ordered by name."""
    return await call.parts.data.tables.list_page(call.principal, paging)


@routes.get(
    "/v1/tables/{id}", permission="table:read", answers=TableAnswer, shape=_shape, refusals=[Code.TABLE_UNKNOWN]
)
async def get_table(call: Call, table_id: TableId) -> Table:
    """Get one table, by id or name."""
    return await call.parts.data.tables.get(call.principal, table_id)


@routes.delete(
    "/v1/tables/{id}",
    permission="table:write",
    reads="table:read",
    answers=TableAnswer,
    shape=_shape,
    refusals=[Code.TABLE_UNKNOWN],
)
async def delete_table(call: Call, table_id: TableId) -> Table:
    """Delete a table with all its rows. Nodes that use it will fail."""
    return await call.parts.data.tables.delete(call.principal, table_id)


@routes.get(
    "/v1/tables/{id}/export",
    permission="table:read",
    answers=TableExport,
    shape=_export_shape,
    refusals=[Code.TABLE_UNKNOWN],
)
async def export_table(
    call: Call,
    table_id: TableId,
    format: Annotated[Literal["csv", "jsonl"], Query(description="CSV, or one JSON object per line.")] = "csv",
    offset: Annotated[int, Query(ge=0, le=MAX_OFFSET, description="Number of rows to skip.")] = 0,
) -> Exported:
    """Export up to 10,000 rows or about 16 MiB as text, ordered by primary key."""
    return await call.parts.data.tables.export(call.principal, table_id, format, offset)
