"""What lets triggers that spend fire, more often or by somebody else's request, needs what the spend needs."""

from __future__ import annotations

from typing import Any

import pytest

from services.triggers.test_events import after, events_of, until
from services.triggers.test_intake import published, server
from testkit.composition import Client, Composition

TRIGGER = "root"

__all__ = ["server"]

Json = dict[str, Any]
EDITOR = ("workflow:read", "workflow:update", "workflow:publish", "workflow:execute")


async def _paying(server: Composition, root: Json, **fields: Any) -> str:
    """A published workflow that pays, started by a trigger."""
    wallet = (await server.owner.post("/v1/wallets", {"name": "w"})).data["id"]
    pay = {
        "type": "send-native",
        "connector": {"type": "wallet", "id": wallet},
        "payload": {"chainId": 1, "recipient": "0x70997970C51812dc3A010C7d01b50e0d17dc79C8", "amount": "1"},
    }
    definition = {"nodes": {"root": {**root, "children": ["pay"]}, "pay": pay}}
    made = await server.owner.create_workflow(definition, **fields)
    assert (await server.owner.post(f"/v1/workflows/{made['id']}/publish")).status == 200
    return str(made["id"])


async def _refused(client: Client, method: str, path: str, body: Json | None = None) -> None:
    reply = await client.send(method, path, body)
    assert (reply.status, reply.code) == (403, 403001), reply.body


@pytest.mark.both_stores
async def test_an_address_that_starts_spends_is_made_by_who_may_spend(server: Composition) -> None:
    """Knowing it is enough to start a live run with any payload in the name of the key that published."""
    editor = await server.client_with(*EDITOR)
    paying = await _paying(server, {"type": "webhook", "payload": {}})
    await _refused(editor, "POST", f"/v1/workflows/{paying}/webhooks/{TRIGGER}/rotate")
    assert (await server.owner.post(f"/v1/workflows/{paying}/webhooks/{TRIGGER}/rotate")).status == 200
    assert (await editor.delete(f"/v1/workflows/{paying}/webhooks/{TRIGGER}")).status == 200  # stopping is free

    watching = await _paying(server, {"type": "webhook", "payload": {"mode": "simulate"}})
    rotate = f"/v1/workflows/{watching}/webhooks/{TRIGGER}/rotate"
    assert (await editor.post(rotate)).status == 200
    go_live = f"/v1/workflows/{watching}/trigger-rehearsal/go-live"
    refused = await server.owner.post(go_live)
    assert (refused.code, "the address of its webhook" in refused.body["message"]) == (409011, True), refused.body
    assert (await server.owner.post(f"/v1/workflows/{watching}/versions/1/accept")).status == 200
    assert (await server.owner.post(go_live)).status == 200
    await _refused(editor, "POST", rotate)

    say = {"type": "log", "payload": {"message": "x"}}
    saying = {"root": {"type": "webhook", "payload": {}, "children": ["say"]}, "say": say}
    harmless = (await server.owner.create_workflow({"nodes": saying}))["id"]
    assert (await editor.post(f"/v1/workflows/{harmless}/webhooks/{TRIGGER}/rotate")).status == 200


@pytest.mark.parametrize(
    "loosening",
    [{"maxRuns": 9}, {"maxRuns": None}, {"cooldownMs": None}, {"cooldownMs": 59_999}, {"refill": 3}],
    ids=str,
)
async def test_more_runs_of_triggers_that_spend_are_allowed_by_who_may_spend(
    server: Composition, loosening: Json
) -> None:
    editor, limits = await server.client_with(*EDITOR), {"maxRuns": 2, "cooldownMs": 60_000}

    async def loosen(client: Client, workflow_id: str) -> int:
        path = f"/v1/workflows/{workflow_id}"
        if "refill" in loosening:
            return (await client.post(f"{path}/refill", {"remainRuns": loosening["refill"]})).status
        return (await client.put(path, loosening)).status

    paying = await _paying(server, {"type": "bell", "payload": {}}, **limits)
    assert await loosen(editor, paying) == 403
    assert (await editor.put(f"/v1/workflows/{paying}", {"maxRuns": 1, "cooldownMs": 70_000})).status == 200
    assert await loosen(server.owner, paying) == 200
    watching = await _paying(server, {"type": "bell", "payload": {"mode": "simulate"}}, **limits)
    assert await loosen(editor, watching) == 200
    harmless, _ = await published(server, **limits)
    assert await loosen(editor, harmless) == 200


async def test_a_dust_test_starts_no_live_run_of_what_waits_for_its_workflow(server: Composition) -> None:
    first = (await server.owner.create_workflow())["id"]
    live, _ = await published(server, after(first))
    both, _ = await published(server, after(first, modes=["live", "dust"]))
    dust = (await server.owner.post(f"/v1/workflows/{first}/run", {"dustTest": True})).data["runId"]
    (event,) = await until(lambda: events_of(server, both))
    assert (event["key"], event["body"]["mode"]) == (dust, "dust")
    run = (await server.owner.post(f"/v1/workflows/{first}/run")).data["runId"]
    (event,) = await until(lambda: events_of(server, live))
    assert event["key"] == run
