"""`dustrun mcp` with the official client over its pipes, and what it says when something is wrong."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client

from served import Served, served
from testkit import processes


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("server")) as found:
        yield found


@pytest.mark.parametrize("era", ["auto", "legacy"])
async def test_a_client_without_http_works_through_it(server: Served, era: Any) -> None:
    environment = {**os.environ, "DUSTRUN_API_KEY": server.key, "DUSTRUN_SERVER": server.url}
    program = StdioServerParameters(command=sys.executable, args=["-m", "dustrun", "mcp"], env=environment)
    async with Client(stdio_client(program), mode=era) as client:
        assert len((await client.list_tools()).tools) == 12
        found = await client.call_tool("search_nodes", {"query": "http request"})
        assert "http-request (write)" in getattr(found.content[0], "text", "")
        wrong = await client.call_tool("get_workflow", {"id": "wf_none"})
        assert json.loads(getattr(wrong.content[0], "text", ""))["code"] == 404001
        assert len((await client.list_resources()).resources) > 30
        text = (await client.read_resource("dustrun://guides/mcp")).contents[0]
        assert getattr(text, "text", "").startswith("# Work")


def _said(lines: list[str], server: str, key: str, tmp_path: Path) -> list[Any]:
    environment = {**os.environ, "DUSTRUN_DATA_DIR": str(tmp_path), "DUSTRUN_SERVER": server, "DUSTRUN_API_KEY": key}
    done = processes.run([*processes.DUSTRUN, "mcp"], env=environment, input="\n".join(lines) + "\n")
    assert done.returncode == 0, done.stderr
    return sorted((json.loads(line) for line in done.stdout.splitlines()), key=lambda one: str(one["id"]))


def test_what_is_wrong_is_said_as_an_answer(server: Served, tmp_path: Path) -> None:
    ping = '{"jsonrpc":"2.0","id":1,"method":"ping"}'
    note = '{"jsonrpc":"2.0","method":"notifications/initialized"}'
    unknown = '{"jsonrpc":"2.0","id":2,"method":"no/such"}'
    answers = _said([ping, note, "", "no json", "[]", "x" * 1_100_000, unknown], server.url, server.key, tmp_path)
    assert [(one["id"], one.get("error", {}).get("code")) for one in answers] == [
        (1, None),
        (2, -32601),
        (None, -32700),
        (None, -32700),
        (None, -32600),
    ]
    refused = _said([ping, note], server.url, "sk_" + "0" * 40, tmp_path)
    assert [(one["id"], one["error"]["code"]) for one in refused] == [(1, -32000)]
    gone = _said([ping], "http://127.0.0.1:9", server.key, tmp_path)
    assert "No answer from http://127.0.0.1:9" in gone[0]["error"]["message"]
