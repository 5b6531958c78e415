"""A request for every operation of the document that should succeed, for things that were just made for it."""

from __future__ import annotations

import itertools
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from testkit.fuzz_world import World, succeed

ID = re.compile(r"\b(?:wf|run|conn|wal|key|msg|conv|org|tbl|tx|sig|apr|evt|gap|sub|hook|dlv|tpl)_[0-9a-z]{26}\b")
DOCUMENT = json.loads((Path(__file__).parents[2] / "docs/reference/openapi.json").read_text())
OPERATIONS = {
    operation["operationId"]: (method.upper(), path)
    for path, operations in DOCUMENT["paths"].items()
    for method, operation in operations.items()
}
PERMISSION_OF = {
    operation["operationId"]: operation["x-permission"]
    for operations in DOCUMENT["paths"].values()
    for operation in operations.values()
}
READ_PERMISSION_OF = {
    operation["operationId"]: operation["x-read-permission"]
    for operations in DOCUMENT["paths"].values()
    for operation in operations.values()
    if "x-read-permission" in operation
}
"""Of writes: what a key needs to be answered with the whole."""

_numbers = itertools.count(1)


@dataclass
class Asked:
    """A request, as `succeed` fills it in."""

    method: str
    path: str
    name: str
    path_parameters: dict[str, Any] = field(default_factory=dict)
    query: dict[str, Any] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    body: Any = None
    media_type: str | None = None
    once: str = field(default_factory=lambda: f"once-{next(_numbers)}")

    @property
    def operation(self) -> Any:
        return SimpleNamespace(path=self.path)

    @property
    def named(self) -> set[str]:
        """The ids in the request itself."""
        return set(ID.findall(f"{self.url} {self.query} {self.body}"))

    @property
    def url(self) -> str:
        return self.path.format(**self.path_parameters)


def asking(world: World, name: str) -> Asked:
    """The request of an operation."""
    method, path = OPERATIONS[name]
    asked = Asked(method, path, name)
    succeed(world, name, asked)
    return asked
