"""Calls a second of the chain client beside web3.py's, to the same node in the same run.

    scripts/bench rpc [--scale 2000] [--seed 1]

`scale` is how many calls each measurement makes of our client; web3.py, which is slower, makes a tenth. Each call is
`eth_getBalance`. The clients take turns, so that what else the machine does meets both. With many in flight, as on a
server, ours sends those of the same moment as one batch; one after the other the wire costs most, for both.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable
from importlib import metadata
from typing import Any

from web3 import AsyncWeb3, Web3

from dustrun.chain.chains import Chains
from dustrun.chain.networks import load_networks
from dustrun.chain.rpc import Request
from dustrun.settings import Settings
from testkit.chain.anvil import ACCOUNTS, Anvil

DEFAULT_SCALE = 2000
_ROUNDS = 3
_AT_ONCE = (1, 20)
_BATCH = 100
Call = Callable[[], Awaitable[Any]]


def run(scale: int | None = None, seed: int = 1) -> dict[str, Any]:
    """The median of three rounds, in calls a second, and how many times ours are more."""
    with Anvil() as node:
        found = asyncio.run(_measure(node, scale or DEFAULT_SCALE))
    times = found["times as many"]["20 in flight"]
    failures = [] if times >= 10 else [f"only {times} times as many calls a second as web3.py"]
    return {"node": "anvil 1.7.1", "web3.py": metadata.version("web3"), **found, "failures": failures}


async def _measure(node: Anvil, calls: int) -> dict[str, Any]:
    networks = load_networks(None, {31337: (node.url,)})
    chains = Chains(networks, Settings())
    live, web3 = chains.get(31337), AsyncWeb3(AsyncWeb3.AsyncHTTPProvider(node.url))
    blocking = Web3(Web3.HTTPProvider(node.url))
    address = Web3.to_checksum_address(ACCOUNTS[0])
    ours: dict[int, list[float]] = {count: [] for count in _AT_ONCE}
    theirs: dict[int, list[float]] = {count: [] for count in _AT_ONCE}
    blocked: list[float] = []
    for _ in range(_ROUNDS):
        for count in _AT_ONCE:
            ours[count].append(await _rate(lambda: live.balance(address), calls, count))
            theirs[count].append(await _rate(lambda: web3.eth.get_balance(address), calls // 10, count))
        blocked.append(_blocking_rate(lambda: blocking.eth.get_balance(address), calls // 10))
    batched = await _batched(live, address, calls)
    await web3.provider.disconnect()
    await chains.close()
    median = statistics.median
    return {
        "ours": {f"{count} in flight": round(median(ours[count])) for count in _AT_ONCE},
        "ours in batches of 100": round(batched),
        "web3.py": {f"{count} in flight": round(median(theirs[count])) for count in _AT_ONCE},
        "web3.py, blocking": round(median(blocked)),
        "times as many": {
            f"{count} in flight": round(median(ours[count]) / median(theirs[count]), 1) for count in _AT_ONCE
        },
    }


async def _rate(call: Call, calls: int, at_once: int) -> float:
    async def caller(count: int) -> None:
        for _ in range(count):
            await call()

    await call()
    began = time.perf_counter()
    await asyncio.gather(*(caller(calls // at_once) for _ in range(at_once)))
    return calls / (time.perf_counter() - began)


def _blocking_rate(call: Callable[[], Any], calls: int) -> float:
    began = time.perf_counter()
    for _ in range(calls):
        call()
    return calls / (time.perf_counter() - began)


async def _batched(live: Any, address: str, calls: int) -> float:
    requests = [Request("eth_getBalance", (address, "latest"))] * _BATCH
    began = time.perf_counter()
    for _ in range(max(1, calls // _BATCH)):
        await live.endpoints.batch(requests)
    return max(1, calls // _BATCH) * _BATCH / (time.perf_counter() - began)
