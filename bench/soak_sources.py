"""Noninterference: what a spend is and whether it happens changes only with the sources that its slice names.

    scripts/soak sources [--scale 1] [--seed 1] [--pairs 20000] [--minutes 60] [--at_once 8]
                         [--kinds simulated,live,two]

Random workflows, each with a helper that it calls, are simulated on a real server and a real chain, again and again
with one source changed: a part of the event, a property, a variable, a row, an answer over HTTP, a balance, a number of
a definition, a pinned answer, what a model, a tool, a contract or a source of prices says, the token of a connector,
the name of a workflow. Two runs that differ in one
source are a pair. If an amount or a recipient differs, the slice must have the source in that field; if a spend comes
or goes while both runs succeed, in data or decides; else at
least in what can stop it. A share of the workflows runs live: people approve, comment and resume there; and in pairs of
two runs, what shaped the first must be named in the second, which reads the rows and variables that it left. Also
measured: how many of the sources named moved something (a lower bound of precision), and what slices cost beside
compiling. Drawn in `bench/source_workflows.py`, judged in `bench/source_pairs.py`, run live in `bench/source_live.py`.
"""

from __future__ import annotations

import asyncio
import json
import re
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from bench.source_live import LiveTrial, TwoRuns
from bench.source_pairs import Api, Json, Tally, Trial, work
from bench.source_workflows import TOOL, Stage
from bench.workflow_server import POLICY, open_server
from dustrun import catalog
from dustrun.core.sources.slicer import ClosedPrograms
from dustrun.core.sources.spend_slice import slices_of
from dustrun.core.workflow.definition import Definition
from dustrun.core.workflow.program import compile_program
from testkit.chain.anvil import Anvil
from testkit.chain.contracts import ETHER, build
from testkit.model_server import Asked, Reply, serving_model
from testkit.plain_mcp import connector, listed, plain_mcp
from testkit.ports import free_port
from testkit.server_process import ServerProcess

_PAIRS = 20_000
_KINDS: dict[str, type[Trial]] = {"simulated": Trial, "live": LiveTrial, "two": TwoRuns}
_SHARES = {"simulated": 14, "live": 3, "two": 3}
_HOSTS = 3
_OWN_BALANCE = "0x475f5260205ff3"  # a contract that answers every call with its own balance
_LETTER_OF_BALANCE = "0x5f3560e01c63313ce56714601b574760410160f81b5f5260205ff35b60125f5260205ff3"
"""A token of 18 decimals, whose symbol is a letter, chosen by its own balance."""
_RECIPIENTS = 4
_STEADY_FEE = 7
"""Wei: so low that no block lowers it. `max` leaves the fee out, and blocks of live runs come between two of a pair."""
_LIMITS_MS = {100: 15.0, 1_000: 100.0}
_SPECS = catalog.load().specs()


def run(
    scale: int | None = None,
    seed: int = 1,
    pairs: str = "",
    minutes: str = "60",
    at_once: str = "8",
    kinds: str = ",".join(_SHARES),
) -> dict[str, Any]:
    """The tally and the costs; `failures` are misses, and figures that were missed."""
    spread = [_KINDS[one] for one in kinds.split(",") for _ in range(_SHARES[one])]
    wanted = int(pairs) if pairs else _PAIRS * (scale or 1)
    costs = measure()
    with tempfile.TemporaryDirectory(prefix="dustrun-sources-") as folder:
        world = build(Path(folder))
        port = free_port()
        priced = {"price_url": f"http://127.0.0.1:{port}/{{address}}"}
        with world.node() as node, open_server(Path(folder), world, node.url, **priced) as server:
            node.rpc("anvil_setNextBlockBaseFeePerGas", hex(_STEADY_FEE))
            node.rpc("evm_mine")
            until = time.monotonic() + 60 * float(minutes)
            tally = asyncio.run(_prove(server, node, port, seed, wanted, until, int(at_once), spread))
    failures = tally.misses[:40] + [
        f"{kind} of {nodes} nodes took {one['sliceMs']} ms"
        for (kind, nodes), one in costs.items()
        if one["sliceMs"] > _LIMITS_MS.get(nodes, 1e9)
    ]
    if tally.counts["pairs"] < wanted:
        failures.append(f"only {tally.counts['pairs']} of {wanted} pairs")
    named = tally.counts["a field names the source"]
    return {
        **tally.public(),
        "misses": len(tally.misses),
        "named sources that moved the field": round(tally.counts["a field names the source and differed"] / named, 3),
        "cost": {f"{kind}, {nodes} nodes": one for (kind, nodes), one in costs.items()},
        "failures": failures,
    }


