"""The tables of states: total, without a way out of what is final, and every state can be reached and left."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from dustrun.core.run.state import (
    NODE_SETTLED,
    NODE_TRANSITIONS,
    RUN_FINAL,
    RUN_OPEN,
    RUN_RETRYABLE,
    RUN_TRANSITIONS,
    Mode,
    NodeStatus,
    RunStatus,
    node_may_become,
    run_may_become,
)

N = NodeStatus
R = RunStatus
TABLES: list[Any] = [
    pytest.param(RunStatus, RUN_TRANSITIONS, RUN_FINAL, R.RUNNING, id="runs"),
    pytest.param(NodeStatus, NODE_TRANSITIONS, NODE_SETTLED, N.PENDING, id="nodes"),
]

every_table = pytest.mark.parametrize(("statuses", "table", "final", "first"), TABLES)


def reached(table: Mapping[Any, frozenset[Any]], start: Any) -> set[Any]:
    seen = {start}
    queue = [start]
    for status in queue:
        fresh = table[status] - seen
        seen |= fresh
        queue.extend(fresh)
    return seen


@every_table
def test_every_status_has_its_row(statuses: Any, table: Any, final: Any, first: Any) -> None:
    assert set(table) == set(statuses)
    assert all(then in table for row in table.values() for then in row)


@every_table
def test_what_is_final_stays_and_nothing_else_does(statuses: Any, table: Any, final: Any, first: Any) -> None:
    assert {status for status, row in table.items() if not row} == set(final)


@every_table
def test_every_status_is_reached_from_the_first(statuses: Any, table: Any, final: Any, first: Any) -> None:
    assert reached(table, first) == set(statuses)


@every_table
def test_every_open_status_can_still_end(statuses: Any, table: Any, final: Any, first: Any) -> None:
    for status in set(statuses) - set(final):
        assert reached(table, status) & set(final)


@every_table
def test_nothing_becomes_what_it_is(statuses: Any, table: Any, final: Any, first: Any) -> None:
    assert all(status not in row for status, row in table.items())


def test_a_run_is_open_or_final() -> None:
    assert set(RunStatus) == RUN_OPEN | RUN_FINAL
    assert not RUN_OPEN & RUN_FINAL
    assert RUN_FINAL - {R.SUCCESS} == RUN_RETRYABLE


@pytest.mark.parametrize(
    ("now", "then", "may"),
    [
        (R.RUNNING, R.WAITING, True),
        (R.WAITING, R.RUNNING, True),
        (R.WAITING, R.CANCELLED, True),
        (R.SUCCESS, R.RUNNING, False),
        (R.CANCELLED, R.SUCCESS, False),
    ],
)
def test_run_may_become(now: RunStatus, then: RunStatus, may: bool) -> None:
    assert run_may_become(now, then) is may


@pytest.mark.parametrize(
    ("now", "then", "may"),
    [
        (N.PENDING, N.RUNNING, True),
        (N.PENDING, N.SUCCESS, False),
        (N.RUNNING, N.UNCERTAIN, True),
        (N.UNCERTAIN, N.RUNNING, False),
        (N.UNCERTAIN, N.SCHEDULED, True),
        (N.SCHEDULED, N.SUCCESS, False),
        (N.SKIPPED, N.RUNNING, False),
        (N.SUCCESS, N.FAILURE, False),
    ],
)
def test_node_may_become(now: NodeStatus, then: NodeStatus, may: bool) -> None:
    assert node_may_become(now, then) is may


def test_words_are_those_of_the_interface() -> None:
    assert [mode.value for mode in Mode] == ["live", "simulate", "dust"]
    assert all(status.value == status.name.lower() for status in (*RunStatus, *NodeStatus))
