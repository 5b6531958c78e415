"""What a simulation costs through the API: whole workflows on a real server, near a node and far from it, and a graph
that only computes beside its live run."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from bench.workflow_server import Server, open_server
from testkit.chain.anvil import ACCOUNTS, CHAIN_ID, Anvil
from testkit.chain.contracts import World
from testkit.chain.rpc_proxy import Proxy, proxy

ALICE, BOB = ACCOUNTS[1], ACCOUNTS[2]
_PURE, _PURE_RUNS = 40, 25
Json = dict[str, Any]


@contextmanager
def far_away(url: str, away_ms: int) -> Iterator[Proxy]:
    """The node behind a server that answers later, in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    serving = proxy(url, delay_s=away_ms / 1000)
    found = asyncio.run_coroutine_threadsafe(serving.__aenter__(), loop).result(30)
    try:
        yield found
    finally:
        asyncio.run_coroutine_threadsafe(serving.__aexit__(None, None, None), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@contextmanager
def _server(world: World, url: str, strategy: str) -> Iterator[Server]:
    with (
        tempfile.TemporaryDirectory(prefix="dustrun-bench-") as folder,
        open_server(Path(folder), world, url, simulation_strategy=strategy) as process,
    ):
        server = Server(process)
        server.import_wallets((1,))
        yield server


def spending(world: World, count: int) -> Json:
    """Approve, swap, transfer, wrap and pay in turn, one node after the other."""
    turn: list[tuple[str, Json]] = [
        ("approve-erc20", {"token": world["usdc"], "spender": world["v2_router"], "amount": "1000000000"}),
        (
            "swap-uniswap-v2",
            {"tokenIn": world["usdc"], "tokenOut": world["weth"], "amountIn": "1000000", "slippageBps": 300},
        ),
        ("send-erc20-token", {"token": world["weth"], "recipient": BOB, "amount": "1000"}),
        ("wrap-native", {"amount": "5"}),
        ("send-native", {"recipient": BOB, "amount": "7"}),
    ]
    return _chain([(kind, {"chainId": CHAIN_ID, **payload}) for kind, payload in (turn * count)[:count]])


def _chain(steps: list[tuple[str, Json]]) -> Json:
    nodes: Json = {"root": {"type": "manual", "payload": {}, "children": ["n0"]}}
    for place, (kind, payload) in enumerate(steps):
        following = [f"n{place + 1}"] if place + 1 < len(steps) else []
        nodes[f"n{place}"] = {"type": kind, "payload": payload, "children": following}
    return {"nodes": nodes, "triggerNodeIds": ["root"]}


def _seconds(run: Json) -> float:
    """By the server's own clock, from the run's first event to its last."""
    assert run["status"] == "success", [node.get("error") for node in run["executionState"].values()]
    return (_at(run["finishedAt"]) - _at(run["startedAt"])).total_seconds()


def _at(text: str) -> datetime:
    return datetime.fromisoformat(text)


def near(world: World, node: Anvil, strategy: str, counts: list[int], times: int = 7) -> Json:
    """Milliseconds a transaction, all of the run counted: reads, checks, policy, journal; medians of some runs. Beside
    it the server's processor time, in which other processes show less."""
    with _server(world, node.url, strategy) as server:
        found = {}
        for count in counts:
            id = server.create(f"{count}", spending(world, count))
            server.run(id, simulate=True)  # the first one warms up
            before = server.cpu_s()
            taken = [_seconds(server.run(id, simulate=True)) for _ in range(times)]
            found[f"{count} transactions"] = {
                "ms": round(statistics.median(taken) * 1000 / count, 2),
                "cpuMs": round((server.cpu_s() - before) * 1000 / count / times, 2),
            }
        return found


def far(world: World, node: Anvil, strategy: str, away_ms: int, times: int = 7) -> Json:
    """Seconds of a workflow of ten, the median of some runs, and its requests."""
    with far_away(node.url, away_ms) as there, _server(world, there.url, strategy) as server:
        id = server.create("ten", spending(world, 10))
        server.run(id, simulate=True)
        before = there.requests
        taken = [_seconds(server.run(id, simulate=True)) for _ in range(times)]
        return {"seconds": round(statistics.median(taken), 2), "requests": (there.requests - before) // times}


def pure(world: World, node: Anvil, times: int = 20) -> Json:
    """The server's processor time for forty nodes that compute, simulated and live in turn."""
    payload = {"amount": "1.5", "decimals": 6}
    with _server(world, node.url, "simulate-v1") as server:
        id = server.create("pure", _chain([("convert-to-units", payload)] * _PURE))
        taken: dict[bool, list[float]] = {True: [], False: []}
        for turn in range(times + 1):
            for simulate in (bool(turn % 2), not turn % 2):
                taken[simulate].append(_cpu_ms(server, id, simulate))
        simulated, live = (statistics.median(taken[simulate][1:]) for simulate in (True, False))  # the first warms up
        return {
            "simulatedCpuMs": round(simulated, 2),
            "liveCpuMs": round(live, 2),
            "simulatedToLive": round(simulated / live, 2),
            "runsOfEach": times * _PURE_RUNS,
        }


def _cpu_ms(server: Server, workflow_id: str, simulate: bool) -> float:
    """Processor time of a run that has ended when the call that starts it is answered."""
    before = server.cpu_s()
    for _ in range(_PURE_RUNS):
        server.call("POST", f"/v1/workflows/{workflow_id}/run", {"simulate": simulate})
    return (server.cpu_s() - before) * 1000 / _PURE_RUNS
