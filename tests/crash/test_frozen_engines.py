"""An engine that is frozen with a run, and wakes up when others have done with it what people asked for: decided,
cancelled, retried. Calls are answered by processes that advance nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from testkit.machines import Machines, machines_on
from testkit.outside import Outside, outside_server
from testkit.postgres import Cluster
from testkit.server_process import ServerProcess

Json = dict[str, Any]


@pytest.fixture
async def outside() -> AsyncIterator[Outside]:
    async with outside_server(holds="/held") as found:
        yield found


@pytest.fixture
async def machines(tmp_path: Path, cluster: Cluster) -> AsyncIterator[Machines]:
    async with machines_on(tmp_path, cluster) as found:
        found.add("api", "api")
        found.add("other", "api")
        found.add("one", "engine")
        await found.start()
        yield found


def _definition(nodes: Json) -> Json:
    return {"nodes": {"root": {"type": "manual", "children": [next(iter(nodes))]}, **nodes}}


def _get(outside: Outside, path: str, *children: str, **more: Any) -> Json:
    payload = {"method": "GET", "url": f"{outside.base}{path}"}
    return {"type": "http-request", "payload": payload, "children": [*children], **more}


async def _freeze(machines: Machines) -> ServerProcess:
    """The engine with the runs is frozen and counts as gone, and there is another one."""
    frozen = machines.servers["one"]
    frozen.freeze()
    await _replace(machines, frozen)
    return frozen


async def _replace(machines: Machines, frozen: ServerProcess) -> None:
    machines.give_up(frozen)
    machines.add("two", "engine")
    await machines.start("two")


async def _until(machines: Machines, run_id: str, status: str) -> Json:
    async with asyncio.timeout(60):
        while (run := await machines.get("other", f"/v1/runs/{run_id}"))["status"] != status:
            await asyncio.sleep(0.05)
    return run


async def _events(machines: Machines, run_id: str) -> list[str]:
    """The types of a run's events, each with its number; it has ended once."""
    async with machines.session.get(f"{machines.servers['api'].base}/v1/runs/{run_id}/stream") as answer:
        lines = [line for line in (await answer.text()).splitlines() if line.startswith(("id: ", "event: "))]
    numbers = [int(line[4:]) for line in lines if line.startswith("id: ")]
    assert numbers == list(range(1, len(numbers) + 1))
    assert lines.count("event: run_finished") == 1
    return lines


async def _settled(machines: Machines, frozen: ServerProcess, run_ids: list[str]) -> None:
    """What the frozen one finds when it wakes up changes nothing, and it goes on working."""
    before = [await _events(machines, run_id) for run_id in run_ids]
    frozen.thaw()
    await machines.stop(["two"])
    rest = _definition({"rest": {"type": "delay", "payload": {"delayMs": 1}}})
    new = (await machines.post("api", "/v1/runs", {"definition": rest}))["runId"]
    assert (await machines.ended("other", new))["status"] == "success"
    assert machines.name_of(machines.holder(new)) == "one"
    assert [await _events(machines, run_id) for run_id in run_ids] == before


async def test_a_run_is_cancelled_and_retried_while_its_engine_is_frozen(machines: Machines, outside: Outside) -> None:
    definition = _definition({"ask": _get(outside, "/held", "end"), "end": _get(outside, "/end")})
    await machines.post("api", "/v1/runs", {"runId": "run_1", "definition": definition})
    await outside.until(1)
    frozen = machines.servers["one"]
    frozen.freeze()
    await machines.post("other", "/v1/runs/run_1/cancel", {})
    await _replace(machines, frozen)
    cancelled = await _until(machines, "run_1", "cancelled")
    assert cancelled["executionState"]["end"]["status"] == "skipped"
    again = (await machines.post("api", "/v1/runs/run_1/retry", {}))["id"]
    retried = await machines.ended("other", again)
    assert (retried["status"], machines.name_of(machines.holder(again))) == ("success", "two")
    outside.go_on.set()  # the frozen one gets its answer when it wakes up
    await _settled(machines, frozen, ["run_1", again])
    assert outside.asked == ["/held", "/held", "/end"]


@pytest.mark.long
async def test_what_a_person_decides_while_the_engine_is_frozen_counts_once(
    machines: Machines, outside: Outside
) -> None:
    ask = {"type": "approve", "payload": {"message": "Pay?", "timeoutMs": 600_000, "allowStarter": True}}
    nodes = {
        "ask": {**ask, "children": ["yes", "no"]},
        "yes": _get(outside, "/yes", branch="approved"),
        "no": _get(outside, "/no", branch="rejected"),
    }
    await machines.post("api", "/v1/runs", {"runId": "run_1", "definition": _definition(nodes)})
    await _until(machines, "run_1", "waiting")
    (asked,) = (await machines.get("api", "/v1/approvals?status=pending"))["items"]
    frozen = await _freeze(machines)

    async def decide(name: str, verb: str) -> tuple[int, str]:
        url = f"{machines.servers[name].base}/v1/approvals/{asked['id']}/{verb}"
        async with machines.session.post(url, json={}) as answer:
            return answer.status, (await answer.json())["message"]

    answers = await asyncio.gather(decide("api", "approve"), decide("other", "reject"))
    assert sorted(status for status, _ in answers) == [200, 409]
    verb = "approved" if answers[0][0] == 200 else "rejected"
    assert f'The approval is no longer open (it is "{verb}").' in [message for _, message in answers]
    run = await _until(machines, "run_1", "success")
    state = run["executionState"]
    assert (state["ask"]["result"]["decision"], outside.asked) == (verb, ["/yes" if verb == "approved" else "/no"])
    await _settled(machines, frozen, ["run_1"])
    assert len(outside.asked) == 1
