"""What senders publish is read once for a while, from where they publish it, and never from behind a redirect."""

from __future__ import annotations

import pytest
from aiohttp import web

from dustrun.errors import Temporary
from dustrun.services.triggers.inbound.webhooks import SenderKeys
from outbound.loopback import client, serving


async def test_keys_are_kept_and_nothing_but_200_is_one() -> None:
    answers = {"/key": web.Response(text="pem"), "/moved": web.Response(status=302, headers={"Location": "/key"})}

    def answer(seen: object) -> web.Response:
        found = answers[getattr(seen, "path", "")]
        return web.Response(status=found.status, headers=found.headers, body=found.body)

    async with serving(answer) as server, client() as http:
        keys = SenderKeys(http)
        assert [await keys.read(f"{server.url}/key") for _ in range(3)] == ["pem"] * 3
        assert len(server.seen) == 1
        for _ in range(2):
            with pytest.raises(Temporary, match="status 302"):
                await keys.read(f"{server.url}/moved")
        await keys.visit(f"{server.url}/key")
        assert [one.path for one in server.seen] == ["/key", "/moved", "/moved", "/key"]


async def test_the_guard_stands_before_a_sender_too() -> None:
    async with client(allow=()) as http:
        with pytest.raises(Temporary, match="cannot be asked"):
            await SenderKeys(http).visit("http://127.0.0.1:9/")
