"""The strategies of the three modes: what each of them changes, and that nothing else in the engine compares modes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import dustrun.engine
from dustrun import clock
from dustrun.core.run.state import Mode
from dustrun.core.workflow.definition import Node
from dustrun.engine.node.mode import mode_of
from dustrun.engine.node.outcome import Failed, Outcome, Settled

WRITTEN = {"name": "n", "value": 1, "previous": None}
SKIPPED = {"dust": "skipped"}
REFUSED = Failed("REFUSED", 'The node says dust: "refuse": it does not run in a dust test.')


def test_modes_named_in_the_engine_only_by_their_strategies() -> None:
    folder = Path(dustrun.engine.__file__).parent
    named = {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*.py")
        if re.search(r"\bMode\.(LIVE|DUST|SIMULATE)\b|facts\.mode(\.value)? (==|!=|is|in) ", path.read_text())
    }
    assert named == {"node/mode.py"}


@pytest.mark.parametrize(
    ("mode", "changes_outside", "simulated", "reports_passed", "logs_dust_plan"),
    [
        (Mode.LIVE, True, False, False, False),
        (Mode.DUST, True, False, True, True),
        (Mode.SIMULATE, False, True, True, False),
    ],
)
def test_strategy_of_a_mode_says_what_it_changes(
    mode: Mode, changes_outside: bool, simulated: bool, reports_passed: bool, logs_dust_plan: bool
) -> None:
    found = mode_of(mode)
    assert (found.changes_outside, found.reports_passed, found.logs_dust_plan) == (
        changes_outside,
        reports_passed,
        logs_dust_plan,
    )
    assert (found.has_simulated_clock, found.has_simulated_chains) == (simulated, simulated)


def test_clock_of_a_simulation_runs_ahead_and_never_behind() -> None:
    now = clock.now_ms()
    assert mode_of(Mode.SIMULATE).now(now + 3_600_000) == now + 3_600_000
    assert now <= mode_of(Mode.SIMULATE).now(0) < now + 60_000
    assert now <= mode_of(Mode.LIVE).now(now + 3_600_000) < now + 60_000


@pytest.mark.parametrize(
    ("mode", "more", "expected"),
    [
        (Mode.LIVE, {"dust": "refuse"}, None),
        (Mode.SIMULATE, {"dust": "refuse"}, None),
        (Mode.DUST, {}, None),
        (Mode.DUST, {"dust": "run"}, None),
        (Mode.DUST, {"dust": "refuse"}, REFUSED),
        (Mode.DUST, {"dust": "skip"}, Settled(WRITTEN, assumed=True, note=SKIPPED)),
        (Mode.DUST, {"dust": "skip", "pinned": {"value": 7}}, Settled({"value": 7}, note=SKIPPED)),
        (Mode.DUST, {"assumed": True}, Settled(WRITTEN, assumed=True, note=SKIPPED)),
        (Mode.DUST, {"assumed": True, "dust": "refuse"}, REFUSED),
        (Mode.LIVE, {"assumed": True}, None),
    ],
)
def test_write_of_a_variable_in_each_mode(mode: Mode, more: dict[str, Any], expected: Outcome | None) -> None:
    given = {name: value for name, value in more.items() if name != "assumed"}
    node = Node.model_validate({"type": "set-variable", "payload": {"name": "n", "value": 1}, **given})
    assert mode_of(mode).write_variable(node, WRITTEN, assumed="assumed" in more) == expected
