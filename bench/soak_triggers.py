"""Limits of triggers hold whatever comes at once, and no event is lost or taken twice whatever kills the server.

    scripts/soak triggers [--scale 1000] [--seed S] [--kills 20]

Each part on SQLite and on PostgreSQL. `limits`: `scale` events at once of a workflow with `maxRuns` of a tenth of that,
with runs by hand between them; a refill; events through several windows of a cooldown; every event delivered twice.
`webhooks`: the same with deliveries over HTTP to the real server, all at once. `kills`: the real server, killed again
and again while `scale` / 2 runs end that start others; each end is one event. `happened`: the same for the triggers for
what happens in the server, with `scale` / 10 approvals, transfers and refused deliveries (`bench/inner_kills.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import sqlalchemy as sa

from bench import inner_kills, webhook_limits
from dustrun import log
from dustrun.core.triggers.event import TriggerEvent
from dustrun.services.triggers.recording import EventOutcome
from dustrun.services.triggers.subscriptions import Subscription
from dustrun.storage.db.tables import runs
from dustrun.storage.db.trigger_tables import trigger_events
from testkit.composition import Composition, composed
from testkit.postgres import Cluster
from testkit.server_process import ServerProcess

DEFAULT_SCALE = 1000
KILLS = "20"
COOLDOWN_MS = 1000
WINDOWS = 5
_OWN = Path(__file__).resolve().parent.parent / "testkit/own_triggers"
_SAY = {"type": "log", "payload": {"message": "{{$trigger.body}}"}}
_AT_ONCE = 64
_SETTLES_S = 300

Json = dict[str, Any]


def run(scale: int | None = None, seed: int = 1, *, kills: str = KILLS) -> Json:
    """Runs all parts; `failures` says what did not hold."""
    log.set_up(as_json=True, level="error")
    return asyncio.run(_run(scale or DEFAULT_SCALE, seed, int(kills)))


async def _run(events: int, seed: int, kills: int) -> Json:
    failures: list[str] = []
    found: Json = {}
    for store in ("sqlite", "postgresql"):
        async with _composed(store) as server:
            found[store] = {"limits": await _limits(server, events, failures, store)}
        async with _served(store) as process:
            found[store]["webhooks"] = await webhook_limits.prove(process, events, failures, store)
        async with _served(store) as process, aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as session:
            counts, told = (events // 2, kills), _Told(store, failures)
            caller = _Caller(process, session)
            found[store]["kills"] = await _killed(process, caller, counts, random.Random(seed), told)
        with tempfile.TemporaryDirectory(prefix="dustrun-triggers-") as folder:
            happened = await inner_kills.prove(Path(folder), store, max(8, events // 10), kills, random.Random(seed))
            failures += [f"{store}: {failure}" for failure in happened.pop("failures")]
            found[store]["happened"] = happened
    return {**found, "failures": failures}


@contextlib.asynccontextmanager
async def _served(store: str) -> AsyncIterator[ServerProcess]:
    with tempfile.TemporaryDirectory(prefix="dustrun-triggers-") as name, contextlib.ExitStack() as stack:
        settings = {"rate_limit_per_second": "0", "webhook_requests_per_second": "100000"}
        if store == "postgresql":
            cluster = Cluster()
            stack.callback(cluster.end)
            settings["database_url"] = cluster.fresh()
        server = ServerProcess(Path(name) / "data", settings)
        server.start()
        try:
            await server.wait_ready(120)
            yield server
        finally:
            await server.stop()


@contextlib.asynccontextmanager
async def _composed(store: str) -> AsyncIterator[Composition]:
    with tempfile.TemporaryDirectory(prefix="dustrun-triggers-") as name, contextlib.ExitStack() as stack:
        settings: Json = {"actions_dir": _OWN}
        if store == "postgresql":
            cluster = Cluster()
            stack.callback(cluster.end)
            settings["database_url"] = cluster.fresh()
        async with composed(Path(name), **settings) as server:
            yield server


# --- limits ---


async def _limits(server: Composition, events: int, failures: list[str], store: str) -> Json:
    cap, by_hand = events // 10, max(5, events // 20)

    def need(name: str, found: Any, expected: Any) -> None:
        if found != expected:
            failures.append(f"{store}: {name} is {found}, not {expected}")

    workflow_id, sub = await _published(server, {"root": {"type": "bell", "payload": {}}}, maxRuns=cap)
    begun = time.monotonic()
    hands = [server.owner.post(f"/v1/workflows/{workflow_id}/run", {"payload": {}}) for _ in range(by_hand)]
    fired, _ = await asyncio.gather(_fire(server, sub, [f"e{n}" for n in range(events)]), asyncio.gather(*hands))
    took = time.monotonic() - begun
    outcomes = await _outcomes(server, sub)
    need("what the events did", outcomes, {"started": cap, "skipped exhausted": events - cap})
    need("runs", await _count_runs(server, workflow_id), cap + by_hand)
    need("the workflow", await _state(server, workflow_id), ("paused", "max_runs_exhausted", 0))
    again = await _fire(server, sub, [f"e{n}" for n in range(events)])
    need("answers to redeliveries", [one.event_id for one in again], [one.event_id for one in fired])
    need("runs after redeliveries", await _count_runs(server, workflow_id), cap + by_hand)
    await server.owner.post(f"/v1/workflows/{workflow_id}/refill", {"remainRuns": cap})
    (sub,) = await server.parts.triggers.subscriptions.list_of(workflow_id)
    await _fire(server, sub, [f"f{n}" for n in range(events // 5)])
    need("runs after a refill", await _count_runs(server, workflow_id), 2 * cap + by_hand)
    cooled = await _cooldown(server, events, need)
    return {
        "eventsAtOnce": events,
        "maxRuns": cap,
        "outcomes": outcomes,
        "runsByHand": by_hand,
        "seconds": round(took, 2),
        "eventsPerSecond": round(events / took),
        "cooldown": cooled,
    }


async def _cooldown(server: Composition, events: int, need: Any) -> Json:
    """Events without a pause for several windows: each lets one through, and manual runs change nothing about it."""
    workflow_id, sub = await _published(server, {"root": {"type": "bell", "payload": {}}}, cooldownMs=COOLDOWN_MS)
    begun, number = time.monotonic(), 0
    while time.monotonic() - begun < WINDOWS * COOLDOWN_MS / 1000 - 0.5:
        batch = [f"c{number + n}" for n in range(events // 10)]
        number += len(batch)
        by_hand = server.owner.post(f"/v1/workflows/{workflow_id}/run", {"payload": {}})
        await asyncio.gather(_fire(server, sub, batch), by_hand)
    took = time.monotonic() - begun
    query = sa.select(trigger_events.c.received_at).where(
        trigger_events.c.subscription_pk == sub.pk, trigger_events.c.outcome == "started"
    )
    started = [row[0] for row in await server.rows(query.order_by(trigger_events.c.pk))]
    close = [b - a for a, b in itertools.pairwise(started) if b - a < COOLDOWN_MS]
    need("starts closer than the cooldown", close, [])
    need("windows without a start", max(0, int(took * 1000 // (COOLDOWN_MS * 2)) - len(started)), 0)
    outcomes = await _outcomes(server, sub)
    need("what the events of the cooldown did", sum(outcomes.values()), number)
    return {"events": number, "seconds": round(took, 2), "starts": len(started), "cooldownMs": COOLDOWN_MS}


async def _published(server: Composition, roots: Json, **fields: Any) -> tuple[str, Subscription]:
    nodes = {name: {**node, "children": ["say"]} for name, node in roots.items()} | {"say": _SAY}
    workflow = await server.owner.create_workflow({"nodes": nodes}, **fields)
    published = await server.owner.post(f"/v1/workflows/{workflow['id']}/publish")
    assert published.status == 200, published.body
    (sub,) = await server.parts.triggers.subscriptions.list_of(workflow["id"])
    return workflow["id"], sub


async def _fire(server: Composition, sub: Subscription, keys: list[str]) -> list[EventOutcome]:
    fire = server.parts.triggers.intake.fire
    return await asyncio.gather(*(fire(sub, TriggerEvent(key, {"key": key}, 0)) for key in keys))


async def _outcomes(server: Composition, sub: Subscription) -> dict[str, int]:
    columns = (trigger_events.c.outcome, trigger_events.c.reason)
    query = sa.select(*columns, sa.func.count()).where(trigger_events.c.subscription_pk == sub.pk)
    found = await server.rows(query.group_by(*columns))
    return {" ".join(word for word in row[:2] if word): row[2] for row in found}


async def _count_runs(server: Composition, workflow_id: str) -> int:
    query = sa.select(sa.func.count()).select_from(runs).where(runs.c.workflow_id == workflow_id)
    return int((await server.rows(query))[0][0])


async def _state(server: Composition, workflow_id: str) -> tuple[str, str | None, int | None]:
    found = (await server.owner.get(f"/v1/workflows/{workflow_id}")).data
    return found["status"], found["pausedReason"], found["remainRuns"]


# --- kills ---


class _Caller:
    """A caller of the server who does not give up while it is dead."""

    def __init__(self, server: ServerProcess, session: aiohttp.ClientSession) -> None:
        self._server = server
        self._session = session

    async def call(self, method: str, path: str, body: Any = None) -> Any:
        """The data of the answer; asks again until there is one."""
        headers = {"Authorization": f"Bearer {self._server.owner_key}"}
        while True:
            with contextlib.suppress(aiohttp.ClientError, TimeoutError, OSError):
                async with self._session.request(
                    method, self._server.base + path, json=body, headers=headers
                ) as answer:
                    document = await answer.json()
                    if answer.status < 500:
                        return document["data"] if answer.status == 200 else document
            await asyncio.sleep(0.05)


@dataclass(frozen=True, slots=True)
class _Told:
    """Where what did not hold is told."""

    store: str
    failures: list[str]

    def need(self, name: str, found: Any, expected: Any) -> None:
        if found != expected:
            self.failures.append(f"{self.store}, kills: {name}: {found}, not {expected}")


async def _killed(
    server: ServerProcess, caller: _Caller, counts: tuple[int, int], chance: random.Random, told: _Told
) -> Json:
    events, kills = counts
    first = await _made(caller, {"root": {"type": "manual", "children": ["say"]}, "say": _SAY})
    cap = events // 10
    watch = {"type": "workflow-finished", "payload": {"workflowIds": [first]}, "children": ["say"]}
    free = await _made(caller, {"root": watch, "say": _SAY})
    capped = await _made(caller, {"root": watch, "say": _SAY}, maxRuns=cap)
    killer = asyncio.create_task(_kill(server, kills, chance))
    begun = time.monotonic()
    gate = asyncio.Semaphore(_AT_ONCE)

    async def start(number: int) -> None:
        async with gate:
            await caller.call("POST", f"/v1/workflows/{first}/run", {"runId": f"run_e{number}", "payload": {}})
            await asyncio.sleep(chance.random() * 0.5)

    await asyncio.gather(*(start(number) for number in range(events)))
    await killer
    wanted = {f"run_e{number}" for number in range(events)}
    seen = {one: await _events(caller, one, count) for one, count in ((free, events), (capped, cap))}
    took = time.monotonic() - begun
    for workflow_id, found in seen.items():
        keys = Counter(event["key"] for event in found)
        told.need("events taken twice", sum(count - 1 for count in keys.values()), 0)
        runs_of = (await caller.call("GET", f"/v1/workflows/{workflow_id}/runs/count"))["total"]
        told.need("runs", runs_of, cap if workflow_id == capped else events)
    lost = wanted - {event["key"] for event in seen[free]}
    told.need("events lost", len(lost), 0)
    started = sum(one["outcome"] == "started" for one in seen[capped])  # a paused workflow watches no more
    told.need("events that started a run of the capped workflow", started, cap)
    state = (await caller.call("GET", f"/v1/workflows/{capped}"))["pausedReason"]
    told.need("the pause", state, "max_runs_exhausted")
    return {"events": events, "kills": kills, "maxRuns": cap, "started": started, "seconds": round(took, 1)}


async def _made(caller: _Caller, nodes: Json, **fields: Any) -> str:
    made = await caller.call(
        "POST", "/v1/workflows", {"name": "w", "description": "", "definition": {"nodes": nodes}} | fields
    )
    await caller.call("POST", f"/v1/workflows/{made['id']}/publish", {})
    return str(made["id"])


async def _kill(server: ServerProcess, kills: int, chance: random.Random) -> None:
    for _ in range(kills):
        await asyncio.sleep(0.3 + chance.random())
        server.kill()
        server.start()
        await server.wait_ready(120)


async def _events(caller: _Caller, workflow_id: str, count: int) -> list[Json]:
    """A workflow's events, once there are as many as are due, or after a while."""
    until = time.monotonic() + _SETTLES_S
    found: dict[str, Json] = {}
    while len(found) < count and time.monotonic() < until:
        offset, has_more = 0, True
        while has_more:  # newest first: what comes in meanwhile moves the rest, so each is known by its id
            page = await caller.call("GET", f"/v1/workflows/{workflow_id}/trigger-events?limit=100&offset={offset}")
            found |= {one["id"]: one for one in page["items"]}
            offset, has_more = offset + 100, page["hasMore"]
        await asyncio.sleep(0.2)
    return list(found.values())
