"""Secrets and signatures of runs that one process creates and another advances: neither what they tell each other, nor
their logs, nor the tables, nor what a third one answers shows them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psycopg
import sqlalchemy as sa
from eth_account import Account
from eth_account.messages import encode_defunct

from echoing import Echo, echoing
from secrecy.spelled import find_leaks
from secrecy.stores import rows_of
from testkit.chain.anvil import KEYS
from testkit.machines import Machines, machines_on
from testkit.outside import Outside, outside_server
from testkit.postgres import Cluster

Json = dict[str, Any]
TEXT = "let me in, from two processes"
SIGNED = Account.sign_message(encode_defunct(text=TEXT), KEYS[1])
SIGNATURE = SIGNED.signature.to_0x_hex()
TOKEN = "Zq7apart/+K9&x=W5~vT3mR8pL5"
SECRETS = {"token": TOKEN, "r": f"{SIGNED.r:064x}", "s": f"{SIGNED.s:064x}"}
_ANYTHING = {
    "chains": ["*"],
    "assets": ["*"],
    "recipients": ["*"],
    "outflow": None,
    "sources": None,
    "signatures": {"messages": True},
}


@contextlib.asynccontextmanager
async def _overhearing(url: str) -> AsyncIterator[list[str]]:
    """Whatever the processes tell each other."""
    parsed, heard = sa.make_url(url), list[str]()
    connection = await psycopg.AsyncConnection.connect(
        host=str(parsed.query["host"]), user="postgres", dbname=parsed.database, autocommit=True
    )

    async def listen() -> None:
        async for one in connection.notifies():
            heard.append(one.payload)

    async with connection:
        await connection.execute("LISTEN dustrun")
        listening = asyncio.create_task(listen())
        try:
            yield heard
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)


def _definition(nodes: Json) -> Json:
    return {"nodes": {"root": {"type": "manual", "children": [next(iter(nodes))]}, **nodes}, "triggerNodeIds": ["root"]}


async def _make(machines: Machines, name: str, nodes: Json) -> str:
    body = {"name": name, "description": "", "definition": _definition(nodes)}
    return str((await machines.post("api", "/v1/workflows", body))["id"])


async def _nodes(machines: Machines, echo: Echo, outside: Outside) -> Json:
    """Signs, passes the signature to another run and to somebody outside, sends the token, and fails with both: so does
    a retry, whose engine has read the signature from the store."""
    wallet = await machines.post("api", "/v1/wallets/import", {"name": "a", "privateKey": KEYS[1], "isDefault": True})
    path = f"{machines.servers['api'].base}/v1/wallets/{wallet['id']}/policy"
    async with machines.session.put(path, json={"policy": _ANYTHING}) as answer:
        assert answer.status == 200
    body = {"type": "http-bearer", "name": "b", "data": {"token": TOKEN}, "allowedHosts": [echo.url]}
    bearer = (await machines.post("api", "/v1/connectors", body))["id"]
    said = {"type": "log", "payload": {"message": "{{$trigger.body.given}}"}}
    rest = {"type": "delay", "payload": {"delayMs": 1}, "children": ["said"]}
    callee = await _make(machines, "callee", {"rest": rest, "said": said})
    call = {"workflowId": callee, "payload": {"given": "{{$nodes.sign.result.signature}}"}}
    signed = "{{$nodes.sign.result.signature}}"
    fail = {"type": "http-request", "payload": {"url": f"{echo.url}/fail", "query": {"cut": "200"}}}
    return {
        "sign": {"type": "sign-message", "payload": {"message": TEXT}, "children": ["call"]},
        "call": {"type": "call-workflow", "payload": call, "children": ["hand"]},
        "hand": {"type": "http-request", "payload": {"url": f"{outside.base}/{signed}"}, "children": ["send"]},
        "send": {
            "type": "http-request",
            "connector": {"type": "http-bearer", "id": bearer},
            "payload": {"url": f"{echo.url}/echo", "method": "POST", "json": {"a": 1}},
            "children": ["fail"],
        },
        "fail": {
            **fail,
            "connector": {"type": "http-bearer", "id": bearer},
            "onError": "continue",
            "children": ["end"],
        },
        "end": {"type": "stop", "payload": {"status": "failure", "message": f"it was {signed}"}},
    }


async def _answers(machines: Machines, run_ids: list[str]) -> dict[str, bytes]:
    """What both processes that answer calls say of the runs."""
    paths = ["/v1/runs", "/v1/audit", "/v1/signatures", "/v1/connectors", "/metrics"]
    paths += [f"/v1/runs/{run_id}{part}" for run_id in run_ids for part in ("", "/effects", "/stream")]
    found = {}
    for name in ("api", "other"):
        for path in paths:
            async with machines.session.get(f"{machines.servers[name].base}{path}") as answer:
                found[f"{name} {path}"] = await answer.read()
    return found


async def test_nothing_shows_what_passes_from_process_to_process(tmp_path: Path, cluster: Cluster) -> None:
    async with (
        echoing() as echo,
        outside_server(holds="/nothing") as outside,
        machines_on(tmp_path, cluster, log_level="debug") as machines,
    ):
        machines.add("api", "api")
        machines.add("other", "api")
        machines.add("engine", "engine")
        await machines.start()
        async with _overhearing(machines.direct) as heard:
            flow = await _make(machines, "flow", await _nodes(machines, echo, outside))
            run_id = (await machines.post("api", f"/v1/workflows/{flow}/run", {"payload": {}}))["runId"]
            first = await machines.ended("other", run_id)
            state = first["executionState"]
            assert (first["status"], state["send"]["status"], state["fail"]["status"]) == (
                "failure",
                "success",
                "failure",
            )
            assert state["sign"]["result"]["signature"] == "0x•••"
            assert first["error"]["message"] == "it was 0x•••"
            again = (await machines.post("other", f"/v1/runs/{run_id}/retry", {}))["id"]
            retried = await machines.ended("api", again)
            assert (retried["status"], retried["error"]["message"]) == ("failure", "it was 0x•••")
            answered = await _answers(machines, [run_id, again, state["call"]["result"]["runId"]])
        assert TOKEN in repr([request.headers for request in echo.seen]), "it did go out"
        assert f"/{SIGNATURE}" in outside.asked, "it did go out"
        assert len(heard) > 5
        logs = {one.log_path.name: one.log_path.read_bytes() for one in machines.servers.values()}
        assert all(logs.values()), "they did write"
        places = {**answered, **rows_of(machines.direct), **logs, "told": "\n".join(heard).encode()}
        found = find_leaks(SECRETS, places)
        assert found == [], "\n".join(found)
        assert machines.name_of(machines.holder(run_id)) == machines.name_of(machines.holder(again)) == "engine"
