"""Tools of the assistant's turns besides those of `/mcp`: to draft from what there is, and to say what has changed."""

from __future__ import annotations

from typing import Any, Final

from pydantic import Field

from dustrun.api.mcp.drafting import problems_result
from dustrun.api.mcp.inputs import Id, Limit, SaveWorkflow, Version
from dustrun.api.mcp.result import Result
from dustrun.api.mcp.tools import TOOLS, Tool
from dustrun.api.parts import Parts
from dustrun.core.values.fields import Fields
from dustrun.services.access.principal import Principal
from dustrun.services.templates.templates import Template, definition_of, get_template, list_templates

_READ: Final = ("workflow:read",)
_MOST_REPAIRS: Final = 3
_MOST_REMEMBERED: Final = 1_000
_NOT_SAVED: Final = "Nothing was saved: repair these problems and save again."


class SearchTemplates(Fields):
    """Finds bundled workflows."""

    query: str = Field("", max_length=256, description="Words; empty lists all")
    limit: Limit = 10


class GetTemplate(Fields):
    """Asks for a bundled workflow."""

    id: Id


class CompareVersions(Fields):
    """Asks what changed."""

    workflow_id: Id
    to: Version = Field(description="The later version")
    against: Version | None = Field(None, description="By default the version before")


async def search_templates(parts: Parts, principal: Principal, asked: SearchTemplates) -> Result:
    """Those that mention most of the words, one line each."""
    words = set(asked.query.casefold().split())
    every = list_templates()
    counted = [(sum(word in _searched(one) for word in words), one) for one in every]
    found = [one for count, one in sorted(counted, key=lambda pair: -pair[0]) if count or not words]
    lines = [f"{one.id} ({one.category}): {one.name}. {one.description}" for one in found[: asked.limit]]
    return Result({"templates": lines, "found": len(found)})


def _searched(one: Template) -> str:
    return " ".join((one.id, one.name, one.description, *one.types)).casefold()


async def read_template(parts: Parts, principal: Principal, asked: GetTemplate) -> Result:
    """A bundled workflow with its definition."""
    one = get_template(asked.id)
    return Result({"id": one.id, "name": one.name, "definition": definition_of(one), "payload": one.payload})


async def compare_versions(parts: Parts, principal: Principal, asked: CompareVersions) -> Result:
    """What differs, node by node and field by field."""
    found = await parts.versions.diff(principal, asked.workflow_id, asked.to, asked.against)
    head = {"workflowId": asked.workflow_id, **{name: found.pop(name) for name in ("from", "to", "equal")}}
    return Result(head, found)


EXTRA: Final = {
    one.name: one
    for one in (
        Tool(
            "search_templates",
            "Bundled workflows to start from, one line each. Look here before you write a definition.",
            _READ,
            SearchTemplates,
            search_templates,
        ),
        Tool("get_template", "A bundled workflow with its definition.", _READ, GetTemplate, read_template),
        Tool(
            "compare_versions",
            "What changed between two versions of a workflow, by node and field.",
            _READ,
            CompareVersions,
            compare_versions,
        ),
    )
}
TURN_TOOLS: Final = {**TOOLS, **EXTRA}


class Drafts:
    """Saves only drafts without errors, so that a person is shown nothing that cannot run. A model that cannot repair
    one gets it saved with its problems, which the editor shows."""

    def __init__(self) -> None:
        self._refused: dict[str, int] = {}

    async def check(self, parts: Parts, principal: Principal, asked: SaveWorkflow, message_id: str) -> Result | None:
        """The problems of a draft that is not to be saved; None if it is."""
        problems = await parts.workflows.validate(principal, asked.definition, asked.workflow_id)
        count = self._refused.get(message_id, 0)
        if count >= _MOST_REPAIRS or not any(one.severity == "error" for one in problems):
            self._refused.pop(message_id, None)
            return None
        self._refused[message_id] = count + 1
        while len(self._refused) > _MOST_REMEMBERED:
            self._refused.pop(next(iter(self._refused)))
        more: dict[str, Any] = {"saved": False, "note": _NOT_SAVED, "repairsLeft": _MOST_REPAIRS - count}
        return problems_result(problems, **more)
