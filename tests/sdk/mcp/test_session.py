"""What a session makes of what a server says: both eras, streams, failures, and lists that never end."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from dustrun.core.values.exact_json import dumps, loads
from dustrun.errors import DustrunError, Permanent, Temporary, Uncertain
from dustrun.sdk import HttpRequest, HttpResponse
from dustrun.sdk.mcp.session import McpSession
from dustrun.sdk.mcp.wires import HttpWire
from dustrun.sdk.testing import FakeHttp, json_response, text_response
from testkit.plain_mcp import listed

Json = dict[str, Any]
URL = "https://mcp.example.com/mcp"
_HELLO = {"protocolVersion": "2025-11-25", "capabilities": {}}


def _result(result: Json, **more: Any) -> Callable[[HttpRequest], HttpResponse]:
    return lambda asked: json_response(
        {"jsonrpc": "2.0", "id": loads(asked.body or b"")["id"], "result": result}, **more
    )


def _error(code: int, status: int = 200) -> Callable[[HttpRequest], HttpResponse]:
    def answer(asked: HttpRequest) -> HttpResponse:
        error = {"code": code, "message": "no"}
        return json_response({"jsonrpc": "2.0", "id": loads(asked.body or b"")["id"], "error": error}, status)

    return answer


def _open(*answers: Any) -> tuple[McpSession, FakeHttp]:
    http = FakeHttp(answers)
    return McpSession(HttpWire(http, URL)), http


_OPENED = (_result(_HELLO, headers={"mcp-session-id": "s1"}), text_response("", 202))


async def test_a_session_is_named_in_every_further_request() -> None:
    session, http = _open(*_OPENED, _result({"tools": listed("a")}), _result({"content": [], "n": 1}))
    assert list(await session.list_tools()) == ["a"]
    await session.call("a", {"x": Decimal("0.10")}, 1, only_reads=False)
    assert [one.headers.get("Mcp-Session-Id") for one in http.requests] == [None, "s1", "s1", "s1"]
    assert [one.headers.get("MCP-Protocol-Version") for one in http.requests][1:] == ["2025-11-25"] * 3
    assert [(one.only_reads, one.safe) for one in http.requests] == [(True, True)] * 3 + [(False, False)]
    assert loads(http.requests[3].body or b"")["params"] == {"name": "a", "arguments": {"x": Decimal("0.10")}}


async def test_what_a_server_says_of_a_tool_is_kept() -> None:
    tool = {**listed("a")[0], "execution": {"taskSupport": "required"}, "annotations": {"readOnlyHint": "yes"}}
    session, _ = _open(*_OPENED, _result({"tools": [tool, *listed("b")]}))
    found = await session.list_tools()
    assert [(one.needs_task, one.is_called_reading) for one in found.values()] == [(True, False), (False, True)]


def _task(status: str, **more: Any) -> Json:
    return {"taskId": "t1", "status": status, "pollInterval": 1, **more}


async def test_a_task_is_waited_for() -> None:
    told = {"content": [{"type": "text", "text": "found"}]}
    session, http = _open(
        *_OPENED, _result({"tools": []}), *map(_result, ({"task": _task("working")}, _task("working"))),
        *map(_result, (_task("completed"), told)),
    )  # fmt: skip
    await session.list_tools()
    assert await session.call("a", {"x": 1}, 5, only_reads=False, as_task=True) == told
    sent = [loads(one.body or b"") for one in http.requests[3:]]
    assert [one["method"] for one in sent] == ["tools/call", "tasks/get", "tasks/get", "tasks/result"]
    assert sent[0]["params"] == {"name": "a", "arguments": {"x": 1}, "task": {"ttl": 5000}}
    assert {one["params"]["taskId"] for one in sent[1:]} == {"t1"}


@pytest.mark.parametrize(
    ("answers", "read", "write", "is_cancelled"),
    [
        ([_result({"content": []})], Permanent, Uncertain, False),
        ([_result({"task": _task("input_required")}), _result({})], Permanent, Uncertain, True),
        ([_result({"task": _task("cancelled")}), _result({})], Permanent, Uncertain, True),
        ([_result({"task": _task("working")}), text_response("", 503), _result({})], Temporary, Uncertain, True),
        ([_result({"task": _task("working")}), text_response("", 429), _result({})], Temporary, Uncertain, True),
        ([_result({"task": _task("working")}), text_response("", 404), _result({})], Permanent, Uncertain, True),
        ([_result({"task": _task("working")}), _error(-32602), _result({})], Permanent, Uncertain, True),
        ([_result({"task": _task("working")}), Temporary("no connection"), _result({})], Temporary, Uncertain, True),
        ([_result({"task": _task("completed")}), text_response("", 401)], Permanent, Uncertain, False),
        ([_result({"task": _task("failed")}), _error(-32603)], Permanent, Permanent, False),
        ([_result({"task": _task("failed")}), text_response("", 429)], Temporary, Uncertain, False),
        ([_result({"task": _task("failed")}), _result({"isError": True})], Permanent, Permanent, False),
        ([_result({"task": _task("working", pollInterval=9_999)}), _result({})], Temporary, Uncertain, True),
    ],
)
async def test_a_task_that_brings_nothing(
    answers: list[Any], read: type[DustrunError], write: type[DustrunError], is_cancelled: bool
) -> None:
    for only_reads, expected in ((True, read), (False, write)):
        session, http = _open(*_OPENED, _result({"tools": []}), *answers)
        await session.list_tools()
        with pytest.raises(expected):
            await session.call("a", {}, 0.5, only_reads=only_reads, as_task=True)
        assert (loads(http.requests[-1].body or b"")["method"] == "tasks/cancel") is is_cancelled


async def test_a_server_without_the_handshake_has_no_tasks() -> None:
    session, http = _open(_error(-32022, 400), _result({"tools": []}))
    await session.list_tools()
    with pytest.raises(Permanent, match="as a task"):
        await session.call("a", {}, 1, only_reads=False, as_task=True)
    assert len(http.requests) == 2


async def test_a_server_without_the_handshake_gets_stateless_requests() -> None:
    session, http = _open(
        _error(-32022, 400), _result({"tools": listed("ä")}), _result({"resultType": "input_required"})
    )
    assert list(await session.list_tools()) == ["ä"]
    with pytest.raises(Permanent, match="asks back"):
        await session.call("ä", {}, 1, only_reads=False)
    sent = http.requests[2]
    assert (sent.headers["Mcp-Method"], sent.headers["Mcp-Name"]) == ("tools/call", "=?base64?w6Q=?=")
    meta = loads(sent.body or b"")["params"]["_meta"]
    assert meta["io.modelcontextprotocol/protocolVersion"] == sent.headers["MCP-Protocol-Version"] == "2026-07-28"


async def test_numbers_of_a_stream_stay_exact() -> None:
    answer = dumps(
        {"jsonrpc": "2.0", "id": 3, "result": {"structuredContent": {"wei": 10**30, "usd": Decimal("1.10")}}}
    )
    note = '{"jsonrpc":"2.0","method":"x"}'
    stream = f": hello\n\nevent: message\ndata: {note}\n\nevent: message\ndata: {answer.decode()}\n\n"
    session, _ = _open(*_OPENED, _result({"tools": []}), text_response(stream, content_type="text/event-stream"))
    await session.list_tools()
    found = await session.call("a", {}, 1, only_reads=True)
    assert found["structuredContent"] == {"wei": 10**30, "usd": Decimal("1.10")}
    assert str(found["structuredContent"]["usd"]) == "1.10"


@pytest.mark.parametrize(
    ("answer", "read", "write"),
    [
        (text_response("", 503), Temporary, Uncertain),
        (text_response("<html>"), Temporary, Uncertain),
        (text_response("", 429), Temporary, Temporary),
        (text_response("", 401), Permanent, Permanent),
        (text_response("", 307), Permanent, Permanent),
        (_error(-32603), Permanent, Permanent),
        (_result({"isError": True, "content": [{"type": "text", "text": "x" * 5_000}]}), Permanent, Permanent),
        (json_response([1]), Temporary, Uncertain),
        (json_response({"jsonrpc": "2.0", "id": 99, "result": {}}), Temporary, Uncertain),
    ],
)
async def test_what_went_wrong(answer: Any, read: type[DustrunError], write: type[DustrunError]) -> None:
    for only_reads, expected in ((True, read), (False, write)):
        session, _ = _open(*_OPENED, _result({"tools": []}), answer)
        await session.list_tools()
        with pytest.raises(expected) as caught:
            await session.call("a", {}, 1, only_reads=only_reads)
        assert len(caught.value.message) < 500


@pytest.mark.parametrize(
    "pages",
    [
        [_result({"tools": listed("a", "a")})],
        [_result({"tools": listed(*(f"t{n}" for n in range(201)))})],
        [_result({"tools": [], "nextCursor": "again"})] * 20,
        [_result({"tools": "none"})],
        [_result({"tools": [{"name": "a"}]})],
        [_result({"tools": [{"name": "a\u202e", "inputSchema": {}}]})],
        [_result({"tools": listed("a" * 129)})],
    ],
)
async def test_a_list_that_cannot_be_used_is_refused(pages: list[Any]) -> None:
    session, _ = _open(*_OPENED, *pages)
    with pytest.raises(Permanent):
        await session.list_tools()
