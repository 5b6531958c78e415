"""`/v1/catalog`: imported OpenAPI documents, and their operations as node types."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from dustrun.actions.http.imported_operation import Input
from dustrun.core.openapi.naming import API, MOST_API
from dustrun.core.openapi.schemas import example_of
from dustrun.core.values import exact_json
from dustrun.core.values.fields import Fields
from dustrun.errors import Code
from dustrun.operations.declaration.answers import MADE, Answer, From, PageAnswer, Time
from dustrun.operations.declaration.fields import Paged, Text
from dustrun.operations.declaration.operation import Noun
from dustrun.operations.declaration.parts import Call
from dustrun.sdk.fields import schema_of
from dustrun.services.access.paging import Page
from dustrun.services.imports.document_imports import AskedImport, DocumentImport, ShownOperation
from dustrun.storage.data.catalog import FoundOperation

noun = Noun("Catalogue")

Url = Annotated[Text, Field(min_length=1, max_length=2048)]
ImportId = Annotated[str, Field(description="Id or name of the import.", max_length=128)]
Kind = Annotated[str, StringConstraints(min_length=3, max_length=128)]
Effect = Literal["read", "write"]
Variables = Annotated[dict[str, Annotated[str, Field(max_length=500)]], Field(max_length=50)]
_EXAMPLE: dict[str, Any] = {
    "openapi": "3.0.3",
    "info": {"title": "Shop", "version": "1"},
    "servers": [{"url": "https://api.example.com"}],
    "paths": {"/orders/search": {"post": {"operationId": "searchOrders", "summary": "Search orders"}}},
}
_SERVER = "Where all operations are served, instead of the document's servers."
_VARIABLES = "Values of variables in the document's servers."
_EFFECTS = "By type: what it does, where that is not `read` for GET, HEAD and OPTIONS and `write` for other methods."
_SERVICE = "A known service: its document is imported unless another is given, and its operations come first."
_DOCUMENT = "The document: an object, or the text of JSON or YAML. Larger ones than a request may be come by `url`."


class ImportDocument(Fields):
    """An OpenAPI document to import: by the service that has it, by its address, or itself."""

    service: Annotated[str, Field(max_length=60)] | None = Field(None, description=_SERVICE, examples=["github"])
    url: Url | None = Field(None, description="Where it is.", examples=["https://api.example.com/openapi.json"])
    document: dict[str, Any] | str | None = Field(None, description=_DOCUMENT)
    name: Annotated[str, StringConstraints(pattern=f"^{API.pattern}$", max_length=MOST_API)] | None = Field(
        None, description="How its types begin; default: the service, or the document's title.", examples=["shop"]
    )
    server: Url | None = Field(None, description=_SERVER)
    server_variables: Variables = Field(default_factory=dict, description=_VARIABLES)
    effects: dict[Kind, Effect] = Field(default_factory=dict, max_length=1_000, description=_EFFECTS)


class RenewImport(Fields):
    """The source of the new version; what is absent stays as it was."""

    url: Url | None = Field(None, description="Where it is; default: where it was.")
    document: dict[str, Any] | str | None = Field(None, description=_DOCUMENT)
    server: Annotated[str, Field(max_length=2048)] | None = Field(
        None, description=f"{_SERVER} Empty: those of the document again."
    )
    server_variables: Variables | None = Field(None, description=_VARIABLES)
    effects: dict[Kind, Effect] = Field(default_factory=dict, max_length=1_000, description=_EFFECTS)


class LeftOutAnswer(Answer):
    """An operation that could not be imported."""

    operation: str = Field(description="Its method and path.")
    reason: str = Field(
        description="`server`, `upload`, `xml`, `media_type`, `method`, `name` or `broken`, as the document is."
    )
    message: str


class ChangedTypes(Answer):
    """How many types, and the first of them."""

    count: int
    types: list[str]


class ImportChanges(Answer):
    """The changes of a version against the one before it."""

    added: ChangedTypes
    changed: ChangedTypes
    removed: ChangedTypes


class UsedOperationAnswer(Answer):
    """An operation that a node is pinned to."""

    type: str
    operation: Annotated[str, From("pin")]
    state: Literal["current", "changed", "removed"] = Field(description="What the version in use has instead.")


class ImportUserAnswer(Answer):
    """A draft or live version that uses operations of the import."""

    workflow_id: str
    name: str
    version: int
    operations: list[UsedOperationAnswer]


def _known(name: str) -> Any:
    def read(found: DocumentImport) -> Any:
        return exact_json.loads_own(found.row.document)[name]

    return read


def _choice(name: str) -> Any:
    def read(found: DocumentImport) -> Any:
        return exact_json.loads_own(found.row.choice).get(name)

    return read


def _effects(found: DocumentImport) -> Any:
    return exact_json.loads_own(found.row.effects)


def _changes(found: DocumentImport) -> Any:
    return exact_json.loads_own(found.version.changes)


class DocumentImportAnswer(Answer):
    """An imported document."""

    id: Annotated[str, From("row.id")]
    name: Annotated[str, From("row.name")] = Field(description="How its types begin.")
    title: Annotated[str, From(_known("title"))]
    version: Annotated[int, From("version.number")] = Field(description="Increases with every renewal.")
    document_version: Annotated[str, From(_known("version"))] = Field(
        description="The version that the document names."
    )
    format: Annotated[str, From(_known("format"))] = Field(description="The version of OpenAPI.")
    hash: Annotated[str, From("version.hash")] = Field(description="SHA-256 of the document.")
    url: Annotated[str | None, From(_choice("url"))]
    service: Annotated[str | None, From(_choice("service"))] = Field(description="The known service that it is of.")
    server: Annotated[str | None, From(_choice("server"))]
    server_variables: Annotated[dict[str, str], From(_choice("variables"))]
    effects: Annotated[dict[str, str], From(_effects)]
    operations: Annotated[int, From("version.operations")] = Field(description="How many operations it has.")
    left_out_counts: Annotated[dict[str, int], From(_known("counts"))] = Field(
        description="How many operations are left out, by reason."
    )
    left_out: Annotated[list[LeftOutAnswer], From(_known("leftOut")), MADE] = Field(description="The first of them.")
    renamed: Annotated[list[str], From(_known("renamed"))] = Field(
        description="Operations that share an `operationId`, and so are named by their method and path."
    )
    changes: Annotated[ImportChanges, From(_changes), MADE] = Field(description="What the newest version changed.")
    users: list[ImportUserAnswer] = Field(
        description="The drafts and live versions that use it, as far as the key may read them; not in lists."
    )
    created_by: Annotated[str, From("row.created_by")] = Field(description="Id of the key.")
    created_at: Annotated[Time, From("row.created_at")]
    renewed_by: Annotated[str, From("version.created_by")] = Field(description="Id of the key.")
    renewed_at: Annotated[Time, From("version.created_at")]


class OperationItem(Answer):
    """An operation, as lists show it."""

    type: str = Field(description="Value of a node's `type`.")
    operation: Annotated[str, From("pin")] = Field(description="What a node is pinned to when it is saved.")
    method: str
    server: str
    effect: Effect
    summary: str


class OperationAnswer(Answer):
    """An operation, with the schemas of a node of its type."""

    type: str = Field(description="Value of a node's `type`.")
    operation: str = Field(description="What a node is pinned to when it is saved.")
    summary: str
    description: str
    tags: list[str]
    method: str
    server: str
    path: str
    effect: Effect
    connectors: list[str] = Field(description="Types of connectors that hold a credential as the document asks for it.")
    payload_schema: dict[str, Any] = Field(
        description="JSON Schema of a node's `payload`; its `args` are the arguments."
    )
    result_schema: dict[str, Any] = Field(description="JSON Schema of a node's result.")
    example_input: dict[str, Any]


def operation_shape(found: ShownOperation) -> dict[str, Any]:
    """An operation as answers have it."""
    one = found.operation
    args = dict(one.args)
    definitions = args.pop("$defs", {})
    answered = one.result if isinstance(one.result, dict) else {}
    payload = schema_of(Input)
    payload = {**payload, "properties": {**payload["properties"], "args": args}}
    result = {"type": "object", "properties": {"status": {"type": "integer"}, "headers": {"type": "object"}}}
    body = {name: value for name, value in answered.items() if name != "$defs"}
    result["properties"] = {**result["properties"], "body": body, "url": {"type": "string"}}  # type: ignore[dict-item]
    return {
        "type": one.type,
        "operation": found.pin,
        "summary": one.summary,
        "description": one.description,
        "tags": list(one.tags),
        "method": one.method,
        "server": one.server,
        "path": one.path,
        "effect": one.effect,
        "connectors": list(one.security),
        "payloadSchema": {**payload, "$defs": {**payload.get("$defs", {}), **definitions}},
        "resultSchema": {**result, "$defs": answered.get("$defs", {})},
        "exampleInput": {"args": example_of(one.args, definitions)},
    }


@noun.get("/v1/catalog/imports", permission="workflow:read", answers=PageAnswer[DocumentImportAnswer])
async def list_imports(call: Call, paging: Paged) -> Page[DocumentImport]:
    """List the imported OpenAPI documents, by name."""
    return await call.parts.data.imports.list_page(call.principal, paging)


@noun.post(
    "/v1/catalog/imports",
    permission="connector:write",
    answers=DocumentImportAnswer,
    refusals=[Code.PARAMETER_INVALID, Code.IMPORT_NAME_TAKEN, Code.IMPORT_BUSY, Code.UPSTREAM_FAILED],
    example={"document": _EXAMPLE, "name": "shop"},
)
async def import_document(call: Call, body: ImportDocument) -> DocumentImport:
    """Import an OpenAPI document: its operations become node types `<name>.<operation>`.

    Versions 2.0, 3.0 and 3.1, in JSON or YAML. What cannot be called is left out, and the answer says why. The address
    passes the outbound guard, and so do the servers that the document names.
    """
    asked = AskedImport(
        service=body.service,
        url=body.url,
        document=body.document,
        name=body.name,
        server=body.server,
        variables=body.server_variables,
        effects=body.effects,
    )
    return await call.parts.data.imports.add(call.principal, asked)


@noun.get(
    "/v1/catalog/imports/{id}",
    permission="workflow:read",
    answers=DocumentImportAnswer,
    refusals=[Code.IMPORT_UNKNOWN],
)
async def get_import(call: Call, id: ImportId) -> DocumentImport:
    """Get one imported document, with the workflows that use it."""
    return await call.parts.data.imports.get(call.principal, id)


@noun.post(
    "/v1/catalog/imports/{id}/renew",
    permission="connector:write",
    reads="workflow:read",
    answers=DocumentImportAnswer,
    refusals=[Code.PARAMETER_INVALID, Code.IMPORT_UNKNOWN, Code.IMPORT_BUSY, Code.UPSTREAM_FAILED],
    example={"document": _EXAMPLE, "effects": {"shop.search-orders": "read"}},
)
async def renew_import(call: Call, id: ImportId, body: RenewImport | None = None) -> DocumentImport:
    """Import a document again, as a new version.

    No workflow changes: its nodes stay pinned to the operations that they were saved with, and `users` tells which of
    these are another now. To move a node, save it without `operation`, `server` and `effect`.
    """
    given = body or RenewImport()
    asked = AskedImport(
        url=given.url,
        document=given.document,
        server=given.server,
        variables=given.server_variables,
        effects=given.effects,
    )
    return await call.parts.data.imports.renew(call.principal, id, asked)


@noun.delete(
    "/v1/catalog/imports/{id}",
    permission="connector:write",
    reads="workflow:read",
    answers=DocumentImportAnswer,
    refusals=[Code.IMPORT_UNKNOWN, Code.IMPORT_IN_USE],
)
async def delete_import(call: Call, id: ImportId) -> DocumentImport:
    """Remove an imported document that no draft or live version uses."""
    return await call.parts.data.imports.delete(call.principal, id)


@noun.get("/v1/catalog/operations", permission="workflow:read", answers=PageAnswer[OperationItem])
async def search_operations(
    call: Call,
    paging: Paged,
    q: Annotated[str, Field(max_length=256, description="Words with which words of it begin; empty: all.")] = "",
    api: Annotated[str, Field(max_length=64, description="Only those of the import of this name.")] = "",
) -> Page[FoundOperation]:
    """Search the operations of imported documents, the best first; without words, list them by type."""
    return await call.parts.data.imports.search(call.principal, q, api, paging)


@noun.get(
    "/v1/catalog/operations/{type}",
    permission="workflow:read",
    answers=OperationAnswer,
    shape=operation_shape,
    refusals=[Code.TYPE_UNKNOWN],
)
async def get_operation_type(
    call: Call,
    type: Annotated[str, Field(description="The node type.", max_length=128, examples=["shop.list-orders"])],
    operation: Annotated[
        str | None, Field(max_length=64, description="What a node is pinned to; default: as it is now.")
    ] = None,
) -> ShownOperation:
    """Get one operation of an imported document, with the schemas of its payload and result."""
    return await call.parts.data.imports.get_operation(call.principal, type, operation)
