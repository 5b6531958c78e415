"""Two engines among which Temporal chooses: what is limited for all of them together, and who decides for a run."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from testkit.approving import decide_at_once
from testkit.composition import Client, Composition
from testkit.postgres import Cluster
from testkit.sharing import ended, sharing, until
from testkit.slow_server import SlowServer, outside_of
from testkit.temporal import TemporalServer

_MOST = 2
_RUNS = 8
_WAITING: dict[str, Any] = {
    "nodes": {
        "root": {"type": "manual", "children": ["hold"]},
        "hold": {"type": "wait", "payload": {"timeoutMs": 600_000}},
    }
}


@pytest.fixture
async def two(tmp_path: Path, cluster: Cluster, temporal: TemporalServer) -> AsyncIterator[list[Composition]]:
    url = cluster.fresh()
    place: dict[str, Any] = {"temporal_address": temporal.address, "temporal_queue": sa.make_url(url).database}
    more: dict[str, Any] = {
        "max_running_runs_per_org": _MOST,
        "outbound_allow": ("127.0.0.1",),
        "rate_limit_per_second": 1000,
    }
    async with sharing(tmp_path, url, **place, **more) as servers:
        yield servers
    cluster.drop(url)


@pytest.mark.long
async def test_limits_hold_for_both_and_one_decision_counts(two: list[Composition]) -> None:
    clients = [server.owner for server in two]

    async def is_divided() -> bool:  # each has seen that the other one lives
        return [server.parts.access.limiter._rate for server in two] == [500, 500]

    await until(is_divided)
    async with outside_of(_MOST) as outside:
        await _run_at_once(clients, outside)
    await _queue(clients)
    await decide_at_once(clients, 2)


async def _run_at_once(clients: list[Client], outside: SlowServer) -> None:
    """An organisation has as many runs at once as it may, whichever engines they are on."""
    ask = {"type": "http-request", "payload": {"method": "GET", "url": f"{outside.base}/"}}
    nodes = {"root": {"type": "manual", "children": ["ask"]}, "ask": ask}
    for number in range(_RUNS):
        body = {"runId": f"run_{number}", "definition": {"nodes": nodes}}
        assert (await clients[number % 2].post("/v1/runs", body)).status == 200
    runs = [await ended(clients[0], f"run_{number}") for number in range(_RUNS)]
    assert [run["status"] for run in runs] == ["success"] * _RUNS
    assert outside.most == _MOST


async def _queue(clients: list[Client]) -> None:
    """A workflow has as many unfinished runs as it may; the next goes on when one ends."""
    here, there = clients
    flow = await here.create_workflow(_WAITING, concurrency={"max": 1, "onLimit": "queue"})
    names = [f"run_queued_{number}" for number in range(3)]
    for number, name in enumerate(names):
        await clients[number % 2].post(f"/v1/workflows/{flow['id']}/run", {"runId": name, "payload": {}})
    for name in names:

        async def waits(run_id: str = name) -> bool:
            return bool((await here.get(f"/v1/runs/{run_id}")).data["status"] == "waiting")

        await until(waits)
        states = [(await there.get(f"/v1/runs/{other}")).data["status"] for other in names]
        assert states.count("waiting") == 1
        await there.post(f"/v1/runs/{name}/nodes/hold/resume", {"data": {}})
        assert (await ended(here, name))["status"] == "success"
