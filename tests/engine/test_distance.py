"""Runs on a PostgreSQL that is far away: they share the round trips."""

from __future__ import annotations

import asyncio
from pathlib import Path

import sqlalchemy as sa

from dustrun.storage.db.tables import activity, run_counts, runs
from testkit.composition import composed
from testkit.distance import at_a_distance
from testkit.postgres import Cluster

_RUNS = 40
_NODES = {
    "root": {"type": "manual", "children": ["a"]},
    "a": {"type": "log", "payload": {"message": "a"}, "children": ["each"]},
    "each": {"type": "for-each", "payload": {"array": [1, 2]}, "loopBody": ["b"]},
    "b": {"type": "log", "payload": {"message": "b"}},
}


async def test_runs_at_the_same_time_share_the_round_trips_to_the_database(cluster: Cluster, tmp_path: Path) -> None:
    url = cluster.fresh()
    with at_a_distance(url, 0.01) as (far, distance):
        async with composed(tmp_path, database_url=far) as server:
            flow = await server.owner.create_workflow({"nodes": _NODES})
            await server.owner.post(f"/v1/workflows/{flow['id']}/publish", {})
            path = f"/v1/workflows/{flow['id']}/run"
            await server.owner.post(path, {})
            before = distance.round_trips
            bodies = [{"simulate": number % 2 == 0} for number in range(_RUNS)]
            replies = await asyncio.gather(*(server.owner.post(path, body) for body in bodies))
            while server.engine.advancing:
                await asyncio.sleep(0.01)
            taken = distance.round_trips - before
            assert {reply.status for reply in replies} == {200}
            # one after the other it is three to create each run, and two to end it
            assert taken < _RUNS
            counted = await server.rows(sa.select(run_counts.c.mode, run_counts.c.status, run_counts.c.total))
            assert sorted(counted) == [("live", "success", _RUNS // 2 + 1), ("simulate", "success", _RUNS // 2)]
            each = sa.select(runs.c.last_seq, runs.c.nodes_executed, runs.c.fence).distinct()
            assert len(await server.rows(each)) == 1
            places = await server.rows(sa.select(sa.func.count(activity.c.id)).group_by(activity.c.run_pk).distinct())
            assert places == [(2,)]
    cluster.drop(url)


async def test_requests_with_a_key_that_was_just_forgotten_wait_for_one_look_up(
    cluster: Cluster, tmp_path: Path
) -> None:
    url = cluster.fresh()
    with at_a_distance(url, 0.01) as (far, distance):
        async with composed(tmp_path, database_url=far) as server:
            caller = await server.client_with("run:read")
            assert (await caller.get("/v1/wallets")).status == 403  # which reads the key alone
            await asyncio.sleep(5.1)  # a key is remembered for five seconds
            before = distance.round_trips
            replies = await asyncio.gather(*(caller.get("/v1/wallets") for _ in range(_RUNS)))
            assert {reply.status for reply in replies} == {403}
            assert 1 <= distance.round_trips - before < 10  # one, and what the server writes by the way
    cluster.drop(url)
