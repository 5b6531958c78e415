"""A cut of the red team: a model that obeys whatever it reads achieves nothing."""

from __future__ import annotations

from bench.soak_redteam import run


def test_obedient_model_writes_spends_and_carries_nothing() -> None:
    found = run(7)
    assert found["failures"] == []
    assert (found["injections"], found["obeyed"] + found["never read"]) == (7, 7)
    assert found["seen of the owner's own spend"] > 0
    assert set(found["faults"].values()) == {0}
    assert len(found["by_place"]) > 3
    assert found["by_place"]["answer of a model's tool"] == found["secrets echoed"] == 1
    assert found["by a client"] == {"obeyed": 1}
