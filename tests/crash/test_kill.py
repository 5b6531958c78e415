"""The small version of `scripts/soak crash`."""

from __future__ import annotations

from bench import soak_crash


def test_kill_at_random_moments_loses_doubles_and_changes_nothing() -> None:
    found = soak_crash.run(10, seed=20_261, users="16", pause="1.0")
    assert found["failures"] == []
    assert found["kills"] >= 10
    assert found["runs"] > 50
    assert found["counts"]["streams_died"] > 10
    assert found["counts"]["nodes_uncertain"] > 0
