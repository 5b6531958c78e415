"""Workflows that come with the server: listed, searched, and copied into a workflow of one's own.

Each is a file `data/<category>/<id>.json`, in the form that `dustrun run FILE` takes: `payload` is an example of what
its trigger gets. They belong to no organisation, and nothing ever changes them.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from dustrun.core.values import exact_json
from dustrun.errors import Code, NotFound
from dustrun.records import dataclass
from dustrun.storage.workflows.templates import TemplateRow

_DATA: Final = Path(__file__).with_name("data")
CATEGORIES: Final = ("money", "watch", "people", "data", "start")
"""In the order in which they are shown."""
OWN: Final = "org"
"""The category of those that the organisation has made."""
FIRST: Final = "take-profit"
"""The one that a first visit offers."""


@dataclass(frozen=True, slots=True)
class Template:
    """A bundled workflow. `types` are the types of its nodes, each once."""

    id: str
    category: str
    name: str
    description: str
    definition: dict[str, Any]
    payload: dict[str, Any]
    trigger_type: str
    types: tuple[str, ...]
    node_count: int
    own: TemplateRow | None = None
    """None: it comes with the server."""


@functools.cache
def _all() -> tuple[Template, ...]:
    found = [_read(category, path) for category in CATEGORIES for path in sorted((_DATA / category).glob("*.json"))]
    return tuple(sorted(found, key=lambda one: one.id != FIRST))


def _read(category: str, path: Path) -> Template:
    document = exact_json.loads_own(path.read_bytes())
    definition = document["definition"]
    nodes = definition["nodes"]
    trigger = nodes[definition["triggerNodeIds"][0]]["type"]
    types = tuple(sorted({node["type"] for node in nodes.values()}))
    about = (path.stem, category, document["name"], document["description"])
    return Template(*about, definition, document["payload"], trigger, types, len(nodes))


def of_own(row: TemplateRow) -> Template:
    """One that the organisation has made."""
    definition = exact_json.loads(row.definition) if row.definition else {}
    types = tuple(sorted(row.node_types.split()))
    return Template(
        row.id, OWN, row.name, row.description, definition, {}, row.trigger_type, types, row.node_count, row
    )


def list_templates(
    q: str | None = None, category: str | None = None, own: Sequence[TemplateRow] = ()
) -> Sequence[Template]:
    """Those of a category whose name, description, tags or node types contain every word of `q`; own ones first."""
    words = (q or "").lower().split()
    known = (*map(of_own, own), *_all())
    return [one for one in known if category in (None, one.category) and all(word in _text(one) for word in words)]


def _text(one: Template) -> str:
    tags = one.own.tags if one.own is not None else ""
    return " ".join((one.id, one.name, one.description, tags, *one.types)).lower()


def get_template(template_id: str) -> Template:
    """One template; raises `NotFound`."""
    for one in _all():
        if one.id == template_id:
            return one
    known = ", ".join(one.id for one in _all())
    raise NotFound(f'There is no template "{template_id}". There are: {known}.', code=Code.TEMPLATE_UNKNOWN)


def definition_of(template: Template) -> dict[str, Any]:
    """A copy to be changed; the example payload becomes the defaults of the input schema, so that a form starts with
    it."""
    definition: dict[str, Any] = copy.deepcopy(template.definition)
    trigger = definition["nodes"][definition["triggerNodeIds"][0]]
    schema = (trigger.get("payload") or {}).get("inputSchema") or {}
    for name, field in (schema.get("properties") or {}).items():
        if name in template.payload and "default" not in field:
            field["default"] = template.payload[name]
    return definition
