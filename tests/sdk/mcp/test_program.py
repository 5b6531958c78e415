"""A program that answers a write in its own way: its work is never said not to have been done."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from dustrun.errors import DustrunError, Temporary, Uncertain
from dustrun.outbound.commands import NamedCommands
from dustrun.sdk.mcp.session import McpSession
from dustrun.sdk.mcp.wires import ProgramWire
from dustrun.sdk.programs import CommandLine

_PROGRAM = """
import json, os, sys

def say(**message):
    print(json.dumps({"jsonrpc": "2.0", **message}), flush=True)

for line in sys.stdin:
    asked = json.loads(line)
    if asked["method"] == "initialize":
        say(id=asked["id"], result={"protocolVersion": "2025-11-25", "capabilities": {}})
    elif asked["method"] == "tools/list":
        say(id=asked["id"], result={"tools": []})
    elif asked["method"] == "tools/call":
        os.close(0)  # it listens no more
        say(id="own", method="ping")
        if asked["params"]["name"] == "answers":
            say(id=asked["id"], result={"content": []})
        break
"""


async def _called(folder: Path, tool: str, *, only_reads: bool) -> Any:
    program = folder / "program.py"
    program.write_text(_PROGRAM)
    commands = NamedCommands([f"{sys.executable} {program}"], 100_000)
    async with commands.start(CommandLine(sys.executable, (str(program),), {})) as running:
        session = McpSession(ProgramWire(running))
        assert await session.list_tools() == {}
        return await session.call(tool, {}, 30, only_reads=only_reads)


@pytest.mark.parametrize(("only_reads", "expected"), [(True, Temporary), (False, Uncertain)])
async def test_a_program_that_leaves_while_it_asks(
    tmp_path: Path, only_reads: bool, expected: type[DustrunError]
) -> None:
    with pytest.raises(expected) as caught:
        await _called(tmp_path, "leaves", only_reads=only_reads)
    assert type(caught.value) is expected


async def test_a_program_that_listens_no_more_may_still_answer(tmp_path: Path) -> None:
    assert await _called(tmp_path, "answers", only_reads=False) == {"content": []}
