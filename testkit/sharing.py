"""Several whole servers on one PostgreSQL store, in one process: each with its own connections, caches and engine."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

from testkit.composition import Client, Composition, composed

Json = dict[str, Any]
_FRAME = re.compile(r"id: (\d+)\nevent: (\w+)\n")


@contextlib.asynccontextmanager
async def sharing(folder: Path, url: str, count: int = 2, **settings: Any) -> AsyncIterator[list[Composition]]:
    """Servers that share a store, and a folder, as on one machine. Those that answer calls know how many they are:
    who takes itself for the only one tells nobody anything."""
    async with contextlib.AsyncExitStack() as stack:
        servers = [
            await stack.enter_async_context(composed(folder, database_url=url, shared=True, **settings))
            for _ in range(count)
        ]
        limiters = [one.parts.access.webhook_guesses for one in servers if "api" in one.parts.settings.roles]

        async def know_each_other() -> bool:
            return all(one._rate * count <= one._whole for one in limiters)

        await until(know_each_other)
        yield servers


async def events_of(client: Client, run_id: str, after: int = 0) -> list[tuple[int, str]]:
    """Number and type of the events of a run's stream, to its end."""
    async with asyncio.timeout(60):
        answer = await client.http.get(f"/v1/runs/{run_id}/stream?lastEventId={after}")
    return [(int(number), kind) for number, kind in _FRAME.findall(answer.text)]


async def until(done: Callable[[], Awaitable[Any]], timeout_s: float = 60) -> Any:
    """Asks until the answer is true, and returns it."""
    async with asyncio.timeout(timeout_s):
        while not (answer := await done()):
            await asyncio.sleep(0.02)
    return answer


async def ended(client: Client, run_id: str) -> Json:
    """The run, once it has ended."""

    async def look() -> Json | None:
        run: Json = (await client.get(f"/v1/runs/{run_id}")).data
        return run if run["status"] not in ("running", "waiting") else None

    try:
        run: Json = await until(look)
    except TimeoutError:
        run = (await client.get(f"/v1/runs/{run_id}")).data
        spends = (await client.get(f"/v1/transactions?runId={run_id}")).data
        raise AssertionError(f"{run_id} has not ended: {run}; its transactions: {spends}") from None
    return run


async def activity_of(client: Client, path: str) -> AsyncIterator[tuple[int, str]]:
    """Cursor and type of what a stream without end sends; it is left when the reader stops."""
    sent: asyncio.Queue[bytes] = asyncio.Queue()
    gone = asyncio.Event()

    async def receive() -> Json:
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        await sent.put(message.get("body", b""))

    bare, _, query = path.partition("?")
    headers = [(b"authorization", client.http.headers["authorization"].encode()), (b"host", b"test")]
    scope = {"type": "http", "method": "GET", "path": bare, "raw_path": bare.encode(), "headers": headers,
             "query_string": query.encode(), "http_version": "1.1", "scheme": "http", "client": ("127.0.0.1", 1),
             "server": ("test", 80), "root_path": ""}  # fmt: skip
    task = asyncio.create_task(client.http._transport.app(scope, receive, send))  # type: ignore[attr-defined]
    text = ""
    try:
        while True:
            text += (await sent.get()).decode()
            *frames, text = text.split("\n\n")
            for cursor, kind in (found for one in frames for found in _FRAME.findall(one)):
                yield int(cursor), kind
    finally:
        gone.set()
        await task
