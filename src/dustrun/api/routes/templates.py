"""`/v1/templates`: workflows that come with the server, to start from."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path, Query

from dustrun.api.routes.workflows import new_workflow
from dustrun.api.routing import Call, Routes
from dustrun.api.shapes.templates import (
    Category,
    TemplateAnswer,
    TemplateItem,
    UseTemplate,
    listed_shape,
    template_shape,
)
from dustrun.api.shapes.workflows import CreateWorkflow, WorkflowAnswer, workflow_shape
from dustrun.errors import Code
from dustrun.services.templates.templates import Template, definition_of, get_template, list_templates
from dustrun.services.workflows.workflows import Workflow

routes = Routes("Workflows")
router = routes.router

Id = Annotated[str, Path(description="Id of the template.", examples=["take-profit"], max_length=64)]
Words = Annotated[
    str | None, Query(max_length=256, description="Words in the name, the description or the node types.")
]


@routes.get("/v1/templates", permission="workflow:read", answers=list[TemplateItem])
async def list_workflow_templates(
    call: Call,
    q: Words = None,
    category: Annotated[Category | None, Query(description="Only of this category.")] = None,
) -> list[dict[str, object]]:
    """List the workflows that come with the server."""
    return [listed_shape(one) for one in list_templates(q, category)]


@routes.get(
    "/v1/templates/{id}",
    permission="workflow:read",
    answers=TemplateAnswer,
    shape=template_shape,
    refusals=[Code.TEMPLATE_UNKNOWN],
)
async def get_workflow_template(call: Call, id: Id) -> Template:
    """Get one of them, with its definition."""
    return get_template(id)


@routes.post(
    "/v1/templates/{id}/use",
    permission="workflow:create",
    reads="workflow:read",
    answers=WorkflowAnswer,
    shape=workflow_shape,
    refusals=[Code.TEMPLATE_UNKNOWN],
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
    return await call.parts.workflows.create(call.principal, new_workflow(CreateWorkflow.model_validate(document)))