async def _prove(
    server: ServerProcess,
    node: Anvil,
    port: int,
    seed: int,
    wanted: int,
    until: float,
    at_once: int,
    spread: Sequence[type[Trial]],
) -> Tally:
    tally = Tally()
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(aiohttp.ClientSession())
        api = Api(session, server.base, server.owner_key)
        prices: dict[str, Json] = {}
        await _serve_prices(stack, prices, port)
        stages = await _stages(stack, api, node, prices, at_once)
        running: set[asyncio.Task[None]] = set()
        while tally.counts["pairs"] < wanted and time.monotonic() < until:
            seed += 1
            make = spread[seed % len(spread)]
            given = (api, stages, seed, tally, lambda *given: _set_balance(node, *given), make)
            running.add(asyncio.create_task(work(*given)))
            if len(running) >= at_once:
                done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for one in done:
                    one.result()
        for one in running:
            one.cancel()
        await asyncio.gather(*running, return_exceptions=True)
    return tally


async def _set_balance(node: Anvil, address: str, step: int) -> None:
    node.rpc("anvil_setBalance", address, hex(1000 * ETHER + step))  # one connection: nobody may call meanwhile


async def _stages(
    stack: AsyncExitStack, api: Api, node: Anvil, prices: dict[str, Json], count: int
) -> asyncio.Queue[tuple[Stage, list[Json]]]:
    """So many stages, each with hosts, recipients, a table and a wallet that no other uses."""
    found: asyncio.Queue[tuple[Stage, list[Json]]] = asyncio.Queue()
    for number in range(count):
        answers: list[Json] = [{} for _ in range(_HOSTS)]
        hosts = [await serve(stack, answer) for answer in answers]
        recipients = [f"0x{0xD0_0000 + 16 * number + at:040x}" for at in range(_RECIPIENTS)]
        key = f"0x{0xABC0000 + number:064x}"
        wallet = await api.call("POST", "/v1/wallets/import", {"name": f"w{number}", "privateKey": key})
        await api.call("PUT", f"/v1/wallets/{wallet['id']}/policy", {"policy": POLICY})
        columns = [{"name": "id", "type": "text"}, {"name": "n", "type": "integer"}]
        table = {"name": f"t{number}", "primaryKey": "id", "columns": columns}
        await api.call("POST", "/v1/tables", table)
        contract, token = f"0x{0xC0_0000 + number:040x}", f"0x{0xE0_0000 + number:040x}"
        for address, code in ((contract, _OWN_BALANCE), (token, _LETTER_OF_BALANCE)):
            node.rpc("anvil_setCode", address, code)
            await _set_balance(node, address, 0)
        prices[token] = answers[0]
        model = await stack.enter_async_context(serving_model(script=partial(_tell, answers[0])))
        signed = {"type": "http-bearer", "name": "signed", "allowedHosts": [f"http://{hosts[0]}"]}
        connectors = [
            await api.call("POST", "/v1/connectors", body)
            for body in (model.connector(), signed | {"data": {"token": "token-0"}})
        ]
        tools = await _tools(stack, api, answers[0], number)
        around = (connectors[0]["id"], contract, connectors[1]["id"], tools, token)
        stage = Stage(tuple(recipients), tuple(hosts), f"t{number}", wallet["id"], wallet["address"], *around)
        found.put_nowait((stage, answers))
    return found


def _tell(answer: Json, asked: Asked) -> Reply:
    """A model with a tool calls it, and adds what it answers."""
    if not asked.body.get("tools"):
        return Reply(json.dumps({"n": answer["told"]}))
    heard = [one["content"] for one in asked.messages if one["role"] == "tool"]
    if not heard:
        return Reply(calls=((TOOL, {"path": "x"}),))
    return Reply(json.dumps({"n": answer["told"] + int(re.findall(r"[0-9]+", str(heard[-1]))[-1])}))


