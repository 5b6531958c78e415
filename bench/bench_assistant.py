"""How many tasks, said in a person's words, become a workflow that does the right thing.

    scripts/bench assistant [--scale TASKS]
    MODEL_API_KEY=sk-… scripts/bench assistant --set baseUrl=https://api.example.com/v1 --set model=NAME

Each task is one turn of the assistant on a server of its own. What it has saved is simulated against a site on loopback
and a local chain, and judged by its effects: requests, transactions, log, status, times. Without `baseUrl` the model is
a script that knows a right and a wrong answer to each task: that proves the harness and says nothing about any model,
and the result says so.
"""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from bench.assistant.judging import Site, judge, serving_site
from testkit.chain.anvil import CHAIN_ID, KEYS, Anvil
from testkit.composition import Composition, composed
from testkit.model_server import Asked, Reply, serving_model
from testkit.turn_scripts import results_in

Json = dict[str, Any]
TASKS: Final = Path(__file__).parent / "assistant" / "tasks.json"
_TURN_S: Final = 600
_SCRIPTED: Final = "a script that knows the answers: this proves the harness and says nothing about a model"
_ELSEWHERE: Final = "0x000000000000000000000000000000000000dEaD"


def read_tasks() -> list[Json]:
    """All tasks, each with a right answer."""
    found: list[Json] = json.loads(TASKS.read_text())
    return found


def wrong_answer(definition: Json) -> Json:
    """An answer that looks like the right one and does something else: other addresses, words and conditions."""
    found: Json = json.loads(json.dumps(definition))
    for node in found["nodes"].values():
        payload = node.get("payload", {})
        if payload.get("method") == "POST":
            payload["url"] += "/elsewhere"
        if "recipient" in payload:
            payload["recipient"] = _ELSEWHERE
        if node["type"] == "log":
            payload["message"] += " Bye."
    return found


def run(scale: int | None, seed: int, baseUrl: str = "", model: str = "", type: str = "llm-openai") -> Json:
    """The figures of `scale` tasks (default: all), asked of a server at `baseUrl`, or of the script."""
    del seed
    chosen = read_tasks()[: scale or None]
    if baseUrl:
        return asyncio.run(_ask_model(chosen, baseUrl, model, type))
    return asyncio.run(prove(chosen))


@asynccontextmanager
async def _stage(*reached: str) -> AsyncIterator[tuple[Composition, Site]]:
    """A server with a wallet on a local chain, and a site. `reached`: hosts that it may reach besides."""
    with tempfile.TemporaryDirectory() as folder, Anvil() as chain:
        networks = Path(folder) / "networks"
        networks.mkdir()
        fields = {"chainId": CHAIN_ID, "blockTimeMs": 1000, "confirmations": 1}
        (networks / "local.json").write_text(json.dumps(fields))
        settings: Json = {
            "outbound_allow": ("127.0.0.1", *reached),
            "assistant_day_usd": "1000",
            "rate_limit_per_second": 100_000,
            "networks_dir": networks,
            "chain_endpoints": {CHAIN_ID: (chain.url,)},
        }
        async with serving_site() as site, composed(Path(folder) / "data", **settings) as server:
            wallet = {"name": "w", "privateKey": KEYS[1], "isDefault": True}
            made = (await server.owner.post("/v1/wallets/import", wallet)).data["id"]
            policy = {"chains": ["*"], "assets": ["*"], "recipients": ["*"]}
            await server.owner.put(f"/v1/wallets/{made}/policy", {"policy": policy})
            yield server, site


def _at(site: Site, value: Any) -> Any:
    return json.loads(json.dumps(value).replace("{site}", site.url))


async def _turn(server: Composition, task: Json, connector: str, model: str | None) -> tuple[Json, str | None]:
    """The assistant's message, and the workflow that it saved last."""
    chat = (await server.owner.post("/v1/conversations", {"title": task["id"]})).data["id"]
    asked = {"text": task["words"], "connectorId": connector, **({"model": model} if model else {})}
    begun = (await server.owner.post(f"/v1/conversations/{chat}/turns", asked)).data["messageId"]
    async with asyncio.timeout(_TURN_S):
        while True:
            message: Json = (await server.owner.get(f"/v1/conversations/{chat}/messages/{begun}")).data
            if message["status"] in ("complete", "failed", "waiting"):
                break
            await asyncio.sleep(0.02)
    saved = [
        json.loads(part["content"]).get("workflowId")
        for part in message["parts"]
        if part["type"] == "tool_result" and part["tool"] == "save_workflow" and part["ok"]
    ]
    return message, saved[-1] if saved else None


async def _judged(server: Composition, site: Site, task: Json, connector: str, model: str | None) -> Json:
    placed = _at(site, task)
    message, workflow = await _turn(server, placed, connector, model)
    faults = ["no workflow was saved"] if workflow is None else await judge(server, site, placed, workflow)
    usage = message["usage"]
    return {"task": task["id"], "ended": message["failure"] or message["status"], "faults": faults, **usage}


async def _ask_model(tasks: list[Json], base_url: str, model: str, type_: str) -> Json:
    """Asks a real model server. Its prices are unknown here, so its costs are not told."""
    place = urlsplit(base_url)
    allowed = f"http://{place.netloc}" if place.scheme == "http" else place.netloc
    async with _stage(place.hostname or "") as (server, site):
        data = {
            "baseUrl": base_url,
            "apiKey": os.environ.get("MODEL_API_KEY") or None,
            "model": model,
            "prices": {"*": {"inputUsd": "0", "outputUsd": "0"}},
        }
        data = {name: value for name, value in data.items() if value is not None}
        body = {"type": type_, "name": "model", "data": data, "allowedHosts": [allowed]}
        connector = (await server.owner.post("/v1/connectors", body)).data["id"]
        found = [await _judged(server, site, task, connector, None) for task in tasks]
    for one in found:
        one.pop("costUsd")
    right = sum(not one["faults"] for one in found)
    return {
        "model": model,
        "tasks": len(found),
        "right": right,
        "ends": dict(Counter(one["ended"] for one in found)),
        "wrong": [one for one in found if one["faults"]],
        "failures": [],
    }


async def prove(tasks: list[Json]) -> Json:
    """Gives a right answer, a wrong one, and none to each task, and fails unless each is judged as what it is."""
    answers: dict[str, Json | None] = {}

    def script(asked: Asked) -> Reply:
        said = [one["content"] for one in asked.messages if one["role"] == "user"][-1]
        definition = answers[said]
        if definition is None or results_in(asked):
            return Reply("That is all.")
        return Reply(calls=(("save_workflow", {"name": "answer", "definition": definition}),))

    misjudged = []
    async with _stage() as (server, site), serving_model(script=script) as models:
        connector = (await server.owner.post("/v1/connectors", models.connector())).data["id"]
        for task in tasks:
            placed = _at(site, task)
            given = {"right": placed["right"], "wrong": wrong_answer(placed["right"]), "none": None}
            for kind, definition in given.items():
                answers[placed["words"]] = definition
                found = await _judged(server, site, task, connector, None)
                if bool(found["faults"]) != (kind != "right"):
                    misjudged.append(f"{task['id']}: the {kind} answer: {found['faults'] or 'no fault found'}")
    return {
        "model": _SCRIPTED,
        "tasks": len(tasks),
        "answers judged": 3 * len(tasks),
        "misjudged": len(misjudged),
        "failures": misjudged,
    }
