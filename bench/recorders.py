"""What stands outside a server and records what it asks for: a node's endpoint that lets reads through and nothing
else, a place on the web, and a signer. Each listens on 127.0.0.1."""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import aiohttp
from aiohttp import web

READS = frozenset(
    {
        *("eth_chainId", "eth_blockNumber", "eth_getBlockByNumber", "eth_getBlockByHash", "eth_getBlockReceipts"),
        *("eth_call", "eth_getCode", "eth_getBalance", "eth_getStorageAt", "eth_getTransactionCount", "eth_getLogs"),
        *("eth_getTransactionByHash", "eth_getTransactionReceipt", "eth_feeHistory", "eth_gasPrice"),
        *("eth_maxPriorityFeePerGas", "eth_estimateGas", "eth_simulateV1", "debug_traceCall"),
        *("net_version", "web3_clientVersion"),
    }
)
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_PAGES = {
    "/price": {"symbol": "ETH", "usd": 3127.41},
    "/orders": {"orders": [{"id": f"o-{place}", "item": "tea", "cents": 1250, "paid": place != 2} for place in (1, 2)]},
}


class Recorders:
    """The three of them, and what came since `forget`."""

    def __init__(self, node_url: str, addresses: Sequence[str]) -> None:
        self._node = node_url
        self._addresses = list(addresses)
        self.reads: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.pages: Counter[str] = Counter()
        self.writes: Counter[str] = Counter()
        self.signer: Counter[str] = Counter()
        self.node_url = self.web_url = self.signer_url = ""
        self._session: aiohttp.ClientSession | None = None

    def forget(self) -> None:
        """Begins anew."""
        for counter in (self.reads, self.refused, self.pages, self.writes, self.signer):
            counter.clear()

    async def open(self) -> list[web.AppRunner]:
        """Listens."""
        self._session = aiohttp.ClientSession()
        self.node_url, node = await _serve(self._node_asked)
        self.web_url, page = await _serve(self._page_asked)
        self.signer_url, signer = await _serve(self._signer_asked)
        return [node, page, signer]

    async def close(self, runners: Sequence[web.AppRunner]) -> None:
        """Ends it."""
        for runner in runners:
            await runner.cleanup()
        assert self._session is not None
        await self._session.close()

    async def _node_asked(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        asked = json.loads(body)
        calls = asked if isinstance(asked, list) else [asked]
        refused = [call["method"] for call in calls if call["method"] not in READS]
        self.refused.update(refused)
        self.reads.update(call["method"] for call in calls if call["method"] in READS)
        if refused:
            error = {"code": -32601, "message": f"this endpoint is for reads: {refused}"}
            told = [{"jsonrpc": "2.0", "id": call["id"], "error": error} for call in calls]
            return web.json_response(told if isinstance(asked, list) else told[0])
        assert self._session is not None
        async with self._session.post(self._node, data=body, headers={"content-type": "application/json"}) as answer:
            return web.Response(body=await answer.read(), content_type="application/json")

    async def _page_asked(self, request: web.Request) -> web.StreamResponse:
        counter = self.pages if request.method in SAFE else self.writes
        counter[f"{request.method} {request.path}"] += 1
        return web.json_response(_PAGES.get(request.path, {}))

    async def _signer_asked(self, request: web.Request) -> web.StreamResponse:
        asked = await request.json()
        self.signer[asked["method"]] += 1
        if asked["method"] == "eth_accounts":
            return web.json_response({"jsonrpc": "2.0", "id": asked["id"], "result": self._addresses})
        error = {"code": -32000, "message": "this signer signs nothing"}
        return web.json_response({"jsonrpc": "2.0", "id": asked["id"], "error": error})


async def _serve(handler: Any) -> tuple[str, web.AppRunner]:
    app = web.Application(client_max_size=2**26)
    app.router.add_route("*", "/{tail:.*}", handler)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=1024).start()
    return f"http://127.0.0.1:{runner.addresses[0][1]}", runner


@contextmanager
def recorders(node_url: str, addresses: Sequence[str]) -> Iterator[Recorders]:
    """Recorders in a thread of their own."""
    found = Recorders(node_url, addresses)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    runners = asyncio.run_coroutine_threadsafe(found.open(), loop).result(30)
    try:
        yield found
    finally:
        asyncio.run_coroutine_threadsafe(found.close(runners), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
