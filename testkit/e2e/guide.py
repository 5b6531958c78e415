"""The code of `docs/guides/clients.md`, as the page shows it."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "guides" / "clients.md"
_FENCE = re.compile(r"^```(?P<language>\w+) (?P<name>\S+)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)


def snippets() -> dict[str, str]:
    """Every fenced block that has a name, by its name."""
    return {found["name"]: found["code"] for found in _FENCE.finditer(PAGE.read_text())}


def snippet(name: str) -> str:
    """One block by its name."""
    return snippets()[name]
