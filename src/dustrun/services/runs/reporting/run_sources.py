"""What shaped the spends of one run: the slices of what really ran, with the inputs that it was given."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, TypeVar

from dustrun.core.run.journal import KEPT_FROM, ReportedExecution
from dustrun.core.run.state import Mode, NodeStatus
from dustrun.core.sources.report import report_of
from dustrun.core.sources.slicer import ClosedPrograms, Key, Place
from dustrun.core.sources.spend_slice import slices_of
from dustrun.core.workflow.specs import Specs
from dustrun.services.runs.reporting.report_parts import Parts
from dustrun.services.workflows.closure import key_of_run

Json = dict[str, Any]
K = TypeVar("K")
V = TypeVar("V")
_BEGUN: Final = frozenset(
    (
        NodeStatus.RUNNING,
        NodeStatus.WAITING,
        NodeStatus.SUCCESS,
        NodeStatus.PARTIAL,
        NodeStatus.FAILURE,
        NodeStatus.UNCERTAIN,
    )
)
_REPORTED: Final = "resolvedBy"
"""Fact of a result that a person reported."""
_MOST_PATHS: Final = 100


def explain(found: Parts, specs: Specs, may_tell: Callable[[str], bool]) -> list[Json]:
    """The spends that a run came to with their sources, each with the `paths` in the report of effects that it stands
    for: the items of a loop share one slice."""
    begun = list(_begun(found))
    closed = ClosedPrograms(
        root=key_of_run(found.versions[0][0]),
        programs={key_of_run(row): one.program for row, one in found.versions if one.program is not None},
        ran=_grouped((place, one.input if isinstance(one.input, dict) else {}) for place, one in begun),
        calls=_grouped(_calls(found)),
        kept=_grouped(kept for place, one in begun for kept in _kept(place, one)),
        simulated=found.versions[0][0].mode == Mode.SIMULATE.value,
    )
    if closed.root not in closed.programs:
        return []
    paths = _grouped((place, one.path) for place, one in begun)
    return [
        report_of(one, may_tell, with_stops=False)
        | {"paths": paths[one.place][:_MOST_PATHS], "count": len(paths[one.place])}
        for one in slices_of(closed, specs)
    ]


def _begun(found: Parts) -> Iterator[tuple[Place, ReportedExecution]]:
    for part, (row, _) in zip(found.parts, found.versions, strict=True):
        for one in part.executions:
            if one.status in _BEGUN:
                yield (key_of_run(row), one.node_id), one


def _calls(found: Parts) -> Iterator[tuple[Place, Key]]:
    """Which versions the calls ran."""
    rows = {row.pk: row for row, _ in found.versions}
    for row, _ in found.versions[1:]:
        if row.parent_pk in rows and row.parent_path:
            yield (key_of_run(rows[row.parent_pk]), row.parent_path.rpartition(".")[2]), key_of_run(row)


def _kept(place: Place, one: ReportedExecution) -> Iterator[tuple[Place, tuple[str, str]]]:
    """The run that gave a result which a retry kept or a person reported."""
    facts = one.facts or {}
    if KEPT_FROM in facts or _REPORTED in facts:
        yield place, (one.run_id, one.path)


def _grouped(pairs: Iterator[tuple[K, V]]) -> Mapping[K, list[V]]:
    found: dict[K, list[V]] = {}
    for key, value in pairs:
        found.setdefault(key, []).append(value)
    return found
