"""`/v1/templates`: workflows to start from, which come with the server or were made in the organisation."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from dustrun import ids
from dustrun.core.values.fields import Fields
from dustrun.core.workflow.definition import UNBOUND
from dustrun.core.workflow.placement import tags_text
from dustrun.errors import Code, Invalid
from dustrun.operations.declaration.answers import MADE, Answer, From, PageAnswer, Time, page_shape
from dustrun.operations.declaration.encoding import data_of
from dustrun.operations.declaration.fields import MAX_INTEGER, Description, Name, Paged, Text
from dustrun.operations.declaration.operation import Noun
from dustrun.operations.declaration.parts import Call
from dustrun.operations.shapes.workflows import Tags, WorkflowAnswer, WorkflowContent, workflow_shape
from dustrun.operations.workflows import new_workflow
from dustrun.services.access.paging import Page, Paging
from dustrun.services.own_templates import PREFIX, TemplateStats
from dustrun.services.search import recommend, template_entry
from dustrun.services.templates.blanks import Blank, Kind, blanks_of, fill, need_values
from dustrun.services.templates.templates import Template, definition_of, get_template, list_templates, of_own
from dustrun.services.workflows.import_export import SELF, bind
from dustrun.services.workflows.workflows import Workflow
from dustrun.storage.workflows.templates import TemplateRow
from dustrun.storage.workflows.workflows import WorkflowFilters

noun = Noun("Workflows")

Category = Literal["money", "watch", "people", "data", "start", "org"]


class TemplateItem(Answer):
    """A workflow to start from. What comes with the server has no versions."""

    id: str = Field(description="What it is known by.", examples=["take-profit"])
    category: Category = Field(description="What it is for; `org`: the organisation has made it.")
    name: str = Field(description="Display name.")
    description: str = Field(description="What it does.")
    trigger_type: str = Field(description="Trigger type.")
    types: list[str] = Field(description="The types of its nodes.")
    node_count: int = Field(description="Number of its nodes.")
    tags: Annotated[list[str], From(lambda one: [] if one.own is None else one.own.tags.split())]
    version: Annotated[int | None, From(lambda one: one.own and one.own.version)] = Field(
        description="The version that is shown."
    )
    current_version: Annotated[int | None, From(lambda one: one.own and one.own.current)] = Field(
        description="The version that is used."
    )
    source_workflow_id: Annotated[str | None, From(lambda one: one.own and one.own.source_workflow_id)] = Field(
        description="The workflow that it was made from."
    )
    created_by: Annotated[str | None, From(lambda one: one.own and one.own.created_by)] = Field(
        description="Id of the key."
    )
    created_at: Annotated[Time | None, From(lambda one: one.own and one.own.created_at)]
    updated_at: Annotated[Time | None, From(lambda one: one.own and one.own.updated_at)]


VersionNumber = Annotated[int, Field(ge=1, le=MAX_INTEGER)]


class BlankAnswer(Answer):
    """A blank of a template: a value that it cannot know."""

    name: str = Field(description="What `values` calls it.", examples=["treasury", "notify.url"])
    kind: Kind
    node_id: str = Field(description="The node whose setting it is; the first, if several have the same value.")
    field: str = Field(description="The setting, or the input of the trigger.")
    is_input: bool = Field(description="Whether it is an input of the trigger.")
    about: str | None
    example: str = Field(description="What stands there now; empty for a connector or wallet.")
    fits: list[str] = Field(description="Types of connectors that serve.")
    is_required: bool


class TemplateAnswer(TemplateItem):
    """A workflow to start from, with its definition."""

    definition: Annotated[dict[str, Any], From(definition_of)] = Field(
        description="The definition; its input schema has the example as defaults."
    )
    payload: dict[str, Any] = Field(description="An example of what its trigger gets.")
    blanks: Annotated[list[BlankAnswer], From(lambda one: []), MADE] = Field(
        description="What it cannot know, and `POST /v1/templates/{id}/use` takes as `values`."
    )


class UseTemplate(Fields):
    """The name of the new workflow, and the values of the template's blanks."""

    name: Name | None = Field(
        None, description="Display name; default: the template's.", examples=["Take profit, my way"]
    )
    values: dict[BlankName, Text] = Field(
        default={},
        max_length=50,
        description="By name of the blank: a text, or the id of a connector or wallet. Connectors can be chosen later; "
        "without a wallet, the default one spends.",
    )
    keep_examples: bool = Field(
        False,
        description="Keeps the template's examples in blanks without a value: some have keys that everybody knows.",
    )


