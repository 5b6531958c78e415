"""An example of the `data` of each operation's successful answer: real answers of a server, which
`scripts/collect_examples.py` collects. A test validates each against its schema."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from dustrun.core.values.exact_json import loads

FILE: Final = Path(__file__).with_name("answer_examples.json")


def examples() -> dict[str, Any]:
    """The examples by operation id."""
    found: dict[str, Any] = loads(FILE.read_bytes())
    return found
