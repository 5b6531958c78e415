"""A chain, a proxy in front of it, a real server with one wallet, and transfers over HTTP: for soak and bench."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aiohttp
from eth_typing import ChecksumAddress
from web3 import Web3

from testkit.chain.anvil import ACCOUNTS, CHAIN_ID, KEYS, Anvil
from testkit.server_process import ServerProcess

SENDER, SENDER_KEY = ACCOUNTS[1], KEYS[1]
POLICY = {"chains": ["*"], "assets": ["*"], "recipients": ["*"], "outflow": None, "sources": None}
OPEN = ("running", "waiting")
FAILED = ("failure", "partial", "cancelled")
_TRY_AGAIN_S = 0.1
Json = dict[str, Any]


def recipient(number: int) -> ChecksumAddress:
    """Who gets the transfer of a number: an address that nobody else pays."""
    return Web3.to_checksum_address(f"0x{0xD0_0000 + number:040x}")


def amount(number: int) -> int:
    """How much it is, in wei: each another sum."""
    return 1_000_000 + number


def server_of(
    folder: Path,
    url: str | Sequence[str],
    confirmations: int,
    block_ms: int,
    *,
    before: Sequence[str] = (),
    **settings: str,
) -> ServerProcess:
    """The server on that endpoint, or several; `before` as `ServerProcess` has it."""
    networks = folder / "networks"
    networks.mkdir()
    fields = {"chainId": CHAIN_ID, "blockTimeMs": block_ms, "confirmations": confirmations}
    (networks / "local.json").write_text(json.dumps(fields))
    given = {
        "networks_dir": str(networks),
        "chain_endpoints": json.dumps({str(CHAIN_ID): [url] if isinstance(url, str) else list(url)}),
        "rate_limit_per_second": "0",
        **settings,
    }
    return ServerProcess(folder / "data", given, before=before)


class Api:
    """A caller that does not give up while the server is killed and started."""

    def __init__(self, server: ServerProcess) -> None:
        self._server = server
        headers = {"Authorization": f"Bearer {server.owner_key}"}
        timeout = aiohttp.ClientTimeout(total=10)
        connector = aiohttp.TCPConnector(limit=50, force_close=True)
        self._session = aiohttp.ClientSession(server.base, headers=headers, timeout=timeout, connector=connector)

    async def close(self) -> None:
        """Closes the connections."""
        await self._session.close()

    async def call(self, method: str, path: str, body: Any = None, accepts: Sequence[int] = ()) -> tuple[int, Json]:
        """Sends until an answer comes that is 200 or one of `accepts` (codes of failures); its code and `data`."""
        while True:
            try:
                async with self._session.request(method, path, json=body) as answer:
                    found = await answer.json()
            except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
                await asyncio.sleep(_TRY_AGAIN_S)
                continue
            if answer.status == 200:
                return 200, found["data"]
            if found["code"] in accepts:
                return int(found["code"]), found
            if answer.status != 503:
                raise RuntimeError(f"{method} {path} was answered {answer.status}: {found}")
            await asyncio.sleep(_TRY_AGAIN_S)

    async def make_wallet(self) -> None:
        """A default wallet that may send to anybody."""
        body = {"name": "sender", "privateKey": SENDER_KEY, "isDefault": True}
        _, wallet = await self.call("POST", "/v1/wallets/import", body)
        await self.call("PUT", f"/v1/wallets/{wallet['id']}/policy", {"policy": POLICY})

    async def prepare(self) -> str:
        """The wallet, and the workflow that sends; its id."""
        await self.make_wallet()
        pay = {
            "type": "send-native",
            "payload": {
                "chainId": CHAIN_ID,
                "recipient": "{{$trigger.body.to}}",
                "amount": "{{$trigger.body.amount}}",
            },
            "retry": {"maxAttempts": 3, "backoffMs": 200, "maxBackoffMs": 1000},
        }
        nodes = {"root": {"type": "manual", "payload": {}, "children": ["pay"]}, "pay": pay}
        definition = {"nodes": nodes, "triggerNodeIds": ["root"]}
        _, made = await self.call("POST", "/v1/workflows", {"name": "pay", "description": "", "definition": definition})
        return str(made["id"])

    async def start(self, workflow_id: str, number: int) -> str:
        """Starts one transfer; asked again after a lost answer it is the same run."""
        run_id = f"run_pay{number}"
        body = {"runId": run_id, "payload": {"to": recipient(number), "amount": str(amount(number))}}
        await self.call("POST", f"/v1/workflows/{workflow_id}/run", body, accepts=(400_079,))
        return run_id

    async def run(self, run_id: str) -> Json:
        """A run, without its nodes."""
        _, found = await self.call("GET", f"/v1/runs/{run_id}?summary=true")
        return found

    async def transactions(self) -> list[Json]:
        """Every transaction."""
        found: list[Json] = []
        while True:
            _, page = await self.call("GET", f"/v1/transactions?limit=100&offset={len(found)}")
            found += page["items"]
            if not page["hasMore"]:
                return found


class Witness:
    """What web3.py reads of the node, past the proxy: it shares no code with the product."""

    def __init__(self, node: Anvil) -> None:
        self._web3 = Web3(Web3.HTTPProvider(node.url))

    def balances(self, count: int) -> dict[int, int]:
        """What each recipient has."""
        return {number: self._web3.eth.get_balance(recipient(number)) for number in range(count)}

    def nonce(self) -> int:
        """Transactions of the sender that were included."""
        return self._web3.eth.get_transaction_count(Web3.to_checksum_address(SENDER), "latest")
