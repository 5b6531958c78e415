"""Workflows that would be heard: the bundled examples, and random ones with everything added that reaches outside."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from bench.random_workflows import ROOT, Workflow
from testkit.chain.anvil import ACCOUNTS, CHAIN_ID
from testkit.chain.contracts import World

_EXAMPLES = Path(__file__).parent.parent / "examples"
_WRITTEN_URL = "http://127.0.0.1:8099"
_SECRET = "whsec_" + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
Json = dict[str, Any]


def examples(world: World, web_url: str) -> list[tuple[str, Json, Json]]:
    """Name, definition and payload of every bundled example, on this chain and this web."""
    at = world.addresses
    here = {
        "chainId": CHAIN_ID,
        "router": at["v2_router"],
        "weth": at["weth"],
        "usdc": at["usdc"],
        "token": at["usdc"],
        "spender": ACCOUNTS[3],
    }
    found = []
    for path in sorted(_EXAMPLES.rglob("*.json")):
        document = json.loads(path.read_text().replace(_WRITTEN_URL, web_url))
        payload = document["payload"]
        if path.parent != _EXAMPLES:
            payload |= {name: value for name, value in here.items() if name in payload}
        found.append((document["name"], document["definition"], payload))
    return found


def noisy(workflow: Workflow, draw: random.Random, web_url: str) -> Workflow:
    """The same with writes, reads, signatures and waits as further children of the trigger, one after the other."""
    nodes = _noises(web_url)
    names = draw.sample(sorted(nodes), len(nodes))
    for place, name in enumerate(names):
        node = {"payload": {}, "onError": "continue", **nodes[name], "children": names[place + 1 : place + 2]}
        workflow.nodes[name] = node
    workflow.nodes[ROOT]["children"].append(names[0])
    return workflow


def _noises(web_url: str) -> Json:
    typed = {
        "types": {"Note": [{"name": "text", "type": "string"}]},
        "primaryType": "Note",
        "domain": {"name": "Test", "chainId": CHAIN_ID},
        "message": {"text": "hello"},
    }
    return {
        "get": {"type": "http-request", "payload": {"url": f"{web_url}/price"}},
        "post": {"type": "http-request", "payload": {"method": "POST", "url": f"{web_url}/notices", "json": {"a": 1}}},
        "put": {"type": "http-request", "payload": {"method": "PUT", "url": f"{web_url}/notices", "json": {"a": 1}}},
        "delete": {"type": "http-request", "payload": {"method": "DELETE", "url": f"{web_url}/notices/1"}},
        "hook": {
            "type": "send-webhook",
            "payload": {"url": f"{web_url}/hooks", "type": "test.loud", "data": {"a": 1}, "secret": _SECRET},
        },
        "keep": {"type": "set-variable", "payload": {"name": "kept", "value": "{{$run.id}}"}},
        "count": {"type": "increment-variable", "payload": {"name": "counted", "by": 1}},
        "write": {
            "type": "write-table",
            "payload": {"table": "notes", "mode": "upsert", "rows": {"id": "a", "units": "1"}},
        },
        "read": {"type": "read-table", "payload": {"table": "notes"}},
        "sign": {"type": "sign-message", "payload": {"message": "hello"}},
        "sign_typed": {"type": "sign-typed-data", "payload": {"chainId": CHAIN_ID, "typedData": typed}},
        "later": {"type": "delay", "payload": {"delayMs": 3_600_000}},
        "approve": {"type": "approve", "payload": {"message": "Go on?"}, "pinned": {"decision": "approved"}},
        "price": {"type": "get-balance", "payload": {"chainId": CHAIN_ID, "address": ACCOUNTS[1]}},
    }
