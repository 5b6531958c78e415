"""No route, with valid inputs and stored data at their limits, holds the event loop for 50 ms of processor time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from outbox import open_outbox
from testkit import declared
from testkit.chain.anvil import ACCOUNTS, Anvil
from testkit.composition import Composition
from testkit.identity_provider import providing
from testkit.loop_watch import least_hold, watched
from testkit.plain_mcp import listed, plain_mcp
from testkit.routes.requests import Prepared
from testkit.routes.stored import Stored
from testkit.routes.table import DRIVES, declared_drives

MOST_S = 0.05
_LAST = ("DELETE", "PATCH", "PUT")
"""What changes or takes away what others read comes after them."""


def test_every_route_has_a_driver(server: Composition) -> None:
    routes = {f"{method} {route.path}" for route in server.app.routes for method in route.methods}
    routes = {name for name in routes if not name.startswith("HEAD")}
    without = routes - DRIVES.keys()
    assert sorted(without - declared_drives(without).keys()) == [], "routes without a driver"
    assert sorted(DRIVES.keys() - routes) == [], "drivers without a route"


@pytest.mark.long
async def test_no_route_holds_the_loop(tmp_path: Path) -> None:
    with Anvil("--no-mining") as node:
        async with (
            _silent() as silent,
            plain_mcp(_many_tools()) as tools_url,
            providing() as provider,
            open_outbox(
                tmp_path, node, network={"blockTimeMs": 12_000}, outbound_allow=("127.0.0.1",), **provider.settings
            ) as outbox,
        ):
            node.rpc("anvil_setCode", ACCOUNTS[3], "0x" + "5b" * 24_576)  # the contract whose ABI is told
            stored = Stored(outbox.composition, outbox.wallet_id, silent, tools_url, provider)
            await stored.build()
            with watched() as watch:
                held = {}
                for request in _requests(stored):
                    seconds = await least_hold(watch, request.send, MOST_S, request.prepare)
                    if seconds >= MOST_S:
                        held[request.name] = round(seconds * 1000)
            assert held == {}


def _many_tools() -> list[dict[str, Any]]:
    """As many tools, with schemas as large, as a connector keeps."""
    fields = {f"f{number}": {"type": "string", "pattern": f"^[a-z]{{{number + 1}}}$"} for number in range(25)}
    return listed(*(f"t{number}" for number in range(200)), description="d" * 500, schema={"properties": fields})


def _requests(stored: Stored) -> list[Prepared]:
    """All requests; what takes away comes last."""
    found, routes = [], {f"{one.method} {one.path}" for one in declared.operations().values()}
    for name, drives in {**declared_drives(routes - DRIVES.keys()), **DRIVES}.items():
        method, template = name.split(" ")
        found += [Prepared(stored, method, template, drive, f"{name} {n}") for n, drive in enumerate(drives)]
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
