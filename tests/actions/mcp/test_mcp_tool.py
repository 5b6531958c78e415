"""`mcp-tool`: what it compares, validates and returns. With real servers: `tests/engine/test_mcp_tools.py`."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from dustrun.actions.mcp.mcp_tool import mcp_tool
from dustrun.connectors.mcp import Data
from dustrun.core.values.exact_json import loads
from dustrun.errors import Code, DustrunError, Invalid, Permanent, Refused
from dustrun.sdk import Connection, Effect, HttpRequest, HttpResponse
from dustrun.sdk.mcp.tools import tools_of
from dustrun.sdk.testing import FakeContext, json_response, perform, text_response
from testkit.plain_mcp import answer_of, listed

Json = dict[str, Any]
_OUTPUT: Json = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


def _context(result: Json, *, effect: str = "write", **known: Any) -> FakeContext:
    """A server with the tool `look`, of which `known` is what was looked at."""
    tools = listed("look")
    seen = {"hash": tools_of({"tools": tools})[0].hash, "inputSchema": tools[0]["inputSchema"], "effect": effect}

    def answer(asked: HttpRequest) -> HttpResponse:
        message = loads(asked.body or b"")
        if message["method"] == "tools/call":
            return json_response({"jsonrpc": "2.0", "id": message["id"], "result": result})
        found = answer_of(message, tools)
        return text_response("", 202) if found is None else json_response(found)

    data = Data(url="https://mcp.example.com/mcp")
    connection = Connection("conn_1", "mcp", "Files", data, tools={"look": {**seen, **known}})
    return FakeContext(responses=[answer] * 4, connection=connection)


async def test_answer_has_its_texts_and_exact_numbers() -> None:
    content = [{"type": "text", "text": "a"}, {"type": "image", "data": "…"}, {"type": "text", "text": "b"}]
    ctx = _context({"content": content, "structuredContent": {"n": 3, "usd": Decimal("0.10")}}, outputSchema=_OUTPUT)
    found = await perform(mcp_tool, {"tool": "look", "args": {"path": "x"}}, ctx)
    assert found == {"text": "a\nb", "content": content, "structured": {"n": 3, "usd": Decimal("0.10")}}
    assert [loads(one.body or b"")["method"] for one in ctx.http.requests][-1] == "tools/call"


@pytest.mark.parametrize(
    ("payload", "known", "error", "code", "sent"),
    [
        ({"tool": "drop"}, {}, Refused, Code.MCP_TOOL_UNKNOWN, 0),
        ({"tool": "look", "args": {}}, {}, Invalid, Code.ACTION_INPUT_INVALID, 0),
        ({"tool": "look", "args": {"path": 1}}, {}, Invalid, Code.ACTION_INPUT_INVALID, 0),
        ({"tool": "look", "args": {"path": "x"}}, {"problem": "its input schema is odd"}, Refused, None, 0),
        ({"tool": "look", "args": {"path": "x"}}, {"hash": "0" * 64}, Refused, Code.MCP_TOOL_CHANGED, 3),
        ({"tool": "look", "args": {"path": "x"}}, {"outputSchema": _OUTPUT}, Permanent, None, 4),
    ],
)
async def test_what_is_refused(
    payload: Json, known: Json, error: type[DustrunError], code: Code | None, sent: int
) -> None:
    ctx = _context({"content": []}, **known)
    with pytest.raises(error) as caught:
        await perform(mcp_tool, payload, ctx)
    assert code is None or caught.value.code is code
    assert len(ctx.http.requests) == sent


@pytest.mark.parametrize(("effect", "expected"), [("read", Effect.READ), ("write", Effect.WRITE)])
async def test_the_owner_decides_what_it_is(effect: str, expected: Effect) -> None:
    ctx = _context({"content": []}, effect=effect)
    given = mcp_tool.input.model_validate({"tool": "look", "args": {"path": "x"}})
    assert mcp_tool.effect_by is not None
    assert mcp_tool.effect_by(given, ctx.connection) is expected
    await mcp_tool.run(given, ctx)
    assert [one.only_reads for one in ctx.http.requests][-1] is (expected is Effect.READ)
