"""A small MCP server that speaks through its pipes, as a program without any library: it starts in a thirtieth of the
time of the one that `testkit/mcp_server.py` makes with the official SDK, and has the same tools.

    python testkit/mcp_program.py RECORD

It writes each call of a tool as a line of the file RECORD.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Json = dict[str, Any]
_HANGS_S = 600


def command(record: Path) -> list[str]:
    """The command line of the program."""
    return [sys.executable, "-P", str(Path(__file__)), str(record)]


def _tool(name: str, **parameters: str) -> Json:
    properties = {parameter: {"type": kind} for parameter, kind in parameters.items()}
    schema = {"type": "object", "properties": properties, "required": list(parameters)}
    return {"name": name, "inputSchema": schema, "annotations": {"readOnlyHint": name == "look_up"}}


_TOOLS = [
    _tool("look_up", word="string"),
    _tool("store", text="string"),
    _tool("fail", text="string"),
    _tool("hang", text="string"),
    _tool("flood", megabytes="integer"),
    _tool("environment"),
]


def _said(text: str, **more: Any) -> Json:
    return {"content": [{"type": "text", "text": text}], **more}


def _hang(text: str) -> Json:
    time.sleep(_HANGS_S)
    return _said(text)


_CALLS: dict[str, Callable[..., Json]] = {
    "look_up": lambda word: _said(word.upper(), structuredContent={"found": word.upper()}),
    "store": lambda text: _said(f"stored {text}"),
    "fail": lambda text: _said(f"no {text}", isError=True),
    "hang": _hang,
    "flood": lambda megabytes: _said("x" * (megabytes * 1_000_000)),
    "environment": lambda: _said("", structuredContent=dict(os.environ)),
}
_UNRECORDED = ("fail", "environment")


def _called(record: Path, name: str, arguments: Json) -> Json:
    if name not in _UNRECORDED:
        with record.open("a") as lines:
            lines.write(f"{name} {' '.join(map(str, arguments.values()))}\n")
    return _CALLS[name](**arguments)


def _answer(record: Path, asked: Json) -> Json:
    if asked["method"] == "initialize":
        server = {"name": "small", "version": "1"}
        return {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": server}
    if asked["method"] == "tools/list":
        return {"tools": _TOOLS}
    return _called(record, asked["params"]["name"], asked["params"].get("arguments") or {})


def main() -> None:
    """Answers each line until there are no more."""
    for line in sys.stdin:
        asked = json.loads(line)
        if "id" in asked:
            answer = {"jsonrpc": "2.0", "id": asked["id"], "result": _answer(Path(sys.argv[1]), asked)}
            print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
