"""A request leaves nothing behind for the garbage collector: under load its pauses would hold every request up."""

from __future__ import annotations

import asyncio
import gc

import httpx
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle
from uvicorn.server import ServerState

from dustrun.api.serving.web_server import make_web_server
from testkit.composition import Composition

_REQUESTS = 30


def _left() -> int:
    return sum(isinstance(one, RequestResponseCycle) for one in gc.get_objects())


async def test_a_request_is_freed_when_it_is_answered(server: Composition) -> None:
    """Answered whole (a run call), by a route of the framework, and with an error."""
    nodes = {"root": {"type": "manual", "children": ["say"]}, "say": {"type": "log", "payload": {"message": "x"}}}
    workflow = await server.owner.create_workflow({"nodes": nodes})
    config = make_web_server(server.app, server.parts.settings, lambda: None).config
    config.load()
    state, loop = ServerState(), asyncio.get_running_loop()
    listening = await loop.create_server(
        lambda: config.http_protocol_class(config=config, server_state=state, app_state={}),  # type: ignore[call-arg]
        "127.0.0.1",
    )
    url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    gc.collect()
    before = _left()
    gc.disable()
    try:
        async with httpx.AsyncClient(base_url=url, headers={"Authorization": f"Bearer {server.owner_key}"}) as http:
            for number in range(_REQUESTS):
                called = await http.post(f"/v1/workflows/{workflow['id']}/run", json={"runId": f"run_cycle{number}"})
                read = await http.get(f"/v1/workflows/{workflow['id']}")
                missing = await http.get("/v1/workflows/wf_none")
                assert (called.status_code, read.status_code, missing.status_code) == (200, 200, 404)
            left = _left() - before
    finally:
        gc.enable()
        listening.close()
        await listening.wait_closed()
    assert left <= 3, f"{left} of {3 * _REQUESTS} requests wait for the collector"
