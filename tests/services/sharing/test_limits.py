"""Limits that are for all servers on a store together: calls a second, and runs of an organisation at once."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from aiohttp import web

from dustrun import clock
from testkit.composition import Composition
from testkit.postgres import Cluster
from testkit.sharing import ended, sharing, until

_PER_SECOND, _MOST = 6, 2
_RUNS = 6


class Outside:
    """A slow server, which counts how many ask it at once."""

    def __init__(self) -> None:
        self.now = self.most = 0
        self.base = ""

    async def handle(self, _request: web.Request) -> web.Response:
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(0.2)
        self.now -= 1
        return web.json_response({})


@contextlib.asynccontextmanager
async def outside_of() -> AsyncIterator[Outside]:
    """Such a server, on a free port."""
    found = Outside()
    app = web.Application()
    app.router.add_get("/", found.handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    found.base = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield found
    finally:
        await runner.cleanup()


async def _accepted(server: Composition) -> tuple[int, float]:
    """Of many calls at once, how many are let through, and the seconds that they took."""
    begun = clock.monotonic_s()
    answers = [await server.owner.http.get("/v1/workflows") for _ in range(4 * _PER_SECOND)]
    assert {answer.status_code for answer in answers} == {200, 429}
    return sum(answer.status_code == 200 for answer in answers), clock.monotonic_s() - begun


async def test_two_servers_let_through_what_one_may(tmp_path: Path, cluster: Cluster) -> None:
    url = cluster.fresh()
    async with sharing(tmp_path, url, rate_limit_per_second=_PER_SECOND) as two:

        async def is_divided() -> bool:  # each has seen that the other one lives
            return [server.parts.access.limiter._rate for server in two] == [_PER_SECOND / 2] * 2

        await until(is_divided)
        for server in two:
            count, seconds = await _accepted(server)
            assert count <= _PER_SECOND + 1 + seconds * _PER_SECOND / 2, "more than its half"
    cluster.drop(url)


async def test_two_servers_run_as_many_runs_of_an_organisation_as_one_may(tmp_path: Path, cluster: Cluster) -> None:
    url = cluster.fresh()
    settings: dict[str, Any] = {"max_running_runs_per_org": _MOST, "outbound_allow": ("127.0.0.1",)}
    async with outside_of() as outside, sharing(tmp_path, url, **settings) as two:
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
