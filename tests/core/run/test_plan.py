"""The planner's rules, one at a time; the model test covers their combinations."""

from __future__ import annotations

from typing import Any

from dustrun.core.run.journal import Execution
from dustrun.core.run.plan import Busy, Done, Holds, Plan, Ready, Start, Waiting
from dustrun.core.run.retry import Rate
from dustrun.core.run.state import NodeStatus, RunStatus
from dustrun.core.workflow.definition import Definition
from testkit.models.graphs import graph_of

N = NodeStatus


def _plan(**nodes: dict[str, Any]) -> Plan:
    return Plan(graph_of(Definition.model_validate({"nodes": nodes})), "root")


def _starts(plan: Plan, now: int = 0) -> list[str]:
    answer = plan.next(now)
    assert isinstance(answer, Ready)
    for start in answer.starts:
        plan.started(start)
    return [start.path for start in answer.starts]


def _step(*children: str, **more: Any) -> dict[str, Any]:
    return {"type": "step", "children": list(children), **more}


def _root(*children: str) -> dict[str, Any]:
    return {"type": "manual", "children": list(children)}


def test_join_all_waits_for_every_parent() -> None:
    plan = _plan(root=_root("a", "b"), a=_step("c"), b=_step("c"), c=_step())
    assert _starts(plan) == ["a", "b"]
    plan.settled("a", N.SUCCESS)
    assert plan.next(0) == Busy()
    plan.settled("b", N.SUCCESS)
    assert _starts(plan) == ["c"]


def test_join_any_begins_with_the_first_parent_and_only_once() -> None:
    plan = _plan(root=_root("a", "b"), a=_step("c"), b=_step("c"), c=_step(join="any"))
    _starts(plan)
    plan.settled("a", N.SUCCESS)
    assert _starts(plan) == ["c"]
    plan.settled("b", N.SUCCESS)
    plan.settled("c", N.SUCCESS)
    assert plan.next(0) == Done(RunStatus.SUCCESS)


def test_branch_not_taken_is_skipped_to_its_end() -> None:
    plan = _plan(
        root=_root("q"),
        q={"type": "if", "payload": {"expression": "true"}, "children": ["y", "n"]},
        y=_step(branch="then"),
        n=_step("m", branch="else"),
        m=_step(),
    )
    _starts(plan)
    plan.settled("q", N.SUCCESS, "then")
    answer = plan.next(0)
    assert isinstance(answer, Ready)
    assert (answer.starts, answer.skipped) == ((Start("y", "y"),), ("n", "m"))


def test_failure_drops_what_was_ready_and_cuts_off_what_waited() -> None:
    plan = _plan(root=_root("a", "b", "c"), a=_step("d"), b=_step(), c=_step(), d=_step())
    answer = plan.next(0, room=2)
    assert isinstance(answer, Ready)
    for start in answer.starts:
        plan.started(start)
    plan.waits(Start("b", "b", wake=True), 1000)
    plan.settled("a", N.FAILURE)
    assert plan.next(0) == Ready(cut_off=("b",))
    plan.settled("b", N.CANCELLED)
    assert plan.next(0) == Ready(skipped=("d",))
    assert plan.next(0) == Done(RunStatus.FAILURE)


def test_uncertain_node_holds_even_a_failed_run_open() -> None:
    plan = _plan(root=_root("a", "b"), a=_step(), b=_step())
    _starts(plan)
    plan.waits(Start("a", "a"), None, Holds.FAILURE)
    plan.settled("b", N.FAILURE)
    assert plan.next(0) == Waiting(None)
    plan.settled("a", N.SUCCESS)
    assert plan.next(0) == Done(RunStatus.FAILURE)


def test_sent_transaction_holds_even_a_cancelled_run_open() -> None:
    plan = _plan(root=_root("a", "b", "c"), a=_step("d"), b=_step(), c=_step(), d=_step())
    _starts(plan)
    plan.waits(Start("a", "a", wake=True), None, Holds.CANCEL)
    plan.waits(Start("b", "b"), None, Holds.FAILURE)
    plan.settled("c", N.SUCCESS)
    plan.cancel()
    assert plan.next(0) == Ready(cut_off=("b",))
    plan.settled("b", N.CANCELLED)
    assert plan.next(0) == Waiting(None)
    plan.settled("a", N.SUCCESS)
    assert plan.next(0) == Done(RunStatus.CANCELLED)


def test_waiting_names_the_earliest_instant_and_wakes_at_it() -> None:
    plan = _plan(root=_root("a", "b"), a=_step(), b=_step())
    _starts(plan)
    plan.waits(Start("a", "a", wake=True), 500)
    plan.waits(Start("b", "b", 2), 300)
    assert plan.next(0) == Waiting(300)
    assert plan.next(300) == Ready(starts=(Start("b", "b", 2),))


def test_loop_opens_items_up_to_its_concurrency_and_closes_once() -> None:
    loop = {"type": "for-each", "payload": {"array": []}, "loopBody": ["x"], "children": ["z"]}
    plan = _plan(root=_root("each"), each=loop, x=_step(), z=_step())
    _starts(plan)
    plan.opened("each", 3, 2, "fail")
    assert _starts(plan) == ["each[0].x", "each[1].x"]
    plan.settled("each[1].x", N.SUCCESS)
    assert _starts(plan) == ["each[2].x"]
    plan.settled("each[0].x", N.SUCCESS)
    plan.settled("each[2].x", N.SUCCESS)
    assert plan.next(0) == Ready(closed=("each",))
    plan.settled("each", plan.loop("each").outcome)
    assert _starts(plan) == ["z"]


