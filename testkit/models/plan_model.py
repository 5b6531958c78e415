"""The planner against a naive interpreter: random graphs, failures, completion orders, and restarts in between."""

from __future__ import annotations

import random

from dustrun.core.run.journal import Execution
from dustrun.core.run.plan import Busy, Done, Plan, Ready, Start, Waiting
from dustrun.core.run.state import NodeStatus, RunStatus
from testkit.models.graphs import Naive, graph_of, random_definition, with_whiles

N = NodeStatus


class Driver:
    """Drives a plan with scripted outcomes in a random order of completion; may restart at any moment."""

    def __init__(self, naive: Naive, rng: random.Random, *, restarts: float) -> None:
        self.naive = naive
        self.rng = rng
        self.restarts = restarts
        self.plan = Plan(naive.graph, "root")
        self.executions: dict[str, Execution] = {}
        self.running: list[Start] = []
        self.now = 0

    def run(self) -> RunStatus:
        """Until the plan says that the run has ended."""
        for _ in range(100_000):
            if self.rng.random() < self.restarts:
                self.restart()
            answer = self.plan.next(self.now, self.rng.randint(0, 3))
            if isinstance(answer, Done):
                return answer.status
            if isinstance(answer, Ready):
                self.take(answer)
            elif isinstance(answer, Busy):
                if self.running:
                    self.finish(self.running.pop(self.rng.randrange(len(self.running))))
            else:
                assert isinstance(answer, Waiting)
                self.let_wait(answer)
        raise AssertionError("the plan does not end")

    def let_wait(self, answer: Waiting) -> None:
        """Time passes, or someone answers one of the waiting nodes before it does."""
        answerable = sorted(path for path in self.plan.waiting if self.is_answerable(path))
        if answerable and (answer.until is None or self.rng.random() < 0.5):
            path = self.rng.choice(answerable)
            self.finish(Start(path, path.rpartition(".")[2]))
        else:
            assert answer.until is not None
            self.now = max(self.now, answer.until)

    def is_answerable(self, path: str) -> bool:
        return self.executions[path].status is N.WAITING and self.type_of(path) == "wait"

    def type_of(self, path: str) -> str:
        return self.naive.graph.nodes[path.rpartition(".")[2]].type

    def take(self, ready: Ready) -> None:
        for path in ready.cut_off:
            self.settle(path, N.CANCELLED, None)
        for path in ready.skipped:
            node_id = path.rpartition(".")[2]
            assert path not in self.executions, "skipped twice or after it ran"
            self.executions[path] = Execution(path, node_id, 1, N.SKIPPED)
        for path in ready.closed:
            self.settle(path, self.plan.loop(path).outcome, None)
        for path in ready.asked:
            self.decide(path)
        for start in ready.starts:
            self.begin(start)

    def decide(self, path: str) -> None:
        """The test of a `while`."""
        facts = self.executions[path].facts
        assert facts is not None
        if len(facts["items"]) < self.naive.items(path):
            facts["items"].append(0)
            self.plan.grew(path)
        else:
            self.plan.ended(path)

    def begin(self, start: Start) -> None:
        if not start.wake and self.rng.random() < 0.1:
            self.plan.hold(start, self.now + self.rng.randint(1, 50))
            return
        self.plan.started(start)
        if not start.wake:
            known = self.executions.get(start.path)
            assert known is None or known.attempt < start.attempt, "the same attempt began twice"
            self.executions[start.path] = Execution(start.path, start.node_id, start.attempt, N.RUNNING)
        if self.naive.graph.nodes[start.node_id].type == "for-each":
            count = self.naive.items(start.path)
            payload = self.naive.graph.nodes[start.node_id].payload
            facts = {
                "items": [0] if "while" in payload else [0] * count,
                "concurrency": payload["concurrency"],
                "onItemError": payload["onItemError"],
                "mostItems": 100 if "while" in payload else None,
            }
            self.executions[start.path].facts = facts
            self.plan.opened_by(start.path, facts)
        elif not start.wake and (self.type_of(start.path) == "wait" or self.rng.random() < 0.15):
            self.put_down(start)
        else:
            self.running.append(start)

    def put_down(self, start: Start) -> None:
        execution = self.executions[start.path]
        execution.wake_at = self.now + self.rng.randint(1, 50)
        waits = self.type_of(start.path) == "wait"
        if waits and self.rng.random() < 0.3:
            execution.wake_at = None  # only an answer ends it
        if not waits and self.rng.random() < 0.5 and start.attempt < 3:
            execution.status = N.SCHEDULED
            self.plan.waits(Start(start.path, start.node_id, start.attempt + 1), execution.wake_at)
        else:
            execution.status = N.WAITING
            self.plan.waits(Start(start.path, start.node_id, start.attempt, wake=True), execution.wake_at)

    def finish(self, start: Start) -> None:
        """An attempt, or a wait, has come to its end; some attempts are put down once more."""
        if start.attempt < 3 and self.type_of(start.path) != "wait" and self.rng.random() < 0.1:
            self.put_down(start)
            return
        status, branch = self.naive.outcome(start.path, start.node_id)
        self.settle(start.path, status, branch)

    def settle(self, path: str, status: NodeStatus, branch: str | None) -> None:
        execution = self.executions[path]
        assert not execution.is_settled, "settled twice"
        execution.status, execution.branch = status, branch
        self.plan.settled(path, status, branch)

    def restart(self) -> None:
        """Forgets everything but the journal."""
        self.plan = Plan(self.naive.graph, "root")
        interrupted = self.plan.restore(self.executions.values())
        self.running = [Start(e.path, e.node_id, e.attempt) for e in interrupted]


