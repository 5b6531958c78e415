"""The small version of `scripts/soak fuzz`."""

from __future__ import annotations

import pytest


@pytest.mark.long
def test_every_answer_of_a_live_server_is_as_its_document_says() -> None:
    from bench import soak_fuzz  # slow import: Schemathesis, while all tests are collected

    result = soak_fuzz.run(300, seed=20_261, store="sqlite")
    assert result["failures"] == []
    found = result["sqlite"]
    assert found["cases"] >= 300
    assert found["answered2xx"] == found["operations"]
