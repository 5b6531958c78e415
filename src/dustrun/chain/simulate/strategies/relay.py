"""An HTTP server on 127.0.0.1 that forwards read methods, and no others, from a child node to the endpoints."""

from __future__ import annotations

from typing import Any, Final

from aiohttp import web

from dustrun.chain.endpoints import Endpoints
from dustrun.chain.rpc import EndpointDown, RpcError
from dustrun.chain.simulate.fork import Fork
from dustrun.core.values.exact_json import JsonError, dumps, loads_own
from dustrun.errors import Temporary

READS: Final = frozenset(
    {
        "eth_blockNumber",
        "eth_chainId",
        "eth_feeHistory",
        "eth_gasPrice",
        "eth_getAccount",
        "eth_getBalance",
        "eth_getBlockByHash",
        "eth_getBlockByNumber",
        "eth_getCode",
        "eth_getProof",
        "eth_getStorageAt",
        "eth_getTransactionByHash",
        "eth_getTransactionCount",
        "eth_getTransactionReceipt",
        "net_version",
        "web3_clientVersion",
    }
)
_AT_A_BLOCK: Final = frozenset(
    {"eth_getAccount", "eth_getBalance", "eth_getCode", "eth_getProof", "eth_getStorageAt", "eth_getTransactionCount"}
)
Json = dict[str, Any]


class Relay:
    """Reads at the pinned block are forwarded by its hash, so that a reorganised chain cannot answer them."""

    def __init__(self, endpoints: Endpoints, fork: Fork) -> None:
        self._endpoints = endpoints
        self._number, self._hash = hex(fork.number), fork.hash
        app = web.Application()
        app.router.add_post("/", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)

    async def start(self) -> str:
        """Listens on a free port and returns the URL."""
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        """Stops listening."""
        await self._runner.cleanup()

    async def _handle(self, request: web.Request) -> web.Response:
        try:
            asked = loads_own(await request.read())
        except JsonError as error:
            return web.Response(status=400, text=str(error))
        if isinstance(asked, list):
            answers: Any = [await self._answer(call) for call in asked]
        else:
            answers = await self._answer(asked)
        return web.Response(body=dumps(answers), content_type="application/json")

    async def _ask(self, method: str, params: list[Any]) -> Any:
        """Replaces the pinned block's number, which the child sends, by its hash."""
        if method == "eth_getBlockByNumber" and params and params[0] == self._number:
            return await self._endpoints.call("eth_getBlockByHash", self._hash, *params[1:])
        if method in _AT_A_BLOCK and params and params[-1] == self._number:
            params = [*params[:-1], {"blockHash": self._hash}]
        return await self._endpoints.call(method, *params)

    async def _answer(self, call: Any) -> Json:
        known = call if isinstance(call, dict) else {}
        answer: Json = {"jsonrpc": "2.0", "id": known.get("id")}
        method, params = known.get("method"), known.get("params") or []
        if method not in READS or not isinstance(params, list):
            return answer | {"error": {"code": -32601, "message": "only reads are forwarded"}}
        try:
            return answer | {"result": await self._ask(method, params)}
        except RpcError as error:
            return answer | {"error": {"code": error.code, "message": error.message}}
        except (EndpointDown, Temporary) as error:
            return answer | {"error": {"code": -32000, "message": str(error)}}
