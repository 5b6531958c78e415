"""The guide's snippets for clients are what their formats say, and lead to the server's address with a key."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from typer.main import get_command

from dustrun.cli.command_tree import app
from dustrun.settings import Settings

_GUIDE = Path(__file__).resolve().parents[3] / "docs/guides/connect-your-client.md"
_SNIPPETS = re.findall(
    r"^([A-Z][\w ]+), `[^`]+`[^\n]*:\n\n```(json|toml)\n(.*?)```", _GUIDE.read_text(), re.DOTALL | re.MULTILINE
)
_KEYED = {"Authorization": "Bearer sk_…"}
_ASKED = {"Authorization": "Bearer ${input:dustrun-key}"}
_INPUT = {"type": "promptString", "id": "dustrun-key", "description": "Key of Dustrun", "password": True}
_PROGRAM = {"command": "dustrun", "args": ["mcp", "--server", "HOST"], "env": {"DUSTRUN_API_KEY": "sk_…"}}
_EXPECTED: dict[str, Any] = {
    "Claude Code": {"mcpServers": {"dustrun": {"type": "http", "url": "HOST/mcp", "headers": _KEYED}}},
    "Cursor": {"mcpServers": {"dustrun": {"url": "HOST/mcp", "headers": _KEYED}}},
    "VS Code": {
        "inputs": [_INPUT],
        "servers": {"dustrun": {"type": "http", "url": "HOST/mcp", "headers": _ASKED}},
    },
    "Codex": {"mcp_servers": {"dustrun": {"url": "HOST/mcp", "bearer_token_env_var": "DUSTRUN_API_KEY"}}},
    "Gemini CLI": {"mcpServers": {"dustrun": {"httpUrl": "HOST/mcp", "headers": _KEYED}}},
    "Claude Desktop": {"mcpServers": {"dustrun": _PROGRAM}},
}


def _closed(required: list[str], **fields: Any) -> dict[str, Any]:
    return {"type": "object", "properties": fields, "required": required, "additionalProperties": False}


_TEXT: dict[str, Any] = {"type": "string"}
_TEXTS: dict[str, Any] = {"type": "object", "additionalProperties": _TEXT}
_LIST: dict[str, Any] = {"type": "array", "items": _TEXT}
_REMOTE: dict[str, Any] = {"enum": ["http", "sse"]}
_SECRET_INPUT = _closed(
    ["id", "type", "description"],
    id=_TEXT,
    type={"enum": ["promptString"]},
    description=_TEXT,
    default=_TEXT,
    password={"type": "boolean"},
)
_GEMINI: dict[str, Any] = {
    **dict.fromkeys(("command", "cwd", "url", "httpUrl", "tcp", "description", "targetAudience"), _TEXT),
    **dict.fromkeys(("args", "includeTools", "excludeTools"), _LIST),
    **dict.fromkeys(("env", "headers"), _TEXTS),
    "type": {"enum": ["stdio", "sse", "http"]},
    "timeout": {"type": "number"},
    "trust": {"type": "boolean"},
    "oauth": {"type": "object"},
}
_FORMATS: dict[str, tuple[str, dict[str, Any]]] = {
    "Claude Code": ("mcpServers", _closed(["type", "url"], type=_REMOTE, url=_TEXT, headers=_TEXTS)),
    "Cursor": ("mcpServers", _closed(["url"], url=_TEXT, headers=_TEXTS)),
    "VS Code": (
        "servers",
        _closed(["url"], type=_REMOTE, url={"type": "string", "pattern": r"^https?:\/\/.+"}, headers=_TEXTS),
    ),
    "Codex": (
        "mcp_servers",
        _closed(["url"], url=_TEXT, bearer_token_env_var=_TEXT, http_headers=_TEXTS, env_http_headers=_TEXTS),
    ),
    "Gemini CLI": ("mcpServers", _closed([], **_GEMINI)),
    "Claude Desktop": ("mcpServers", _closed(["command"], command=_TEXT, args=_LIST, env=_TEXTS)),
}
"""By client: where its servers are, and what it takes there. Those of Codex and Gemini CLI are as in the JSON Schemas
that they publish, and that of VS Code as in the schema in its sources; all three refuse other fields. Cursor, Claude
Desktop and Claude Code publish none; theirs is as their guides say, and `scripts/soak claude` gives the snippet to
Claude Code itself."""
_TOP = {"VS Code": {"inputs": {"type": "array", "items": _SECRET_INPUT}}}
"""What may stand beside the servers."""


def test_six_clients_have_a_snippet() -> None:
    assert [name for name, _, _ in _SNIPPETS] == list(_EXPECTED) == list(_EXPECTED)
    assert set(_FORMATS) == set(_EXPECTED)


@pytest.mark.parametrize(("name", "kind", "text"), _SNIPPETS, ids=lambda value: str(value)[:12])
def test_a_snippet_leads_to_the_server(name: str, kind: str, text: str) -> None:
    found = json.loads(text) if kind == "json" else tomllib.loads(text)
    host = Settings().base_url()
    assert json.loads(json.dumps(found).replace(host, "HOST")) == json.loads(json.dumps(_EXPECTED[name]))
    where, format_ = _FORMATS[name]
    servers = {"type": "object", "additionalProperties": format_}
    jsonschema.validate(found, _closed([where], **{where: servers}, **_TOP.get(name, {})))


def test_the_program_of_the_snippet_is_a_command() -> None:
    command, *words = ["dustrun", *_PROGRAM["args"]]
    known = get_command(app).commands[words[0]]  # type: ignore[attr-defined]
    assert command == "dustrun"
    assert {"--server"} <= {name for parameter in known.params for name in parameter.opts}
