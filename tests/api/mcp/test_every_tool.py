"""Every tool in both eras of the protocol, by the official client: allowed, forbidden, and with wrong arguments."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mcp import MCPError

from api.mcp.test_protocol import MCP_TOOLS, Served, refused, told
from dustrun.api.mcp import guides
from testkit.composition import DEFINITION
from testkit.server_process import ServerProcess

Arguments = Callable[["Known"], dict[str, Any]]
_ERAS = ("auto", "legacy")


class Known:
    """What the calls speak of."""

    def __init__(self, workflow: str, run: str) -> None:
        self.workflow = workflow
        self.run = run


CALLS: dict[str, tuple[Arguments, dict[str, Any]]] = {
    "search_nodes": (lambda _: {"query": "log"}, {"limit": 0}),
    "describe_nodes": (lambda _: {"types": ["log"]}, {"types": "log"}),
    "list_workflows": (lambda _: {}, {"limit": 51}),
    "get_workflow": (lambda one: {"id": one.workflow}, {}),
    "validate_workflow": (lambda _: {"definition": DEFINITION}, {"definition": []}),
    "save_workflow": (lambda one: {"workflowId": one.workflow, "definition": DEFINITION}, {"definition": 1}),
    "simulate": (lambda one: {"workflowId": one.workflow, "waitS": 30}, {"workflowId": "wf", "definition": DEFINITION}),
    "get_report": (lambda one: {"runId": one.run}, {"runId": 1}),
    "explain_spend": (lambda one: {"runId": one.run}, {"runId": "run_1", "workflowId": "wf_1"}),
    "policy_sentences": (lambda _: {"text": "ask above $100"}, {"rest": {}}),
    "list_runs": (lambda _: {}, {"status": "finished"}),
    "launch": (
        lambda one: {"workflowId": one.workflow, "version": 1, "mode": "live", "rehearsalRunId": one.run},
        {"workflowId": "wf", "version": 1, "mode": "simulate", "rehearsalRunId": "run"},
    ),
}
"""By tool: arguments that it takes, and some that it does not."""


async def _known(served: Served, key: str) -> Known:
    made = await served.made("/v1/workflows", {"name": "a", "description": "", "definition": DEFINITION}, key)
    async with served.client(key) as client:
        run = await told(client, "simulate", workflowId=made["id"], waitS=30)
    return Known(made["id"], run["runId"])


async def test_every_tool_allowed_forbidden_and_wrong_in_both_eras(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path / "data", {})
    server.start()
    counted = 0
    try:
        await server.wait_ready()
        served = Served(server)
        key = (await served.key(scope="mcp"))["key"]
        nothing = (await served.key(permissions=["connector:read"]))["key"]
        assert list(CALLS) == MCP_TOOLS
        for era in _ERAS:
            async with served.client(key, era) as client, served.client(nothing, era) as stranger:
                known = await _known(served, key)
                for tool, (right, wrong) in CALLS.items():
                    assert isinstance(await told(client, tool, **right(known)), dict)
                    assert (await refused(stranger, tool, **right(known)))["code"] == 403001, tool
                    failed = await refused(client, tool, **wrong)
                    assert (failed["code"] // 1000, bool(failed["details"])) == (400, True), failed
                    counted += 3
                assert (await stranger.list_tools()).tools == []
                await _guides_and_prompts(client, stranger)
    finally:
        await server.stop()
    assert counted == 72


async def _guides_and_prompts(client: Any, stranger: Any) -> None:
    listed = (await client.list_resources()).resources
    assert {one.name for one in listed} >= {"mcp", "connect-your-client", "rehearsal", "cookbook"}
    guide = next(one for one in listed if one.name == "mcp")
    assert (guide.uri, guide.title) == ("dustrun://guides/mcp", "Work from an assistant (MCP)")
    assert guide.description.endswith(".")
    text = (await client.read_resource(guide.uri)).contents[0].text
    assert (text.startswith("# Work from an assistant"), len(text.encode())) == (True, guide.size)
    for wrong in ("dustrun://guides/../keys", "dustrun://guides/nothing", "file:///etc/passwd"):
        with pytest.raises(MCPError):
            await client.read_resource(wrong)
    assert [one.name for one in (await client.list_prompts()).prompts] == list(guides.PROMPTS)
    assert (await stranger.list_prompts()).prompts == []
    said = await client.get_prompt("explain-run", {"runId": "run_1"})
    assert "run_1" in said.messages[0].content.text
    for name, arguments in (("explain-run", {}), ("explain-run", {"runId": "x" * 5_000}), ("no-such", {"a": "b"})):
        with pytest.raises(MCPError):
            await client.get_prompt(name, arguments)
    with pytest.raises(MCPError):
        await stranger.get_prompt("explain-run", {"runId": "run_1"})


def test_no_guide_is_larger_than_a_result() -> None:
    assert {one.name: one.size for one in guides.list_guides() if one.size > 16_384} == {}
