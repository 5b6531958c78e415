"""A server that leaves it to Temporal which machine advances a run, while Temporal is away, lacks its namespace, or
comes back empty."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from temporalio import activity
from temporalio.exceptions import ApplicationError
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from dustrun.engine import temporal as engine
from dustrun.engine.hosts.clustered import Asks, Sweep
from dustrun.services.sharing.store_watch import StoreWatch
from dustrun.storage.db.database import Database
from dustrun.storage.db.tables import runs
from engine.conftest import Bench
from testkit.composition import composed
from testkit.postgres import Cluster
from testkit.temporal import TemporalServer

STOP_S = 40.0
SAY: dict[str, Any] = {"say": {"type": "log", "payload": {"message": "hello"}}}


@pytest.fixture
def url(cluster: Cluster) -> Iterator[str]:
    url = cluster.fresh()
    yield url
    cluster.drop(url)


async def test_runs_are_accepted_while_temporal_is_away_and_end_when_it_is_there(tmp_path: Path, url: str) -> None:
    own = TemporalServer(tmp_path, namespaces=("ours",))
    answering = StoreWatch(lambda: asyncio.sleep(0))
    watching = engine.Temporal(engine.TemporalAddress(own.address, "ours", "q"), "watching", answering)
    place = engine.TemporalAddress(own.address, "ours", "q")
    settings: dict[str, Any] = {"database_url": url, "temporal_address": own.address}
    assert "cannot be reached" in (await engine.find_trouble(place) or "")
    try:
        async with composed(tmp_path, **settings, temporal_namespace="ours") as server:
            bench = Bench(server)
            accepted = await bench.start(SAY)
            ready = (await server.client(None).get("/readyz")).data
            assert ready["roles"] == ["api", "engine", "triggers"]
            assert "cannot be reached" in ready["waitsFor"]
            own.start()
            watching.watch()
            assert (await bench.ended(accepted))["status"] == "success"
            while watching.trouble is not None:
                await asyncio.sleep(0.05)
            waiting = await bench.start({"nap": {"type": "delay", "payload": {"delayMs": 3000}}})
            await bench.until(waiting, lambda run: run["status"] == "waiting")
            own.wipe()
            own.start()
            assert (await bench.ended(waiting))["status"] == "success"
            assert [kind for kind, _ in await bench.events(waiting)].count("run_finished") == 1
            async with asyncio.timeout(60):
                while not watching.times_emptied:
                    await asyncio.sleep(0.05)
            assert watching.times_emptied == 1
            assert await engine.find_trouble(place) is None
            trouble = await engine.find_trouble(engine.TemporalAddress(own.address, "theirs", "q"))
            assert 'no namespace "theirs"' in (trouble or "")
            os.kill(own.pid, signal.SIGSTOP)
            stopping_at = asyncio.get_running_loop().time()
        # nobody hears that the workers leave; the stop ends anyway, and so does the event loop after the test
        assert asyncio.get_running_loop().time() - stopping_at < STOP_S
    finally:
        await watching.stop()
        own.end(kill=True)


async def test_what_was_asked_is_asked_again_at_once_when_it_is_lost(tmp_path: Path, url: str) -> None:
    """The longer a run is in a queue, the more seldom it is asked for; a queue that is lost again and again must not
    have it wait for minutes."""
    asked: list[int] = []
    times_emptied = 0

    async def send(run_pk: int, _wakes: bool) -> None:
        asked.append(run_pk)

    async def none() -> list[int]:
        return []

    async def swept() -> int:
        await sweep.sweep()
        while len(asks):
            await asyncio.sleep(0.01)
        return len(asked)

    away = TemporalServer(tmp_path)
    async with composed(tmp_path, database_url=url, temporal_address=away.address) as server:
        await Bench(server).start({"nap": {"type": "delay", "payload": {"delayMs": 1}}})
        await server.execute(sa.update(runs).values(started_at=1))
        database, asks = Database(url, is_shared=True), Asks(send)
        sweep = Sweep(database, asks, none, lambda: times_emptied)
        asks.start()
        assert [await swept(), await swept()] == [1, 1]
        times_emptied = 1
        assert [await swept(), await swept()] == [2, 2]
        await asks.stop()
        database.close()


@pytest.mark.long
async def test_a_run_with_many_failed_attempts_is_given_to_another_machine_as_soon(temporal: TemporalServer) -> None:
    """Its attempts have failed while the store was away; then its machine dies."""
    dying_at, queue = 7, "many-attempts"

    @activity.defn(name="advance")
    async def advance(run_pk: int) -> int:
        if activity.info().attempt < dying_at:
            raise ApplicationError("the store is away", next_retry_delay=timedelta(milliseconds=10))
        await asyncio.sleep(600)  # without a sign of life
        return run_pk

    client = await temporal.client()
    worker = Worker(
        client,
        task_queue=queue,
        workflows=[engine.RunWorkflow],
        activities=[advance],
        workflow_runner=UnsandboxedWorkflowRunner(),
        max_heartbeat_throttle_interval=timedelta(seconds=1),
    )
    async with worker, asyncio.timeout(120):
        handle = await client.start_workflow(engine.RunWorkflow.run, 1, id=queue, task_queue=queue)
        while True:
            found = (await handle.describe()).raw_description.pending_activities
            if found and found[0].attempt > dying_at and found[0].HasField("next_attempt_schedule_time"):
                break
            await asyncio.sleep(0.02)
        await handle.terminate()
    again_at, failed_at = found[0].next_attempt_schedule_time, found[0].last_attempt_complete_time
    silent_s = (again_at.ToDatetime() - failed_at.ToDatetime()).total_seconds()
    assert engine.LOST_S <= silent_s < engine.LOST_S + 4, "by Temporal's clock; five seconds more would be too late"


async def test_a_process_without_the_role_api_answers_no_calls(tmp_path: Path, url: str) -> None:
    async with composed(tmp_path, database_url=url, shared=True, roles="engine") as server:
        assert (await server.client(None).get("/readyz")).data == {"status": "ready", "roles": ["engine"]}
        reply = await server.owner.get("/v1/workflows")
        assert (reply.status, "its roles are: engine" in reply.body["message"]) == (404, True)
