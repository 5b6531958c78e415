"""A server that is killed while streams and a table are watched: each message and each row starts one run, in order."""

from __future__ import annotations

import pytest

from bench import soak_streams


@pytest.mark.long
def test_kills_lose_no_message_and_double_none() -> None:
    found = soak_streams.run(60, 3, kills="2")
    assert found["failures"] == []
    assert {found[kind]["runs"] for kind in ("websocket", "sse", "table-row")} == {60}
