"""Finds workflows that would call each other in a circle: a run refuses the call that closes it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from dustrun.core.workflow.definition import Definition
from dustrun.errors import Problem
from dustrun.services.workflows.calls import CALL
from dustrun.services.workflows.closure import Closures, Lookup, call_of, version_called

_MOST_LEVELS: Final = 10
"""Deeper calls are refused anyway."""
_Call = tuple[str, int | None]


def find_problems(lookup: Lookup, closures: Closures, definition: Definition, own_id: str | None) -> Iterator[Problem]:
    """Yields a problem for every constant call that leads back to a workflow on its way, as the called workflows are
    now. `own_id`: the workflow that the definition is for, if it has one."""
    search = _Search(lookup, closures)
    for node_id, node in definition.nodes.items():
        called = call_of({"payload": node.payload}) if node.type == CALL else None
        circle = search.find(called, [own_id or ""]) if called is not None else None
        if circle is not None:
            names = " → ".join(_name(lookup, one, own_id) for one in circle)
            message = f"The workflows would call each other in a circle: {names}. Remove one of these calls."
            yield Problem(f"nodes.{node_id}.payload.workflowId", message, "call_circle", node_id)


class _Search:
    """Follows calls, each version once."""

    def __init__(self, lookup: Lookup, closures: Closures) -> None:
        self._lookup = lookup
        self._closures = closures
        self._done: set[Any] = set()

    def find(self, called: _Call, above: list[str]) -> list[str] | None:
        """The first circle that a call closes, or something below it; `above`: the workflows that lead to it."""
        workflow_id, version = called
        if workflow_id in above:
            return [*above[above.index(workflow_id) :], workflow_id]
        row = self._lookup.find(workflow_id)
        if row is None or row.status == "archived" or len(above) > _MOST_LEVELS:
            return None
        number = version or version_called(row)
        content = self._closures.find(self._lookup.tx, row.id, number)
        if content is None or (row.id, number) in self._done:
            return None
        found = (self.find(one, [*above, workflow_id]) for one in content.calls)
        circle = next((one for one in found if one is not None), None)
        if circle is None:
            self._done.add((row.id, number))
        return circle


def _name(lookup: Lookup, workflow_id: str, own_id: str | None) -> str:
    row = lookup.find(workflow_id)
    if row is not None and lookup.may_tell(workflow_id):
        return f'"{row.name}" ({row.id})'
    return "this workflow" if workflow_id == own_id else "another workflow"
