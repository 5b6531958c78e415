"""The planner: which nodes run next, given the outcomes so far. Pure, deterministic, linear in the nodes executed.

A `Plan` receives facts (`started`, `settled`, `waits`, `opened` …) and answers `next(now)`. It never looks at results,
modes or a clock. The facts of one run lead to the same end in any order that the graph allows.
"""

from __future__ import annotations

import enum
import heapq
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import field
from typing import Any, NamedTuple

from dustrun.core.run.journal import OPENS_AGAIN, Execution, frame_of, item_frame
from dustrun.core.run.state import NodeStatus, RunStatus
from dustrun.core.workflow.graph import ERROR_BRANCH, TOP, Edge, Graph, Scope
from dustrun.records import dataclass

N = NodeStatus


class Holds(enum.IntEnum):
    """Which ends of the run wait for a suspended node: none; all but a cancel (`uncertain`: a person must decide);
    every one (a sent transaction is tracked to its receipt).
    """

    NOTHING = 0
    FAILURE = 1
    CANCEL = 2


class Start(NamedTuple):
    """Start an attempt of a node or, with `wake`, re-check one that was suspended until now."""

    path: str
    node_id: str
    attempt: int = 1
    wake: bool = False


class Ready(NamedTuple):
    """Work to do now: nodes to start, nodes to skip, loops whose items have all ended, suspended nodes that the run's
    end cuts off, and `while` loops whose iteration has ended, so that their test decides (`grew` or `ended`).
    """

    starts: tuple[Start, ...] = ()
    skipped: tuple[str, ...] = ()
    closed: tuple[str, ...] = ()
    cut_off: tuple[str, ...] = ()
    asked: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Busy:
    """Nothing to start: nodes are running. `until`: when something may begin beside them (milliseconds)."""

    until: int | None = None


_BUSY = Busy()


@dataclass(frozen=True, slots=True)
class Waiting:
    """Nothing is running: the run waits until a time (milliseconds), or for an answer (None)."""

    until: int | None


@dataclass(frozen=True, slots=True)
class Done:
    """The run has ended."""

    status: RunStatus


Next = Ready | Busy | Waiting | Done


@dataclass(slots=True)
class Frame:
    """One pass through a scope: the whole run, or one item of a loop. `active` counts nodes that are not settled.
    `cut`: something in it was cut off or did not begin, because the run or an enclosing item ended."""

    prefix: str
    scope: Scope
    unsettled: dict[str, int]
    loop_path: str | None = None
    index: int = 0
    live: set[str] = field(default_factory=set)
    begun: set[str] = field(default_factory=set)
    active: int = 0
    failing: bool = False
    partial: bool = False
    cut: bool = False


@dataclass(slots=True)
class Loop:
    """A `for-each` node whose items are open; `grows`: a `while`, whose items come one by one. `cut`: its test was not
    asked, because the run or an enclosing item ended."""

    count: int
    concurrency: int
    on_item_error: str
    following: int = 0
    running: int = 0
    halted: bool = False
    grows: bool = False
    cut: bool = False
    statuses: list[NodeStatus] = field(default_factory=list)

    @property
    def outcome(self) -> NodeStatus:
        """The combined outcome of its items."""
        is_whole = len(self.statuses) == self.count and not self.cut
        if is_whole and all(status is N.SUCCESS for status in self.statuses):
            return N.SUCCESS
        failed = N.FAILURE in self.statuses
        return N.FAILURE if failed and self.on_item_error == "fail" else N.PARTIAL


