"""The tools of `/mcp` for the turns of conversations: the same functions, in the process."""

from __future__ import annotations

from typing import Any, Final

from dustrun.api.errors import as_failure
from dustrun.api.mcp.inputs import schema_of
from dustrun.api.mcp.result import failure_text
from dustrun.api.mcp.tools import TOOLS, Tool
from dustrun.api.parts import Parts
from dustrun.assistant.toolbox import ToolResult
from dustrun.errors import NotFound
from dustrun.sdk.llm.messages import ToolOffer
from dustrun.services.access.principal import Principal
from dustrun.services.runs.start_request import of_message

_LEFT_OUT: Final = frozenset({"launch"})
"""A turn asks nobody to decide: a person launches what it has simulated."""


class McpToolbox:
    """The tools as a turn calls them."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def offers(self, principal: Principal) -> list[ToolOffer]:
        """The tools that the principal may call."""
        return [ToolOffer(one.name, one.about, schema_of(one.takes)) for one in _given() if one.is_for(principal)]

    async def call(self, principal: Principal, tool: str, args: dict[str, Any], message_id: str) -> ToolResult:
        """Calls a tool; a failure is a result, too. Runs that it starts belong to the message."""
        marked = of_message.set(message_id)
        try:
            found = {one.name: one for one in _given()}.get(tool)
            if found is None:
                raise NotFound(f'There is no tool "{tool[:80]}"; there are {", ".join(one.name for one in _given())}.')
            return ToolResult(True, await found.call(self._parts, principal, args))
        except Exception as error:
            return ToolResult(False, failure_text(as_failure(error, message_id)))
        finally:
            of_message.reset(marked)


def _given() -> list[Tool]:
    return [one for one in TOOLS.values() if one.name not in _LEFT_OUT]
