"""`/v1/templates`: workflows that come with the server, to start from."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from dustrun.core.values.fields import Fields
from dustrun.errors import Code, Invalid
from dustrun.operations.declaration.answers import MADE, Answer, From
from dustrun.operations.declaration.encoding import data_of
from dustrun.operations.declaration.fields import Name, Text
from dustrun.operations.declaration.operation import Noun
from dustrun.operations.declaration.parts import Call
from dustrun.operations.shapes.workflows import WorkflowAnswer, WorkflowContent, workflow_shape
from dustrun.operations.workflows import new_workflow
from dustrun.services.templates.blanks import Blank, Kind, blanks_of, fill, need_values
from dustrun.services.templates.templates import Template, definition_of, get_template, list_templates
from dustrun.services.workflows.workflows import Workflow

noun = Noun("Workflows")

Category = Literal["money", "watch", "people", "data", "start"]


class TemplateItem(Answer):
    """A bundled workflow."""

    id: str = Field(description="What it is known by.", examples=["take-profit"])
    category: Category = Field(description="What it is for.")
    name: str = Field(description="Display name.")
    description: str = Field(description="What it does.")
    trigger_type: str = Field(description="Trigger type.")
    types: list[str] = Field(description="The types of its nodes.")
    node_count: Annotated[int, From(lambda one: len(one.definition["nodes"]))] = Field(
        description="Number of its nodes."
    )


class BlankAnswer(Answer):
    """What a template cannot know."""

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
    """A bundled workflow with its definition."""

    definition: Annotated[dict[str, Any], From(definition_of)] = Field(
        description="The definition; its input schema has the example as defaults."
    )
    payload: dict[str, Any] = Field(description="An example of what its trigger gets.")
    blanks: Annotated[list[BlankAnswer], From(lambda one: []), MADE] = Field(
        description="What it cannot know, and `POST /v1/templates/{id}/use` takes as `values`."
    )


class UseTemplate(Fields):
    """What the new workflow is called, and what the template cannot know."""

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
    """List the workflows that come with the server."""
    return list(list_templates(q, category))


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
    template = get_template(id)
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
    template = get_template(id)
    definition = definition_of(template)
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
    return await call.parts.workflows.create(call.principal, new_workflow(WorkflowContent.model_validate(document)))


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
