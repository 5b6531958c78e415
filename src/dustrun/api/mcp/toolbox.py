"""The tools of `/mcp` for the turns of conversations: the same functions, in the process."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from pydantic import Field

from dustrun.api.errors import as_failure
from dustrun.api.mcp import inputs
from dustrun.api.mcp.drafting import checked, problems_result
from dustrun.api.mcp.inputs import Id, Limit, SaveWorkflow, Version, schema_of
from dustrun.api.mcp.result import Result, failure_text
from dustrun.api.mcp.running import launch_of
from dustrun.api.mcp.tools import TOOLS, Tool
from dustrun.assistant.toolbox import LaunchQuestion, OnQuestion, ToolResult
from dustrun.core.values.exact_json import loads_own
from dustrun.core.values.fields import Fields
from dustrun.errors import NotFound
from dustrun.operations.declaration.parts import Parts
from dustrun.sdk.llm.messages import ToolOffer
from dustrun.sdk.threads import run_sized
from dustrun.services.access.principal import Principal
from dustrun.services.runs.start_request import of_message
from dustrun.services.templates.templates import Template, definition_of, get_template, list_templates
from dustrun.storage.db.statement import Tx
from dustrun.storage.runs.approvals import ApprovalRow

# Tools of the assistant's turns besides those of `/mcp`: to draft from what there is, and to say what has changed.


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
    """The differences of two versions, node by node and field by field."""
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


_LAUNCH: Final = "launch"
_SAVE: Final = "save_workflow"
_ABOUT_LAUNCH: Final = (
    "Asks the person to start for real what a passed simulation of a saved version has shown, and waits for the "
    "decision. Nothing runs without it."
)
_WAITS: Final = '{"started":false,"note":"A person decides."}'


class McpToolbox:
    """The tools as a turn calls them."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._drafts = Drafts()

    def offers(self, principal: Principal) -> list[ToolOffer]:
        """The tools that the principal may call."""
        return [
            ToolOffer(one.name, _ABOUT_LAUNCH if one.name == _LAUNCH else one.about, schema_of(one.takes))
            for one in TURN_TOOLS.values()
            if one.is_for(principal)
        ]

    async def call(
        self, principal: Principal, tool: str, args: dict[str, Any], message_id: str, on_question: OnQuestion
    ) -> ToolResult:
        """Calls a tool; a failure is a result, too. Runs that it starts belong to the message."""
        marked = of_message.set(message_id)
        try:
            found = TURN_TOOLS.get(tool)
            if found is None:
                raise NotFound(f'There is no tool "{tool[:80]}"; there are {", ".join(TURN_TOOLS)}.')
            if tool == _LAUNCH:
                return await self._propose(principal, found, args, message_id, on_question)
            refused = await self._refuse(principal, found, args, message_id)
            if refused is not None:
                return ToolResult(False, refused)
            return ToolResult(True, await found.call(self._parts, principal, args))
        except Exception as error:
            return ToolResult(False, failure_text(as_failure(error, message_id)))
        finally:
            of_message.reset(marked)

    async def _refuse(self, principal: Principal, tool: Tool, args: dict[str, Any], message_id: str) -> str | None:
        """Why a draft is not saved yet."""
        if tool.name != _SAVE:
            return None
        tool.need(principal)
        asked = await run_sized(args, checked, inputs.SaveWorkflow, args)
        found = await self._drafts.check(self._parts, principal, asked, message_id)
        return None if found is None else await run_sized(found.untrusted, found.text)

    async def _propose(
        self, principal: Principal, tool: Tool, args: dict[str, Any], message_id: str, on_question: OnQuestion
    ) -> ToolResult:
        """Whatever the key may, a person decides."""
        tool.need(principal)
        asked = replace(launch_of(await run_sized(args, checked, inputs.Launch, args)), chat_message_id=message_id)

        def note(tx: Tx, row: ApprovalRow) -> None:
            run_id = loads_own(row.launch or "{}")["runId"]
            on_question(tx, LaunchQuestion(row.id, row.binding or "", run_id, row.mode, row.run_id, row.expires_at))

        await self._parts.launches.propose(principal, asked, as_assistant=True, also=note)
        return ToolResult(True, _WAITS, waits=True)
