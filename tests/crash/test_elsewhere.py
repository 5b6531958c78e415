"""What one of two servers on a store has under way when it is frozen or killed, the other one brings to an end: runs
that wait for a person, whose decision comes in meanwhile, and back-tests. A frozen one that wakes up late adds nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from testkit.machines import Machines, machines_on
from testkit.outside import Outside, outside_server
from testkit.postgres import Cluster

TAKE_OVER_S = 15.0
_EVENTS = 3
Json = dict[str, Any]


@pytest.fixture
async def outside() -> AsyncIterator[Outside]:
    async with outside_server(holds="/held") as found:
        yield found


@pytest.fixture(params=["shared", pytest.param("temporal", marks=pytest.mark.long)])
async def machines(request: pytest.FixtureRequest, tmp_path: Path, cluster: Cluster) -> AsyncIterator[Machines]:
    """Two servers that do everything, on one store."""
    temporal = request.getfixturevalue("temporal") if request.param == "temporal" else None
    async with machines_on(tmp_path, cluster, temporal) as found:
        found.add("one")
        found.add("two")
        await found.start()
        yield found


def _asking(outside: Outside) -> Json:
    """Asks a person, then writes outside."""
    ask = {"type": "approve", "payload": {"message": "Pay?", "timeoutMs": 600_000, "allowStarter": True}}
    write = {"type": "http-request", "payload": {"method": "POST", "url": f"{outside.base}/{{{{$trigger.body.name}}}}"}}
    nodes = {
        "root": {"type": "manual", "children": ["ask"]},
        "ask": {**ask, "children": ["write"]},
        "write": {**write, "branch": "approved"},
    }
    return {"nodes": nodes}


async def _waiting(machines: Machines, outside: Outside, name: str) -> str:
    """A run of the first server that waits for a person; the approval's id."""
    run_id = f"run_{name}"
    body = {"runId": run_id, "definition": _asking(outside), "payload": {"name": name}}
    await machines.post("one", "/v1/runs", body)
    async with asyncio.timeout(TAKE_OVER_S):
        while True:
            found: Any = await machines.get("two", "/v1/approvals?status=pending")
            for one in found["items"]:
                if one["runId"] == run_id:
                    return str(one["id"])
            await asyncio.sleep(0.05)


async def _check(machines: Machines, outside: Outside, name: str) -> None:
    """The run went by the decision: once."""
    run = await machines.ended("two", f"run_{name}", TAKE_OVER_S)
    assert (run["status"], run["executionState"]["write"]["status"]) == ("success", "success")
    assert outside.asked.count(f"/{name}") == 1


async def test_what_a_server_leaves_another_one_ends(machines: Machines, outside: Outside) -> None:
    asks = {name: await _waiting(machines, outside, name) for name in ("frozen", "killed")}
    first = machines.servers["one"]
    first.freeze()
    await machines.post("two", f"/v1/approvals/{asks['frozen']}/approve", {})
    await _check(machines, outside, "frozen")
    first.thaw()

    test = await _backtest(machines, outside)
    await outside.until(1, "/held")
    first.kill()
    outside.go_on.set()
    await machines.post("two", f"/v1/approvals/{asks['killed']}/approve", {})
    await _check(machines, outside, "killed")
    await _check(machines, outside, "frozen")  # and what the frozen one woke up to has added nothing
    await _check_backtest(machines, test)


async def _backtest(machines: Machines, outside: Outside) -> str:
    """A back-test of three events that the first server has begun, whose first run is under way; its id."""
    ask = {"type": "http-request", "payload": {"method": "GET", "url": f"{outside.base}/held"}}
    hourly = {"type": "cronjob", "payload": {"schedule": "0 * * * *"}, "children": ["ask"]}
    definition = {"nodes": {"root": hourly, "ask": ask}, "triggerNodeIds": ["root"]}
    body = {"name": "hourly", "description": "", "definition": definition}
    workflow = (await machines.post("one", "/v1/workflows", body))["id"]
    asked = {"from": "2026-01-01T00:30:00Z", "to": f"2026-01-01T0{_EVENTS}:30:00Z", "waitMs": 0}
    return str((await machines.post("one", f"/v1/workflows/{workflow}/backtest", asked))["id"])


async def _check_backtest(machines: Machines, test: str) -> None:
    """It ended, with a run for each event."""
    async with asyncio.timeout(2 * TAKE_OVER_S):
        while (found := await machines.get("two", f"/v1/backtests/{test}"))["status"] == "running":
            await asyncio.sleep(0.1)
    assert (found["status"], found["eventsFound"]) == ("done", _EVENTS)
    assert [one["status"] for one in found["report"]["events"]] == ["success"] * _EVENTS
