"""Limits that are for all servers on a store together: calls a second, and runs of an organisation at once."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from dustrun import clock
from dustrun.errors import Code
from testkit.composition import Composition, composed
from testkit.postgres import Cluster
from testkit.sharing import ended, sharing, until
from testkit.slow_server import SlowServer, outside_of

_PER_SECOND, _MOST = 6, 2
_RUNS = 6
_BURST = 20


async def _accepted(server: Composition) -> tuple[int, float]:
    """Of many calls at once, how many are let through, and the seconds that they took."""
    begun = clock.monotonic_s()
    answers = await asyncio.gather(*(server.owner.http.get("/v1/workflows") for _ in range(4 * _PER_SECOND)))
    assert {answer.status_code for answer in answers} == {200, 429}
    return sum(answer.status_code == 200 for answer in answers), clock.monotonic_s() - begun


async def test_two_servers_let_through_what_one_may(tmp_path: Path, cluster: Cluster) -> None:
    url = cluster.fresh()
    async with sharing(tmp_path, url, rate_limit_per_second=_PER_SECOND) as two:

        async def is_divided() -> bool:  # each has seen that the other one lives
            return [server.parts.access.limiter._rate for server in two] == [_PER_SECOND / 2] * 2

        await until(is_divided)
        for budgets in ([server.parts.access.form_requests, server.parts.access.webhook_requests] for server in two):
            assert [budget._rate for budget in budgets] == [_PER_SECOND / 8] * 2
        for count, seconds in await asyncio.gather(*map(_accepted, two)):
            assert count <= _PER_SECOND + 1 + seconds * _PER_SECOND / 2, "more than its half"
    cluster.drop(url)


async def test_two_servers_run_as_many_runs_of_an_organisation_as_one_may(tmp_path: Path, cluster: Cluster) -> None:
    url = cluster.fresh()
    settings: dict[str, Any] = {"max_running_runs_per_org": _MOST, "outbound_allow": ("127.0.0.1",)}
    async with outside_of(_MOST) as outside, sharing(tmp_path, url, **settings) as two:
        nodes = {
            "root": {"type": "manual", "children": ["ask"]},
            "ask": {"type": "http-request", "payload": {"method": "GET", "url": f"{outside.base}/"}},
        }
        for number in range(_RUNS):
            body = {"runId": f"run_{number}", "definition": {"nodes": nodes}}
            assert (await two[number % 2].owner.post("/v1/runs", body)).status == 200
        runs = [await ended(two[0].owner, f"run_{number}") for number in range(_RUNS)]
        assert [run["status"] for run in runs] == ["success"] * _RUNS
        assert outside.most == _MOST
    cluster.drop(url)


def _asking(outside: SlowServer) -> dict[str, Any]:
    ask = {"type": "http-request", "payload": {"method": "GET", "url": f"{outside.base}/"}}
    return {"nodes": {"root": {"type": "manual", "children": ["ask"]}, "ask": ask}, "triggerNodeIds": ["root"]}


@pytest.mark.parametrize(
    "then",
    ["queue", pytest.param("skip", marks=pytest.mark.long), pytest.param("cancel-oldest", marks=pytest.mark.long)],
)
async def test_a_burst_on_two_servers_keeps_the_limit_of_a_workflow(
    tmp_path: Path, cluster: Cluster, then: str
) -> None:
    """Whoever creates the runs, and whoever advances them."""
    url, shares = cluster.fresh(), {"shared": True, "outbound_allow": ("127.0.0.1",)}
    async with (
        outside_of() as outside,
        composed(tmp_path, database_url=url, roles="api", **shares) as first,
        composed(tmp_path, database_url=url, roles="api", **shares) as second,
        sharing(tmp_path, url, 2, outbound_allow=("127.0.0.1",), roles=("engine",)),
    ):
        two = (first.owner, second.owner)
        flow = await two[0].create_workflow(_asking(outside), concurrency={"max": _MOST, "onLimit": then})
        path = f"/v1/workflows/{flow['id']}/run"
        answers = await asyncio.gather(
            *(two[number % 2].post(path, {"runId": f"run_{number}", "payload": {}}) for number in range(_BURST))
        )
        taken = [number for number, answer in enumerate(answers) if answer.status == 200]
        runs = {number: (await ended(two[number % 2], f"run_{number}"))["status"] for number in taken}
        assert outside.most <= _MOST
        refused = {(answer.status, answer.code) for answer in answers if answer.status != 200}
        if then == "skip":
            assert (refused, set(runs.values())) == ({(409, Code.STATE_CONFLICT)}, {"success"})
        else:
            assert (len(taken), refused) == (_BURST, set())
        if then == "queue":
            assert (set(runs.values()), outside.all) == ({"success"}, _BURST)


async def test_back_tests_of_an_organisation_are_limited_for_all_servers(tmp_path: Path, cluster: Cluster) -> None:
    """However many ask at the same moment, and through whichever server."""
    url = cluster.fresh()
    async with sharing(tmp_path, url, roles=("api",)) as two:  # nobody advances their runs
        hourly = {"type": "cronjob", "payload": {"schedule": "0 * * * *"}, "children": ["say"]}
        say = {"type": "log", "payload": {"message": "it is time"}}
        rest = {"type": "delay", "payload": {"delayMs": 1}, "children": ["say"]}
        nodes = {"root": {**hourly, "children": ["rest"]}, "rest": rest, "say": say}
        flow = await two[0].owner.create_workflow({"nodes": nodes, "triggerNodeIds": ["root"]})
        asked = {"from": "2026-01-01T00:30:00Z", "to": "2026-01-01T03:30:00Z", "waitMs": 0}
        path = f"/v1/workflows/{flow['id']}/backtest"
        answers = await asyncio.gather(*(two[number % 2].owner.post(path, asked) for number in range(12)))
        assert Counter(answer.status for answer in answers) == {200: 4, 409: 8}
        assert {answer.code for answer in answers if answer.status == 409} == {Code.STATE_CONFLICT}
    cluster.drop(url)


async def test_no_more_runs_are_accepted_than_may_wait_for_an_engine(tmp_path: Path, cluster: Cluster) -> None:
    """The processes that answer calls have none of them in their own queue."""
    url, number = cluster.fresh(), itertools.count()
    shares: dict[str, Any] = {"database_url": url, "shared": True, "max_accepted_runs": _BURST}
    nodes = {"root": {"type": "manual", "children": ["rest"]}, "rest": {"type": "delay", "payload": {"delayMs": 1}}}
    async with composed(tmp_path, roles="api", **shares) as answers:

        async def start() -> int:
            body = {"runId": f"run_{next(number)}", "definition": {"nodes": nodes}}
            return (await answers.owner.post("/v1/runs", body)).status

        assert [await start() for _ in range(_BURST)] == [200] * _BURST

        async def is_refused() -> bool:
            return await start() == 503

        await until(is_refused)
        async with composed(tmp_path, roles="engine", **shares):

            async def is_accepted() -> bool:
                return await start() == 200

            await until(is_accepted)
    cluster.drop(url)