class CreateTemplate(Fields):
    """The source of a template."""

    source_workflow_id: Annotated[str, StringConstraints(max_length=64)] = Field(
        description="The workflow.", examples=["wf_01k4w8qz3v6m2t9r5y7n0b1c2d"]
    )
    source_version: VersionNumber | None = Field(None, description="Default: its draft, or its live version.")
    name: Name | None = Field(None, description="Display name; default: the workflow's.", examples=["Payroll, our way"])
    description: Description | None = Field(None, description="What it does; default: the workflow's.")
    tags: Tags = Field(default=[], description="As of workflows.")


class UpdateTemplate(Fields):
    """Fields to change; absent fields stay as they are."""

    name: Name | None = Field(None, description="Display name.", examples=["Payroll, our way"])
    description: Description | None = Field(None, description="What it does.")
    tags: Tags | None = Field(None, description="As of workflows.")
    source_version: VersionNumber | None = Field(
        None, description="Takes the definition anew, from this version of the workflow that it was made from."
    )


class RollbackTemplate(Fields):
    """The version to use again."""

    target_version: VersionNumber = Field(description="The version to use again.", examples=[1])


class TemplatePage(PageAnswer[TemplateItem]):
    """A page of versions."""

    current_version: int


class TemplateVersionCount(Answer):
    """Number of versions."""

    total: int


class TemplateStatsAnswer(Answer):
    """The use of a template in the workflows that the key may access."""

    total_deployments: int = Field(description="Workflows that were made from it.")
    recent_deployments: int = Field(description="Those of the last 30 days.")
    active_workflows: int = Field(description="Those that are live.")
    success_rate: int | None = Field(
        description="Of the newest 20 ended live runs of each of the newest 50: how many of a hundred succeeded. "
        "Null: none has run."
    )
    avg_execution_time_ms: int | None = Field(description="What these took.")


_UNKNOWN_VERSION = [Code.TEMPLATE_UNKNOWN, Code.VERSION_UNKNOWN]
_NEWEST = 100
Most = Annotated[int, Field(ge=1, le=100, description="How many, at most.")]
BlankName = Annotated[str, StringConstraints(max_length=256)]
Id = Annotated[str, Field(description="Id of the template.", examples=["take-profit"], max_length=64)]
Words = Annotated[
    str | None, Field(max_length=256, description="Words in the name, the description or the node types.")
]


@noun.get("/v1/templates", permission="workflow:read", answers=list[TemplateItem])
async def list_workflow_templates(
    call: Call,
    q: Words = None,
    category: Annotated[Category | None, Field(description="Only of this category.")] = None,
) -> list[Template]:
    """List workflows to start from: those that the organisation has made, then those that come with the server."""
    return list(list_templates(q, category, await call.parts.own_templates.list_all(call.principal)))


Described = tuple[Template, list[Blank]]


def _described(found: Described) -> dict[str, Any]:
    blanks = [data_of(BlankAnswer, one) for one in found[1]]
    return data_of(TemplateAnswer, found[0]) | {"blanks": blanks}


@noun.get(
    "/v1/templates/{id}",
    permission="workflow:read",
    answers=TemplateAnswer,
    shape=_described,
    refusals=[Code.TEMPLATE_UNKNOWN],
)
async def get_workflow_template(call: Call, id: Id) -> Described:
    """Get one of them, with its definition and its blanks."""
    template = await _find(call, id)
    return template, blanks_of(definition_of(template), call.parts.catalog)


