"""No answer of another program holds the event loop for 50 ms of processor time, however it is made."""

from __future__ import annotations

import functools
import http.server
import json
import threading
from collections.abc import Awaitable, Callable, Iterator
from decimal import Decimal
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest

from dustrun.chain.rpc import Rpc, RpcRequest
from dustrun.core.values.amounts import Asset
from dustrun.errors import DustrunError, Permanent
from dustrun.prices.source import PriceFault, PriceQuestion
from dustrun.prices.web import WebPrices
from dustrun.sdk import Connection
from dustrun.sdk.llm import protocol
from dustrun.sdk.llm.messages import ModelQuestion, ModelText
from dustrun.sdk.mcp.session import McpSession
from dustrun.sdk.mcp.wires import HttpWire
from dustrun.wallets.remote import Remote
from outbound.loopback import client
from testkit.composition import composed
from testkit.loop_watch import least_hold, watched
from testkit.run_drivers import Runs

MOST_S = 0.05
MOST_BYTES = 5_242_880
_HELLO = b'{"protocolVersion":"2025-11-25","capabilities":{}}'


def _many(item: bytes, size: int, around: bytes = b"[%s]") -> bytes:
    """A text of about `size` bytes with as many items as fit."""
    return around % b",".join([item] * ((size - len(around)) // (len(item) + 1)))


def _tool(schema: bytes) -> bytes:
    return b'{"tools":[{"name":"a","inputSchema":%s}]}' % schema


_CHUNK = b'{"id":"a","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":%s}]}'
_WHOLE = b'{"id":"a","object":"chat.completion","created":1,"model":"m","choices":%s}'
_ANTHROPIC = b'{"id":"m","type":"message","role":"assistant","model":"m","content":%s}'
_CHOICE = b'{"index":0,"finish_reason":"stop","message":{"role":"assistant","content":"hi"}}'
_MESSAGE = b'[{"index":0,"finish_reason":"stop","message":%s}]'


def _calls() -> bytes:
    return _many(b"{}", 900_000, b'{"tool_calls":[%s]}')


# made when they are asked for: whoever collects this file would wait for it
_TEXTS: dict[str, Callable[[], bytes]] = {
    "/lists": lambda: _many(b"[]", MOST_BYTES - 100),
    "/objects": lambda: _many(b"{}", MOST_BYTES - 100),
    "/prices": lambda: _many(b"[]", 1_000_000),
    "/choices/chat/completions": lambda: _WHOLE % _many(_CHOICE, 900_000),
    "/calls/chat/completions": lambda: _WHOLE % (_MESSAGE % _calls()),
    "/texts/v1/messages": lambda: _ANTHROPIC % _many(b'{"type":"text","text":""}', 900_000),
}
_STREAMS: dict[str, Callable[[], bytes]] = {
    "/pieces/chat/completions": lambda: b"data: %s\n\n" % (_CHUNK % b'{"content":"x"}') * 4_000 + b"data: [DONE]\n\n",
    "/fat/chat/completions": lambda: b"data: %s\n\n" % (_CHUNK % _calls()),
    "/lines/chat/completions": lambda: (
        b"data: %s\n\n" % (_CHUNK % _calls()).replace(b"{}," * 100, b"{}," * 100 + b"\ndata: ")
    ),
    "/returns/chat/completions": lambda: b"data: %s\r\r" % (_CHUNK % _calls()),
}
# what an MCP server lists, and what it answers to a call
_SERVERS: dict[str, Callable[[], tuple[bytes, bytes]]] = {
    "/mcp/many": lambda: (_many(b'{"name":"a","inputSchema":{}}', MOST_BYTES - 100, b'{"tools":[%s]}'), b""),
    "/mcp/failed": lambda: (
        _tool(b"{}"),
        _many(b'{"type":"text"}', MOST_BYTES - 200, b'{"isError":true,"content":[%s]}'),
    ),
    "/mcp/back": lambda: (_tool(b"{}"), b'{"resultType":%s}' % _many(b"1", MOST_BYTES - 100)),
}


@functools.cache
def _made(make: Callable[[], Any]) -> Any:
    return make()


class _Hostile(http.server.BaseHTTPRequestHandler):
    """Answers with what takes long to read."""

    def do_GET(self) -> None:
        self._answer(_made(_TEXTS[self.path]))

    def do_DELETE(self) -> None:
        self._answer(b"")

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path in _STREAMS:
            self._answer(_made(_STREAMS[self.path]), "text/event-stream")
        elif self.path in _TEXTS:
            self._answer(_made(_TEXTS[self.path]))
        elif self.path in _SERVERS and "id" in asked:
            listed, called = _made(_SERVERS[self.path])
            result = {"initialize": _HELLO, "tools/list": listed, "tools/call": called}[asked["method"]]
            self._answer(b'{"jsonrpc":"2.0","id":%d,"result":%s}' % (asked["id"], result))
        else:
            self._answer(b'{"jsonrpc":"2.0","id":1,"result":%s}' % _many(b"[]", 2_000_000))

    def _answer(self, body: bytes, kind: str = "application/json") -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """No lines."""


@pytest.fixture
def hostile() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Hostile) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


async def _holds(work: dict[str, Callable[[], Awaitable[None]]], most_s: float = MOST_S) -> dict[str, int]:
    """What holds the loop too long, and for how many milliseconds."""
    with watched() as watch:
        found = {name: await least_hold(watch, one, most_s) for name, one in work.items()}
    return {name: round(held * 1000) for name, held in found.items() if held >= most_s}


@pytest.mark.long
async def test_no_json_of_a_request_holds_the_loop(tmp_path: Path, store_url: str, hostile: str) -> None:
    async with composed(tmp_path, database_url=store_url, outbound_allow=("127.0.0.1",)) as server:
        runs = Runs(server)
        nodes = {path: {"type": "http-request", "payload": {"url": hostile + path}} for path in ("/lists", "/objects")}
        work: dict[str, Callable[[], Awaitable[None]]] = {
            path: partial(runs.run, runs.body({"n": node}, 0)) for path, node in nodes.items()
        }
        # to free 1.7 million lists is one call into C
        assert await _holds(work, 2 * MOST_S) == {}
    assert runs.statuses == {"failure"}, "the result is larger than a node may keep"


@pytest.mark.parametrize("paths", [["/mcp/back"], pytest.param(["/mcp/many", "/mcp/failed"], marks=pytest.mark.long)])
async def test_no_answer_of_an_mcp_server_holds_the_loop(hostile: str, paths: list[str]) -> None:
    async with client(max_bytes=MOST_BYTES) as http:

        async def ask(path: str) -> None:
            with pytest.raises(DustrunError):
                await look_and_call(McpSession(HttpWire(http, hostile + path)))

        async def look_and_call(session: McpSession) -> None:
            await session.list_tools()
            await session.call("a", {}, 60, only_reads=True)
            raise Permanent("it answers")

        assert await _holds({path: partial(ask, path) for path in paths}) == {}


_OF_MODELS = [path for path in (*_TEXTS, *_STREAMS) if path.count("/") > 1]
_ONE_OF_EACH = ["/calls/chat/completions", "/fat/chat/completions"]


@pytest.mark.parametrize("paths", [_ONE_OF_EACH, pytest.param(_OF_MODELS, marks=pytest.mark.long)], ids=["two", "all"])
async def test_no_answer_of_a_model_server_holds_the_loop(hostile: str, paths: list[str]) -> None:
    async with client(max_bytes=MOST_BYTES) as http:

        async def ask(path: str) -> None:
            kind = "llm-anthropic" if path.endswith("/messages") else "llm-openai"
            base_url = hostile + path.removesuffix("/v1/messages").removesuffix("/chat/completions")
            connection = Connection("c", kind, "c", SimpleNamespace(base_url=base_url))
            asked = ModelQuestion("m", "", (ModelText("user", "hi"),), Decimal(1), 100, timeout_s=60)
            heard = None if path in _TEXTS else _hear
            with pytest.raises(DustrunError):
                await protocol.request(http, connection, asked, heard)

        assert await _holds({path: partial(ask, path) for path in paths}) == {}


async def _hear(_text: str) -> None:
    """Nothing."""


async def test_no_answer_of_a_price_source_holds_the_loop(hostile: str) -> None:
    coin = SimpleNamespace(symbol="ETH")
    chain: Any = SimpleNamespace(network=SimpleNamespace(chain_id=1, native=coin))

    async with client(max_bytes=MOST_BYTES) as http:

        async def price() -> None:
            with pytest.raises(PriceFault, match="has nothing at"):
                await WebPrices(http, f"{hostile}/prices", "usd").price(PriceQuestion(Asset(1), chain, 18, 0))

        assert await _holds({"prices": price}) == {}


async def test_no_answer_of_an_endpoint_or_a_signer_holds_the_loop(hostile: str) -> None:
    async with aiohttp.ClientSession() as session:
        rpc = Rpc(f"{hostile}/rpc", session, per_second=0, timeout_s=60, max_bytes=MOST_BYTES)
        signer = Remote("signer", f"{hostile}/rpc", 60)

        async def call() -> None:
            assert len(await rpc.call(RpcRequest("eth_getLogs"))) > 600_000

        async def sign() -> None:
            with pytest.raises(Permanent):
                await signer.addresses()

        try:
            assert await _holds({"rpc": call, "signer": sign}) == {}
        finally:
            await signer.close()
