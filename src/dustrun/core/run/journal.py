"""The journal of one run: node executions by path. A path includes loop items: `each_user[3].pay`.

Identity is (run, path, attempt), never the order of calls: parallel branches finish in any order, and replay does not
depend on it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import field
from typing import Any, Final

from dustrun.core.run.state import NODE_SETTLED, NodeStatus
from dustrun.core.workflow.graph import TOP, Graph
from dustrun.records import dataclass


@dataclass(slots=True)
class Execution:
    """The newest attempt of one node in one run."""

    path: str
    node_id: str
    attempt: int
    status: NodeStatus
    branch: str | None = None
    input: Any = None
    result: Any = None
    error: dict[str, Any] | None = None
    facts: dict[str, Any] | None = None
    assumed: bool = False
    wake_at: int | None = None
    started_at: int | None = None
    finished_at: int | None = None

    @property
    def is_settled(self) -> bool:
        """Whether its status is terminal."""
        return self.status in NODE_SETTLED


@dataclass(slots=True)
class ReportedExecution(Execution):
    """An execution in a report. `run_id` carried it out; `path` begins with the calls that lead there from the reported
    run: `monthly/pay` is the node `pay` of the run that `monthly` called.
    """

    run_id: str = ""

    @property
    def place(self) -> dict[str, str]:
        """Where it happened, as every entry of a report says it."""
        return {"runId": self.run_id, "nodeId": self.node_id, "path": self.path}


KEPT_FROM = "keptFrom"
"""Fact of a result that a retry kept: the run that carried it out."""

OPENS_AGAIN: Final = "opensAgain"
"""Fact of an unfinished loop that a retry kept: it has its items, and what they spend is not judged yet."""
AHEAD: Final = "ahead"
"""Fact of a loop that waits for a person: what it opens with, and the questions."""
_ITEMS: Final = ("items", "concurrency", "onItemError", "mostItems", "assumed")


def items_of(facts: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The items that a loop opens with; None if it has not evaluated them."""
    found = {} if facts is None else facts.get(AHEAD, facts)
    return {name: found[name] for name in _ITEMS if name in found} if "items" in found else None


RESUMED_BY: Final = "resumedBy"
"""Fact of a wait or a question that was answered: by which key, or `link`."""
ROW_SOURCES: Final = "rowSources"
"""Fact of a node that read tables: what shaped the rows, by column."""
ANSWER: Final = "answer"
"""Fact of the one `respond` of a run that answers its request: the answer, without a large body."""


def has_responded(execution: Execution) -> bool:
    """Whether an execution answered its run's request."""
    is_answer = execution.facts is not None and ANSWER in execution.facts
    return is_answer and execution.status is NodeStatus.SUCCESS


def frame_of(path: str) -> str:
    """The loop-item prefix of a path, dot included: `each[3].` of `each[3].pay`, empty at the top."""
    return path[: path.rfind(".") + 1]


def item_frame(loop_path: str, index: int) -> str:
    """The frame prefix of one item of a loop."""
    return f"{loop_path}[{index}]."


def enclosing(frame: str) -> Iterator[tuple[str, int]]:
    """(loop path, index) of each enclosing loop item, innermost first."""
    while frame:
        loop_path, _, index = frame[:-2].rpartition("[")
        yield loop_path, int(index)
        frame = frame_of(loop_path)


@dataclass(slots=True)
class Journal:
    """All executions of a run: the newest attempt of each path."""

    by_path: dict[str, Execution] = field(default_factory=dict)

    @classmethod
    def of(cls, executions: Iterable[Execution]) -> Journal:
        """Builds a journal from stored executions; the newest attempt of a path wins."""
        journal = cls()
        for execution in executions:
            known = journal.by_path.get(execution.path)
            if known is None or known.attempt <= execution.attempt:
                journal.by_path[execution.path] = execution
        return journal

    def list_last(self, graph: Graph) -> dict[str, Execution]:
        """The nodes that a run's result is made of: the succeeded ones outside of loops that no other succeeded node
        follows."""
        done = {
            node_id: execution
            for node_id in graph.scopes[TOP].node_ids
            if (execution := self.by_path.get(node_id)) is not None
            and execution.status in (NodeStatus.SUCCESS, NodeStatus.PARTIAL)
            and node_id not in graph.triggers
        }
        followed = {edge.parent for node_id in done for edge in graph.edges_into.get(node_id, ())}
        return {node_id: execution for node_id, execution in done.items() if node_id not in followed}

    def find(self, frame: str, node_id: str) -> Execution | None:
        """The execution of a node as seen from a frame: in the frame itself, else in the nearest enclosing one."""
        while True:
            execution = self.by_path.get(frame + node_id)
            if execution is not None or not frame:
                return execution
            frame = frame_of(frame[: frame.rfind("[")])


ASSUMED_CHILD: dict[str, Any] = {"assumedChild": True}
"""Fact of a call: an important part of the called run depends on an assumed value."""
_DECISIVE = frozenset({"assumedChild", "assumedInput", "assumedEnd"})


def decides(execution: Execution) -> bool:
    """Whether an important part depends on an assumed value: a taken branch, a called run, a spend, a loop's end."""
    facts = execution.facts or {}
    is_decisive = not facts.keys().isdisjoint(_DECISIVE) or facts.get("child", {}).get("assumed", False)
    return execution.assumed and (execution.branch is not None or is_decisive)
