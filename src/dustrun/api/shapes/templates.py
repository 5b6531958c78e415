"""Bundled workflows: what a list shows of one, and one with its definition."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from dustrun.api.shapes.wire import Answer, Name
from dustrun.core.values.fields import Fields
from dustrun.services.templates.templates import Template, definition_of

Category = Literal["money", "watch", "people", "data", "start"]


class TemplateItem(Answer):
    """A bundled workflow."""

    id: str = Field(description="What it is known by.", examples=["take-profit"])
    category: Category = Field(description="What it is for.")
    name: str = Field(description="Display name.")
    description: str = Field(description="What it does.")
    trigger_type: str = Field(description="Trigger type.")
    types: list[str] = Field(description="The types of its nodes.")
    node_count: int = Field(description="Number of its nodes.")


class TemplateAnswer(TemplateItem):
    """A bundled workflow with its definition."""

    definition: dict[str, Any] = Field(description="The definition; its input schema has the example as defaults.")
    payload: dict[str, Any] = Field(description="An example of what its trigger gets.")


class UseTemplate(Fields):
    """What the new workflow is called."""

    name: Name | None = Field(
        None, description="Display name; default: the template's.", examples=["Take profit, my way"]
    )


def listed_shape(one: Template) -> dict[str, Any]:
    """An item of the list."""
    return {
        "id": one.id,
        "category": one.category,
        "name": one.name,
        "description": one.description,
        "triggerType": one.trigger_type,
        "types": list(one.types),
        "nodeCount": len(one.definition["nodes"]),
    }


def template_shape(one: Template) -> dict[str, Any]:
    """One template."""
    return {**listed_shape(one), "definition": definition_of(one), "payload": one.payload}
