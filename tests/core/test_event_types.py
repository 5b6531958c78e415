"""Which hook event a run's event is, and who wants it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import dustrun
from dustrun.core import hooks


@pytest.mark.parametrize(
    ("kind", "data", "expected"),
    [
        ("run_started", {}, "run.started"),
        ("run_finished", {"status": "success"}, "run.succeeded"),
        ("run_finished", {"status": "partial"}, "run.partial"),
        ("run_finished", {"status": "failure"}, "run.failed"),
        ("run_finished", {"status": "cancelled"}, "run.cancelled"),
        ("node_uncertain", {}, "node.uncertain"),
        ("transaction", {"status": "reorged"}, "transaction.reorged"),
        ("transaction", {"status": "unheard"}, None),
        ("log", {}, None),
        ("node_progress", {}, None),
    ],
)
def test_type_of(kind: str, data: dict[str, str], expected: str | None) -> None:
    assert hooks.type_of(kind, data) == expected


@pytest.mark.parametrize("type_", hooks.TYPES)
def test_every_type_is_covered_by_its_pattern_and_no_other(type_: str) -> None:
    family = type_.partition(".")[0]
    found = [pattern for pattern in hooks.PATTERNS if hooks.wants([pattern], type_)]
    assert found == ["*", f"{family}.*"]
    assert hooks.is_known(type_)
    assert not hooks.is_known(type_ + "s")


def test_every_step_of_a_transaction_is_a_type() -> None:
    source = Path(dustrun.__file__).parent / "services" / "outbox"
    steps = {step for path in source.rglob("*.py") for step in re.findall(r'Step\(\s*"([a-z]+)"', path.read_text())}
    assert steps
    assert {f"transaction.{step}" for step in steps} <= set(hooks.TYPES)
