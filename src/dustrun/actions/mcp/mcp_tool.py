"""Calls a tool of an MCP server.

The connector names the server, and its owner must have looked at the tool: `POST /v1/connectors/{id}/tools` reads the
tools and keeps them. Before each call the tool is compared with what was looked at; if its name, description or schemas
differ, the node fails with `MCP_TOOL_CHANGED`, in a simulation too. The arguments are validated against the tool's
schema before anything is sent, and a structured answer against its output schema afterwards.

A tool counts as a write, which a simulation does not send, until the connector's owner says that it only reads; what
the server says of itself (`readOnlyHint`) decides nothing. A tool that says that it failed (`isError`) fails for good.
If the answer is lost or late, a read may be repeated, and a write is uncertain and waits for a person.

What a tool answers was written by others, and so may decide nothing about money: validation warns
(`MODEL_DECIDES_SPEND`).
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from dustrun.core.json_schema.check import PayloadCheck
from dustrun.errors import Code, Invalid, Permanent, Problem, Refused
from dustrun.sdk import Connection, Context, Effect, Fields, Origin, ToolShape, action
from dustrun.sdk.mcp.session import session_with
from dustrun.sdk.mcp.tools import ListedTool, text_of
from dustrun.sdk.threads import run_beside, run_sized


class Input(Fields):
    """The tool and its arguments."""

    tool: str = Field(description="Name of the tool.", min_length=1, max_length=128)
    args: dict[str, Any] = Field({}, description="Its arguments, as its input schema asks.")
    timeout_ms: int = Field(50_000, ge=1, le=600_000, description="Longest time of the call in milliseconds.")


class Output(Fields):
    """The answer."""

    text: str = Field(description="The texts of the answer, joined by line breaks.")
    content: list[Any] = Field(description="All parts of the answer.")
    structured: Any = Field(None, description="The structured answer, if the tool gives one.")


def _preview(input: Input) -> dict[str, Any]:
    return {"method": "tools/call", "url": f"mcp:{input.tool}", "body": input.args}


def _effect_by(input: Input, connection: Connection) -> Effect:
    known = connection.tools.get(input.tool)
    return Effect.READ if known is not None and known.get("effect") == "read" else Effect.WRITE


def _as_tool(payload: dict[str, Any], connection: Connection) -> ToolShape | None:
    """A tool that is named is the model's own, as it was looked at."""
    known = connection.tools.get(payload.get("tool", "")) if "args" not in payload else None
    return None if known is None else ToolShape(known["description"], known["inputSchema"], "args")


@action(
    effect=Effect.WRITE,
    effect_by=_effect_by,
    input=Input,
    output=Output,
    example_input={"tool": "read_text_file", "args": {"path": "a.txt"}},
    example_output={"text": "hello", "content": [{"type": "text", "text": "hello"}], "structured": None},
    preview=_preview,
    connector="mcp",
    sends_by_context=True,
    as_tool=_as_tool,
    origins=[Origin("mcp")],
    tags=("mcp", "tool", "ai"),
)
async def mcp_tool(input: Input, ctx: Context) -> Output:
    """Compares the tool with what is known of it, and calls it."""
    connection = ctx.connection
    known = connection.tools.get(input.tool)
    if known is None:
        raise Refused(
            f'Nobody has looked at a tool "{input.tool}" of this connector; POST /v1/connectors/{connection.id}/tools '
            "reads its tools.",
            code=Code.MCP_TOOL_UNKNOWN,
        )
    if known.get("problem") is not None:
        raise Refused(f'The tool "{input.tool}" cannot be called: {known["problem"]}.')
    await run_beside(_check_args, known["inputSchema"], input.args)
    only_reads = _effect_by(input, connection) is Effect.READ
    async with session_with(connection.data, ctx.http, ctx.commands) as session:
        listed = (await session.list_tools()).get(input.tool)
        if listed is None or await run_sized(listed, _hash_of, listed) != known["hash"]:
            what = "is gone" if listed is None else "is not the one that was looked at"
            raise Refused(
                f'The tool "{input.tool}" {what}. POST /v1/connectors/{connection.id}/tools shows it as it is now.',
                code=Code.MCP_TOOL_CHANGED,
            )
        timeout_s = input.timeout_ms / 1000
        answer = await session.call(input.tool, input.args, timeout_s, only_reads=only_reads, as_task=listed.needs_task)
    return await run_beside(_output, answer, known.get("outputSchema"), input.tool)


def _hash_of(tool: ListedTool) -> str:
    return tool.hash


def _check_args(schema: dict[str, Any], args: dict[str, Any]) -> None:
    try:
        PayloadCheck(schema).check(args)
    except Invalid as error:
        details = [Problem(_place(one), one["message"]) for one in error.public_details()]
        message = "The arguments do not satisfy the tool's schema."
        raise Invalid(message, code=Code.ACTION_INPUT_INVALID, details=details) from None


def _place(one: dict[str, Any]) -> str:
    return f"payload.args{one['field'].removeprefix('payload')}"


def _output(answer: dict[str, Any], schema: dict[str, Any] | None, tool: str) -> Output:
    structured, content = answer.get("structuredContent"), answer.get("content")
    if schema is not None:
        try:
            PayloadCheck(schema).check(structured if isinstance(structured, dict) else {})
        except Invalid as error:
            message = f'The tool "{tool}" was called, and its answer does not satisfy its own output schema.'
            raise Permanent(message, details=error.details) from None
    return Output(text=text_of(answer), content=content if isinstance(content, list) else [], structured=structured)