class Plan:
    """The scheduling state of one run."""

    def __init__(self, graph: Graph, trigger_node_id: str) -> None:
        self._graph = graph
        self._frames: dict[str, Frame] = {}
        self._loops: dict[str, Loop] = {}
        self._ready: deque[Start] = deque()
        self._skipped: list[str] = []
        self._closed: list[str] = []
        self._asked: list[str] = []
        self._running: set[str] = set()
        self._waits: dict[str, tuple[int | None, Start, Holds]] = {}
        self._timers: list[tuple[int, str]] = []
        self._held: list[tuple[int, int, Start]] = []
        self._stop: RunStatus | None = None
        self._cancelled = False
        self._ending = False
        self.executions = 0
        self._held_count = 0
        top = self._open_frame(TOP, "", None, 0)
        for node_id in graph.triggers:
            if node_id in top.unsettled:
                top.begun.add(node_id)
                self._follow(top, node_id, N.SUCCESS if node_id == trigger_node_id else N.SKIPPED, None)

    # --- facts ---

    def started(self, start: Start) -> None:
        """A node started, or continues after a wait."""
        self._waits.pop(start.path, None)
        self._running.add(start.path)
        if not start.wake and start.attempt == 1:
            self.executions += 1

    def waits(self, start: Start, until: int | None, holds: Holds = Holds.NOTHING) -> None:
        """A node is suspended until a time, or for an answer (None); `holds` says which ends wait for it."""
        self._running.discard(start.path)
        self._waits[start.path] = (until, start, holds)
        if holds is Holds.NOTHING and self._frame_ends(frame_of(start.path)):
            self._ending = True  # an end that came while it ran does not wait for it
        if until is not None:
            heapq.heappush(self._timers, (until, start.path))

    def hold(self, start: Start, until: int) -> None:
        """A node that could begin does not before `until`: its rate limit is reached."""
        self._held_count += 1
        heapq.heappush(self._held, (until, self._held_count, start))

    def settled(self, path: str, status: NodeStatus, branch: str | None = None) -> None:
        """A node reached a terminal status; its children are evaluated."""
        self._running.discard(path)
        self._waits.pop(path, None)
        frame = self._frames[frame_of(path)]
        node_id = path[len(frame.prefix) :]
        frame.active -= 1
        self._judge(frame, node_id, status)
        self._follow(frame, node_id, status, branch)
        self._close_if_done(frame)

    def opened(self, path: str, count: int, concurrency: int, on_item_error: str, *, grows: bool = False) -> None:
        """A loop's items are known; it settles after `closed` has reported it."""
        self._running.discard(path)
        self._waits.pop(path, None)
        self._loops[path] = Loop(count, concurrency, on_item_error, grows=grows)
        self._open_items(path)

    def grew(self, path: str) -> None:
        """The test of a `while` holds: one more iteration."""
        self._running.discard(path)
        self._loops[path].count += 1
        self._open_items(path)

    def ended(self, path: str) -> None:
        """The test of a `while` does not hold: its iterations have all ended."""
        self._running.discard(path)
        self._closed.append(path)

    def opened_by(self, path: str, facts: Mapping[str, Any]) -> None:
        """`opened`, by the facts of the loop's execution."""
        grows = facts.get("mostItems") is not None
        self.opened(path, len(facts["items"]), facts["concurrency"], facts["onItemError"], grows=grows)

    def loop(self, path: str) -> Loop:
        """The item outcomes of an open loop."""
        return self._loops[path]

    def stopped(self, status: RunStatus) -> None:
        """A `stop` node ended the run: nothing new starts."""
        self._stop = self._stop or status
        self._ending = True
        self._ready.clear()
        self._held.clear()

    def cancel(self) -> None:
        """A cancel was requested: nothing new starts, and nothing is waited for."""
        self._cancelled = True
        self._ending = True
        self._ready.clear()
        self._held.clear()

    # --- decisions ---

    def next(self, now: int, room: int = 1_000_000) -> Next:
        """The next step. Items of `Ready` are handed out once, with at most `room` starts."""
        self._wake_due(now)
        if self._ending and (cut_off := self._cut_off()):
            return Ready(cut_off=cut_off)
        if (self._ready and room > 0) or self._skipped or self._closed or self._asked:
            return self._take_ready(room)
        if self._running or self._ready:
            if not (self._timers or self._held):
                return _BUSY
            return Busy(min(heap[0][0] for heap in (self._timers, self._held) if heap))
        if self._waits or self._held:
            untils = [until for until, _, _ in self._waits.values() if until is not None]
            untils += [until for until, _, _ in self._held[:1]]
            return Waiting(min(untils) if untils else None)
        return Done(self._outcome())

    @property
    def running(self) -> frozenset[str]:
        """Paths of the running nodes."""
        return frozenset(self._running)

    @property
    def waiting(self) -> frozenset[str]:
        """Paths of the suspended nodes."""
        return frozenset(self._waits)

    @property
    def held(self) -> frozenset[str]:
        """Paths of the nodes that their rate limit holds back."""
        return frozenset(start.path for _, _, start in self._held)

    # --- replay ---

    def restore(self, executions: Iterable[Execution]) -> list[Execution]:
        """Replays stored executions after a restart; returns those that were interrupted in an attempt.

        Failures that end their frame are applied last, so that nodes started beside them are not lost.
        """
        recorded = {execution.path: execution for execution in executions}
        endings: deque[Execution] = deque()
        while True:
            self._replay_ready(recorded, endings)
            if not endings:
                break
            ending = endings.popleft()
            self.started(Start(ending.path, ending.node_id))
            self.settled(ending.path, ending.status, ending.branch)
        self._skipped = [path for path in self._skipped if path not in recorded]
        return [recorded[path] for path in sorted(self._running)]

    def _replay_ready(self, recorded: dict[str, Execution], endings: deque[Execution]) -> None:
        """Replays ready nodes that have a stored execution; new ones stay ready."""
        fresh: list[Start] = []
        while self._ready:
            start = self._ready.popleft()
            execution = recorded.get(start.path)
            if execution is None:
                fresh.append(start)
            elif execution.status is N.FAILURE and self._graph.nodes[start.node_id].on_error == "fail":
                endings.append(execution)
            else:
                self._replay(start, execution)
        self._ready.extend(fresh)

    def _replay(self, start: Start, execution: Execution) -> None:
        self.started(Start(start.path, start.node_id))
        attempt = Start(start.path, start.node_id, execution.attempt)
        if execution.facts is not None and "stop" in execution.facts:
            self.stopped(RunStatus(execution.facts["stop"]))
        if execution.is_settled:
            self.settled(start.path, execution.status, execution.branch)
        elif execution.status is N.SCHEDULED:
            self.waits(Start(start.path, start.node_id, execution.attempt + 1), execution.wake_at)
        elif execution.status is N.WAITING:
            sent = execution.facts is not None and execution.facts.get("spend", {}).get("sent")
            holds = Holds.CANCEL if sent else Holds.NOTHING
            self.waits(Start(start.path, start.node_id, execution.attempt, wake=True), execution.wake_at, holds)
        elif execution.status is N.UNCERTAIN:
            self.waits(attempt, None, Holds.FAILURE)
        elif execution.facts is not None and "items" in execution.facts and OPENS_AGAIN not in execution.facts:
            self.opened_by(start.path, execution.facts)

    # --- internals ---

    def _open_frame(self, loop: str, prefix: str, loop_path: str | None, index: int) -> Frame:
        scope = self._graph.scopes[loop]
        into = self._graph.edges_into
        unsettled = {node_id: len(into.get(node_id, ())) for node_id in scope.node_ids}
        frame = self._frames[prefix] = Frame(prefix, scope, unsettled, loop_path, index)
        if loop:
            for node_id in scope.entries:
                self._begin(frame, node_id)
        return frame

    def _begin(self, frame: Frame, node_id: str) -> None:
        frame.begun.add(node_id)
        frame.active += 1
        self._ready.append(Start(frame.prefix + node_id, node_id))

    def _follow(self, frame: Frame, node_id: str, status: NodeStatus, branch: str | None) -> None:
        """Settles the outgoing edges of a node, and of every node that is skipped as a consequence."""
        stack = [(node_id, status, branch)]
        while stack:
            parent, parent_status, parent_branch = stack.pop()
            for edge in self._graph.edges_from.get(parent, ()):
                child = edge.child
                frame.unsettled[child] -= 1
                if child in frame.begun:
                    continue
                if self._is_taken(edge, parent_status, parent_branch):
                    frame.live.add(child)
                if self._may_begin(frame, child):
                    if self._ends(frame):
                        frame.cut = True
                    else:
                        self._begin(frame, child)
                elif frame.unsettled[child] == 0:
                    frame.begun.add(child)
                    self._skipped.append(frame.prefix + child)
                    stack.append((child, N.SKIPPED, None))

    def _may_begin(self, frame: Frame, child: str) -> bool:
        if child not in frame.live:
            return False
        return frame.unsettled[child] == 0 or self._graph.nodes[child].join == "any"

    def _is_taken(self, edge: Edge, status: NodeStatus, branch: str | None) -> bool:
        if status in (N.SUCCESS, N.PARTIAL):
            return edge.label is None or edge.label == branch
        if status is N.FAILURE:
            on_error = self._graph.nodes[edge.parent].on_error
            if on_error == "branch":
                return edge.label == ERROR_BRANCH
            return on_error == "continue" and edge.label is None
        return False

    def _judge(self, frame: Frame, node_id: str, status: NodeStatus) -> None:
        """Applies a node's outcome to its frame."""
        on_error = self._graph.nodes[node_id].on_error
        if status is N.CANCELLED:
            frame.cut = True
        elif status is N.PARTIAL or (status is N.FAILURE and on_error == "continue"):
            frame.partial = True
        elif status is N.FAILURE and on_error == "fail":
            frame.failing = True
            self._ending = True
            self._drop_ready(frame)

    def _drop_ready(self, frame: Frame) -> None:
        """Discards ready nodes inside a failed frame, including its loops' items."""
        kept: deque[Start] = deque()
        emptied: dict[str, Frame] = {}
        for start in self._ready:
            if not start.path.startswith(frame.prefix):
                kept.append(start)
                continue
            inner = self._frames[frame_of(start.path)]
            inner.active -= 1
            inner.cut = True
            emptied[inner.prefix] = inner
        self._ready = kept
        emptied.pop(frame.prefix, None)
        for inner in emptied.values():
            self._close_if_done(inner)

    def _frame_ends(self, prefix: str) -> bool:
        return self._ends(self._frames[prefix])

    def _ends(self, frame: Frame) -> bool:
        """Whether nothing new may start in a frame: it or an enclosing one has failed, or the run is ending."""
        if self._cancelled or self._stop is not None:
            return True
        current: Frame | None = frame
        while current is not None:
            if current.failing or (current.loop_path is not None and self._is_failing_loop(current.loop_path)):
                return True
            current = self._frames[frame_of(current.loop_path)] if current.loop_path is not None else None
        return False

    def _is_failing_loop(self, loop_path: str) -> bool:
        loop = self._loops[loop_path]
        return loop.halted and loop.on_item_error == "fail"

    def _open_items(self, path: str) -> None:
        loop = self._loops[path]
        node_id = path[len(frame_of(path)) :]
        parent = self._frames[frame_of(path)]
        while loop.following < loop.count and loop.running < loop.concurrency and not loop.halted:
            if self._ends(parent):
                loop.halted = True
                break
            index = loop.following
            loop.following += 1
            loop.running += 1
            frame = self._open_frame(node_id, item_frame(path, index), path, index)
            if frame.active == 0:
                self._end_item(frame)
        if loop.running == 0 and (loop.halted or loop.following == loop.count):
            loop.cut = loop.grows and not loop.halted and self._ends(parent)
            is_over = loop.halted or not loop.grows or loop.cut
            (self._closed if is_over else self._asked).append(path)

    def _close_if_done(self, frame: Frame) -> None:
        if frame.loop_path is None or frame.active > 0:
            return
        self._end_item(frame)
        self._open_items(frame.loop_path)

    def _end_item(self, frame: Frame) -> None:
        assert frame.loop_path is not None
        loop = self._loops[frame.loop_path]
        loop.running -= 1
        is_done = not (frame.partial or frame.cut)
        loop.statuses.append(N.FAILURE if frame.failing else N.SUCCESS if is_done else N.PARTIAL)
        if frame.failing and loop.on_item_error in ("fail", "stop"):
            loop.halted = True
            self._ending = True
        del self._frames[frame.prefix]

    def _drop_held(self) -> tuple[str, ...]:
        """Discards held nodes whose frame has ended and that never began; the others, which were to be tried again."""
        ended = [entry for entry in self._held if self._frame_ends(frame_of(entry[2].path))]
        self._held = [entry for entry in self._held if entry not in ended]
        heapq.heapify(self._held)
        for _, _, start in ended:
            if start.attempt == 1:
                frame = self._frames[frame_of(start.path)]
                frame.active -= 1
                frame.cut = True
                self._close_if_done(frame)
        return tuple(start.path for _, _, start in ended if start.attempt > 1)

    def _wake_due(self, now: int) -> None:
        while self._held and self._held[0][0] <= now:
            self._ready.append(heapq.heappop(self._held)[2])
        while self._timers and self._timers[0][0] <= now:
            until, path = heapq.heappop(self._timers)
            wait = self._waits.get(path)
            if wait is not None and wait[0] == until and not self._frame_ends(frame_of(path)):
                del self._waits[path]
                self._ready.append(wait[1])

    def _take_ready(self, room: int) -> Ready:
        starts = tuple([self._ready.popleft() for _ in range(min(room, len(self._ready)))])
        if not (self._skipped or self._closed or self._asked):
            return Ready(starts)
        ready = Ready(starts, tuple(self._skipped), tuple(self._closed), asked=tuple(self._asked))
        self._running.update(self._asked)  # the run is not done before the test has decided
        for told in (self._skipped, self._closed, self._asked):
            told.clear()
        return ready

    def _cut_off(self) -> tuple[str, ...]:
        """The suspended nodes that an end (of the run, or of an enclosing frame) does not wait for."""
        self._ending = False
        tried = self._drop_held()
        return tried + tuple(
            path
            for path, (_, _, holds) in self._waits.items()
            if holds < (Holds.CANCEL if self._cancelled else Holds.FAILURE) and self._frame_ends(frame_of(path))
        )

    def _outcome(self) -> RunStatus:
        if self._cancelled:
            return RunStatus.CANCELLED
        top = self._frames[""]
        if self._stop is not None:
            return self._stop
        if top.failing:
            return RunStatus.FAILURE
        return RunStatus.PARTIAL if top.partial else RunStatus.SUCCESS
