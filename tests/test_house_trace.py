"""A call goes through no more files, functions and rooms than `scripts/house/trace.py` has recorded."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from house import trace


@pytest.mark.skipif(sys.version_info < (3, 12), reason="what is entered is seen by sys.monitoring")
async def test_no_call_enters_more_than_is_recorded(tmp_path: Path) -> None:
    found = await trace.measure(tmp_path, trace.STEADY, times=2)
    assert [line for name, entered in found.items() for line in trace.excess(name, entered.figures())] == []


def test_a_call_that_enters_one_file_more_is_told() -> None:
    most = trace.RECORDED["stream"]
    more = trace.Figures(most.files + 1, most.functions, most.moves)
    assert trace.excess("stream", more) == [f"stream: {most.files + 1} files, recorded are {most.files}"]
    assert trace.excess("stream", most) == []
