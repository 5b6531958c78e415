"""Asking the provider about its people, where several servers share a store."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import httpx

from testkit.composition import Composition
from testkit.identity_provider import providing
from testkit.postgres import Cluster
from testkit.sharing import sharing, until

BASE = "http://127.0.0.1:8080"


def _browser(server: Composition, cookies: httpx.Cookies | None = None) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(server.app), base_url=BASE, cookies=cookies)


async def test_one_of_two_servers_asks_and_the_end_is_on_both(tmp_path: Path, cluster: Cluster) -> None:
    url = cluster.fresh()
    async with providing() as provider, sharing(tmp_path, url, **{**provider.settings, "sign_in_check_s": 1.0}) as two:
        first = _browser(two[0])
        begun = (await first.post("/v1/session/provider")).json()["data"]["url"]
        second = _browser(two[1], first.cookies)
        answer = await second.post("/v1/session/provider/finish", json=provider.sign_in(begun, "ada"))
        assert answer.status_code == 200, answer.text
        browsers = [_browser(server, second.cookies) for server in two]

        async def says(status: int) -> bool:
            return [(await one.get("/v1/me")).status_code for one in browsers] == [status] * 2

        assert await says(200)

        async def was_asked() -> bool:
            return len(provider.renewed) >= 3

        await until(was_asked)  # each token works once, so two that asked would have lost her
        assert await says(200)
        assert set(Counter(provider.renewed)) == {"ada"}
        provider.people.clear()
        await until(lambda: says(401))
    cluster.drop(url)
