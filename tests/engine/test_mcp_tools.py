"""Tools of a real MCP server as nodes: looked at, validated, and sent only where they may be."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from engine.conftest import Bench, Definition
from testkit import mcp_program, mcp_server
from testkit.composition import composed
from testkit.mcp_server import Calls, serving, tools

SECRET = "secret-of-the-server"
_NAMES = ["look_up", "store", "fail", "hang", "flood", "environment"]


@pytest.fixture
def calls(tmp_path: Path) -> Calls:
    return Calls(tmp_path / "calls.txt")


@pytest.fixture
async def bench(tmp_path: Path, store_url: str) -> AsyncIterator[Bench]:
    allowed = " ".join(mcp_program.command(tmp_path / "calls.txt"))
    settings = {"outbound_allow": ("127.0.0.1",), "mcp_commands": (f"TOKEN=* {allowed} *",)}
    async with composed(tmp_path, database_url=store_url, **settings) as composition:
        yield Bench(composition)


async def made(bench: Bench, port: int, **more: Any) -> str:
    data = {"url": f"http://127.0.0.1:{port}/mcp", "headers": {"X-Key": SECRET}}
    body = {"type": "mcp", "name": "small", "data": data, "allowedHosts": [f"http://127.0.0.1:{port}"], **more}
    answer = await bench.api.post("/v1/connectors", body)
    assert answer.status == 200, answer.body
    found: str = answer.data["id"]
    return found


async def read(bench: Bench, connector: str, **effects: str) -> Any:
    answer = await bench.api.post(f"/v1/connectors/{connector}/tools", {"effects": effects} if effects else {})
    return answer.data["tools"] if answer.status == 200 else answer


def calling(connector: str, name: str, **args: Any) -> Definition:
    payload = {"tool": name, "args": args}
    return {"call": {"type": "mcp-tool", "payload": payload, "connector": {"type": "mcp", "id": connector}}}


async def ran(bench: Bench, nodes: Definition, **body: Any) -> Any:
    return (await bench.run(nodes, **body))["executionState"]["call"]


async def failed(bench: Bench, nodes: Definition, **body: Any) -> str:
    code: str = (await ran(bench, nodes, **body))["error"]["code"]
    return code


async def test_tools_are_writes_until_their_owner_says_so(bench: Bench, calls: Calls) -> None:
    async with serving(tools(calls)) as port:
        own = await made(bench, port)
        look = calling(own, "look_up", word="a")
        assert await failed(bench, look) == "MCP_TOOL_UNKNOWN"
        early = await read(bench, own, look_up="read")
        assert (early.status, early.code) == (403, 403113)  # nobody has looked at it yet
        listed = await read(bench, own)
        assert [(one["name"], one["effect"], one["was"]) for one in listed] == [(n, "write", "new") for n in _NAMES]
        assert [one["hint"] for one in listed[:2]] == ["read", "write"]
        assert (await ran(bench, look, simulate=True))["assumed"] is True
        assert calls.seen() == []
        said = await read(bench, own, look_up="read")
        assert [one["effect"] for one in said[:2]] == ["read", "write"]
        shown = await bench.api.get(f"/v1/connectors/{own}")
        assert SECRET not in str(shown.body)
        assert shown.data["maskedData"]["headers"] == "•••"
        kept = (await bench.api.get(f"/v1/connectors/{own}/tools")).data["tools"]
        assert [(one["name"], one["effect"], one["was"]) for one in kept[:2]] == [
            ("look_up", "read", None),
            ("store", "write", None),
        ]
        run = await bench.run(look, simulate=True)  # a read is really asked
        assert (run["executionState"]["call"]["result"]["structured"], calls.seen()) == ({"found": "A"}, ["look_up a"])
        assert run["passed"] is True
        assert (await bench.api.get(f"/v1/runs/{run['id']}/effects")).data["requests"] == []
        unknown = await read(bench, own, drop="read")
        assert (unknown.status, unknown.code) == (404, 404110)
        changed = await bench.api.put(
            f"/v1/connectors/{own}", {"data": {"url": f"http://127.0.0.1:{port}/other", "headers": {"X-Key": SECRET}}}
        )
        assert changed.status == 200, changed.body
        assert (await bench.api.get(f"/v1/connectors/{own}/tools")).data["tools"] == []  # of another server


async def test_a_simulation_sends_no_write_and_refuses_what_live_would(bench: Bench, calls: Calls) -> None:
    async with serving(tools(calls)) as port:
        own = await made(bench, port)
        await read(bench, own)
        simulated = await bench.run(calling(own, "store", text="x"), simulate=True)
        assert simulated["executionState"]["call"]["assumed"] is True
        told = (await bench.api.get(f"/v1/runs/{simulated['id']}/effects")).data["requests"][0]
        assert (told["request"], told["sent"]) == (
            {"method": "tools/call", "url": "mcp:store", "body": {"text": "x"}},
            False,
        )
        assert calls.seen() == []
        run = await bench.run(calling(own, "store", text="x"))
        assert (run["executionState"]["call"]["result"]["text"], calls.seen()) == ("stored x", ["store x"])
        assert (await bench.api.get(f"/v1/runs/{run['id']}/effects")).data["requests"][0]["sent"] is True
        for simulate in (True, False):
            wrong = await ran(bench, calling(own, "store", text=7), simulate=simulate)
            assert wrong["error"]["code"] == "INVALID_INPUT"
            assert [one["field"] for one in wrong["error"]["details"]] == ["payload.args.text"]
        broken = await ran(bench, calling(own, "fail", text="x"))
        assert (broken["error"]["code"], broken["error"]["retryable"]) == ("PERMANENT", False)
        assert "no x" in broken["error"]["message"]
        assert calls.seen() == ["store x"]
        look = calling(own, "look_up", word="a")
    async with serving(tools(calls, is_changed=True), port):
        for simulate in (True, False):
            assert await failed(bench, look, simulate=simulate) == "MCP_TOOL_CHANGED"
        assert calls.seen() == ["store x"]
        assert [one["was"] for one in (await read(bench, own))[:2]] == ["changed", "same"]
        assert (await ran(bench, look))["result"]["structured"] == {"found": "A"}


async def test_dust_runs_writes_and_money_needs_a_word(bench: Bench, calls: Calls) -> None:
    async with serving(tools(calls)) as port:
        own = await made(bench, port)
        rich = await made(bench, port, movesMoney=True)
        for one in (own, rich):
            await read(bench, one)
            await read(bench, one, look_up="read")
        assert (await ran(bench, calling(own, "store", text="1"), dustTest=True))["result"]["text"] == "stored 1"
        assert await failed(bench, calling(rich, "store", text="2"), dustTest=True) == "REFUSED"
        assert (await ran(bench, calling(rich, "look_up", word="b"), dustTest=True))["status"] == "success"
        node = {**calling(rich, "store", text="3")["call"], "dust": "run"}
        assert (await ran(bench, {"call": node}, dustTest=True))["status"] == "success"
        assert calls.seen() == ["store 1", "look_up b", "store 3"]


async def test_a_server_that_hangs_floods_or_is_gone_ends_clearly(bench: Bench, calls: Calls) -> None:
    def late(connector: str, name: str, **args: Any) -> Definition:
        nodes = calling(connector, name, **args)
        nodes["call"]["payload"]["timeoutMs"] = 4_000
        return nodes

    async with serving(tools(calls)) as port:
        own = await made(bench, port)
        await read(bench, own)
        await read(bench, own, hang="read")
        error = (await ran(bench, late(own, "hang", text="a")))["error"]
        assert (error["code"], error["retryable"]) == ("TEMPORARY", True)
        await read(bench, own, hang="write")
        run = await bench.start(late(own, "hang", text="b"))
        stuck = await bench.until(run, lambda one: one["status"] == "waiting")
        assert stuck["executionState"]["call"]["status"] == "uncertain"
        large = (await ran(bench, calling(own, "flood", megabytes=10)))["error"]
        assert (large["code"], large["retryable"]) == ("PERMANENT", False)
        assert "bytes" in large["message"]
    assert calls.seen() == ["hang a", "hang b", "flood 10"]
    gone = (await ran(bench, calling(own, "store", text="x")))["error"]
    assert (gone["code"], gone["retryable"]) == ("TEMPORARY", True)
    tested = (await bench.api.post(f"/v1/connectors/{own}/test", {})).data
    assert tested["ok"] is False
    assert SECRET not in str(tested)


async def program(bench: Bench, words: list[str]) -> tuple[str, dict[str, Any]]:
    """A connector that starts the server as a program, and its data."""
    data = {"command": words[0], "args": words[1:], "env": {"TOKEN": SECRET}}
    found = (await bench.api.post("/v1/connectors", {"type": "mcp", "name": "own", "data": data})).data["id"]
    return found, data


def _running(tmp_path: Path) -> list[str]:
    """Processes of the program."""
    lines = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    return [line.decode() for line in lines if str(tmp_path / "calls.txt").encode() in line]


async def test_a_program_that_hangs_or_floods_ends_clearly(bench: Bench, calls: Calls, tmp_path: Path) -> None:
    own, _ = await program(bench, mcp_program.command(tmp_path / "calls.txt"))
    await read(bench, own)
    late = calling(own, "hang", text="a")
    late["call"]["payload"]["timeoutMs"] = 4_000
    stuck = await bench.until(await bench.start(late), lambda one: one["status"] == "waiting")
    assert stuck["executionState"]["call"]["status"] == "uncertain"
    large = (await ran(bench, calling(own, "flood", megabytes=10)))["error"]
    assert (large["code"], "larger than" in large["message"]) == ("PERMANENT", True)
    assert calls.seen() == ["hang a", "flood 10"]
    assert _running(tmp_path) == []


async def test_programs_run_only_if_the_operator_has_named_them(bench: Bench, calls: Calls, tmp_path: Path) -> None:
    own, data = await program(bench, mcp_program.command(tmp_path / "calls.txt"))
    words = [data["command"], *data["args"]]
    tested = (await bench.api.post(f"/v1/connectors/{own}/test", {})).data
    assert (tested["ok"], tested["message"]) == (True, "The MCP server answers; it has 6 tools.")
    await read(bench, own)
    await read(bench, own, environment="read")
    assert (await ran(bench, calling(own, "store", text="x"), simulate=True))["assumed"] is True
    assert calls.seen() == []
    assert (await ran(bench, calling(own, "store", text="x")))["result"]["text"] == "stored x"
    assert calls.seen() == ["store x"]
    seen = (await ran(bench, calling(own, "environment"), simulate=True))["result"]["structured"]
    assert (seen["TOKEN"], sorted(set(seen) - {"LC_CTYPE"} - {"LANG", "HOME"})) == ("•••", ["PATH", "TOKEN"])
    for wrong in (
        {"command": "/bin/sh", "args": ["-c", "true"]},
        {"command": words[0], "args": ["-c", "pass"]},
        {**data, "env": {"PYTHONPATH": "/tmp/evil"}},
    ):
        refused = await bench.api.post("/v1/connectors", {"type": "mcp", "name": "evil", "data": wrong})
        assert (refused.status, refused.fields) == (400, ["data.command"])


_TELLTALE = """
import json, os, sys

