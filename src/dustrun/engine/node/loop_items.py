"""The spends of a loop's items, resolved by the same code as when their turn comes, before the first begins."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from dustrun.core.expression import DEFAULT_LIMITS
from dustrun.core.run.journal import Execution, Journal, item_frame
from dustrun.core.run.plan import Start
from dustrun.core.run.state import NodeStatus
from dustrun.core.workflow.loop_forecast import LOOP, Begins, LoopForecast, begins
from dustrun.engine.node import node as nodes
from dustrun.engine.node.node import Preparation
from dustrun.engine.node.outcome import Failed, Job, OpenedLoop, Settled
from dustrun.records import dataclass
from dustrun.sdk import Effect


@dataclass(frozen=True, slots=True)
class FoundSpend:
    """A spend of one item: its job, or why its input is not valid. `may_fail`: its failure does not fail the loop."""

    path: str
    prepared: Job | Failed
    may_fail: bool


class LoopItems:
    """The known spends of a loop, in the order of its items. `given` is the loop's own attempt, whose roots see what
    the run knows; nothing is recorded."""

    def __init__(self, given: Preparation, journal: Journal, forecast: LoopForecast) -> None:
        self._given = given
        self._program = given.roots.program
        self._forecast = forecast
        self._journal = Journal({**journal.by_path})

    def is_known(self) -> bool:
        """Whether the steps that the spends read have ended: with `join: any` one may still run."""
        found = (self._journal.find(self._given.roots.frame, node_id) for node_id in self._forecast.reads)
        return all(one is not None and one.is_settled for one in found)

    def spends(self, opened: OpenedLoop) -> Iterator[FoundSpend]:
        """Each known spend that will begin if all that comes before it succeeds."""
        start = self._given.start
        return self._of_loop(start.path, start.node_id, opened, may_fail=False)

    def _of_loop(self, path: str, loop_id: str, opened: OpenedLoop, *, may_fail: bool) -> Iterator[FoundSpend]:
        loop = Execution(path, loop_id, 1, NodeStatus.RUNNING, facts={"items": opened.items}, assumed=opened.assumed)
        self._journal.by_path[path] = loop
        may_fail = may_fail or opened.on_item_error != "fail"
        for index in range(len(opened.items)):
            yield from self._of_item(item_frame(path, index), loop_id, may_fail=may_fail)

    def _of_item(self, frame: str, loop_id: str, *, may_fail: bool) -> Iterator[FoundSpend]:
        seen, branches, graph = dict[str, Begins](), dict[str, str](), self._program.graph
        for node_id in self._forecast.orders[loop_id]:
            seen[node_id] = begins(graph.edges_into.get(node_id, ()), seen, branches)
            if not seen[node_id]:
                continue
            path, node = frame + node_id, self._program.nodes[node_id]
            tolerates = may_fail or node.node.on_error != "fail"
            if node_id in self._forecast.deciders:
                decided = self._prepare(frame, node_id)
                if isinstance(decided, Settled) and decided.branch is not None:
                    branches[node_id] = decided.branch
            elif node_id in self._forecast.spends:
                found = self._prepare(frame, node_id)
                if isinstance(found, Failed) or (isinstance(found, Job) and found.effect is Effect.SPEND):
                    yield FoundSpend(path, found, tolerates)
            elif node_id in self._forecast.loops:
                inner = self._prepare(frame, node_id)
                if isinstance(inner, OpenedLoop):
                    yield from self._of_loop(path, node_id, inner, may_fail=tolerates)

    def _prepare(self, frame: str, node_id: str) -> object:
        given, node = self._given, self._program.nodes[node_id]
        assert node.node.type != LOOP or node.repeat is None
        start, roots = Start(frame + node_id, node_id), given.roots.seen_from(self._journal, frame)
        asked = replace(given, start=start, node=node, roots=roots, limits=DEFAULT_LIMITS)
        return nodes.prepare(asked)[1]
