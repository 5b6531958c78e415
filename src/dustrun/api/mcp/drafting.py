"""Tools to find node types and to read, check and save workflows."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import ValidationError

from dustrun.api.mcp import inputs
from dustrun.api.mcp.result import MOST_BYTES, Result
from dustrun.core.values.exact_json import dumps_text
from dustrun.core.values.fields import Fields
from dustrun.core.workflow.specs import api_of
from dustrun.errors import Code, Invalid, NotFound, Problem
from dustrun.operations.catalog_imports import operation_shape
from dustrun.operations.declaration.parts import Parts
from dustrun.operations.shapes.workflows import (
    UpdateWorkflow,
    WorkflowContent,
    listed_shape,
    validation_shape,
    workflow_shape,
)
from dustrun.sdk.threads import run_beside
from dustrun.services.access.paging import Paging
from dustrun.services.access.principal import Principal
from dustrun.services.imports.known_services import list_services
from dustrun.services.problems import errors_in, problems_of
from dustrun.services.workflows.workflows import NewWorkflow, Workflow
from dustrun.storage.workflows.workflows import WorkflowFilters

Json = dict[str, Any]
M = TypeVar("M", bound=Fields)
_LISTED = ("id", "name", "description", "status", "version", "draftVersion", "liveVersion", "type", "nodeTypes")
_MOST_OF_DEFINITION = MOST_BYTES - 3_000
_MOST_PROBLEMS = 40
_SHARE = 3
"""One in so many lines of a search is kept for operations of imported documents."""
# Left out one after the other until a description fits.
_LESS = ("exampleOutput", "resultSchema", "exampleInput", "description")
_SHOWN_SERVICES = 5
_WIRE_NAMES = {"inputSchema": "payloadSchema", "outputSchema": "resultSchema", "family": "category"}


def checked(model: type[M], arguments: Json) -> M:
    """The arguments as their model; raises `Invalid` that names each field. Large ones need a thread."""
    try:
        return model.model_validate(arguments)
    except ValidationError as error:
        found = problems_of(errors_in(error, arguments, model.model_validate), whole="arguments", model=model)
        raise Invalid("The arguments are not valid.", details=found) from None


async def search_nodes(parts: Parts, principal: Principal, asked: inputs.SearchNodes) -> Result:
    """The types that mention every word, one line each; of imported documents those that their search finds."""
    words = asked.query.casefold().split()
    await parts.await_catalogue()
    known = [*parts.public_triggers, *parts.public_actions]
    found = [one for one in known if all(word in _searched(one) for word in words)]
    page = await parts.data.imports.search(principal, asked.query, "", Paging(asked.limit))
    own = found[: asked.limit - min(len(page.items), asked.limit // _SHARE)]
    imported = page.items[: asked.limit - len(own)]
    lines = [f"{one['type']} ({one.get('effect', 'trigger')}): {one['summary']}" for one in own]
    shown: Json = {"nodes": lines, "found": len(found)}
    if not lines and not imported and words:
        services = [one.name for one in list_services(asked.query)[:_SHOWN_SERVICES]]
        shown |= {"importable": [f"dustrun catalog add {name}" for name in services]} if services else {}
    if not imported:
        return Result(shown)
    shown["moreImported"] = page.has_more or len(imported) < len(page.items)
    return Result(shown, {"imported": [f"{one.type} ({one.effect}): {one.summary}" for one in imported]})


def _searched(one: Json) -> str:
    return " ".join([one["type"], one["summary"], one.get("description") or "", *one["tags"]]).casefold()


async def describe_nodes(parts: Parts, principal: Principal, asked: inputs.DescribeNodes) -> Result:
    """The types in full; of many large ones, less."""
    await parts.await_catalogue()
    known = {one["type"]: one for one in (*parts.public_triggers, *parts.public_actions)}
    shown, imported = [], []
    for kind in asked.types:
        if kind in known:
            shown.append({_WIRE_NAMES.get(key, key): one for key, one in known[kind].items()})
        elif api_of(kind) is not None:
            imported.append(operation_shape(await parts.data.imports.get_operation(principal, kind, None)))
        else:
            raise NotFound(f'There is no node type "{kind[:80]}"; search_nodes finds them.', code=Code.TYPE_UNKNOWN)

    def fit() -> Result:
        for left_out in (None, *_LESS):
            for one in (*shown, *imported):
                one.pop(left_out or "", None)
            if len(dumps_text([shown, imported]).encode()) < MOST_BYTES - 1_500:
                break
        return Result({"nodes": shown}, {"imported": imported} if imported else {})

    return await run_beside(fit)


async def list_workflows(parts: Parts, principal: Principal, asked: inputs.ListWorkflows) -> Result:
    """The workflows that the key can access, those changed last first."""
    only = None if principal.workflow_ids is None else tuple(sorted(principal.workflow_ids))
    filters = WorkflowFilters(org_id=principal.org_id, q=asked.query, only=only)
    page = await parts.workflows.list_page(filters, "updatedAt:desc", Paging(asked.limit))
    shown = [{name: one.get(name) for name in _LISTED} for one in map(listed_shape, page.items)]
    return Result({"hasMore": page.has_more}, {"workflows": shown})


async def get_workflow(parts: Parts, principal: Principal, asked: inputs.GetWorkflow) -> Result:
    """A version; of a large one the list of its nodes, unless some are named."""
    found = await parts.workflows.get_at(principal, asked.id, asked.version)
    return await run_beside(_shown, workflow_shape(found), asked.nodes)


def _shown(shape: Json, wanted: list[str] | None) -> Result:
    definition = shape["definition"]
    nodes = definition.get("nodes", {})
    head = {name: shape.get(name) for name in ("id", "status", "version", "draftVersion", "liveVersion", "ladder")}
    texts = {"name": shape["name"], "description": shape["description"]}
    if wanted is not None:
        missing = [name for name in wanted if name not in nodes]
        if missing:
            raise NotFound(f'The version has no node "{missing[0][:80]}".', code=Code.NODE_UNKNOWN)
        return Result({**head, "nodes": {name: nodes[name] for name in wanted}}, texts)
    if len(dumps_text(definition).encode()) <= _MOST_OF_DEFINITION:
        return Result({**head, "definition": definition}, texts)
    index = {name: one.get("type") for name, one in nodes.items()}
    note = "The definition is too large for one result. Read parts with `nodes`; do not save it from this list."
    return Result({**head, "note": note}, {**texts, "nodeTypes": index})


async def validate_workflow(parts: Parts, principal: Principal, asked: inputs.ValidateWorkflow) -> Result:
    """The problems of an unsaved definition."""
    return problems_result(await parts.workflows.validate(principal, asked.definition))


def problems_result(found: list[Problem], **more: Any) -> Result:
    """The problems of a definition."""
    shaped = validation_shape(found)
    own = {**more, "valid": shaped["valid"], "errorCount": len(shaped["errors"])}
    lists = {name: shaped[name][:_MOST_PROBLEMS] for name in ("errors", "warnings") if shaped[name]}
    return Result(own, lists)


async def save_workflow(parts: Parts, principal: Principal, asked: inputs.SaveWorkflow) -> Result:
    """Saves a draft, which may be incomplete, and says what is wrong with it."""
    saved = await (_create(parts, principal, asked) if asked.workflow_id is None else _update(parts, principal, asked))
    problems = await parts.workflows.validate(principal, asked.definition, saved.row.id)
    version = {"workflowId": saved.row.id, "version": saved.version.version, "draftVersion": saved.row.draft_version}
    return problems_result(problems, **version)


async def _create(parts: Parts, principal: Principal, asked: inputs.SaveWorkflow) -> Workflow:
    principal.need("workflow:create")
    given = {"name": asked.name, "description": asked.description or "", "definition": asked.definition}
    body = await run_beside(checked, WorkflowContent, given)
    new = NewWorkflow(name=body.name, description=body.description, definition=body.definition)
    return await parts.workflows.create(principal, new)


async def _update(parts: Parts, principal: Principal, asked: inputs.SaveWorkflow) -> Workflow:
    principal.need("workflow:update")
    assert asked.workflow_id is not None
    given = {"name": asked.name, "description": asked.description, "definition": asked.definition}
    body = await run_beside(
        checked, UpdateWorkflow, {name: value for name, value in given.items() if value is not None}
    )
    changes = {name: getattr(body, name) for name in ("name", "description") if name in body.model_fields_set}
    return await parts.workflows.update(
        principal, asked.workflow_id, changes=changes, definition=body.definition, expected=asked.expected_version
    )
