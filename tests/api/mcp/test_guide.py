"""The guide's snippets for clients are what their formats say, and lead to the server's address with a key."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from dustrun.settings import Settings

_GUIDE = Path(__file__).resolve().parents[3] / "docs/guides/mcp.md"
_SNIPPETS = re.findall(
    r"^([A-Z][\w ]+), `[^`]+`[^\n]*:\n\n```(json|toml)\n(.*?)```", _GUIDE.read_text(), re.DOTALL | re.MULTILINE
)
_KEYED = {"Authorization": "Bearer sk_…"}
_EXPECTED: dict[str, Any] = {
    "Claude Code": {"mcpServers": {"dustrun": {"type": "http", "url": "URL", "headers": _KEYED}}},
    "Cursor": {"mcpServers": {"dustrun": {"url": "URL", "headers": _KEYED}}},
    "VS Code": {"servers": {"dustrun": {"type": "http", "url": "URL", "headers": _KEYED}}},
    "Gemini CLI": {"mcpServers": {"dustrun": {"httpUrl": "URL", "headers": _KEYED}}},
    "Codex": {"mcp_servers": {"dustrun": {"url": "URL", "bearer_token_env_var": "DUSTRUN_API_KEY"}}},
}


def test_five_clients_have_a_snippet() -> None:
    assert [name for name, _, _ in _SNIPPETS] == list(_EXPECTED)


@pytest.mark.parametrize(("name", "kind", "text"), _SNIPPETS, ids=lambda value: str(value)[:12])
def test_a_snippet_leads_to_the_server(name: str, kind: str, text: str) -> None:
    found = json.loads(text) if kind == "json" else tomllib.loads(text)
    url = f"{Settings().base_url()}/mcp"
    assert json.loads(json.dumps(found).replace(url, "URL")) == json.loads(json.dumps(_EXPECTED[name]))
