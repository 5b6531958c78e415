"""Roots of a node's expressions: results of earlier nodes, the trigger, loop items, facts of the run.

It records whether any value it returned was *assumed* (neither executed nor pinned), so that the mark follows
references through a simulation.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, TypeVar

from dustrun import clock, ids
from dustrun.core.expression import Function, Lazy
from dustrun.core.expression.values import Roots
from dustrun.core.run.journal import Execution, Journal, enclosing, frame_of
from dustrun.core.run.state import NodeStatus
from dustrun.core.sources.kept import joined
from dustrun.core.values.exact_json import dumps_text, loads_own
from dustrun.core.workflow.control import RESUMABLE
from dustrun.core.workflow.graph import TOP
from dustrun.core.workflow.program import Program
from dustrun.engine.node.context import Notes
from dustrun.errors import StoreUnavailable, Uncertain
from dustrun.log import mask_links
from dustrun.records import dataclass
from dustrun.sdk.tables import TableChange, TableQuery, TableRows, TableWritten
from dustrun.services.data.managed_tables import Tables, WritingNode
from dustrun.services.data.variables import VariableView
from dustrun.services.runs.engine_port import RunFacts
from dustrun.services.runs.resume_links import ResumeLinks


class NodeView(Lazy):
    """`result`, `error`, `status` and `input` of one node."""

    def __init__(self, roots: NodeRoots, execution: Execution | None) -> None:
        self._roots = roots
        self._execution = execution

    def get(self, key: str) -> Any:
        """One of the four; `result` exists only when the node succeeded, `error` only when it failed."""
        execution = self._execution
        if execution is not None and execution.assumed and execution.is_settled:
            self._roots.assumed = True
        if key == "status":
            return (execution.status if execution is not None else NodeStatus.PENDING).value
        if execution is None:
            raise KeyError(key)
        if key == "result" and execution.status in (NodeStatus.SUCCESS, NodeStatus.PARTIAL):
            return execution.result
        if key == "error" and execution.error is not None:
            return execution.error
        if key == "input" and execution.input is not None:
            return execution.input
        raise KeyError(key)

    def keys(self) -> Iterable[str]:
        """The names that `get` knows."""
        return ("result", "error", "status", "input")


class NodesView(Lazy):
    """`$nodes`: every node of the graph by id, resolved in the loop frame of the reading node."""

    def __init__(self, roots: NodeRoots) -> None:
        self._roots = roots

    def get(self, key: str) -> Any:
        """The node's view."""
        return self._roots.node(key)

    def keys(self) -> Iterable[str]:
        """The ids of the graph's nodes."""
        return self._roots.program.nodes.keys()


class LoopsView(Lazy):
    """`$for`: `item` and `index` of each enclosing loop, by the loop's node id."""

    def __init__(self, roots: NodeRoots) -> None:
        self._roots = roots

    def get(self, key: str) -> Any:
        """The current item and index of the named loop."""
        for loop_path, index in enclosing(self._roots.frame):
            if loop_path.rpartition(".")[2] == key:
                return {"item": self._roots.item(loop_path, index), "index": index}
        raise KeyError(key)

    def keys(self) -> Iterable[str]:
        """The node ids of the enclosing loops, innermost first."""
        return [loop_path.rpartition(".")[2] for loop_path, _ in enclosing(self._roots.frame)]


class RunView(Lazy):
    """`$run`, including the function `resumeUrl`."""

    def __init__(self, roots: NodeRoots) -> None:
        self._roots = roots

    def get(self, key: str) -> Any:
        """`id`, `mode`, `startedAt`, or `resumeUrl(nodeId)`."""
        facts = self._roots.facts
        if key == "id":
            return facts.id
        if key == "mode":
            return facts.mode.value
        if key == "startedAt":
            return clock.to_rfc3339(facts.started_at)
        if key == "resumeUrl":
            return Function(self._roots.resume_url, 1, "resumeUrl")
        raise KeyError(key)

    def keys(self) -> Iterable[str]:
        """The names that `get` knows."""
        return ("id", "mode", "startedAt", "resumeUrl")


