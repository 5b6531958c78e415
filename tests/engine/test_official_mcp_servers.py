"""Tools of servers that others wrote, as actions; `test_mcp_tools.py` has the same with a server of our own."""

from __future__ import annotations

import pytest

from bench.soak_mcp import call_servers


@pytest.mark.long
async def test_every_tool_of_two_official_servers_is_an_action() -> None:
    found = await call_servers()
    counts = {name: (one["tools"], one["succeeded"], one["failed"]) for name, one in found.items()}
    assert counts == {
        "server-filesystem": (14, 14, {}),
        "server-everything": (13, 13, {}),
    }
    assert [one["writtenBySimulations"] for one in found.values()] == [False, False]
