"""A failing world becomes as small as what it takes to fail."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from testkit.simulation import runner
from testkit.simulation.shrinking import smallest
from testkit.simulation.world import Plan

_NAMES = [f"deed-{number}" for number in range(40)]


@pytest.mark.parametrize("needed", [set(), {"deed-0"}, {"deed-7", "deed-31"}, {"deed-3", "deed-4", "deed-39"}])
def test_only_what_it_takes_to_fail_is_left(needed: set[str]) -> None:
    tried: list[Sequence[str]] = []

    def fails(names: Sequence[str]) -> bool:
        tried.append(names)
        return needed <= set(names)

    assert set(smallest(_NAMES, fails, 100)) == needed
    assert len(tried) <= 40


def test_no_more_is_tried_than_said() -> None:
    tried: list[Sequence[str]] = []

    def fails(names: Sequence[str]) -> bool:
        tried.append(names)
        return False

    assert smallest(_NAMES, fails, 5) == _NAMES
    assert len(tried) == 5


def test_a_world_that_breaks_otherwise_is_no_smaller_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def one(seed: int, plan: Plan, _template: Path) -> runner.Outcome:
        deeds = [name for name in _NAMES if name not in plan.without]
        name = "limits_hold" if "deed-7" in deeds else "no_secret_leaks"
        return runner.Outcome(seed, [f"{name}: it does not"], deeds=deeds)

    monkeypatch.setattr(runner, "one", one)
    plan = Plan(without=("deed-1",))
    small = runner.shrunk(one(3, plan, Path()), plan, Path())
    assert set(_NAMES).difference(small.without) == {"deed-7"}
    assert len(small.without) == len(_NAMES) - 1
