"""The small version of `scripts/bench stored`: what it fills a store with is what a server reads."""

from __future__ import annotations

import pytest

from bench import bench_stored


@pytest.mark.long
def test_a_server_reads_what_the_store_was_filled_with() -> None:
    found = bench_stored.run(400, seed=1, quick=True, only="sqlite")
    assert found["failures"] == []
    (store,) = found["stores"].values()
    assert store["storedRuns"] == 400
    assert len(store["figures"]) == 10
