"""The small version of `scripts/soak crash`."""

from __future__ import annotations

import pytest

from bench import soak_crash


@pytest.mark.parametrize(
    ("store", "kills"),
    [
        ("sqlite", 4),
        pytest.param("sqlite", 10, marks=pytest.mark.long),
        pytest.param("postgresql", 4, marks=pytest.mark.long),
    ],
)
def test_kill_at_random_moments_loses_doubles_and_changes_nothing(store: str, kills: int) -> None:
    found = soak_crash.run(kills, seed=20_261, users="8", pause="0.6", store=store)
    assert found["failures"] == []
    assert found["kills"] >= kills
    assert found["runs"] > 2 * kills  # a server that a slow machine has just started is killed after few
    assert found["counts"]["streams_died"] > kills
    assert found["counts"]["nodes_uncertain"] > 0
