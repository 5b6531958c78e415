"""MCP both ways, with the programs of others.

    scripts/soak mcp --sdk PATH_OF_A_CHECKOUT_OF_modelcontextprotocol/python-sdk

- The official conformance suite, on what answers `/mcp`, with the fixtures of the official SDK's server.
- The official inspector, `--strict`, lists the tools, resources and prompts of a real server.
- Every tool of two official servers is called by the node `mcp-tool`, live, and in a simulation, which writes nothing.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import aiohttp

from testkit.composition import Composition, composed
from testkit.e2e.guide import ROOT
from testkit.e2e.node import npm_install
from testkit.e2e.packages import pip_install
from testkit.server_process import ServerProcess

Json = dict[str, Any]
PACKAGES: Final = ROOT / "testkit" / "mcp"
_MODULES: Final = PACKAGES / "node_modules" / "@modelcontextprotocol"
_REVISIONS: Final = ("2026-07-28", "2025-11-25")
_LINE: Final = re.compile(r"^([✓✗]) ([\w./-]+): (\d+) passed, (\d+) failed$", re.MULTILINE)
_WAIT_S: Final = 600


def run(scale: int | None = None, seed: int = 1, *, sdk: str) -> Json:
    """The counts, in and out."""
    del scale, seed  # everything is tried once
    npm_install(PACKAGES)
    found: Json = {"conformance": _conformance(Path(sdk)), "inspector": asyncio.run(_inspector())}
    found["serversAsActions"] = asyncio.run(call_servers())
    failures = [
        f"conformance {revision}: {name}" for revision, one in found["conformance"].items() for name in one["failed"]
    ]
    failures += [f"inspector {name}" for name, exit_code in found["inspector"]["exits"].items() if exit_code]
    for name, one in found["serversAsActions"].items():
        failures += [f"{name}: {tool}: {why}" for tool, why in one["failed"].items()]
        failures += [f"{name}: a simulation has written"] if one["writtenBySimulations"] else []
    return {**found, "failures": failures}


def _node_22() -> dict[str, str]:
    """An environment with a Node that is new enough for the suite."""
    return pip_install(PACKAGES / "requirements.txt", "node-for-mcp")


# --- the suite ---


def _conformance(sdk: Path) -> Json:
    folder = sdk / "examples" / "servers" / "everything-server"
    suite = _MODULES / "conformance" / "dist" / "index.js"
    found: Json = {}
    with _mounted(folder) as url:
        for revision in _REVISIONS:
            done = _run(["node", str(suite), "server", "--url", url, "--requirements", revision], _node_22())
            found[revision] = _counted(done.stdout, _required(revision))
    return found


@contextmanager
def _mounted(folder: Path) -> Iterator[str]:
    command = [sys.executable, "-m", "bench.mcp_mount", str(folder)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield f"http://127.0.0.1:{json.loads(process.stdout.readline())['port']}/mcp"
        finally:
            process.terminate()


def _required(revision: str) -> list[str]:
    """The scenarios that a revision requires of servers; the rest runs beside and is shown."""
    text = (_MODULES / "conformance" / "requirements" / f"{revision}.yaml").read_text()
    listed = text.partition("\nserver:\n")[2].partition("\n\n")[0]
    return re.findall(r"^  - (\S+)$", listed, re.MULTILINE)


def _counted(said: str, required: list[str]) -> Json:
    results = {name: (mark == "✓", int(passed)) for mark, name, passed, _ in _LINE.findall(said)}
    passed = [name for name in required if results.get(name, (False, 0))[0]]
    missing = [name for name in required if name not in passed]
    beside = {name: count for name, (is_passed, count) in results.items() if "header-" in name and is_passed}
    return {
        "required": len(required),
        "passed": len(passed),
        "failed": missing,
        "checksOfHeadersPassed": beside,
    }


def _run(command: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    with tempfile.TemporaryDirectory() as folder:
        return subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=_WAIT_S, check=False
        )


# --- the inspector ---


async def _inspector() -> Json:
    with tempfile.TemporaryDirectory(prefix="dustrun-soak-") as folder:
        server = ServerProcess(Path(folder) / "data", {})
        server.start()
        try:
            await server.wait_ready()
            headers = {"Authorization": f"Bearer {server.owner_key}"}
            async with (
                aiohttp.ClientSession(headers=headers) as session,
                session.post(f"{server.base}/v1/api-keys", json={"name": "i", "scope": "mcp"}) as answer,
            ):
                key = (await answer.json())["data"]["key"]
            return await asyncio.to_thread(_inspect, f"{server.base}/mcp", key)
        finally:
            await server.stop()


def _inspect(url: str, key: str) -> Json:
    program = str(PACKAGES / "node_modules" / ".bin" / "mcp-inspector")
    common = [program, "--cli", url, "--transport", "http", "--header", f"Authorization: Bearer {key}"]
    exits: Json = {}
    counts: Json = {}
    for method, more in (("tools/list", ["--strict"]), ("resources/list", []), ("prompts/list", [])):
        done = _run([*common, "--method", method, *more], _node_22())
        exits[f"{method} {' '.join(more)}".strip()] = done.returncode
        counts[method] = len(json.loads(done.stdout)[method.partition("/")[0]]) if done.returncode == 0 else 0
    called = _run(
        [*common, "--method", "tools/call", "--tool-name", "search_nodes", "--tool-arg", "query=send"], _node_22()
    )
    exits["tools/call"] = called.returncode
    return {"exits": exits, "listed": counts}


# --- servers as actions ---


def _files(folder: Path) -> list[tuple[str, Json]]:
    """Arguments for every tool of server-filesystem, in an order in which each can succeed."""
    a, b, pixel = folder / "a.txt", folder / "b.txt", folder / "pixel.png"
    return [
        ("create_directory", {"path": str(folder / "new")}),
        ("write_file", {"path": str(a), "content": "hello\nworld\n"}),
        ("edit_file", {"path": str(a), "edits": [{"oldText": "world", "newText": "there"}]}),
        ("read_file", {"path": str(a)}),
        ("read_text_file", {"path": str(a), "head": 1}),
        ("read_media_file", {"path": str(pixel)}),
        ("read_multiple_files", {"paths": [str(a), str(pixel)]}),
        ("list_directory", {"path": str(folder)}),
        ("list_directory_with_sizes", {"path": str(folder)}),
        ("directory_tree", {"path": str(folder)}),
        ("search_files", {"path": str(folder), "pattern": "*.txt"}),
        ("get_file_info", {"path": str(a)}),
        ("list_allowed_directories", {}),
        ("move_file", {"source": str(a), "destination": str(b)}),
    ]


_EVERYTHING: Final[list[tuple[str, Json]]] = [
    ("echo", {"message": "hello"}),
    ("get-annotated-message", {"messageType": "success"}),
    ("get-env", {}),
    ("get-resource-links", {"count": 2}),
    ("get-resource-reference", {}),
    ("get-structured-content", {"location": "Chicago"}),
    ("get-sum", {"a": 1, "b": 2}),
    ("get-tiny-image", {}),
    ("gzip-file-as-resource", {"name": "a.gz", "data": "data:text/plain;base64,aGVsbG8=", "outputType": "resource"}),
    ("toggle-simulated-logging", {}),
    ("toggle-subscriber-updates", {}),
    ("trigger-long-running-operation", {"duration": 1, "steps": 2}),
    ("simulate-research-query", {"topic": "dust"}),
]


async def call_servers() -> Json:
    """Every tool of two official servers as an action."""
    npm_install(PACKAGES)
    with tempfile.TemporaryDirectory(prefix="dustrun-soak-") as name:
        folder = Path(name).resolve()
        (folder / "files").mkdir()
        (folder / "files" / "pixel.png").write_bytes(b"\x89PNG\r\n\x1a\n")
        node = _node_22()["PATH"].partition(os.pathsep)[0] + "/node"
        lines = {
            "server-filesystem": [node, str(_MODULES / "server-filesystem/dist/index.js"), str(folder / "files")],
            "server-everything": [node, str(_MODULES / "server-everything/dist/index.js")],
        }
        calls = {"server-filesystem": _files(folder / "files"), "server-everything": _EVERYTHING}
        commands = tuple(" ".join(line) for line in lines.values())
        async with composed(folder / "data", mcp_commands=commands) as server:
            return {name: await _called(server, lines[name], calls[name], folder / "files") for name in lines}


async def _called(server: Composition, line: list[str], calls: list[tuple[str, Json]], files: Path) -> Json:
    body = {"type": "mcp", "name": line[1], "data": {"command": line[0], "args": line[1:]}}
    connector = (await server.owner.post("/v1/connectors", body)).data["id"]
    listed = (await server.owner.post(f"/v1/connectors/{connector}/tools", {})).data["tools"]
    before = sorted(path.name for path in files.iterdir())
    failed: Json = {one["name"]: "was not called" for one in listed}
    simulated = 0
    for tool, args in calls:
        simulated += (await _ran(server, connector, tool, args, simulate=True))["status"] == "success"
    written = sorted(path.name for path in files.iterdir()) != before
    for tool, args in calls:
        state = await _ran(server, connector, tool, args, simulate=False)
        failed.pop(tool, None)
        if state["status"] != "success":
            failed[tool] = state["error"]["message"]
    return {
        "tools": len(listed),
        "called": len(calls),
        "succeeded": len(calls) - len(failed),
        "simulated": simulated,
        "writtenBySimulations": written,
        "suggestedAsReading": sum(one["hint"] == "read" for one in listed),
        "failed": failed,
    }


async def _ran(server: Composition, connector: str, tool: str, args: Json, *, simulate: bool) -> Json:
    node = {"type": "mcp-tool", "payload": {"tool": tool, "args": args}, "connector": {"type": "mcp", "id": connector}}
    nodes = {"root": {"type": "manual", "children": ["call"]}, "call": node}
    begun = await server.owner.post("/v1/runs", {"definition": {"nodes": nodes}, "simulate": simulate})
    async with asyncio.timeout(120):
        while True:
            run = (await server.owner.get(f"/v1/runs/{begun.data['runId']}")).data
            state: Json = run["executionState"].get("call", {})
            if run["finishedAt"] is not None or state.get("status") == "uncertain":
                return (
                    {"status": "", "error": {"message": "it is uncertain"}, **state} if "error" not in state else state
                )
            await asyncio.sleep(0.02)
