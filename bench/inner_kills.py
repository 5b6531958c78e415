"""Triggers for what happens in the server itself, while it is killed: each fact starts one run.

Runs ask people, who answer or let the question expire; a wallet pays on a real chain; a webhook gets payloads that do
not fit; a connector's credential is refused and accepted again. Five workflows watch that: `approval`, `transaction`,
`trigger-failed`, `connector-failed`, `run-finished`.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from testkit.chain.anvil import Anvil
from testkit.news import News, serving
from testkit.outbox_world import Api, server_of
from testkit.postgres import Cluster
from testkit.server_process import ServerProcess

_LONGEST_S = 300.0
_SETTINGS = {"outbound_allow": "127.0.0.1"}
_SAY = {"type": "log", "payload": {"message": "{{$trigger.body}}"}}
_GOOD, _BAD = "Bearer token-0123456789", "Bearer token-9876543210"
_WATCHES: dict[str, dict[str, Any]] = {
    "approval": {"statuses": ["asked", "decided", "expired"], "pollMs": 1000},
    "transaction": {"statuses": ["final"], "pollMs": 1000},
    "trigger-failed": {"what": ["event"], "pollMs": 1000},
    "connector-failed": {"what": ["refused", "recovered"], "pollMs": 1000},
}
Json = dict[str, Any]


def _name(kind: str, event: Json) -> str:
    """What tells one fact of a kind from the others."""
    body = event["body"]
    if kind == "approval":
        return f"{body['runId']} {body['status']}"
    if kind == "connector-failed":
        return str(body["what"])
    return str(body["eventId"] if kind == "trigger-failed" else body["runId"])


@dataclass(slots=True)
class _World:
    """The server, and what must have been told: how often, by trigger and name."""

    api: Api
    server: ServerProcess
    chance: random.Random
    wanted: dict[str, Counter[str]] = field(default_factory=dict)
    workflows: dict[str, str] = field(default_factory=dict)

    def want(self, kind: str, name: str) -> None:
        self.wanted.setdefault(kind, Counter())[name] += 1

    async def make(self, name: str, nodes: Json) -> str:
        """A published workflow."""
        body = {"name": name, "description": "", "definition": {"nodes": nodes}}
        _, made = await self.api.call("POST", "/v1/workflows", body)
        await self.api.call("POST", f"/v1/workflows/{made['id']}/publish", {}, accepts=(409_006,))
        return str(made["id"])

    async def run(self, workflow_id: str, run_id: str) -> None:
        """Starts a run once."""
        body = {"runId": run_id, "payload": {}}
        await self.api.call("POST", f"/v1/workflows/{workflow_id}/run", body, accepts=(400_079,))

    async def rest(self) -> None:
        await asyncio.sleep(self.chance.uniform(0.0, 0.2))

    # --- what happens ---

    async def ask(self, count: int) -> None:
        """Questions: three of four are answered, the others expire."""
        asks = {"type": "approve", "payload": {"message": "Pay?", "allowStarter": True, "timeoutMs": 86_400_000}}
        slow = await self.make("asks", {"root": {"type": "manual", "children": ["ask"]}, "ask": asks})
        quick = {**asks, "payload": {**asks["payload"], "timeoutMs": 1000}}  # type: ignore[dict-item]
        expires = await self.make("expires", {"root": {"type": "manual", "children": ["ask"]}, "ask": quick})
        watch = {
            "type": "run-finished",
            "payload": {"workflowIds": [slow], "statuses": ["success"]},
            "children": ["say"],
        }
        self.workflows["run-finished"] = await self.make("finished", {"root": watch, "say": _SAY})
        for n in range(count):
            run_id, is_answered = f"run_ask{n}", n % 4 != 3
            await self.run(slow if is_answered else expires, run_id)
            self.want("approval", f"{run_id} asked")
            self.want("approval", f"{run_id} {'decided' if is_answered else 'expired'}")
            if is_answered:
                self.want("run-finished", run_id)
                await self._answer(run_id)
            await self.rest()

    async def _answer(self, run_id: str) -> None:
        while True:
            _, page = await self.api.call("GET", "/v1/approvals?status=pending&limit=100")
            for one in page["items"]:
                if one["runId"] == run_id:
                    try:
                        await self.api.call("POST", f"/v1/approvals/{one['id']}/approve", {})
                    except RuntimeError:  # the first answer was lost
                        return
            _, run = await self.api.call("GET", f"/v1/runs/{run_id}?summary=true")
            if run["status"] == "success":
                return
            await asyncio.sleep(0.05)

    async def pay(self, count: int) -> None:
        """Transfers."""
        workflow_id = await self.api.prepare()
        for n in range(count):
            self.want("transaction", await self.api.start(workflow_id, n))
            await self.rest()

    async def deliver(self, count: int) -> None:
        """Webhook deliveries with payloads that do not fit, each until it is answered."""
        payload = {"inputSchema": {"required": ["n"]}, "dedupe": {"header": "X-Delivery"}}
        hook = {"type": "webhook", "payload": payload, "children": ["say"]}
        workflow_id = await self.make("strict", {"root": hook, "say": _SAY})
        _, made = await self.api.call("POST", f"/v1/workflows/{workflow_id}/webhooks/root/rotate", {})
        url = self.server.base + urlsplit(made["url"]).path
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session:
            for n in range(count):
                while not await self._delivered(session, url, f"delivery-{n}"):
                    await asyncio.sleep(0.1)
                await self.rest()
        for one in await self.events(workflow_id):
            self.want("trigger-failed", one["id"])

    async def _delivered(self, session: aiohttp.ClientSession, url: str, name: str) -> bool:
        try:
            async with session.post(url, json={}, headers={"X-Delivery": name}) as answer:
                return answer.status < 500
        except (aiohttp.ClientError, TimeoutError, OSError):
            return False

    async def refuse(self, count: int, news: News) -> None:
        """A credential that is refused and accepted, again and again."""
        host = "{0.scheme}://{0.netloc}".format(urlsplit(news.url))
        body = {"type": "http-bearer", "name": "orders", "data": {"token": _GOOD[7:]}, "allowedHosts": [host]}
        _, made = await self.api.call("POST", "/v1/connectors", body)
        call = {
            "type": "http-request",
            "connector": {"type": "http-bearer", "id": made["id"]},
            "payload": {"url": news.url},
        }
        workflow_id = await self.make("calls", {"root": {"type": "manual", "children": ["call"]}, "call": call})
        for n in range(count):
            for what, needs in (("refused", _BAD), ("recovered", _GOOD)):
                news.needs, tries = needs, 0
                while not await self._is(made["id"], fails=what == "refused"):
                    await self.run(workflow_id, f"run_{what}{n}_{tries}")
                    tries += 1
                    await asyncio.sleep(0.2)
                self.want("connector-failed", what)

    async def _is(self, connector_id: str, *, fails: bool) -> bool:
        _, found = await self.api.call("GET", f"/v1/connectors/{connector_id}")
        return (found.get("failingSince") is not None) == fails

    # --- what was told ---

    async def events(self, workflow_id: str) -> list[Json]:
        """All events of a workflow."""
        found: list[Json] = []
        while True:
            path = f"/v1/workflows/{workflow_id}/trigger-events?limit=100&offset={len(found)}"
            _, page = await self.api.call("GET", path)
            found += page["items"]
            if not page["hasMore"]:
                return found

    async def judge(self, kind: str) -> tuple[Json, list[str]]:
        """Waits for the last events of a trigger, and compares."""
        workflow_id, wanted = self.workflows[kind], self.wanted.get(kind, Counter())
        until, found = time.monotonic() + _LONGEST_S, list[Json]()
        while len(found) < wanted.total() and time.monotonic() < until:
            await asyncio.sleep(0.5)
            found = await self.events(workflow_id)
        await asyncio.sleep(2)  # whatever would come twice
        found = await self.events(workflow_id)
        told = Counter(_name(kind, one) for one in found)
        failures = []
        if lost := wanted - told:
            failures.append(f"{kind}: lost {sorted(lost)[:5]} ({lost.total()})")
        if more := told - wanted:
            failures.append(f"{kind}: too often {sorted(more)[:5]} ({more.total()})")
        _, runs = await self.api.call("GET", f"/v1/workflows/{workflow_id}/runs/count")
        if runs["total"] != len(found) or len({one["runId"] for one in found}) != len(found):
            failures.append(f"{kind}: {len(found)} events and {runs['total']} runs do not match one to one")
        return {"facts": wanted.total(), "events": len(found), "runs": runs["total"]}, failures


async def prove(folder: Path, store: str, count: int, kills: int, chance: random.Random) -> Json:
    """`count` questions, transfers and deliveries, a tenth as many refusals, and at least so many kills; `failures`
    says what did not hold."""
    begun = time.monotonic()
    async with AsyncExitStack() as stack:
        node, settings = stack.enter_context(Anvil("--block-time", "1")), dict(_SETTINGS)
        if store == "postgresql":
            cluster = Cluster()
            stack.callback(cluster.end)
            settings["database_url"] = cluster.fresh()
        server = server_of(folder, node.url, 1, 1000, **settings)
        stack.push_async_callback(server.stop)
        server.start()
        await server.wait_ready(120)
        api, news = Api(server), await stack.enter_async_context(serving())
        stack.push_async_callback(api.close)
        news.content = {"n": 1}
        world = _World(api, server, chance)
        for kind, config in _WATCHES.items():
            root = {"type": kind, "payload": config, "children": ["say"]}
            world.workflows[kind] = await world.make(kind, {"root": root, "say": _SAY})
        happening = asyncio.gather(
            world.ask(count), world.pay(count), world.deliver(count), world.refuse(max(2, count // 10), news)
        )
        done = await _kill(server, kills, chance, happening)
        await happening
        judged = {kind: await world.judge(kind) for kind in world.workflows}
    failures = [failure for _, failures in judged.values() for failure in failures]
    counts = {kind: counts for kind, (counts, _) in judged.items()}
    return {"kills": done, **counts, "seconds": round(time.monotonic() - begun, 1), "failures": failures}


async def _kill(server: ServerProcess, kills: int, chance: random.Random, happening: asyncio.Future[Any]) -> int:
    """Half of the kills come while the server starts; goes on as long as something happens."""
    done = 0
    while done < kills or not happening.done():
        if chance.random() < 0.5:
            await asyncio.sleep(chance.uniform(0.3, 3.0))
        else:
            await server.wait_ready(120)
            await asyncio.sleep(chance.uniform(0.0, 3.0))
        server.kill()
        server.start()
        done += 1
        if done >= kills and happening.done():
            break
        if done >= kills:
            await server.wait_ready(120)
            await asyncio.wait({happening}, timeout=10)
    await server.wait_ready(120)
    return done
