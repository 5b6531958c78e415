"""A proxy in front of a node that lies, loses answers and refuses, by rule: what endpoints do on a bad day."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import aiohttp
from aiohttp import web

SEND = "eth_sendRawTransaction"


@dataclass(frozen=True, slots=True)
class Lie:
    """What happens to one request. `forwards`: the node gets it; `answers`: the error that the caller reads instead of
    the node's answer; with `drops` the connection is cut and the caller reads nothing."""

    forwards: bool = True
    answers: str | None = None
    drops: bool = False


LOST = Lie(drops=True)
LOST_ON_THE_WAY = Lie(forwards=False, drops=True)


def refusing(message: str) -> Lie:
    """The node never sees it."""
    return Lie(forwards=False, answers=message)


def pretending(message: str) -> Lie:
    """The node takes it, and the caller reads an error."""
    return Lie(answers=message)


Rule = Callable[[str, list[Any]], Lie | None]


def _honest(_method: str, _params: list[Any]) -> Lie | None:
    return None


class ChainProxy:
    """Listens on 127.0.0.1 and forwards to `target`; `rule` says what happens to each request."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.rule: Rule = _honest
        self.hidden: set[str] = set()
        """Hashes whose receipts the caller does not see."""
        self.counts: Counter[str] = Counter()
        self.url = ""
        self._session: aiohttp.ClientSession | None = None
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession()
        app = web.Application(client_max_size=2**26)
        app.router.add_post("/", self._answer)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        port = self._runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._runner is not None
        assert self._session is not None
        await self._runner.cleanup()
        await self._session.close()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        text = await request.text()
        document = json.loads(text)
        lie = None if isinstance(document, list) else self.rule(document["method"], list(document.get("params", ())))
        for one in document if isinstance(document, list) else [document]:
            self.counts[one["method"]] += 1
        body = await self._forward(text) if lie is None or lie.forwards else b""
        if lie is None:
            return web.Response(body=self._hide(document, body), content_type="application/json")
        if lie.drops:
            assert request.transport is not None
            request.transport.abort()
            await asyncio.sleep(0)
            return web.Response(status=500)
        error = {"code": -32000, "message": lie.answers}
        return web.json_response({"jsonrpc": "2.0", "id": document["id"], "error": error})

    def _hide(self, document: Any, body: bytes) -> bytes:
        """The answer without the receipts of hidden transactions."""
        if not self.hidden:
            return body
        asked = document if isinstance(document, list) else [document]
        hidden = {
            one["id"]
            for one in asked
            if one["method"] == "eth_getTransactionReceipt" and one["params"][0] in self.hidden
        }
        found = json.loads(body)
        for answer in found if isinstance(found, list) else [found]:
            if answer["id"] in hidden:
                answer["result"] = None
        return json.dumps(found).encode()

    async def _forward(self, text: str) -> bytes:
        assert self._session is not None
        headers = {"content-type": "application/json"}
        async with self._session.post(self.target, data=text, headers=headers) as answer:
            return await answer.read()
