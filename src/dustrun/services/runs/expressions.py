"""Values of an expression in a run that has happened, so that an editor can show them while it is typed.

It sees what may be read of that run: results as they are stored, with their secrets masked. It reads only the
nodes that the expression names, and works within limits of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, Protocol

from dustrun.core.expression import ExpressionError, parse_expression, parse_template
from dustrun.core.expression.template import Template
from dustrun.core.expression.values import EvaluationLimits, Roots
from dustrun.core.run.journal import Journal, enclosing, frame_of
from dustrun.core.values.exact_json import loads
from dustrun.core.workflow.program import Program
from dustrun.records import dataclass
from dustrun.sdk.threads import run_beside
from dustrun.services.access.principal import Principal
from dustrun.services.runs.create import stored_facts
from dustrun.services.runs.engine_port import RunFacts
from dustrun.services.runs.runs import Runs
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Tx
from dustrun.storage.runs import journal as rows

_LIMITS: Final = EvaluationLimits(steps=20_000, size=65_536)
_MOST_FRAMES: Final = 20


class SeesRoots(Protocol):
    """How an expression of a node sees a run; the engine knows."""

    def roots(self, facts: RunFacts, program: Program, journal: Journal, frame: str) -> Roots:
        """The roots of a node in that frame of loop items."""
        ...

    def masked(self, value: Any) -> Any:
        """A value that may be shown: the links in it are masked."""
        ...


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The value of a template, or why it has none."""

    value: Any = None
    error: ExpressionError | None = None


class Expressions:
    """Evaluates templates against stored runs."""

    def __init__(self, database: Database, runs: Runs, sees: SeesRoots) -> None:
        self._database = database
        self._runs = runs
        self._sees = sees

    async def evaluate(
        self, principal: Principal, template: str, run_id: str, path: str, *, is_expression: bool
    ) -> Evaluation:
        """The template's value at a node's path, such as `each[3].pay`; raises `NotFound` for an unknown run."""
        row = (await self._runs.get(principal, run_id, slim=True)).row
        program = (await self._runs.compiled(row)).runnable()
        parse = parse_expression if is_expression else parse_template
        frame = frame_of(path)
        try:
            parsed = await run_beside(parse, template)
            paths = sorted(_paths(parsed, program, row.trigger_node_id, frame))
        except ExpressionError as error:
            return Evaluation(error=error)

        def query(tx: Tx) -> Journal:
            found = (rows.find_execution(tx, row.pk, one) for one in paths)
            return Journal.of(one for one in found if one is not None)

        roots = self._sees.roots(
            stored_facts(row, loads(row.prop_values)), program, await self._database.read(query), frame
        )
        return await run_beside(self._work, parsed, roots)

    def _work(self, parsed: Template, roots: Roots) -> Evaluation:
        try:
            return Evaluation(self._sees.masked(parsed.evaluate(roots, _LIMITS)))
        except ExpressionError as error:
            return Evaluation(error=error)


def _paths(template: Template, program: Program, trigger_id: str, frame: str) -> Iterator[str]:
    """The paths of executions that the template may read from a frame."""
    around = list(enclosing(frame))[:_MOST_FRAMES]
    named = {trigger_id}
    for one in template.references:
        first = one.path[0] if one.path else None
        if one.root == "$nodes":
            named |= {first} if isinstance(first, str) else set(program.nodes)
        else:
            named.add(one.root)
    frames = [frame, *(frame_of(loop) for loop, _ in around)]
    yield from (f"{prefix}{name}" for name in named if name in program.nodes for prefix in frames)
    yield from (loop for loop, _ in around)
