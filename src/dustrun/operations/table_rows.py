"""`/v1/tables/{id}/rows`: reads and changes rows of a managed table."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from dustrun.core.values.exact_json import JsonError, loads_unique
from dustrun.core.values.fields import Fields
from dustrun.errors import Code, Invalid, Problem
from dustrun.operations.declaration.answers import STORED, Answer, From, PageAnswer, Time
from dustrun.operations.declaration.fields import Paged
from dustrun.operations.declaration.operation import Named, Noun
from dustrun.operations.declaration.parts import Call
from dustrun.operations.tables import TableId
from dustrun.sdk.tables import TableChange, TableWritten
from dustrun.services.access.paging import Page
from dustrun.storage.data.table_rows import StoredRow

noun = Noun("Tables")

RowKey = Annotated[str, Named("key"), Field(description="The row's primary key, as text.", max_length=600)]
_REFUSALS = [Code.TABLE_INVALID, Code.TABLE_UNKNOWN]


class AddRows(Fields):
    """Rows to add."""

    rows: list[dict[str, Any]] = Field(
        description="Rows as objects of column and value; at most 1000.",
        examples=[[{"id": "ord_1", "amount": "12.50"}]],
    )
    mode: Literal["insert", "upsert"] = Field(
        "insert", description="`insert` fails if a row exists; `upsert` updates it."
    )


class ChangeRows(Fields):
    """Rows to change."""

    where: dict[str, Any] = Field(
        description='Conditions by column, like `{"status": "open", "amount": {"$gte": "10"}}`.',
        examples=[{"id": "ord_1"}],
    )
    values: dict[str, Any] = Field(description="New values by column.", examples=[{"amount": "13"}])


class DeleteRows(Fields):
    """Rows to delete."""

    where: dict[str, Any] = Field(description="Conditions by column.", examples=[{"id": "ord_1"}])


class RowAnswer(Answer):
    """A row."""

    values: Annotated[dict[str, Any], From("data"), STORED] = Field(description="Values by column.")
    created_at: Time
    updated_at: Time


class WrittenAnswer(Answer):
    """Result of a change."""

    keys: list[Any] = Field(description="Primary keys of the rows, in order.")
    inserted: int
    updated: int
    deleted: int


def _where(text: str | None) -> dict[str, Any]:
    if text is None:
        return {}
    try:
        found = loads_unique(text)
    except JsonError as error:
        raise _bad_where(str(error)) from None
    if not isinstance(found, dict):
        raise _bad_where("must be a JSON object")
    return found


def _bad_where(why: str) -> Invalid:
    return Invalid(f"The filter is not valid: {why}.", code=Code.PARAMETER_INVALID, details=[Problem("where", why)])


@noun.get(
    "/v1/tables/{id}/rows",
    permission="table:read",
    answers=PageAnswer[RowAnswer],
    refusals=_REFUSALS,
)
async def list_rows(
    call: Call,
    table_id: TableId,
    paging: Paged,
    where: Annotated[
        str | None,
        Field(
            max_length=16_384,
            description="A JSON object of conditions by column: a value, or `{operator: value}` with `$eq`, "
            "`$ne`, `$gt`, `$gte`, `$lt`, `$lte` or `$in`.",
            examples=['{"status":"open"}'],
        ),
    ] = None,
    sort: Annotated[
        str | None, Field(max_length=64, description="Column to sort by; prefix `-` for descending order.")
    ] = None,
) -> Page[StoredRow]:
    """List the rows that match a filter, ordered by primary key or by `sort`."""
    return await call.parts.data.tables.list_rows(call.principal, table_id, _where(where), sort, paging)


@noun.post(
    "/v1/tables/{id}/rows",
    permission="table:write",
    answers=WrittenAnswer,
    refusals=[*_REFUSALS, Code.TABLE_VALUE_TAKEN, Code.TABLE_LIMIT],
    example={"rows": [{"id": "ord_1", "amount": "12.50"}], "mode": "upsert"},
)
async def add_rows(call: Call, table_id: TableId, body: AddRows) -> TableWritten:
    """Insert or upsert rows, all or none."""
    return await call.parts.data.tables.change(call.principal, TableChange(table_id, body.mode, tuple(body.rows)))


@noun.patch(
    "/v1/tables/{id}/rows",
    permission="table:write",
    reads="table:read",
    needed=["inserted", "updated", "deleted"],
    answers=WrittenAnswer,
    refusals=[*_REFUSALS, Code.TABLE_VALUE_TAKEN, Code.TABLE_LIMIT],
    example={"where": {"status": "open"}, "values": {"status": "late"}},
)
async def change_rows(call: Call, table_id: TableId, body: ChangeRows) -> TableWritten:
    """Update the rows that match a filter, all or none; at most 1000."""
    wanted = TableChange(table_id, "update", where=body.where, values=body.values)
    return await call.parts.data.tables.change(call.principal, wanted)


@noun.post(
    "/v1/tables/{id}/rows/delete",
    permission="table:write",
    reads="table:read",
    needed=["inserted", "updated", "deleted"],
    answers=WrittenAnswer,
    refusals=_REFUSALS,
    example={"where": {"status": "late"}},
)
async def delete_rows(call: Call, table_id: TableId, body: DeleteRows) -> TableWritten:
    """Delete the rows that match a filter, all or none; at most 1000."""
    return await call.parts.data.tables.change(call.principal, TableChange(table_id, "delete", where=body.where))


@noun.get(
    "/v1/tables/{id}/rows/{key}",
    permission="table:read",
    answers=RowAnswer,
    refusals=[Code.TABLE_UNKNOWN, Code.TABLE_ROW_UNKNOWN],
)
async def get_row(call: Call, table_id: TableId, key: RowKey) -> StoredRow:
    """Get one row by its primary key."""
    return await call.parts.data.tables.get_row(call.principal, table_id, key)


@noun.delete(
    "/v1/tables/{id}/rows/{key}",
    permission="table:write",
    answers=WrittenAnswer,
    refusals=[Code.TABLE_UNKNOWN, Code.TABLE_ROW_UNKNOWN],
)
async def delete_row(call: Call, table_id: TableId, key: RowKey) -> TableWritten:
    """Delete one row by its primary key."""
    return await call.parts.data.tables.delete_row(call.principal, table_id, key)
