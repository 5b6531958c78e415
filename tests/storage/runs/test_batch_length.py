"""What the event loop may encode and write itself: all of a batch together counts."""

from __future__ import annotations

from typing import Any

import pytest

from dustrun.core.run.journal import Execution
from dustrun.core.run.state import NodeStatus
from dustrun.core.values.exact_json import MOST, weigh
from dustrun.engine.run.recorder import Recorder
from dustrun.storage.runs.journal import Batch

HALF = [0] * (MOST // 2 - 10)


def _batch(*inputs: Any, weighed: bool) -> Batch:
    recorder = Recorder()
    for number, value in enumerate(inputs):
        execution = Execution(f"n{number}", f"n{number}", 1, NodeStatus.RUNNING, input=value, started_at=0)
        recorder.started(execution, "http-request", weight=weigh(value) if weighed else None)
    return recorder.batch


@pytest.mark.parametrize("weighed", [False, True])
def test_inputs_of_a_batch_count_together(weighed: bool) -> None:
    assert _batch(HALF, HALF, weighed=weighed).is_short()
    assert not _batch(HALF, HALF, HALF, weighed=weighed).is_short()


def test_weighed_inputs_count_beside_what_is_weighed_now() -> None:
    batch = _batch(HALF, weighed=True)
    batch.added["n0", 1].facts = {"items": HALF}
    assert batch.is_short()
    batch.added["n0", 1].error = {"details": HALF}
    assert not batch.is_short()


def test_input_of_a_changed_attempt_is_not_written_again() -> None:
    batch = Batch()
    execution = Execution("n", "n", 1, NodeStatus.SUCCESS, input=[0] * (MOST + 1), started_at=0)
    batch.changed["n", 1] = execution
    assert batch.is_short()
