"""Webhook deliveries and SIGKILL: what was answered with 202 is on disk, with the run that the answer named."""

from __future__ import annotations

from pathlib import Path

from bench import webhook_deliveries
from testkit.server_process import ServerProcess


async def test_every_accepted_delivery_is_stored(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path / "data", {"rate_limit_per_second": "0"})
    try:
        server.start()
        await server.wait_ready(60)
        found = await webhook_deliveries.measure(server, rate=40, seconds=2)
    finally:
        await server.stop()
    assert (found["answers"], found["notStored"]) == ({"202": 80}, 0)
    assert webhook_deliveries.failures_of({**found, "notStored": 1}, found["p99Ms"]) == [
        "1 accepted deliveries are not stored as they were answered"
    ]
