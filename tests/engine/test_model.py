"""The whole engine against the naive interpreter: 50 random workflows at once, with restarts in between."""

from __future__ import annotations

from pathlib import Path

from engine.conftest import OWN_ACTIONS
from testkit.composition import composed
from testkit.models.engine_model import check


async def test_engine_equals_the_naive_interpreter(tmp_path: Path) -> None:
    differences = await check(lambda: composed(tmp_path, actions_dir=OWN_ACTIONS), range(50), restarts=0, seed=1)
    assert differences == []


async def test_engine_equals_the_naive_interpreter_across_restarts(tmp_path: Path) -> None:
    def compose_abruptly() -> object:
        return composed(tmp_path, actions_dir=OWN_ACTIONS, shutdown_grace_s=0)

    differences = await check(compose_abruptly, range(100, 150), restarts=4, seed=2)  # type: ignore[arg-type]
    assert differences == []
