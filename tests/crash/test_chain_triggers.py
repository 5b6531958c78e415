"""Chain triggers through reorgs and SIGKILL at a small scale: nothing lost, nothing twice."""

from __future__ import annotations

from bench import soak_reorg


def test_every_event_of_the_final_chain_runs_once() -> None:
    found = soak_reorg.run(10, seed=20_270, kills="3", only="sqlite")
    assert found["failures"] == []
    assert found["totals"]["kills"] >= 3
    assert found["stores"]["sqlite"]["counts"]["chainEvents"] > 0
