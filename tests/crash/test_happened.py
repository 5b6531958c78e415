"""A server that is killed while approvals, transactions, deliveries and connectors are watched: each fact starts one
run."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from bench import inner_kills


@pytest.mark.long
@pytest.mark.parametrize("store", ["sqlite", "postgresql"])
async def test_kills_lose_no_fact_and_double_none(tmp_path: Path, store: str) -> None:
    found = await inner_kills.prove(tmp_path, store, 4, 2, random.Random(3))
    assert found["failures"] == []
    assert (found["approval"]["runs"], found["transaction"]["runs"], found["connector-failed"]["runs"]) == (8, 4, 4)
