"""A call goes through no more files, functions and rooms than `scripts/house/trace.py` has recorded."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from house import trace


@pytest.mark.skipif(sys.version_info < (3, 12), reason="what is entered is seen by sys.monitoring")
async def test_no_call_enters_more_than_is_recorded(tmp_path: Path) -> None:
    """On a busy machine a timer may tick in every passage of a call; what a call itself enters, each attempt enters."""
    excess: dict[str, list[str]] = {name: [] for name in trace.STEADY}
    for attempt in range(4):
        folder = tmp_path / str(attempt)
        folder.mkdir()
        found = await trace.measure(folder, trace.STEADY, times=2)
        told = {name: trace.excess(name, found[name].figures()) for name in excess}
        excess = {name: lines for name, lines in told.items() if lines}
        if not excess:
            break
    assert excess == {}


def test_a_call_that_enters_one_file_more_is_told() -> None:
    most = trace.RECORDED["stream"]
    more = trace.Figures(most.files + 1, most.functions, most.moves)
    assert trace.excess("stream", more) == [f"stream: {most.files + 1} files, recorded are {most.files}"]
    assert trace.excess("stream", most) == []