class VariablesView(Lazy):
    """`$vars`: the variables as they were when the node began."""

    def __init__(self, roots: NodeRoots) -> None:
        self._roots = roots

    def get(self, key: str) -> Any:
        """The value of a variable."""
        seen = self._roots.variables[key]
        self._roots.assumed = self._roots.assumed or seen.assumed
        return seen.value

    def keys(self) -> Iterable[str]:
        """Every variable that is declared or was written."""
        return self._roots.variables.keys()


@dataclass(frozen=True, slots=True)
class ServerRoots:
    """The server's part of the roots: `$env`, and what signs the links of `$run.resumeUrl`."""

    env: Mapping[str, str]
    links: ResumeLinks


class NodeRoots:
    """The roots of one node in one frame; see the expressions page for their meaning."""

    def __init__(
        self,
        facts: RunFacts,
        program: Program,
        journal: Journal,
        frame: str,
        now: int,
        variables: Mapping[str, VariableView],
        server: ServerRoots,
    ) -> None:
        self.facts = facts
        self.program = program
        self.frame = frame
        self.assumed = False
        self.variables = variables
        self._links = server.links
        self._made_links = False
        self._journal = journal
        self._now = now
        self._env = server.env

    def seen_from(self, journal: Journal, frame: str) -> NodeRoots:
        """The same roots in another frame of another journal."""
        server = ServerRoots(self._env, self._links)
        return NodeRoots(self.facts, self.program, journal, frame, self._now, self.variables, server)

    def root(self, name: str) -> Any:
        """The value behind a root; raises `KeyError` when there is none of that name."""
        maker = _ROOTS.get(name)
        if maker is not None:
            return maker(self)
        if name in self.program.nodes:
            return self.node(name)
        raise KeyError(name)

    def node(self, node_id: str) -> NodeView:
        """A node in this frame; `root` is the trigger that fired, whatever its id."""
        if node_id == "root":
            node_id = self.facts.trigger_node_id
        if node_id not in self.program.nodes:
            raise KeyError(node_id)
        return NodeView(self, self._journal.find(self.frame, node_id))

    def item(self, loop_path: str, index: int) -> Any:
        """An item of a loop that was opened."""
        execution = self._journal.by_path[loop_path]
        self.assumed = self.assumed or execution.assumed
        assert execution.facts is not None
        return execution.facts["items"][index]

    @property
    def is_in_assumed_loop(self) -> bool:
        """Whether the items of an enclosing loop are assumed, so that the number of iterations is not known."""
        return any(self._journal.by_path[loop].assumed for loop, _ in enclosing(self.frame))

    def around(self, depth: int) -> tuple[str, int]:
        """(loop path, index) of the loop item `depth` levels out."""
        for level, found in enumerate(enclosing(self.frame)):
            if level == depth:
                return found
        raise KeyError("loop")

    def trigger_event(self) -> Any:
        """The event that started the run."""
        return self.node("root").get("result")

    def prop_values(self) -> Mapping[str, Any]:
        """`$props`: as assumed as what the caller passed with them."""
        began = self._journal.find("", self.facts.trigger_node_id)
        self.assumed = self.assumed or (began is not None and began.assumed)
        return self.facts.prop_values

    def resume_url(self, node_id: Any) -> str:
        """The link that resumes a `wait` or `approve` of this run, in the loop items around this node."""
        node = self.program.nodes.get(node_id) if isinstance(node_id, str) else None
        if node is None or node.node.type not in RESUMABLE:
            raise KeyError(node_id)
        self._made_links = True
        return self._links.make(self.facts.org_id, self.facts.id, self._frame_around(node_id) + node_id)

    def _frame_around(self, node_id: str) -> str:
        """The enclosing frame that contains the node; raises `KeyError` when it is in another loop."""
        loop = self.program.graph.scope_of[node_id]
        frame = self.frame
        while True:
            around = next(enclosing(frame), None)
            if (around[0].rpartition(".")[2] if around is not None else TOP) == loop:
                return frame
            if around is None:
                raise KeyError(node_id)
            frame = frame_of(around[0])

    def masked(self, value: Any) -> Any:
        """A resolved value that may be stored and shown: the resume links in it are masked."""
        return loads_own(mask_links(dumps_text(value))) if self._made_links else value

    def workflow(self) -> dict[str, Any]:
        """`$workflow`."""
        facts = self.facts
        return {"id": facts.workflow_id, "name": facts.workflow_name, "version": facts.version}

    @property
    def now_text(self) -> str:
        """`$now`: the node's start, on the simulated clock in a simulation."""
        return clock.to_rfc3339(self._now)

    @property
    def env(self) -> Mapping[str, str]:
        """`$env`: only the names that the operator allows."""
        return self._env


