"""`/v1/connectors/{id}/tools`: the tools of an MCP server, as somebody has looked at them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from dustrun.core.values.fields import Fields
from dustrun.errors import Code
from dustrun.operations.declaration.answers import MADE, Answer, From
from dustrun.operations.declaration.operation import Noun
from dustrun.operations.declaration.parts import Call
from dustrun.services.connectors.mcp_tools import SeenTool

noun = Noun("Connectors")
ToolName = Annotated[str, StringConstraints(min_length=1, max_length=128)]
Effect = Literal["read", "write"]


class ReadTools(Fields):
    """The owner's statement of which tools of a connector only read."""

    effects: dict[ToolName, Effect] = Field(
        default_factory=dict,
        max_length=200,
        description="By tool: whether it only reads. `read` is taken for tools that were read before and have not "
        "changed since. Tools that are not named stay as they are.",
    )


class ToolAnswer(Answer):
    """A tool of an MCP server."""

    name: str
    description: str = Field(description="What the server says of it: text that others wrote.")
    effect: Effect = Field(description="What the connector's owner says that it does.")
    hint: Effect = Field(description="What the server suggests (`readOnlyHint`); nothing relies on it.")
    was: Literal["new", "same", "changed"] | None = Field(
        description="Compared with when the tools were read before; null if they were not read now."
    )
    problem: str | None = Field(description="Why it cannot be called: its schemas are not supported.")
    hash: str = Field(description="SHA-256 of name, description and schemas.")
    input_schema: dict[str, Any]
    output_schema: dict[str, Any] | None


class ToolsAnswer(Answer):
    """The tools of an MCP server."""

    tools: Annotated[
        list[ToolAnswer], From(lambda one: [{"name": one.name, "was": one.was, **one.known} for one in one]), MADE
    ]


@noun.get(
    "/v1/connectors/{id}/tools",
    permission="connector:read",
    answers=ToolsAnswer,
    refusals=[Code.CONNECTOR_UNKNOWN, Code.PARAMETER_INVALID],
)
async def list_connector_tools(call: Call, id: str) -> list[SeenTool]:
    """List the tools of an MCP server, as they were last read."""
    return await call.parts.data.mcp_tools.list_seen(call.principal, id)


@noun.post(
    "/v1/connectors/{id}/tools",
    permission="connector:write",
    answers=ToolsAnswer,
    refusals=[
        Code.CONNECTOR_UNKNOWN,
        Code.PARAMETER_INVALID,
        Code.MCP_TOOL_UNKNOWN,
        Code.MCP_TOOL_CHANGED,
        Code.MCP_COMMAND_NOT_ALLOWED,
        Code.VERSION_MOVED,
        Code.VAULT_LOCKED,
        Code.SECRET_UNREADABLE,
        Code.UPSTREAM_FAILED,
    ],
    example={"effects": {"read_text_file": "read"}},
)
async def read_connector_tools(call: Call, id: str, body: ReadTools | None = None) -> list[SeenTool]:
    """Read the tools of an MCP server, and keep them as looked at.

    A tool is a write, which simulations do not send, until `effects` says `read`. One that has changed since it was
    read before is a write again; until this call reads it, nodes that use it fail with `MCP_TOOL_CHANGED`."""
    return await call.parts.data.mcp_tools.read(call.principal, id, body.effects if body is not None else {})