for line in sys.stdin:
    asked = json.loads(line)
    answer = {"protocolVersion": "2025-11-25", "capabilities": {}}
    if asked["method"] == "tools/list":
        schema = {"type": "object", "description": os.environ["TOKEN"]}
        name = os.environ["TOKEN"] if sys.argv[1] == "-" else sys.argv[1]
        answer = {"tools": [{"name": name, "inputSchema": schema}]}
    if "id" in asked and sys.argv[1] == "refuses":
        told = {"error": {"code": -1, "message": "bad token " + os.environ["TOKEN"]}}
        print(json.dumps({"jsonrpc": "2.0", "id": asked["id"], **told}), flush=True)
    elif "id" in asked:
        print(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": answer}), flush=True)
"""


@pytest.mark.parametrize(
    ("tool", "status", "told"),
    [("refuses", 502, "bad token •••"), ("-", 502, "names a tool after a secret"), ("look", 200, "'•••'")],
)
async def test_a_program_that_tells_its_secret_tells_nobody(
    tmp_path: Path, store_url: str, tool: str, status: int, told: str
) -> None:
    script = tmp_path / "telltale.py"
    script.write_text(_TELLTALE)
    async with composed(tmp_path, database_url=store_url, mcp_commands=(f"TOKEN=* {sys.executable} *",)) as server:
        bench = Bench(server)
        data = {"command": sys.executable, "args": [str(script), tool], "env": {"TOKEN": SECRET}}
        own = (await bench.api.post("/v1/connectors", {"type": "mcp", "name": "own", "data": data})).data["id"]
        answer = await bench.api.post(f"/v1/connectors/{own}/tools", {})
        tested = await bench.api.post(f"/v1/connectors/{own}/test", {})
        audited = await bench.api.get("/v1/audit")
        assert (answer.status, told in str(answer.body)) == (status, True), answer.body
        assert SECRET not in str((answer.body, tested.body, audited.body))


async def test_a_command_that_is_named_no_more_is_not_started(tmp_path: Path, store_url: str, calls: Calls) -> None:
    """The program is one of the official SDK."""
    words = mcp_server.command(tmp_path / "calls.txt")
    async with composed(tmp_path, database_url=store_url, mcp_commands=(f"TOKEN=* {' '.join(words)}",)) as first:
        own, _ = await program(Bench(first), words)
        assert [one["name"] for one in await read(Bench(first), own)] == _NAMES
    async with composed(tmp_path, database_url=store_url) as second:
        bench = Bench(second)
        assert await failed(bench, calling(own, "store", text="x")) == "MCP_COMMAND_NOT_ALLOWED"
        assert (await read(bench, own)).code == 403114
    assert calls.seen() == []