def test_loop_item_error_policies() -> None:
    expected = {"fail": N.FAILURE, "continue": N.PARTIAL, "stop": N.PARTIAL}
    for policy, outcome in expected.items():
        loop = {"type": "for-each", "payload": {"array": []}, "loopBody": ["x"]}
        plan = _plan(root=_root("each"), each=loop, x=_step())
        _starts(plan)
        plan.opened("each", 2, 1, policy)
        assert _starts(plan) == ["each[0].x"]
        plan.settled("each[0].x", N.FAILURE)
        if policy == "continue":
            assert _starts(plan) == ["each[1].x"]
            plan.settled("each[1].x", N.SUCCESS)
        assert plan.next(0) == Ready(closed=("each",))
        assert plan.loop("each").outcome is outcome


def test_while_asks_after_each_iteration_and_after_a_restart() -> None:
    loop = {"type": "for-each", "payload": {"while": "true"}, "loopBody": ["x"], "children": ["z"]}
    plan = _plan(root=_root("each"), each=loop, x=_step(), z=_step())
    _starts(plan)
    plan.opened("each", 1, 1, "fail", grows=True)
    assert _starts(plan) == ["each[0].x"]
    plan.settled("each[0].x", N.SUCCESS)
    assert plan.next(0) == Ready(asked=("each",))
    assert plan.next(0) == Busy()
    plan.grew("each")
    assert _starts(plan) == ["each[1].x"]
    facts = {"items": [None, None], "concurrency": 1, "onItemError": "fail", "mostItems": 5}
    kept = [
        Execution("root", "root", 1, N.SUCCESS),
        Execution("each", "each", 1, N.RUNNING, facts=facts),
        *(Execution(f"each[{index}].x", "x", 1, N.SUCCESS) for index in range(2)),
    ]
    again = _plan(root=_root("each"), each=loop, x=_step(), z=_step())
    assert again.restore(kept) == []
    assert again.next(0) == Ready(asked=("each",))
    again.ended("each")
    assert again.next(0) == Ready(closed=("each",))
    again.settled("each", again.loop("each").outcome)
    assert _starts(again) == ["z"]


def test_held_node_begins_when_it_is_due_and_not_in_a_failed_item() -> None:
    loop = {"type": "for-each", "payload": {"array": []}, "loopBody": ["x"], "onError": "continue", "children": ["z"]}
    plan = _plan(root=_root("each"), each=loop, x=_step(), z=_step())
    _starts(plan)
    plan.opened("each", 3, 3, "fail")
    answer = plan.next(0)
    assert isinstance(answer, Ready)
    first, *others = answer.starts
    plan.started(first)
    for start in others:
        plan.hold(start, 100)
    assert (plan.next(0), plan.held) == (Busy(100), frozenset({"each[1].x", "each[2].x"}))
    plan.waits(Start("each[0].x", "x", 2), 300)
    assert plan.next(99) == Waiting(100)
    assert plan.next(100, 1) == Ready(starts=(Start("each[1].x", "x"),))
    plan.started(Start("each[1].x", "x"))
    assert plan.next(100, 1) == Ready(starts=(Start("each[2].x", "x"),))
    plan.hold(Start("each[2].x", "x"), 200)
    plan.settled("each[1].x", N.FAILURE)
    assert plan.next(150) == Ready(cut_off=("each[0].x",))
    plan.settled("each[0].x", N.CANCELLED)
    assert (plan.next(150), plan.held) == (Ready(closed=("each",)), frozenset())


def test_rate_allows_a_number_of_begins_in_any_span() -> None:
    rate = Rate(2, 100, begun=[50, 10])
    assert (rate.due(60), rate.due(110)) == (110, 110)
    rate.note(110)
    assert (rate.due(111), rate.due(400)) == (150, 400)
    assert Rate(2, 100, begun=[5]).due(6) == 6


def test_empty_loop_closes_at_once() -> None:
    loop = {"type": "for-each", "payload": {"array": []}, "loopBody": ["x"]}
    plan = _plan(root=_root("each"), each=loop, x=_step())
    _starts(plan)
    plan.opened("each", 0, 1, "fail")
    assert plan.next(0) == Ready(closed=("each",))
    assert plan.loop("each").outcome is N.SUCCESS


def test_stop_ends_the_run_with_its_own_status() -> None:
    plan = _plan(root=_root("a", "b"), a=_step("c"), b=_step(), c=_step())
    _starts(plan)
    plan.stopped(RunStatus.FAILURE)
    plan.settled("a", N.SUCCESS)
    assert plan.next(0) == Busy()
    plan.settled("b", N.SUCCESS)
    assert plan.next(0) == Done(RunStatus.FAILURE)


def test_node_that_is_put_down_after_the_run_failed_is_cut_off() -> None:
    plan = _plan(root=_root("a", "b"), a=_step(), b=_step())
    assert _starts(plan) == ["a", "b"]
    plan.settled("a", N.FAILURE)
    assert plan.next(0) == Busy()
    plan.waits(Start("b", "b", 2), 1000)
    assert plan.next(0) == Ready(cut_off=("b",))
    plan.settled("b", N.CANCELLED)
    assert plan.next(0) == Done(RunStatus.FAILURE)
