"""The planner against a naive interpreter: random graphs, failures, completion orders, and restarts in between."""

from __future__ import annotations

from testkit.models.plan_model import check_cancel, check_failures, check_orders

GRAPHS = 1000


def test_plan_equals_the_naive_interpreter_in_every_order() -> None:
    for seed in range(GRAPHS):
        check_orders(seed, restarts=0.0)


def test_plan_equals_the_naive_interpreter_across_restarts() -> None:
    for seed in range(GRAPHS // 2):
        check_orders(seed, restarts=0.1)


def test_failing_runs_end_and_start_nothing_behind_the_failure() -> None:
    assert sum(check_failures(seed) for seed in range(GRAPHS)) > GRAPHS // 10


def test_cancel_ends_a_run_at_any_moment() -> None:
    for seed in range(GRAPHS // 2):
        check_cancel(seed)
