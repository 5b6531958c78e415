"""Names the fields that clients of other platforms send and that mean nothing here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from dustrun.core.values.fields import Fields, ignored_names
from dustrun.core.workflow.definition import Definition, Node
from dustrun.errors import Problem

_IN_DEFINITION = ignored_names(Definition)
_IN_NODE = ignored_names(Node)


def ignored_fields(body: Any) -> list[Problem]:
    """A warning for each field of a request, or of the definition in it, that was accepted and ignored."""
    if not isinstance(body, Fields):
        return []
    found = [_warning(name, name) for name in _given(body, ignored_names(type(body)))]
    return [*found, *ignored_in_definition(getattr(body, "definition", None))]


def ignored_in_definition(definition: Any) -> Iterator[Problem]:
    """The same for a definition: the model or, not validated, its document."""
    yield from (_warning(name, name) for name in _given(definition, _IN_DEFINITION))
    nodes = definition.get("nodes") if isinstance(definition, Mapping) else getattr(definition, "nodes", None)
    for node_id, node in nodes.items() if isinstance(nodes, Mapping) else ():
        for name in _given(node, _IN_NODE):
            yield _warning(name, f"nodes.{node_id}.{name}", node_id)


def _given(holder: Any, names: Mapping[str, str]) -> list[str]:
    """The wire names of the ignored fields that a model or a document has; `names` are theirs by attribute."""
    if isinstance(holder, Fields):
        return [name for attribute, name in names.items() if attribute in holder.model_fields_set]
    return [name for name in names.values() if name in holder] if isinstance(holder, Mapping) else []


def _warning(name: str, field: str, node_id: str | None = None) -> Problem:
    message = f"`{name}` is accepted from clients of other platforms, but means nothing here; it was ignored."
    return Problem(field, message, "field_ignored", node_id, "warning")
