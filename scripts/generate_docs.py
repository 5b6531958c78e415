"""Writes docs/reference, and what the web app knows of the language, from the code.

With --check it only tells whether that would change anything."""

from __future__ import annotations

import argparse
import difflib
import sys
from pathlib import Path

import performance_page
import reference_json
import reference_pages

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "reference"

_FUNCTIONS = "../../web/src/inspector/functions.json"  # what the app completes in expressions
_SECRETS = "../../web/src/paste/secrets.json"  # what the app leaves out of what it copies and pastes


def pages() -> dict[str, str]:
    """Every generated file and its text."""
    return {
        "settings.md": reference_pages.settings(),
        "errors.md": reference_pages.errors(),
        "actions.md": reference_pages.actions(),
        "cli.md": reference_pages.command_line(),
        "performance.md": performance_page.performance(),
        "definition.schema.json": reference_json.definition(),
        "openapi.json": reference_json.openapi(),
        _FUNCTIONS: reference_json.functions(),
        _SECRETS: reference_json.secrets(),
    }


def main() -> int:
    """Writes, or checks; 1 when a check found a difference."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail when something would change")
    is_check = parser.parse_args().check
    texts = pages()
    changed = [name for name, text in texts.items() if _read(name) != text]
    if is_check:
        for name in changed:
            _tell(name, texts[name])
    else:
        FOLDER.mkdir(parents=True, exist_ok=True)
        for name in changed:
            (FOLDER / name).write_text(texts[name], encoding="utf-8")
            print(f"wrote docs/reference/{name}")
    return 1 if is_check and changed else 0


def _read(name: str) -> str:
    path = FOLDER / name
    return path.read_text(encoding="utf-8") if path.exists() else ""


def _tell(name: str, text: str) -> None:
    before, after = _read(name).splitlines(), text.splitlines()
    lines = list(difflib.unified_diff(before, after, f"docs/reference/{name}", "generated", lineterm="", n=1))
    print("\n".join(lines[:20]), file=sys.stderr)
    print(f"docs/reference/{name} is not up to date; run: scripts/check --fix", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
