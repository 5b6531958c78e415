"""Collects the examples of answers in the OpenAPI document from what a server answers in tests.

    .venv/bin/python scripts/collect_examples.py [--again] tests/api/test_every_operation.py

Runs the tests, and writes an example for each operation that was called and has none that fits its schema; with
--again, for each operation that was called. The answer with the most values is taken; lists are shortened.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import jsonschema  # noqa: E402
import pytest  # noqa: E402

from dustrun.api.description.answer_examples import FILE  # noqa: E402
from testkit import conformance  # noqa: E402

MOST_CHARACTERS = 2_500
_MOST_ITEMS = 3
_SECRET = re.compile(r"\b(sk|st|csrf|signin)_\w{20,}")


class Collector:
    """The best answer of each operation so far."""

    def __init__(self) -> None:
        self.best: dict[str, Any] = {}
        self._ranks: dict[str, tuple[int, int]] = {}

    def listen(self, operation_id: str, body: dict[str, Any]) -> None:
        """Keeps the answer if it shows more than the one before, and is short enough."""
        data = json.loads(_SECRET.sub(r"\1_…", json.dumps(shortened(body["data"]), ensure_ascii=False)))
        size = len(json.dumps(data))
        rank = (min(0, MOST_CHARACTERS - size), len(set(_places(data))))
        if operation_id not in self.best or rank > self._ranks[operation_id]:
            self.best[operation_id], self._ranks[operation_id] = data, rank


def shortened(value: Any) -> Any:
    """A value with the beginnings of its lists: one of several objects, a few of other items."""
    if isinstance(value, dict):
        # Spectral takes an object with these two for a schema, and a column's type for a wrong one
        unwanted = {"default"} if "type" in value else set()
        return {name: shortened(item) for name, item in value.items() if name not in unwanted}
    if isinstance(value, list):
        return [shortened(item) for item in value[: 1 if isinstance(next(iter(value), None), dict) else _MOST_ITEMS]]
    return value


def _places(value: Any, path: str = "") -> Iterator[str]:
    """The paths of all values that say something."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _places(item, f"{path}.{name}")
    elif isinstance(value, list):
        for item in value:
            yield from _places(item, f"{path}[]")
    elif value not in (None, ""):
        yield path


def contents() -> Iterator[tuple[str, Any, Any]]:
    """Each operation's id, the schema of its answer, and the example that is shown for it, if any."""
    import reference_json  # only now: pytest rewrites a module that this imports, and must come first

    document: Any = json.loads(reference_json.openapi())
    for operations in document["paths"].values():
        for operation in operations.values():
            content = operation["responses"]["200"]["content"].get("application/json", {})
            shown = content.get("example")
            if "examples" in content:
                name = content["examples"]["answer"]["$ref"].rpartition("/")[2]
                shown = document["components"]["examples"][name]["value"]
            yield operation["operationId"], {**content.get("schema", {}), "components": document["components"]}, shown


def fitting() -> set[str]:
    """The operations whose example fits the schema of their answer now."""
    return {
        name
        for name, schema, shown in contents()
        if shown is not None and jsonschema.Draft202012Validator(schema).is_valid(shown)
    }


def one_each(examples: dict[str, Any]) -> dict[str, Any]:
    """The examples without those of operations that answer the same as another one: the longest of them is shown."""
    schemas = {name: schema.get("$ref", name) for name, schema, _ in contents()}
    longest: dict[str, str] = {}
    for name, data in examples.items():
        schema = schemas.get(name, name)
        if schema not in longest or len(json.dumps(data)) > len(json.dumps(examples[longest[schema]])):
            longest[schema] = name
    return {name: examples[name] for name in longest.values()}


def main() -> int:
    """Runs the tests and writes the file; returns the exit code of pytest."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--again", action="store_true", help="replace the examples of all operations that are called")
    parser.add_argument("tests", nargs="+", help="passed to pytest")
    chosen = parser.parse_args()
    collector = Collector()
    conformance.LISTENERS.append(collector.listen)
    status = int(pytest.main(["-q", *chosen.tests]))
    known = set() if chosen.again else fitting()
    found = {name: data for name, data in collector.best.items() if name not in known}
    kept = json.loads(FILE.read_text(encoding="utf-8"))
    FILE.write_text(
        json.dumps(one_each({**kept, **found}), indent=1, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    print(f"wrote {len(found)} examples: {', '.join(sorted(found)) or 'none'}")
    return status


if __name__ == "__main__":
    sys.exit(main())
