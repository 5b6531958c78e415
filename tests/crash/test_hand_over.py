"""What a process of a cluster leaves in order, another one has at once; what one leaves that dies, another one has
soon. Neither makes an event of a trigger fire twice, or not at all."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import Client

from testkit.machines import Machines, machines_on
from testkit.outside import Outside, outside_server
from testkit.postgres import Cluster
from testkit.sharing import until
from testkit.temporal import TemporalServer

TICK = {
    "nodes": {
        "root": {
            "type": "cronjob",
            "payload": {"schedule": "* * * * * *", "onMissed": "all", "missedCap": 100},
            "children": ["say"],
        },
        "say": {"type": "log", "payload": {"message": "tick"}},
    },
    "triggerNodeIds": ["root"],
}


@pytest.fixture
async def outside() -> AsyncIterator[Outside]:
    async with outside_server() as found:
        yield found


@pytest.fixture
async def machines(tmp_path: Path, cluster: Cluster, temporal: TemporalServer) -> AsyncIterator[Machines]:
    async with machines_on(tmp_path, cluster, temporal) as found:
        found.add("api", "api")
        for name in ("one", "two"):
            found.add(name, "engine,triggers")
        await found.start()
        yield found


async def _host(client: Client, machines: Machines, queue: str) -> str | None:
    """The process that Temporal has host the triggers."""
    described = await client.get_workflow_handle(f"{queue}-triggers").describe()
    pending = described.raw_description.pending_activities
    name = machines.name_of(pending[0].last_worker_identity) if pending else None
    return name if name in machines.servers else None


async def _was_missed(client: Client, queue: str) -> bool:
    """Whether Temporal had to find out by silence that a process was gone."""
    histories = [
        str(await client.get_workflow_handle(one.id, run_id=one.run_id).fetch_history())
        async for one in client.list_workflows(f"TaskQueue = '{queue}' AND WorkflowType = 'dustrun-run'")
    ]
    return any("timeout_failure_info" in history for history in histories)


async def _ticks(machines: Machines, workflow: str) -> list[str]:
    """When the schedule has fired, and what came of it."""
    found: list[str] = []
    while True:
        path = f"/v1/workflows/{workflow}/trigger-events?limit=100&offset={len(found)}"
        page: Any = await machines.get("api", path)
        found += [f"{one['occurredAt']} {one['outcome']}" for one in page["items"]]
        if not page["hasMore"]:
            return found


async def test_runs_and_triggers_go_on_elsewhere(
    machines: Machines, outside: Outside, temporal: TemporalServer
) -> None:
    queue = machines.servers["one"].settings["temporal_queue"]
    client = await temporal.client()
    tick = (await machines.post("api", "/v1/workflows", {"name": "tick", "description": "", "definition": TICK}))["id"]
    await machines.post("api", f"/v1/workflows/{tick}/publish", {})
    await until(lambda: _ticks(machines, tick))

    ask = {"type": "http-request", "payload": {"method": "GET", "url": f"{outside.base}/"}}
    nodes = {"root": {"type": "manual", "children": ["ask"]}, "ask": ask}
    run_id = (await machines.post("api", "/v1/runs", {"definition": {"nodes": nodes}}))["runId"]

    await outside.until(1)
    leaves = machines.name_of(machines.holder(run_id))
    await machines.stop([leaves])  # SIGTERM: the node gets a second, then others may go on
    run = await machines.ended("api", run_id)
    assert (run["status"], run["executionState"]["ask"]["result"]["body"]) == ("success", {"number": 2})
    stays = machines.name_of(machines.holder(run_id))
    assert {leaves, stays} == {"one", "two"}
    assert not await _was_missed(client, queue), "it was handed over, not given up after silence"

    await machines.start(leaves)
    host = await until(lambda: _host(client, machines, queue))
    machines.servers[host].kill()
    (other,) = {"one", "two"} - {host}

    async def has_moved() -> bool:
        return await _host(client, machines, queue) == other

    await until(has_moved)
    before = len(await _ticks(machines, tick))

    async def has_fired() -> bool:
        return len(await _ticks(machines, tick)) > before + 1

    await until(has_fired)
    ticks = sorted(await _ticks(machines, tick))
    times = [datetime.fromisoformat(text.split()[0]) for text in ticks]
    assert {(b - a).total_seconds() for a, b in itertools.pairwise(times)} == {1.0}, ticks