def check_orders(seed: int, restarts: float) -> None:
    """The planner and the naive interpreter agree about every node, whatever ends first."""
    rng = random.Random(seed)
    graph = graph_of(with_whiles(rng, random_definition(rng, failing=False)))
    naive = Naive(graph, seed)
    expected = naive.run()
    driver = Driver(naive, rng, restarts=restarts)
    assert driver.run() is expected
    assert {path: e.status for path, e in driver.executions.items()} == naive.statuses


def check_failures(seed: int) -> bool:
    """One run in which failures end their frames; whether the run itself failed."""
    rng = random.Random(seed)
    naive = Naive(graph_of(with_whiles(rng, random_definition(rng, failing=True))), seed)
    driver = Driver(naive, rng, restarts=0.05)
    status = driver.run()
    ended = [
        e
        for e in driver.executions.values()
        if e.status is N.FAILURE and naive.graph.nodes[e.node_id].on_error == "fail"
    ]
    top = [e for e in ended if "." not in e.path]
    assert (status is RunStatus.FAILURE) == bool(top)
    if not top:
        assert all(e.is_settled for e in driver.executions.values())
    for failed in ended:
        _assert_nothing_ran_behind(naive, driver, failed)
    return bool(top)


def _assert_nothing_ran_behind(naive: Naive, driver: Driver, failed: Execution) -> None:
    """A child whose only parent failed for good was never begun."""
    frame = failed.path[: failed.path.rfind(".") + 1]
    for edge in naive.graph.edges_from.get(failed.node_id, ()):
        if len(naive.graph.edges_into[edge.child]) == 1:
            later = driver.executions.get(frame + edge.child)
            assert later is None or later.status is N.SKIPPED


def check_cancel(seed: int) -> None:
    """A run that is cancelled at some moment begins nothing more."""
    rng = random.Random(seed)
    naive = Naive(graph_of(with_whiles(rng, random_definition(rng, failing=True))), seed)
    driver = Driver(naive, rng, restarts=0.0)
    for _ in range(rng.randint(0, 8)):
        answer = driver.plan.next(driver.now, 3)
        if isinstance(answer, Done):
            return
        if isinstance(answer, Ready):
            driver.take(answer)
        elif driver.running:
            driver.finish(driver.running.pop())
    driver.plan.cancel()
    begun = len([e for e in driver.executions.values() if e.status is not N.SKIPPED])
    assert driver.run() is RunStatus.CANCELLED
    assert len([e for e in driver.executions.values() if e.status is not N.SKIPPED]) == begun


def check_graph(seed: int) -> None:
    """Everything about one seed."""
    check_orders(seed, restarts=0.0)
    check_orders(seed, restarts=0.1)
    check_failures(seed)
    check_cancel(seed)