async def _tools(stack: AsyncExitStack, api: Api, answer: Json, number: int) -> str:
    """The connector of a server with one tool, which only reads."""
    url = await stack.enter_async_context(plain_mcp(listed(TOOL), lambda: {"n": answer["found"]}))
    found = str((await api.call("POST", "/v1/connectors", connector(url, f"tools{number}")))["id"])
    for body in ({}, {"effects": {TOOL: "read"}}):
        await api.call("POST", f"/v1/connectors/{found}/tools", body)
    return found


async def _serve_prices(stack: AsyncExitStack, prices: Mapping[str, Json], port: int) -> None:
    """The source of prices: each token has that of its stage, others have none."""

    async def give(request: web.Request) -> web.Response:
        known = prices.get(request.match_info["address"])
        return web.json_response({"usd": known["usd"]}) if known else web.Response(status=404)

    app = web.Application()
    app.router.add_get("/{address}", give)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.TCPSite(runner, "127.0.0.1", port).start()


async def serve(stack: AsyncExitStack, answer: Json) -> str:
    """A host that gives this answer, or 404 while it is not `ok`."""

    async def give(_: web.Request) -> web.Response:
        return web.json_response(answer, status=200 if answer["ok"] else 404)

    async def give_back(request: web.Request) -> web.Response:
        return web.json_response({"n": int(request.headers["authorization"].rpartition("-")[2])})

    app = web.Application()
    app.router.add_get("/x", give)
    app.router.add_get("/token", give_back)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    return f"{host}:{port}"


def measure() -> dict[tuple[str, int], dict[str, float]]:
    """What compiling and slicing take: a chain of nodes, and many that run beside each other and share variables."""
    found = {}
    for kind, make in (("chain", _chain), ("wide", _wide)):
        for nodes in (10, 100, 1_000):
            definition = Definition.model_validate(make(nodes - 1))
            compiled, program = _timed(lambda definition=definition: compile_program(definition, _SPECS))
            closed = ClosedPrograms("w@1", {"w@1": program})
            sliced = min(_timed(lambda closed=closed: slices_of(closed, _SPECS))[0] for _ in range(3))
            ratio = round(sliced / compiled, 3)
            found[kind, nodes] = {"compileMs": round(compiled, 1), "sliceMs": round(sliced, 1), "ratio": ratio}
    return found


def _timed(work: Any) -> tuple[float, Any]:
    began = time.process_time()
    found = work()
    return 1_000 * (time.process_time() - began), found


def _chain(count: int) -> Json:
    nodes: Json = {}
    for at in range(count):
        before = f"$nodes.n{at - 1}.result.text" if at else "$trigger.body.x"
        node: Json = {"type": "format", "payload": {"template": f"{{{{{before} ?? 1}}}} {{{{$inputs.k{at % 7}}}}}"}}
        if at % 10 == 9:
            node = _pay(f"{{{{$inputs.to{at}}}}}", f"{{{{string(int({before}))}}}}")
        elif at % 10 == 4:
            node = {"type": "if", "payload": {"expression": f"int({before}) > {at}"}}
        nodes[f"n{at}"] = node | {"children": [f"n{at + 1}"] if at + 1 < count else []}
        if at % 10 == 5:
            nodes[f"n{at}"]["branch"] = "then"
    return {"nodes": {"root": {"type": "manual", "children": ["n0"]}, **nodes}, "triggerNodeIds": ["root"]}


def _wide(count: int) -> Json:
    nodes: Json = {}
    for at in range(count):
        value = f"{{{{$inputs.k{at} + $vars.v{at % 30}}}}}"
        nodes[f"n{at}"] = {"type": "set-variable", "payload": {"name": f"v{at % 50}", "value": value}}
        if at % 2:
            nodes[f"n{at}"] = _pay(f"{{{{$vars.v{at % 50}}}}}", f"{{{{string($vars.v{at % 49})}}}}")
    return {"nodes": {"root": {"type": "manual", "children": list(nodes)}, **nodes}, "triggerNodeIds": ["root"]}


def _pay(to: str, amount: str) -> Json:
    return {"type": "send-native", "payload": {"chainId": 1, "recipient": to, "amount": amount}}
