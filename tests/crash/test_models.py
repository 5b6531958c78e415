"""A server that is killed while a model works with its tools: what is asked again, what not, and what it may cost."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from crash.test_polls import Caller
from testkit import processes
from testkit.model_server import Asked, ModelServer, Reply, serving_model
from testkit.server_process import ServerProcess

Json = dict[str, Any]
MOST_USD = Decimal("0.05")
PRICE = {"inputUsd": "5", "outputUsd": "50"}
TOKENS = (600, 300)  # 0.018 USD


def _asking(connector: str, site: str) -> Json:
    fetch = {"type": "http-request", "name": "fetch", "payload": {"method": "GET"}, "hosts": [site]}
    payload = {"prompt": "Find it", "maxCostUsd": str(MOST_USD), "maxTokens": 400, "tools": [fetch]}
    first = {"prompt": "Begin", "maxCostUsd": "1"}
    reference = {"type": "llm-openai", "id": connector}
    return {
        "root": {"type": "manual", "children": ["first"]},
        "first": {"type": "llm", "connector": reference, "payload": first, "children": ["ask"]},
        "ask": {"type": "llm", "connector": reference, "payload": payload, "children": ["then"]},
        "then": {"type": "http-request", "payload": {"method": "POST", "url": f"{site}/sent"}, "children": ["wait"]},
        "wait": {"type": "wait", "payload": {"timeoutMs": 600_000}},
    }


class Model:
    """It calls its tool twice. `holds`: the answer after that many results does not come before the test ends."""

    def __init__(self) -> None:
        self.holds: int | None = None
        self.asked: list[tuple[str, int]] = []
        self.billed = Decimal(0)
        self.site = ""

    def __call__(self, asked: Asked) -> Reply:
        results = sum(one["role"] == "tool" for one in asked.messages)
        prompt = next(one["content"] for one in asked.messages if one["role"] == "user")
        self.asked.append((prompt, results))
        if prompt == "Begin":
            return Reply("begun", tokens=(1, 1))
        cost = (Decimal(PRICE["inputUsd"]) * TOKENS[0] + Decimal(PRICE["outputUsd"]) * TOKENS[1]) / 1_000_000
        self.billed += cost
        delay_s = 300.0 if results == self.holds else 0.0
        if results < 1:
            return Reply(calls=(("fetch", {"url": f"{self.site}/a{results}"}),), tokens=TOKENS, delay_s=delay_s)
        return Reply("found", tokens=TOKENS, delay_s=delay_s)


@pytest.mark.parametrize("store_url", ["sqlite", pytest.param("postgresql", marks=pytest.mark.long)], indirect=True)
async def test_model_is_asked_again_from_the_beginning_and_never_after_its_answer(
    tmp_path: Path, store_url: str
) -> None:
    processes.share_more("dustrun.sdk.llm.protocol")
    server = ServerProcess(tmp_path / "data", {"outbound_allow": "127.0.0.1", "database_url": store_url})
    model = Model()
    async with (
        serving_model(Reply(raw=json.dumps({"ok": True}).encode())) as site,
        serving_model(script=model) as models,
        aiohttp.ClientSession() as session,
    ):
        model.site = site.url
        server.start()
        try:
            await server.wait_ready(120)
            await _killed_twice(server, Caller(server, session), model, models, site)
        finally:
            await server.stop()


async def _killed_twice(
    server: ServerProcess, caller: Caller, model: Model, models: ModelServer, site: ModelServer
) -> None:
    connector = await caller.call("POST", "/v1/connectors", models.connector(prices={"*": PRICE}))
    nodes = _asking(connector["id"], site.url)
    begin, find, held = ("Begin", 0), ("Find it", 0), ("Find it", 1)
    model.holds = 1
    run = (await caller.call("POST", "/v1/runs", {"definition": {"nodes": nodes}}))["runId"]
    await _until(lambda: held in model.asked)
    assert model.asked == [begin, find, held]

    server.kill()  # the model has read a tool's answer, and its own is on the way
    model.holds = None
    server.start()
    await server.wait_ready(120)
    states = await _waiting(caller, run)
    assert model.asked == [begin, find, held, find, held]  # the node before it has its answer
    assert [one.path for one in site.asked] == ["/a0", "/a0", "/sent"]
    found = states["ask"]["result"]
    assert (found["text"], found["requests"], Decimal(found["costUsd"])) == ("found", 2, model.billed / 2)
    assert MOST_USD / 2 < model.billed / 2 <= MOST_USD < model.billed <= 2 * MOST_USD

    server.kill()  # everything is stored, and the run waits
    server.start()
    await server.wait_ready(120)
    again = await _waiting(caller, run)
    assert again["ask"] == states["ask"]
    assert (len(model.asked), len(site.asked)) == (5, 3)


async def _waiting(caller: Caller, run: str) -> Json:
    """The states of the run's nodes, once it waits."""
    async with asyncio.timeout(60):
        while True:
            found: Json = await caller.call("GET", f"/v1/runs/{run}")
            assert found["finishedAt"] is None, found["executionState"]
            if found["executionState"].get("wait", {}).get("status") == "waiting":
                states: Json = found["executionState"]
                return states
            await asyncio.sleep(0.05)


async def _until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not holds():
            await asyncio.sleep(0.02)
