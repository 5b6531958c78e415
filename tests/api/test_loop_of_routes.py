"""No route, with valid inputs and stored data at their limits, holds the event loop for 100 ms of processor time."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from outbox import open_outbox
from testkit.chain.anvil import Anvil
from testkit.loop_watch import least_hold, watched
from testkit.plain_mcp import listed, plain_mcp
from testkit.routes.requests import Prepared
from testkit.routes.stored import Stored
from testkit.routes.table import DRIVES

MOST_S = 0.1
_SHARES = 6
_LAST = ("DELETE", "PATCH", "PUT")
"""What changes or takes away what others read comes after them."""


async def test_no_route_of_a_sixth_holds_the_loop(tmp_path: Path) -> None:
    """Others in each run, so that every route has its turn; a route without a driver fails."""
    await _drive(tmp_path, random.SystemRandom().randrange(_SHARES))


@pytest.mark.long
async def test_no_route_holds_the_loop(tmp_path: Path) -> None:
    await _drive(tmp_path, None)


async def _drive(tmp_path: Path, share: int | None) -> None:
    with Anvil("--no-mining") as node:
        async with (
            _silent() as silent,
            plain_mcp(_many_tools()) as tools_url,
            open_outbox(tmp_path, node, network={"blockTimeMs": 12_000}, outbound_allow=("127.0.0.1",)) as outbox,
        ):
            stored = Stored(outbox.composition, outbox.wallet_id, silent, tools_url)
            routes = {f"{method} {route.path}" for route in stored.server.app.routes for method in route.methods}
            routes = {name for name in routes if not name.startswith("HEAD")}
            assert sorted(routes - DRIVES.keys()) == [], "routes without a driver"
            assert sorted(DRIVES.keys() - routes) == [], "drivers without a route"
            await stored.build()
            with watched() as watch:
                held = {}
                for request in _requests(stored, share):
                    seconds = await least_hold(watch, request.send, MOST_S, request.prepare)
                    if seconds >= MOST_S:
                        held[request.name] = round(seconds * 1000)
            assert held == {}


def _many_tools() -> list[dict[str, Any]]:
    """As many tools, with schemas as large, as a connector keeps."""
    fields = {f"f{number}": {"type": "string", "pattern": f"^[a-z]{{{number + 1}}}$"} for number in range(25)}
    return listed(*(f"t{number}" for number in range(200)), description="d" * 500, schema={"properties": fields})


def _requests(stored: Stored, share: int | None) -> list[Prepared]:
    """All requests, or one of the shares; what takes away comes last."""
    found = []
    for name, drives in DRIVES.items():
        method, template = name.split(" ")
        found += [Prepared(stored, method, template, drive, f"{name} {n}") for n, drive in enumerate(drives)]
    if share is not None:  # neighbours stay together: some need what those before them have done
        size = math.ceil(len(found) / _SHARES)
        found = found[share * size : (share + 1) * size]
    return sorted(found, key=lambda request: request.method in _LAST)


@asynccontextmanager
async def _silent() -> AsyncIterator[str]:
    """The address of a server that reads a request and hangs up, so that its effect is unknown."""

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/orders"
