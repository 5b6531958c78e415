"""A recording HTTP sink, a process of its own: the outside world of the proofs.

    python -m testkit.sink --port N

It answers `/{behaviour}/{tag}/{step}` and records each request as it arrives, before it answers:

- `ok`     answers after up to 20 ms
- `slow`   answers after 50 to 400 ms
- `held`   answers after `GET /_go`
- `flaky`  answers the first request for the path with 503, later ones like `ok`
- `drop`   closes the connection on the first request for the path without an answer, later ones like `ok`

`POST /_mcp` is an MCP server with two tools, of which nobody calls any.

`GET /_records` lists what came; `GET /_count?path=…` says how often a path came.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from testkit.plain_mcp import answer_of, listed

_ROOT = Path(__file__).parent.parent
_TURNS = 10  # accept, read, begin the handler: each is a turn or two


@dataclass(frozen=True, slots=True)
class Record:
    """One request as it came in. `key` is its Idempotency-Key, if it had one."""

    at: float
    method: str
    path: str
    key: str | None
    status: int


class Sink:
    """What came in, and how to answer it."""

    def __init__(self, seed: int) -> None:
        self.records: list[Record] = []
        self.counts: Counter[str] = Counter()
        self.effects: dict[str, int] = {}
        self._chance = random.Random(seed)
        self._goes_on = asyncio.Event()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Records a request, then behaves as its path says."""
        path = request.path
        behaviour = path.split("/")[1]
        self.counts[path] += 1
        is_first = self.counts[path] == 1
        status = 503 if behaviour == "flaky" and is_first else 0 if behaviour == "drop" and is_first else 200
        key = request.headers.get("Idempotency-Key")
        self.records.append(Record(time.time(), request.method, path, key, status))
        if status == 0 and request.transport is not None:
            request.transport.abort()
            return web.Response()
        if key is not None and status == 200:
            self.effects.setdefault(key, len(self.effects) + 1)
        if behaviour == "held":
            await self._goes_on.wait()
        await asyncio.sleep(self._chance.uniform(0.05, 0.4) if behaviour == "slow" else self._chance.uniform(0, 0.02))
        headers = {"Retry-After": "0"} if status == 503 else {}
        return web.json_response({"path": path, "count": self.counts[path]}, status=status, headers=headers)

    async def go(self, _request: web.Request) -> web.StreamResponse:
        """Answers what is held, and what would be."""
        self._goes_on.set()
        return web.json_response({})

    async def list_records(self, _request: web.Request) -> web.StreamResponse:
        """Every record, oldest first."""
        rows = [[r.at, r.method, r.path, r.key, r.status] for r in self.records]
        return web.json_response({"records": rows, "effects": len(self.effects)})

    async def speak_mcp(self, request: web.Request) -> web.StreamResponse:
        """Shakes hands, and lists two tools."""
        answer = answer_of(await request.json(), listed("look", "put"))
        return web.Response(status=202) if answer is None else web.json_response(answer)

    async def count(self, request: web.Request) -> web.StreamResponse:
        """How often a path came. What a process had sent before it was killed is in this one's sockets already; it is
        taken first, in a few turns of the loop, so that the answer is true."""
        for _ in range(_TURNS):
            await asyncio.sleep(0)
        return web.json_response({"count": self.counts[request.query["path"]]})


async def _serve(port: int, seed: int) -> None:
    sink = Sink(seed)
    app = web.Application()
    app.router.add_get("/_records", sink.list_records)
    app.router.add_get("/_count", sink.count)
    app.router.add_get("/_go", sink.go)
    app.router.add_post("/_mcp", sink.speak_mcp)
    app.router.add_route("*", "/{behaviour}/{tag}/{step:.+}", sink.handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port, backlog=1024)
    await site.start()
    print(json.dumps({"port": runner.addresses[0][1]}), flush=True)
    await asyncio.Event().wait()


class SinkProcess:
    """The sink as its user sees it."""

    def __init__(self, seed: int) -> None:
        command = [sys.executable, "-m", "testkit.sink", "--port", "0", "--seed", str(seed)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=_ROOT)
        assert self._process.stdout is not None
        self.port: int = json.loads(self._process.stdout.readline())["port"]
        self.base = f"http://127.0.0.1:{self.port}"

    async def records(self) -> tuple[list[Record], int]:
        """What came in, and how many effects there were by key."""
        found = await self._get("/_records")
        return [Record(*row) for row in found["records"]], found["effects"]

    async def count(self, path: str) -> int:
        """How often a path came."""
        return int((await self._get("/_count", path=path))["count"])

    async def let_go(self) -> None:
        """Has it answer what it holds."""
        await self._get("/_go")

    async def _get(self, route: str, **query: str) -> Any:
        async with aiohttp.ClientSession() as session, session.get(self.base + route, params=query) as answer:
            return await answer.json()

    def stop(self) -> None:
        """Ends the process."""
        self._process.terminate()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()


def main() -> None:
    """Serves until it is ended."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--port", type=int, default=0)
    arguments.add_argument("--seed", type=int, default=0)
    asked = arguments.parse_args()
    asyncio.run(_serve(asked.port, asked.seed))


if __name__ == "__main__":
    main()
