"""One attempt: a name that resolves to a private address is not connected to."""

from __future__ import annotations

import pytest
from aiohttp import web

from dustrun.services.hooks.sending import Secrets, send
from dustrun.storage.hooks.deliveries import DeliveryRow
from outbound.loopback import ScriptedResolver, Seen, client, serving

PRIVATE = "127.0.0.2"  # the client may not reach it
ROW = DeliveryRow(
    id="dlv_1",
    org_id="org_1",
    hook_id="hook_1",
    queue="run_1",
    event_id="run_1.1",
    event_type="run.started",
    run_id="run_1",
    workflow_id=None,
    body="{}",
    created_at=0,
    updated_at=0,
)


def _ok(_seen: Seen) -> web.Response:
    return web.Response(text="ok")


@pytest.mark.parametrize("answer", [PRIVATE, "::ffff:7f00:2", "64:ff9b::7f00:2", "169.254.169.254"])
async def test_a_name_is_checked_when_it_is_connected_to(answer: str) -> None:
    async with serving(_ok, PRIVATE) as private:
        async with client(resolver=ScriptedResolver([answer])) as http:
            attempt = await send(http, ROW, f"http://rebind.example:{private.port}/", Secrets.new(), 5)
        assert attempt.status is None
        assert attempt.error is not None
        assert "may not be reached" in attempt.error
        assert private.seen == []