@noun.post(
    "/v1/templates/{id}/use",
    permission="workflow:create",
    reads="workflow:read",
    answers=WorkflowAnswer,
    shape=workflow_shape,
    refusals=[Code.TEMPLATE_UNKNOWN, Code.CONNECTOR_UNKNOWN],
    example={"name": "Take profit, my way", "keepExamples": True},
)
async def use_workflow_template(call: Call, id: Id, body: UseTemplate) -> Workflow:
    """Create a workflow from a template.

    Its blanks are filled with `values`; one that is missing is refused by its name, and nothing is created before the
    result is valid. The workflow is a draft of its own: the template's later changes do not reach it.
    """
    template, workflow_id = await _find(call, id), ids.new_id("wf")
    definition = bind(definition_of(template), {f"{UNBOUND}{SELF}": workflow_id})
    blanks = blanks_of(definition, call.parts.catalog)
    need_values(blanks, body.values, keep_examples=body.keep_examples)
    if body.values:
        definition = fill(definition, blanks, await _named(call, blanks, body.values))
        await _need_valid(call, definition, blanks)
    document = {
        "name": body.name or template.name,
        "description": template.description,
        "definition": definition,
    }
    new = new_workflow(WorkflowContent.model_validate(document), workflow_id)
    used = None if template.own is None else (template.id, template.own.version)
    return await call.parts.workflows.create(call.principal, replace(new, template=used))


async def _find(call: Call, template_id: str) -> Template:
    if not template_id.startswith(PREFIX):
        return get_template(template_id)
    return of_own(await call.parts.own_templates.get(call.principal, template_id))


async def _named(call: Call, blanks: list[Blank], values: dict[str, str]) -> dict[str, Any]:
    """The values as a definition has them."""
    found: dict[str, Any] = {}
    for blank in blanks:
        value = values.get(blank.name, "").strip()
        if value and blank.kind == "connector":
            row = await call.parts.data.connectors.get(call.principal, value)
            found[blank.name] = {"type": row.type, "id": row.id}
        elif value:
            found[blank.name] = {"type": "wallet", "id": value} if blank.kind == "wallet" else value
    return found


async def _need_valid(call: Call, definition: dict[str, Any], blanks: list[Blank]) -> None:
    """Raises `Invalid` with what is wrong, but that a connector is still to be chosen."""
    later = {f"nodes.{one.node_id}.connector" for one in blanks if one.kind == "connector"}
    found = await call.parts.workflows.validate(call.principal, definition)
    wrong = [one for one in found if one.severity == "error" and one.field not in later]
    if wrong:
        raise Invalid("With these values the workflow is not valid.", details=wrong)


# --- those that the organisation has made ---


@noun.get("/v1/templates/recommended", permission="workflow:read", answers=list[TemplateItem])
async def recommend_templates(
    call: Call,
    category: Annotated[Category | None, Field(description="Only of this category.")] = None,
    limit: Most = 5,
) -> list[Template]:
    """Recommend templates that use what the newest workflows use that the key may access."""
    own = await call.parts.own_templates.list_all(call.principal)
    known = {one.id: one for one in list_templates(None, category, own)}
    entries = [template_entry(one) for one in known.values()]
    only = call.principal.workflow_ids
    filters = WorkflowFilters(org_id=call.principal.org_id, only=None if only is None else tuple(sorted(only)))
    page = await call.parts.workflows.list_page(filters, "updatedAt:desc", Paging(_NEWEST, 0))
    found = await asyncio.to_thread(recommend, entries, page.items, limit)
    return [known[one.id] for one in found]


@noun.get(
    "/v1/workflows/{id}/template",
    permission="workflow:read",
    answers=TemplateItem | None,
    shape=lambda found: None if found is None else data_of(TemplateItem, of_own(found)),
    refusals=[Code.WORKFLOW_UNKNOWN],
)
async def find_template_of_workflow(call: Call, id: str) -> TemplateRow | None:
    """Get the newest template that was made from a workflow; null: there is none."""
    return await call.parts.own_templates.find_of_source(call.principal, id)


@noun.post(
    "/v1/templates",
    permission="workflow:create",
    reads="workflow:read",
    answers=TemplateAnswer,
    shape=lambda found: _own(found),
    refusals=[Code.WORKFLOW_UNKNOWN, Code.VERSION_UNKNOWN, Code.TEMPLATE_LIMIT],
    example={"sourceWorkflowId": "wf_01k4w8qz3v6m2t9r5y7n0b1c2d", "name": "Payroll, our way"},
)
async def create_template(call: Call, body: CreateTemplate) -> TemplateRow:
    """Make a template from a workflow, for everybody in the organisation who may read that workflow.

    Its definition has no secrets, connectors, wallets, pinned results or layout: whoever uses it chooses their own.
    What looked like a secret is a blank. Later changes of the workflow do not reach it.
    """
    call.principal.need_every_workflow("make templates")
    source = await call.parts.workflows.get_at(call.principal, body.source_workflow_id, body.source_version)
    name, description = body.name or source.row.name, body.description
    about = source.row.description if description is None else description
    return await call.parts.own_templates.create(call.principal, source, name, about, body.tags)


