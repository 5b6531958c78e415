"""Judges a saved workflow by what it does: each case of a task is simulated, and its effects are compared."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import sqlalchemy as sa
from aiohttp import web

from dustrun.storage.db.tables import events, runs
from testkit.composition import Composition
from testkit.listening import listening

Json = dict[str, Any]


@dataclass(slots=True)
class Site:
    """What workflows read from: `answers` by path. What they write is held back, so nothing else may arrive."""

    url: str = ""
    answers: Json = field(default_factory=dict)
    written: list[str] = field(default_factory=list)


@asynccontextmanager
async def serving_site() -> AsyncIterator[Site]:
    """A site on loopback."""
    site = Site()

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        if request.method != "GET":
            site.written.append(f"{request.method} {request.path}")
        return web.json_response(site.answers.get(request.path, {}))

    runner = web.ServerRunner(web.Server(handle), shutdown_timeout=0.1)
    async with listening(runner) as site.url:
        yield site


async def judge(server: Composition, site: Site, task: Json, workflow_id: str) -> list[str]:
    """What is wrong with a workflow as the answer to a task; nothing if it is right."""
    workflow = (await server.owner.get(f"/v1/workflows/{workflow_id}")).data
    types = {node["type"] for node in workflow["definition"]["nodes"].values()}
    found = [f"it has no step of the type {kind}" for kind in task.get("has", ()) if kind not in types]
    if "schedule" in task:
        found += await _schedule(server, task["schedule"], workflow_id)
    for number, case in enumerate(task["cases"], 1):
        found += [f"case {number}: {fault}" for fault in await _case(server, site, case, workflow_id)]
    return found


async def _schedule(server: Composition, wanted: str, workflow_id: str) -> list[str]:
    """Whether it fires when the reference does."""
    tick = {"type": "cronjob", "payload": {"schedule": wanted, "timezone": "UTC"}}
    reference = (await server.owner.create_workflow({"nodes": {"root": tick}}, name=f"reference {wanted}"))["id"]
    times = []
    for id_ in (reference, workflow_id):
        shown = (await server.owner.get(f"/v1/workflows/{id_}/schedule")).data
        times.append([one["at"] for trigger in shown["triggers"] for one in trigger["fires"]])
    return [] if times[0] == times[1] and times[0] else ["it does not start at the times that were asked for"]


async def _case(server: Composition, site: Site, case: Json, workflow_id: str) -> list[str]:
    site.answers = case.get("answers", {})
    body = {"payload": case["payload"], "simulate": True}
    reply = await server.owner.post(f"/v1/workflows/{workflow_id}/run-sync", body)
    if reply.status != 200:
        return [f"it cannot be simulated: {reply.body['message']}"]
    run = reply.data
    effects = (await server.owner.get(f"/v1/runs/{run['runId']}/effects")).data
    found = []
    status = case.get("status", "success")
    if run["status"] != status:
        found.append(f"it ended as {run['status']}, not {status}")
    if "posts" in case:
        found += _compare("requests", _sent(effects, site), map(_shown, case["posts"]))
    if "spends" in case:
        found += _compare("transactions", _spent(effects), map(_shown, case["spends"]))
    if "logged" in case and not await _has_logged(server, run["runId"], case["logged"]):
        found.append(f"its log has no line {case['logged']!r}")
    if "takes" in case and await _simulated_ms(server, run["runId"]) < case["takes"]:
        found.append("it does not wait as long as was asked for")
    if site.written:
        found.append(f"a simulation has written: {site.written}")
    return found


def _compare(what: str, seen: list[str], wanted: Any) -> list[str]:
    expected = Counter(wanted)
    return [] if Counter(seen) == expected else [f"its {what} are {seen}, not {sorted(expected.elements())}"]


def _shown(one: Json) -> str:
    return json.dumps(one, sort_keys=True)


def _sent(effects: Json, site: Site) -> list[str]:
    found = []
    for one in effects["requests"]:
        request = one["request"]
        url = urlsplit(str(request.get("url")))
        path = url.path if f"{url.scheme}://{url.netloc}" == site.url else str(request.get("url"))
        body = request.get("json", request.get("body"))
        if isinstance(body, str):
            with suppress(ValueError):
                body = json.loads(body)
        found.append(_shown({"method": request.get("method", one["action"]), "path": path, "json": body}))
    return found


def _spent(effects: Json) -> list[str]:
    return [_shown({"to": str(one["to"]), "value": str(one["value"])}) for one in effects["transactions"]]


async def _has_logged(server: Composition, run_id: str, line: str) -> bool:
    query = sa.select(events.c.data).join(runs, runs.c.pk == events.c.run_pk)
    found = await server.rows(query.where(runs.c.id == run_id, events.c.type == "log"))
    return any(json.loads(data).get("message") == line for (data,) in found)


async def _simulated_ms(server: Composition, run_id: str) -> int:
    """How long the run would take: a simulation does not wait, but its clock goes on."""
    query = sa.select(sa.func.min(events.c.at), sa.func.max(events.c.at)).join(runs, runs.c.pk == events.c.run_pk)
    [(begun, ended)] = await server.rows(query.where(runs.c.id == run_id))
    return int(ended - begun)
