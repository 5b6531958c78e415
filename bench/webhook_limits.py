"""The limits of a workflow under webhook deliveries that all come at once, over HTTP, with runs by hand beside them."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from testkit.server_process import ServerProcess

COOLDOWN_MS = 1000
WINDOWS = 5
_LONGEST_S = 300
_NODES = {
    "hook": {"type": "webhook", "payload": {"dedupe": {"header": "X-Delivery"}}, "children": ["say"]},
    "root": {"type": "manual", "payload": {}, "children": ["say"]},
    "say": {"type": "log", "payload": {"message": "{{$trigger.body}}"}},
}
_DEFINITION = {"nodes": _NODES, "triggerNodeIds": ["root", "hook"]}

Json = dict[str, Any]


class _Hooked:
    """A published workflow with a webhook, and who calls it."""

    def __init__(self, session: aiohttp.ClientSession, key: str) -> None:
        self._session = session
        self._headers = {"Authorization": f"Bearer {key}"}
        self.id = ""
        self._path = ""

    async def make(self, **fields: Any) -> _Hooked:
        """Publishes it, and makes its address."""
        made = await self.call(
            "POST", "/v1/workflows", {"name": "hooked", "description": "", "definition": _DEFINITION, **fields}
        )
        self.id = made["id"]
        await self.call("POST", f"/v1/workflows/{self.id}/publish", {})
        address = await self.call("POST", f"/v1/workflows/{self.id}/webhooks/hook/rotate", {})
        self._path = urlsplit(address["url"]).path
        return self

    async def call(self, method: str, path: str, body: Any = None) -> Any:
        """The data of an answer that must be 200."""
        async with self._session.request(method, path, json=body, headers=self._headers) as answer:
            answer.raise_for_status()
            return (await answer.json())["data"]

    async def deliver(self, names: Sequence[str]) -> list[tuple[int, Json]]:
        """Delivers all at once, each on a connection of its own: status and data of each answer."""
        return await asyncio.gather(*(self._deliver(name) for name in names))

    async def _deliver(self, name: str) -> tuple[int, Json]:
        async with self._session.post(self._path, json={"name": name}, headers={"X-Delivery": name}) as answer:
            return answer.status, (await answer.json())["data"]

    async def run_by_hand(self, count: int) -> None:
        """Starts runs by hand, all at once."""
        body = {"payload": {}, "triggerNodeId": "root"}
        await asyncio.gather(*(self.call("POST", f"/v1/workflows/{self.id}/run", body) for _ in range(count)))

    async def events(self) -> list[Json]:
        """Its recorded events, newest first."""
        found: list[Json] = []
        while True:
            page = await self.call("GET", f"/v1/workflows/{self.id}/trigger-events?limit=100&offset={len(found)}")
            found += page["items"]
            if not page["hasMore"]:
                return found

    async def count_runs(self) -> int:
        """How many runs it has."""
        return int((await self.call("GET", f"/v1/workflows/{self.id}/runs/count"))["total"])


async def prove(server: ServerProcess, events: int, failures: list[str], store: str) -> Json:
    """`events` deliveries at once of a workflow with `maxRuns` of a tenth, again, after a refill, and with a
    cooldown."""

    def need(name: str, found: Any, expected: Any) -> None:
        if found != expected:
            failures.append(f"{store}, webhooks: {name}: {found}, not {expected}")

    timeout = aiohttp.ClientTimeout(total=_LONGEST_S)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(server.base, timeout=timeout, connector=connector) as session:
        cap, by_hand = events // 10, max(5, events // 20)
        hooked = await _Hooked(session, server.owner_key).make(maxRuns=cap)
        names = [f"d{number}" for number in range(events)]
        begun = time.monotonic()
        answers, _ = await asyncio.gather(hooked.deliver(names), hooked.run_by_hand(by_hand))
        took = time.monotonic() - begun
        told = dict(Counter(f"{status} {data['action']} {data['reason'] or ''}".strip() for status, data in answers))
        need("answers", told, {"202 triggered": cap, "200 skipped exhausted": events - cap})
        recorded = Counter((one["outcome"], one["reason"]) for one in await hooked.events())
        need("events", dict(recorded), {("started", None): cap, ("skipped", "exhausted"): events - cap})
        need("runs", await hooked.count_runs(), cap + by_hand)
        state = await hooked.call("GET", f"/v1/workflows/{hooked.id}")
        need("the workflow", [state[name] for name in _STATE], ["paused", "max_runs_exhausted", 0])
        again = await hooked.deliver(names)
        need("redeliveries", [data["eventId"] for _, data in again], [data["eventId"] for _, data in answers])
        need("runs after redeliveries", await hooked.count_runs(), cap + by_hand)
        await hooked.call("POST", f"/v1/workflows/{hooked.id}/refill", {"remainRuns": cap})
        await hooked.deliver([f"r{number}" for number in range(events // 5)])
        need("runs after a refill", await hooked.count_runs(), 2 * cap + by_hand)
        cooled = await _cool(await _Hooked(session, server.owner_key).make(cooldownMs=COOLDOWN_MS), events // 10, need)
    return {
        "deliveriesAtOnce": events,
        "maxRuns": cap,
        "answers": told,
        "runsByHand": by_hand,
        "seconds": round(took, 2),
        "perSecond": round(events / took),
        "cooldown": cooled,
    }


_STATE = ("status", "pausedReason", "remainRuns")


async def _cool(hooked: _Hooked, batch: int, need: Any) -> Json:
    """Deliveries without a pause for several windows: each lets one through, whatever is run by hand."""
    begun, number = time.monotonic(), 0
    while time.monotonic() - begun < WINDOWS * COOLDOWN_MS / 1000 - 0.5:
        names = [f"c{number + n}" for n in range(batch)]
        number += batch
        await asyncio.gather(hooked.deliver(names), hooked.run_by_hand(1))
    took = time.monotonic() - begun
    events = await hooked.events()
    started = sorted(_ms(one["createdAt"]) for one in events if one["outcome"] == "started")
    close = [after - before for before, after in itertools.pairwise(started) if after - before < COOLDOWN_MS]
    need("starts closer than the cooldown", close, [])
    need("windows without a start", max(0, int(took * 1000 // (COOLDOWN_MS * 2)) - len(started)), 0)
    need("events of the cooldown", len(events), number)
    need("other outcomes", {one["reason"] for one in events} - {None, "cooldown"}, set())
    return {"deliveries": number, "seconds": round(took, 2), "starts": len(started), "cooldownMs": COOLDOWN_MS}


def _ms(at: Any) -> int:
    if isinstance(at, int):
        return at
    return round(datetime.fromisoformat(at.replace("Z", "+00:00")).timestamp() * 1000)
