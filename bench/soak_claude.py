"""The command line of Claude Code works with `/mcp`: a scripted model has it find, simulate, and propose a launch.

    scripts/soak claude [--scale TIMES]

It connects by the snippet of the guide "Connect your client". The model is a script on loopback (`ANTHROPIC_BASE_URL`),
so that it says the same each time; the program, its client of MCP and the server are real. Each time the launch must
wait for a person, and no live run may have started.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Final

import aiohttp

from testkit.composition import DEFINITION
from testkit.e2e.guide import ROOT
from testkit.e2e.node import npm_install
from testkit.model_server import Asked, ModelServer, Reply, serving_model
from testkit.server_process import ServerProcess

Json = dict[str, Any]
PACKAGES: Final = ROOT / "testkit" / "claude"
_TOOLS: Final = "mcp__dustrun__"
_WAIT_S: Final = 240


def run(scale: int | None = None, seed: int = 1) -> Json:
    """The counts of `scale` conversations, by default 3."""
    del seed  # the script is always the same
    environment = npm_install(PACKAGES)
    return asyncio.run(_run(scale or 3, environment))


def _results(asked: Asked) -> list[Json]:
    """What the tools have answered so far."""
    blocks = [
        block
        for one in asked.messages
        if one["role"] == "user" and isinstance(one["content"], list)
        for block in one["content"]
        if block.get("type") == "tool_result"
    ]
    texts = ["".join(part.get("text", "") for part in _parts(block["content"])) for block in blocks]
    return [json.loads(text) if text.startswith("{") else {"text": text} for text in texts]


def _parts(content: Any) -> list[Json]:
    return [{"text": content}] if isinstance(content, str) else content


def _script(workflow: str) -> Any:
    def script(asked: Asked) -> Reply:
        offered = {one.get("name") for one in asked.body.get("tools") or ()}
        if f"{_TOOLS}launch" not in offered:
            return Reply("ok")  # it names the conversation, or counts
        found = _results(asked)
        if not found:
            return Reply("I look.", calls=((f"{_TOOLS}search_nodes", {"query": "log"}),))
        if len(found) == 1:
            return Reply("I try it.", calls=((f"{_TOOLS}simulate", {"workflowId": workflow, "waitS": 30}),))
        if len(found) == 2:
            launch = {"workflowId": workflow, "version": 1, "mode": "live", "rehearsalRunId": found[1].get("runId")}
            return Reply("I propose it.", calls=((f"{_TOOLS}launch", launch),))
        return Reply(f"Decide here: {found[2].get('page')}")

    return script


async def _run(times: int, environment: dict[str, str]) -> Json:
    counts: Json = {"conversations": times, "waiting": 0, "liveRuns": 0}
    failures: list[str] = []
    async with serving_model() as model:
        with tempfile.TemporaryDirectory(prefix="dustrun-soak-") as name:
            folder = Path(name)
            server = ServerProcess(folder / "data", {})
            server.start()
            try:
                await server.wait_ready(180)
                async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {server.owner_key}"}) as http:
                    for number in range(times):
                        said = await _once(http, server, model, environment, folder / str(number))
                        failures += said
                    counts["waiting"] = len((await _get(http, server, "/v1/approvals?status=pending"))["items"])
                    counts["liveRuns"] = len((await _get(http, server, "/v1/runs?mode=live,dust"))["items"])
            finally:
                await server.stop()
    if counts["waiting"] != times or counts["liveRuns"]:
        failures.append(f"{counts['waiting']} launches wait, and {counts['liveRuns']} live runs have started")
    done = subprocess.run([_program(), "--version"], env=environment, capture_output=True, text=True, check=False)
    return {"program": done.stdout.strip(), **counts, "requestsToTheModel": len(model.asked), "failures": failures}


def _program() -> str:
    """The program of this machine: scripts of packages, which would link it, are not run."""
    found = sorted(PACKAGES.glob("node_modules/@anthropic-ai/claude-code-*/claude"))
    assert found, "npm has no build of Claude Code for this machine"
    return str(found[0])


def _snippet() -> str:
    """The file that the guide gives to Claude Code."""
    guide = (ROOT / "docs" / "guides" / "connect-your-client.md").read_text()
    return guide.partition("Claude Code, `.mcp.json`")[2].partition("```json\n")[2].partition("```")[0]


async def _get(http: aiohttp.ClientSession, server: ServerProcess, path: str) -> Any:
    async with http.get(f"{server.base}{path}") as answer:
        return (await answer.json())["data"]


async def _made(http: aiohttp.ClientSession, server: ServerProcess, path: str, body: Json) -> Any:
    async with http.post(f"{server.base}{path}", json=body) as answer:
        return (await answer.json())["data"]


async def _once(
    http: aiohttp.ClientSession, server: ServerProcess, model: ModelServer, environment: dict[str, str], home: Path
) -> list[str]:
    """One conversation; what went wrong."""
    body = {"name": f"Say {home.name}", "description": "", "definition": DEFINITION}
    workflow = (await _made(http, server, "/v1/workflows", body))["id"]
    key = (await _made(http, server, "/v1/api-keys", {"name": f"claude {home.name}", "scope": "mcp"}))["key"]
    model.script = _script(workflow)
    home.mkdir()
    config = home / "mcp.json"
    config.write_text(_snippet().replace("http://127.0.0.1:8080", server.base).replace("sk_…", key))
    words = ["-p", "Run the workflow.", "--output-format", "json", "--mcp-config", str(config), "--strict-mcp-config"]
    words += ["--allowedTools", ",".join(f"{_TOOLS}{one}" for one in ("search_nodes", "simulate", "launch"))]
    process = await asyncio.create_subprocess_exec(
        _program(),
        *words,
        cwd=home,
        env={
            **{name: text for name, text in environment.items() if not name.startswith("CLAUDE")},
            "HOME": str(home),
            "ANTHROPIC_BASE_URL": model.url,
            "ANTHROPIC_API_KEY": "sk-ant-script",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "DISABLE_AUTOUPDATER": "1",
            "ENABLE_TOOL_SEARCH": "false",
        },
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(_WAIT_S):
            out, err = await process.communicate()
    except TimeoutError:
        process.kill()
        return [f"{home.name}: it did not end within {_WAIT_S} s"]
    said = out.decode()
    if process.returncode or "/approvals/apr_" not in said:
        return [f"{home.name}: it ended with {process.returncode}: {said[-400:]} {err.decode()[-400:]}"]
    return []