_ROOTS: dict[str, Callable[[NodeRoots], Any]] = {
    "$nodes": NodesView,
    "$trigger": NodeRoots.trigger_event,
    "root": lambda roots: roots.node("root"),
    "$props": NodeRoots.prop_values,
    "$inputs": lambda roots: roots.trigger_event()["body"],
    "$item": lambda roots: roots.item(*roots.around(0)),
    "$index": lambda roots: roots.around(0)[1],
    "$parent_item": lambda roots: roots.item(*roots.around(1)),
    "$parent_index": lambda roots: roots.around(1)[1],
    "$for": LoopsView,
    "$run": RunView,
    "$vars": VariablesView,
    "$workflow": NodeRoots.workflow,
    "$workflowId": lambda roots: roots.facts.workflow_id,
    "$now": lambda roots: roots.now_text,
    "$env": lambda roots: dict(roots.env),
}


# What an expression sees of a run that has happened: for readers of runs, who may not use what a run may.


class PastRoots:
    """Roots without `$env` and `$vars`, which a reader of runs may not see. Links are signed with a secret that no
    server knows: an expression could take one apart so that no mask would find it."""

    def __init__(self) -> None:
        self._server = ServerRoots({}, ResumeLinks(ids.new_entropy(32), "https://example.com"))

    def roots(self, facts: RunFacts, program: Program, journal: Journal, frame: str) -> Roots:
        """The roots of a node in that frame of loop items, at the start of its run."""
        return NodeRoots(facts, program, journal, frame, facts.started_at, {}, self._server)

    def masked(self, value: Any) -> Any:
        """A value with the links in it masked."""
        return loads_own(mask_links(dumps_text(value)))


# Calls whose outcome the store could not tell: they are repeated until it is known.


ASK_AGAIN_S = 0.5
T = TypeVar("T")


async def until_known(call: Callable[[], Awaitable[T]], *, is_unknown: bool = False) -> T:
    """The result of a call that has the same effect however often it is made, repeated until its outcome is known.
    Raises `StoreUnavailable` if the first one has done nothing, unless what came before `is_unknown`. What else it
    raises is known: the store has answered, or another process has the run."""
    while True:
        try:
            return await call()
        except Uncertain:
            is_unknown = True
        except StoreUnavailable:
            if not is_unknown:
                raise
        await asyncio.sleep(ASK_AGAIN_S)


# `ctx.tables`: the managed tables for one attempt of one node.


class RunTables:
    """The `ctx.tables` of a node."""

    def __init__(self, tables: Tables, facts: RunFacts, node: WritingNode, notes: Notes) -> None:
        self._tables = tables
        self._facts = facts
        self._node = node
        self._notes = notes

    async def read(self, query: TableQuery) -> TableRows:
        """The matching rows, with this run's simulated changes."""
        found = await self._tables.read_for(self._facts, query)
        self._notes.assumed = self._notes.assumed or found.assumed
        self._notes.row_sources = joined((self._notes.row_sources, found.sources))
        return TableRows(found.rows, found.has_more)

    async def write(self, change: TableChange) -> TableWritten:
        """Changes rows; the same write key changes them once."""
        assumed = self._notes.assumed
        written = await until_known(lambda: self._tables.write_for(self._facts, change, self._node, assumed=assumed))
        shown = {"table": change.table, "mode": change.mode, "keys": written.keys}
        counts = {"inserted": written.inserted, "updated": written.updated, "deleted": written.deleted}
        self._notes.facts = {"tableWrite": {**shown, **counts}}
        return written
