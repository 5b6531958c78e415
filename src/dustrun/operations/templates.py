"""`/v1/templates`: workflows that come with the server, to start from."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from dustrun.core.values.fields import Fields
from dustrun.errors import Code
from dustrun.operations.declaration.answers import Answer, From
from dustrun.operations.declaration.fields import Name
from dustrun.operations.declaration.operation import Noun
from dustrun.operations.declaration.parts import Call
from dustrun.operations.shapes.workflows import WorkflowAnswer, WorkflowContent, workflow_shape
from dustrun.operations.workflows import new_workflow
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


class TemplateAnswer(TemplateItem):
    """A bundled workflow with its definition."""

    definition: Annotated[dict[str, Any], From(definition_of)] = Field(
        description="The definition; its input schema has the example as defaults."
    )
    payload: dict[str, Any] = Field(description="An example of what its trigger gets.")


class UseTemplate(Fields):
    """What the new workflow is called."""

    name: Name | None = Field(
        None, description="Display name; default: the template's.", examples=["Take profit, my way"]
    )


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


@noun.get(
    "/v1/templates/{id}",
    permission="workflow:read",
    answers=TemplateAnswer,
    refusals=[Code.TEMPLATE_UNKNOWN],
)
async def get_workflow_template(call: Call, id: Id) -> Template:
    """Get one of them, with its definition."""
    return get_template(id)


@noun.post(
    "/v1/templates/{id}/use",
    permission="workflow:create",
    reads="workflow:read",
    answers=WorkflowAnswer,
    shape=workflow_shape,
    refusals=[Code.TEMPLATE_UNKNOWN],
    example={"name": "Take profit, my way"},
)
async def use_workflow_template(call: Call, id: Id, body: UseTemplate) -> Workflow:
    """Create a workflow from a template.

    The workflow is a draft of its own: the template's later changes do not reach it.
    """
    template = get_template(id)
    document = {
        "name": body.name or template.name,
        "description": template.description,
        "definition": definition_of(template),
    }
    return await call.parts.workflows.create(call.principal, new_workflow(WorkflowContent.model_validate(document)))
