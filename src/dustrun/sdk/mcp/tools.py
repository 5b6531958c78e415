"""Tools as an MCP server lists them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final

from dustrun.core.values.exact_json import dumps
from dustrun.errors import Permanent
from dustrun.records import dataclass

Json = dict[str, Any]
MOST_TOOLS: Final = 200
_MOST_NAME: Final = 128


@dataclass(frozen=True, slots=True)
class ListedTool:
    """A tool as its server describes it."""

    name: str
    description: str
    input_schema: Json
    output_schema: Json | None
    is_called_reading: bool
    """Whether the server calls it reading (`readOnlyHint`); only a hint."""
    needs_task: bool = False
    """Whether it runs only as a task, whose end is asked for later (`taskSupport`)."""

    @property
    def hash(self) -> str:
        """SHA-256 of name, description and schemas: of all that a person has looked at."""
        seen = [self.name, self.description, self.input_schema, self.output_schema]
        return hashlib.sha256(dumps(seen, canonical=True)).hexdigest()


def tools_of(answer: Mapping[str, Any]) -> list[ListedTool]:
    """The tools of one page of `tools/list`; raises `Permanent` if it cannot be read."""
    tools = answer.get("tools")
    if not isinstance(tools, list):
        raise _unreadable("it has no `tools`")
    if len(tools) > MOST_TOOLS:
        raise Permanent(f"The MCP server has over {MOST_TOOLS} tools.")
    return [_tool(one) for one in tools]


def _tool(one: Any) -> ListedTool:
    name, schema = (one.get("name"), one.get("inputSchema")) if isinstance(one, dict) else (None, None)
    if not isinstance(name, str) or not 0 < len(name) <= _MOST_NAME or not name.isprintable():
        raise _unreadable("a tool has no usable name")
    if not isinstance(schema, dict):
        raise _unreadable(f'the tool "{name}" has no input schema')
    hints, output = one.get("annotations"), one.get("outputSchema")
    is_reading = isinstance(hints, dict) and hints.get("readOnlyHint") is True
    about = one.get("description")
    output_schema = output if isinstance(output, dict) else None
    execution = one.get("execution")
    needs_task = isinstance(execution, dict) and execution.get("taskSupport") == "required"
    return ListedTool(name, about if isinstance(about, str) else "", schema, output_schema, is_reading, needs_task)


def _unreadable(why: str) -> Permanent:
    return Permanent(f"The MCP server's list of tools cannot be read: {why}.")


def text_of(answer: Mapping[str, Any]) -> str:
    """The texts of a tool's answer."""
    content = answer.get("content")
    blocks = [one for one in content if isinstance(one, dict)] if isinstance(content, list) else []
    return "\n".join(str(one.get("text", "")) for one in blocks if one.get("type") == "text")
