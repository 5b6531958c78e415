"""Both clients against a server in a process of its own, which some tests kill."""

from __future__ import annotations

import asyncio
import contextlib
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from dustrun.client import (
    AsyncClient,
    Client,
    Conflict,
    Event,
    Invalid,
    NotFound,
    RunFailed,
    RunIdUsed,
    StillRunning,
    Unauthenticated,
    Unreachable,
)
from testkit.e2e.flows import chain
from testkit.e2e.server import Server, new_run_id
from testkit.ports import free_port

PAGE = Path(__file__).parents[2] / "docs/guides/python-client.md"
AMOUNTS = {"wei": 10**30 + 1, "price": Decimal("0.1000000000000000055511151231257827"), "text": "7.10"}
FAILING = {
    "nodes": {
        "root": {"type": "manual", "children": ["end"]},
        "end": {"type": "stop", "payload": {"status": "failure", "message": "No stock."}},
    },
    "triggerNodeIds": ["root"],
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The tests of this file share it; whoever ends it starts it again."""
    server = Server(tmp_path_factory.mktemp("server"))
    try:
        yield server.start()
    finally:
        server.close()


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with Client(server.url, server.key) as client:
        yield client


def test_amounts_are_exact_in_both_directions(server: Server, client: Client) -> None:
    outcome = client.run(server.create_workflow(chain(1)), AMOUNTS, mode="simulate").wait().check()
    assert (outcome.status, outcome.mode, outcome.is_success) == ("success", "simulate", True)
    assert outcome.shown["payload"] == AMOUNTS
    assert {name: outcome.result("root")["body"][name] for name in AMOUNTS} == AMOUNTS
    assert not any(isinstance(value, float) for value in outcome.shown["payload"].values())


def test_a_float_is_refused_by_field_before_anything_is_sent() -> None:
    with Client("http://127.0.0.1:1", "sk_none", patience_s=0) as client:
        with pytest.raises(TypeError, match=re.escape("payload.pay[1].amount is the float 0.1")):
            client.run("wf_1", {"pay": [1, {"amount": 0.1}]})
        with pytest.raises(ValueError, match='mode is "dry"'):
            client.run("wf_1", mode="dry")  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="run_id is"):
            client.run("wf_1", run_id="order 17")
        with pytest.raises(Unreachable, match="No answer from"):
            client.run("wf_1")


def test_the_same_id_again_is_the_same_run(server: Server, client: Client) -> None:
    workflow, run_id = server.create_workflow(chain(1)), new_run_id()
    first = client.run(workflow, {"b": 1, "a": 2}, run_id=run_id)
    again = client.run(workflow, {"a": 2, "b": 1}, run_id=run_id)
    assert first.id == again.id == run_id
    with pytest.raises(Conflict) as caught:
        client.run(workflow, {"a": 3}, run_id=run_id)
    assert caught.value.code == 409007
    with pytest.raises(RunIdUsed):  # as it is once the first call's key has expired
        client.call("POST", f"/v1/workflows/{workflow}/run", {"runId": run_id})
    assert len(client.call("GET", f"/v1/runs?workflowId={workflow}")["items"]) == 1


def test_errors_tell_code_field_and_what_is_expected(server: Server, client: Client) -> None:
    workflow = server.create_workflow(chain(1))
    with pytest.raises(Invalid) as invalid:
        client.call("POST", f"/v1/workflows/{workflow}/run", {"simulate": "yes"})
    told = invalid.value
    assert (told.status, told.code, told.field, told.hint) == (400, 400001, "simulate", "Must be true or false.")
    assert str(told) == "400001: The request body is not valid.\n  simulate: Must be true or false."
    assert told.request_id is not None
    with pytest.raises(NotFound, match="404001"):
        client.run("wf_none")
    with Client(server.url, "sk_wrong") as stranger, pytest.raises(Unauthenticated, match="401001"):
        list(stranger.follow("run_1"))


def test_a_run_that_fails_says_why(server: Server, client: Client) -> None:
    outcome = client.run(server.create_workflow(FAILING)).wait()
    assert not outcome.is_success
    with pytest.raises(RunFailed, match=r"ended in failure: .*No stock"):
        outcome.check()


async def test_a_wait_that_is_over_leaves_the_run_alone(server: Server, client: Client) -> None:
    run = client.run(server.create_workflow(chain(2, pause_ms=3_600_000)))
    with pytest.raises(StillRunning) as caught:
        run.wait(timeout_s=0.3)
    assert caught.value.cursor > 1
    async with AsyncClient(server.url, server.key) as other:
        with pytest.raises(TimeoutError):
            await other.wait(run.id, timeout_s=0.3)
    assert client.call("POST", f"/v1/runs/{run.id}/cancel") is not None
    assert run.wait().status == "cancelled"
    assert list(run.events(after=caught.value.cursor))[-1].type == "run_finished"


async def test_both_see_each_event_once_though_the_server_is_killed(server: Server) -> None:
    workflow, run_id = server.create_workflow(chain(3, pause_ms=400)), new_run_id()
    early, under_way = list[Event](), threading.Event()

    def listen() -> None:
        with Client(server.url, server.key) as client:
            for event in client.follow(run_id):  # it does not exist yet
                early.append(event)
                under_way.set()

    listening = asyncio.create_task(asyncio.to_thread(listen))
    async with AsyncClient(server.url, server.key) as client:
        run = await client.run(workflow, run_id=run_id)
        seen = list[Event]()
        async with contextlib.aclosing(run.events()) as events:
            async for event in events:
                seen.append(event)
                if len(seen) == 4:
                    await asyncio.to_thread(under_way.wait, 60)
                    await asyncio.to_thread(server.kill)
                    starting = asyncio.create_task(asyncio.to_thread(server.start))
        await starting
        await listening
        assert (await run.wait()).is_success
    told: list[dict[str, Any]] = [dict(event.data) for event in seen]
    assert told == [dict(event.data) for event in early] == server.events_of(run_id)


async def test_a_run_call_waits_for_a_server_that_restarts(server: Server) -> None:
    workflow = server.create_workflow(chain(1))
    server.kill()
    async with AsyncClient(server.url, server.key) as client:
        run, _ = await asyncio.gather(client.run(workflow), asyncio.to_thread(server.start))
        assert (await run.wait(timeout_s=60)).is_success
        assert len((await client.call("GET", f"/v1/runs?workflowId={workflow}"))["items"]) == 1


def test_another_server_is_told_from_ours(server: Server) -> None:
    with Client(f"127.0.0.1:{free_port()}", "sk_none", patience_s=0) as client, pytest.raises(Unreachable):
        client.call("POST", "/v1/workflows", {})


@pytest.mark.parametrize("name", ["sync", "async"])
def test_the_program_of_the_guide(name: str, server: Server) -> None:
    [text] = re.findall(rf"^```python {name}\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    environment = {**server.environment, "WORKFLOW": server.create_workflow(chain(1))}
    done = subprocess.run(
        [sys.executable, "-c", text], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "run_finished" in done.stdout
    assert done.stdout.splitlines()[-1] == "success"
