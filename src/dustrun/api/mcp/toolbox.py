"""The tools of `/mcp` for the turns of conversations: the same functions, in the process."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from dustrun.api.errors import as_failure
from dustrun.api.mcp import inputs
from dustrun.api.mcp.drafting import checked
from dustrun.api.mcp.inputs import schema_of
from dustrun.api.mcp.result import failure_text
from dustrun.api.mcp.running import launch_of
from dustrun.api.mcp.tools import Tool
from dustrun.api.mcp.turn_tools import TURN_TOOLS, Drafts
from dustrun.api.parts import Parts
from dustrun.assistant.toolbox import OnQuestion, Question, ToolResult
from dustrun.core.values.exact_json import loads_own
from dustrun.errors import NotFound
from dustrun.sdk.llm.messages import ToolOffer
from dustrun.sdk.threads import run_sized
from dustrun.services.access.principal import Principal
from dustrun.services.runs.start_request import of_message
from dustrun.storage.db.statement import Tx
from dustrun.storage.runs.approvals import ApprovalRow

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
            on_question(tx, Question(row.id, row.binding or "", run_id, row.mode, row.run_id, row.expires_at))

        await self._parts.launches.propose(principal, asked, as_assistant=True, also=note)
        return ToolResult(True, _WAITS, waits=True)