@noun.patch(
    "/v1/templates/{id}",
    permission="workflow:update",
    reads="workflow:read",
    answers=TemplateAnswer,
    shape=lambda found: _own(found),
    refusals=[Code.TEMPLATE_UNKNOWN, Code.VERSION_UNKNOWN, Code.TEMPLATE_LIMIT],
    example={"name": "Payroll, our way"},
)
async def update_template(call: Call, id: Id, body: UpdateTemplate) -> TemplateRow:
    """Change a template: a new version, which is used from then on. Workflows that were made from it stay."""
    given = body.model_dump(include={"name", "description"}, exclude_none=True)
    if body.tags is not None:
        given["tags"] = tags_text(body.tags)
    source = None
    if body.source_version is not None:
        row = await call.parts.own_templates.get(call.principal, id)
        source = await call.parts.workflows.get_at(call.principal, row.source_workflow_id, body.source_version)
    return await call.parts.own_templates.update(call.principal, id, given, source)


@noun.delete(
    "/v1/templates/{id}",
    permission="workflow:update",
    reads="workflow:read",
    answers=TemplateAnswer,
    shape=lambda found: _own(found),
    refusals=[Code.TEMPLATE_UNKNOWN],
)
async def delete_template(call: Call, id: Id) -> TemplateRow:
    """Delete a template that the organisation has made, with its versions. Workflows that were made from it stay."""
    return await call.parts.own_templates.delete(call.principal, id)


@noun.post(
    "/v1/templates/{id}/rollback",
    permission="workflow:update",
    reads="workflow:read",
    answers=TemplateAnswer,
    shape=lambda found: _own(found),
    refusals=_UNKNOWN_VERSION,
    example={"targetVersion": 1},
)
async def rollback_template(call: Call, id: Id, body: RollbackTemplate) -> TemplateRow:
    """Use an earlier version of a template again. Workflows that were made from it stay."""
    return await call.parts.own_templates.roll_back(call.principal, id, body.target_version)


@noun.get(
    "/v1/templates/{id}/versions",
    permission="workflow:read",
    answers=TemplatePage,
    shape=lambda found: _versions(found),
    refusals=[Code.TEMPLATE_UNKNOWN],
)
async def list_template_versions(call: Call, id: Id, paging: Paged) -> tuple[TemplateRow, Page[TemplateRow]]:
    """List the versions of a template that the organisation has made, newest first."""
    return await call.parts.own_templates.list_versions(call.principal, id, paging)


@noun.get(
    "/v1/templates/{id}/versions/count",
    permission="workflow:read",
    answers=TemplateVersionCount,
    shape=lambda found: {"total": found},
    refusals=[Code.TEMPLATE_UNKNOWN],
)
async def count_template_versions(call: Call, id: Id) -> int:
    """Count the versions of a template that the organisation has made."""
    return await call.parts.own_templates.count_versions(call.principal, id)


@noun.get(
    "/v1/templates/{id}/versions/{number}",
    permission="workflow:read",
    answers=TemplateAnswer,
    shape=lambda found: _own(found),
    refusals=_UNKNOWN_VERSION,
)
async def get_template_version(call: Call, id: Id, number: VersionNumber) -> TemplateRow:
    """Get one version of a template that the organisation has made."""
    return await call.parts.own_templates.get(call.principal, id, number)


@noun.get(
    "/v1/templates/{id}/stats",
    permission="workflow:read",
    answers=TemplateStatsAnswer,
    refusals=[Code.TEMPLATE_UNKNOWN],
)
async def get_template_stats(call: Call, id: Id) -> TemplateStats:
    """Tell what became of a template that the organisation has made."""
    return await call.parts.own_templates.get_stats(call.principal, id)


def _own(row: TemplateRow) -> dict[str, Any]:
    return data_of(TemplateAnswer, of_own(row))


def _versions(found: tuple[TemplateRow, Page[TemplateRow]]) -> dict[str, Any]:
    row, page = found
    shaped = page_shape(lambda one: data_of(TemplateItem, of_own(one)))(page)
    return {**shaped, "currentVersion": row.current}
