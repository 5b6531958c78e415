"""Paths by which clients of other platforms ask for hooks and their deliveries."""

from __future__ import annotations

from typing import Any

from testkit.composition import Composition

HOOK = {"name": "told", "url": "https://hooks.example.com/", "subscribedEventTypes": ["run.failed"], "maxRetries": 5}


async def raw(server: Composition, method: str, path: str, body: Any = None, key: str | None = None) -> tuple[int, Any]:
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    answer = await server.owner.http.request(method, path, json=body, headers=headers)
    return answer.status_code, answer.json()


async def test_execution_webhooks_are_hooks(server: Composition) -> None:
    status, made = await raw(server, "POST", "/v1/execution-webhooks", HOOK)
    assert (status, made["data"]["secret"][:6]) == (200, "whsec_")
    hook_id = made["data"]["id"]
    assert (await server.owner.get(f"/v1/hooks/{hook_id}")).data["name"] == "told"
    for method, path in (
        ("GET", ""),
        ("GET", f"/{hook_id}"),
        ("POST", f"/{hook_id}/disable"),
        ("POST", f"/{hook_id}/enable"),
    ):
        assert (await raw(server, method, f"/v1/execution-webhooks{path}"))[0] == 200, path
    status, rotated = await raw(server, "POST", f"/v1/execution-webhooks/{hook_id}/regenerate-secret")
    assert status == 200
    assert rotated["data"]["secret"] not in (None, made["data"]["secret"])
    status, deliveries = await raw(server, "GET", f"/v1/execution-webhooks/deliveries?hookId={hook_id}")
    assert (status, deliveries["data"]["items"]) == (200, [])
    for path in ("dlv_none", "dlv_none/retry", "dlv_none/replay"):
        method = "GET" if "/" not in path else "POST"
        status, refused = await raw(server, method, f"/v1/execution-webhooks/deliveries/{path}")
        assert (status, "dlv_none" in refused["message"]) == (404, True)


async def test_an_alias_needs_the_same_permission(server: Composition) -> None:
    key = await server.key_with("workflow:read")
    for path in ("", "/hook_x", "/deliveries", "/deliveries/dlv_x"):
        assert (await raw(server, "GET", f"/v1/execution-webhooks{path}", key=key))[0] == 403, path
    assert (await raw(server, "GET", "/v1/execution-webhooksx"))[0] == 404
