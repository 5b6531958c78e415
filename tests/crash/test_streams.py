"""A server that is killed while streams and a table are watched: each message and each row starts one run, in order."""

from __future__ import annotations

import pytest

from bench import soak_streams


@pytest.mark.long
def test_kills_lose_no_message_and_double_none() -> None:
    found = soak_streams.run(40, 3, kills="2", only="sqlite")
    assert found["failures"] == []
    kinds = ("websocket", "sse", "table-row", "mqtt", "email-received", "nats", "sqs", "kafka", "postgres-row")
    assert {found["sqlite"][kind]["runs"] for kind in kinds} == {40}
    interval = found["sqlite"]["interval"]
    assert interval["events"] >= interval["seconds"] > 0
