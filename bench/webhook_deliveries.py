"""Webhook deliveries at a given rate: how fast each is answered, and whether what was answered is on disk.

Deliveries are due at equal distances, whatever has become of those before, and a delivery's time counts from when it
was due: a server that falls behind shows. After the last answer the server is killed, and every delivery that it has
answered with 202 must be in its store, with the run that the answer named.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from bench.load import cpu_s_of
from testkit.server_process import ServerProcess

Json = dict[str, Any]
_CONNECTIONS = 128
_WARM_UP_S = 3
_DEFINITION: Json = {
    "nodes": {
        "hook": {"type": "webhook", "payload": {"dedupe": {"header": "X-Delivery"}}, "children": ["say"]},
        "say": {"type": "log", "payload": {"message": "{{$trigger.body}}"}},
    },
    "triggerNodeIds": ["hook"],
}


async def address_of(server: ServerProcess) -> str:
    """Publishes a workflow with a webhook; the path of its address."""
    headers = {"Authorization": f"Bearer {server.owner_key}"}
    async with aiohttp.ClientSession(server.base, headers=headers, raise_for_status=True) as session:

        async def post(path: str, body: Json) -> Json:
            async with session.post(path, json=body) as answer:
                found: Json = (await answer.json())["data"]
                return found

        made = await post("/v1/workflows", {"name": "delivered", "description": "", "definition": _DEFINITION})
        await post(f"/v1/workflows/{made['id']}/publish", {})
        address = await post(f"/v1/workflows/{made['id']}/webhooks/hook/rotate", {})
    return urlsplit(address["url"]).path


@dataclass(slots=True)
class Deliveries:
    """What was sent in one measurement, and what came back."""

    port: int
    path: str
    rate: int
    ms: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    accepted: dict[str, str] = field(default_factory=dict)
    """The run of each delivery that was answered with 202."""

    async def send(self, count: int, name: str) -> float:
        """Sends so many; the seconds until the last answer."""
        begun = time.perf_counter()
        numbers = iter(range(count))
        await asyncio.gather(*(self._send_some(numbers, name, begun) for _ in range(_CONNECTIONS)))
        return time.perf_counter() - begun

    async def _send_some(self, numbers: Iterator[int], name: str, begun: float) -> None:
        """One connection, which takes the next delivery whenever it is free."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        for number in numbers:
            due = begun + number / self.rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            await self._deliver(reader, writer, f"{name}-{number}")
            self.ms.append((time.perf_counter() - due) * 1000)
        writer.close()

    async def _deliver(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delivery: str) -> None:
        body = json.dumps({"delivery": delivery, "amount": "12.50", "currency": "EUR", "paid": True}).encode()
        head = f"POST {self.path} HTTP/1.1\r\nHost: localhost\r\nX-Delivery: {delivery}\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        answer = await reader.readuntil(b"\r\n\r\n")
        status = int(answer[9:12])
        length = int(answer.lower().split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
        found = json.loads(await reader.readexactly(length))
        self.statuses[status] += 1
        if status == 202:
            self.accepted[delivery] = found["data"]["runIds"][0]


async def measure(server: ServerProcess, rate: int, seconds: int) -> Json:
    """Delivers at a rate for a while, and kills the server."""
    path = await address_of(server)
    await Deliveries(server.port, path, rate).send(rate * _WARM_UP_S, "warm")
    sent = Deliveries(server.port, path, rate)
    cpu = cpu_s_of(server.server_pid)
    took = await sent.send(rate * seconds, "d")
    used = cpu_s_of(server.server_pid) - cpu
    server.kill()
    stored = await asyncio.to_thread(_stored, server.database_path)
    ms, count = sorted(sent.ms), len(sent.ms)
    return {
        "perSecond": rate,
        "seconds": seconds,
        "delivered": count,
        "answers": {str(status): number for status, number in sent.statuses.items()},
        "acceptedPerSecond": round(len(sent.accepted) / took, 1),
        "p50Ms": round(ms[count // 2], 1),
        "p99Ms": round(ms[int(count * 0.99)], 1),
        "mostMs": round(ms[-1], 1),
        "processorShare": round(used / took, 3),
        "notStored": sum(stored.get(delivery) != run for delivery, run in sent.accepted.items()),
    }


def _stored(database: Path) -> dict[str, str]:
    """The run of each delivery, as a killed server has left it."""
    query = "SELECT e.payload, r.id FROM trigger_events e JOIN runs r ON r.id = e.run_id WHERE e.type = 'webhook'"
    with contextlib.closing(sqlite3.connect(database)) as rows:
        return {json.loads(payload)["delivery"]: run for payload, run in rows.execute(query)}


def failures_of(found: Json, most_ms: float) -> list[str]:
    """What is not as it should be."""
    failures = []
    if set(found["answers"]) != {"202"}:
        failures.append(f"deliveries were answered {found['answers']}, not all 202")
    if found["p99Ms"] > most_ms:
        failures.append(f"the p99 of deliveries is {found['p99Ms']} ms, more than {most_ms} ms")
    if found["notStored"]:
        failures.append(f"{found['notStored']} accepted deliveries are not stored as they were answered")
    return failures
