"""Service accounts: their keys expire, rotate and end with them; they are nobody's hand."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from dustrun import clock
from services.access.test_people import ADA, Browser
from testkit.approving import ASKING, question_of
from testkit.composition import Client, Composition, composed
from testkit.sharing import ended

Json = dict[str, Any]
BARRED = {"nodes": {**ASKING["nodes"], "ask": {**ASKING["nodes"]["ask"], "payload": {"message": "Pay?"}}}}
DAY_S = 86_400
_IN_2_DAYS = clock.to_rfc3339(clock.now_ms() + 2 * DAY_S * 1000)


@pytest.fixture
async def server(tmp_path: Path, store_url: str) -> AsyncIterator[Composition]:
    async with composed(tmp_path, database_url=store_url) as composition:
        yield composition


async def _person(server: Composition, email: str, *permissions: str) -> tuple[str, Client]:
    """A person, and a caller with a key of theirs."""
    body = {**ADA, "email": email, "permissions": [*permissions, "key:write", "run:read"]}
    made = (await server.owner.post("/v1/people", body)).data
    browser = Browser(server)
    assert await browser.redeem(made["url"]) == 200
    _, key = await browser.send("POST", "/v1/api-keys", {"name": email, "permissions": body["permissions"]})
    return made["id"], server.client(key["key"])


async def _account(server: Composition, name: str = "shop", **fields: Any) -> Json:
    rights = {} if "role" in fields else {"permissions": ["run:read", "workflow:simulate"]}
    made: Json = (await server.owner.post("/v1/service-accounts", {"name": name, **rights, **fields})).data
    return made


async def _key(client: Client, account: Json, **fields: Any) -> Json:
    body = {"name": "shop", "serviceAccountId": account["id"], **fields}
    reply = await client.post("/v1/api-keys", body)
    assert reply.status == 200, reply.body
    made: Json = reply.data
    return made


async def _status(server: Composition, key: Json) -> int:
    return (await server.client(key["key"]).get("/v1/me")).status


@pytest.mark.both_stores
async def test_a_key_expires_and_one_that_replaces_it_has_its_rights(server: Composition) -> None:
    account = await _account(server)
    old = await _key(server.owner, account)
    assert (old["permissions"], old["serviceAccountId"], old["personId"]) == (
        account["permissions"],
        account["id"],
        None,
    )
    assert _days(old) == 90
    new = (await server.owner.post(f"/v1/api-keys/{old['id']}/rotate", {"graceS": 7 * DAY_S})).data
    assert (new["replaces"], new["permissions"], _days(new)) == (old["id"], old["permissions"], 90)
    assert [await _status(server, one) for one in (old, new)] == [200, 200]
    assert new["replacedExpiresAt"] < new["expiresAt"]
    newest = (await server.owner.post(f"/v1/api-keys/{new['id']}/rotate", {"graceS": 0})).data
    assert [await _status(server, one) for one in (old, new, newest)] == [
        200,
        401,
        200,
    ]  # at once, though it was cached
    shown = (await server.owner.get(f"/v1/service-accounts/{account['id']}")).data
    assert shown["keyIds"] == [newest["id"], old["id"]]
    rotated = [one for one in (await server.owner.get("/v1/audit")).data["items"] if one["action"] == "key.rotate"]
    assert [(one["subject"], one["detail"]["by"]) for one in rotated] == [
        (new["id"], newest["id"]),
        (old["id"], new["id"]),
    ]


def _days(key: Json) -> int:
    from datetime import datetime

    made, ends = (datetime.fromisoformat(key[name]) for name in ("createdAt", "expiresAt"))
    return round((ends - made).total_seconds() / DAY_S)


@pytest.mark.both_stores
async def test_its_keys_follow_the_account_and_end_with_it(server: Composition) -> None:
    account = await _account(server)
    path = f"/v1/service-accounts/{account['id']}"
    key = await _key(server.owner, account)
    more = [*account["permissions"], "wallet:read"]
    assert (await server.owner.send("PATCH", path, {"permissions": more})).data["keyIds"] == [key["id"]]
    assert (await server.owner.get(f"/v1/api-keys/{key['id']}")).data["permissions"] == sorted(more)
    fewer = (await server.owner.send("PATCH", path, {"permissions": ["run:read"]})).data
    assert (fewer["keyIds"], await _status(server, key)) == ([], 401)
    key = await _key(server.owner, account)
    assert key["permissions"] == ["run:read"]
    listed = "/v1/service-accounts?status="
    assert (await server.owner.get(f"{listed}disabled")).data["items"] == []
    assert (await server.owner.post(f"{path}/disable")).data["status"] == "disabled"
    found = (await server.owner.get(f"{listed}disabled")).data["items"]
    assert [one["id"] for one in found] == [path.rpartition("/")[2]]
    assert found[0]["id"] not in {one["id"] for one in (await server.owner.get(f"{listed}active")).data["items"]}
    assert await _status(server, key) == 401
    assert (await server.owner.post("/v1/api-keys", {"name": "x", "serviceAccountId": account["id"]})).code == 409032
    assert (await server.owner.post(f"{path}/enable")).data["status"] == "active"
    assert await _status(server, key) == 401  # it stays revoked
    key = await _key(server.owner, account)
    again = {"name": "shop", "permissions": ["run:read"]}
    assert (await server.owner.post("/v1/service-accounts", again)).code == 409031
    assert (await server.owner.delete(path)).status == 200
    assert await _status(server, key) == 401
    assert (await server.owner.get(path)).code == 404024
    assert (await _account(server, "shop"))["name"] == "shop"
    done = [one["action"] for one in (await server.owner.get("/v1/audit")).data["items"]]
    assert {f"service-account.{verb}" for verb in ("create", "update", "disable", "enable", "delete")} <= set(done)


async def test_what_it_does_names_it(server: Composition) -> None:
    account = await _account(server, permissions=["workflow:create", "workflow:update", "workflow:read"])
    key = await _key(server.owner, account)
    client = server.client(key["key"])
    body = {"name": "w", "description": "", "definition": {"nodes": {"root": {"type": "manual"}}}}
    assert (await client.post("/v1/workflows", body)).status == 200
    (made,) = [one for one in (await server.owner.get("/v1/audit")).data["items"] if one["action"] == "workflow.create"]
    assert (made["keyId"], made["serviceAccountId"], made["personId"]) == (key["id"], account["id"], None)
    await server.parts.access.usage.flush()
    found = (await server.owner.get(f"/v1/api-keys/requests?serviceAccountId={account['id']}")).data["items"]
    assert [(one["route"], one["serviceAccountId"]) for one in found] == [("/v1/workflows", account["id"])]
    shown = (await server.owner.get(f"/v1/service-accounts/{account['id']}")).data
    assert shown["lastUsedAt"] is not None


async def test_its_keys_have_its_limits_also_when_they_are_rotated(server: Composition) -> None:
    """Those of an account that is limited to a tag reach what comes to it later."""
    account = await _account(server, permissions=["workflow:read"], workflowScope=["tag:money"])
    old = await _key(server.owner, account)
    assert (old["workflowScope"], old["workflowIds"]) == (["tag:money"], [])
    body = {"name": "w", "description": "", "tags": ["money"], "definition": BARRED}
    made = (await server.owner.post("/v1/workflows", body)).data["id"]
    new = (await server.owner.post(f"/v1/api-keys/{old['id']}/rotate", {})).data
    assert (new["workflowScope"], new["workflowIds"]) == (["tag:money"], [made])


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"permissions": ["admin"]}, ["permissions"]),
        ({"role": "owner"}, ["role"]),
        ({"ownerId": f"per_{'0' * 26}"}, ["ownerId"]),
        ({"permissions": ["fly"]}, ["permissions[0]"]),
        ({"workflowIds": [f"wf_{'0' * 26}"]}, ["workflowIds[0]"]),
    ],
)
async def test_wrong_accounts_are_refused(server: Composition, fields: Json, expected: list[str]) -> None:
    rights = {} if "role" in fields else {"permissions": ["run:read"]}
    reply = await server.owner.post("/v1/service-accounts", {"name": "shop", **rights, **fields})
    assert (reply.code // 1000, reply.fields) == (400, expected)


async def test_who_may_make_its_keys(server: Composition) -> None:
    """Who may do as much as the account; only keys of accounts are rotated."""
    ada, of_ada = await _person(server, "ada@example.com", "workflow:simulate")
    _, of_bob = await _person(server, "bob@example.com")
    account = await _account(server, ownerId=ada)
    assert (await server.owner.get(f"/v1/people/{ada}")).data["dependents"]["serviceAccounts"] == [account["id"]]
    key = await _key(of_ada, account)
    assert (await of_bob.post(f"/v1/api-keys/{key['id']}/rotate", {})).status == 403
    wider = await _account(server, "treasury", permissions=["wallet:spend"], ownerId=ada)
    assert (await of_ada.post("/v1/api-keys", {"name": "x", "serviceAccountId": wider["id"]})).status == 403
    me = (await of_ada.get("/v1/me")).data["keyId"]
    assert (await server.owner.post(f"/v1/api-keys/{me}/rotate", {})).code == 409033
    short = await server.owner.post("/v1/api-keys", {"name": "s", "permissions": ["admin"], "expiresAt": _IN_2_DAYS})
    assert (await _key(server.client(short.data["key"]), account))["expiresAt"] == short.data["expiresAt"]
    far = {"name": "x", "serviceAccountId": account["id"], "expiresAt": "2100-01-01T00:00:00Z"}
    assert (await server.owner.post("/v1/api-keys", far)).fields == ["expiresAt"]
    both = {"name": "x", "serviceAccountId": account["id"], "permissions": ["run:read"]}
    assert (await server.owner.post("/v1/api-keys", both)).status == 400
    given = await server.owner.send("PATCH", f"/v1/people/{ada}", {"keyIds": [key["id"]]})
    assert given.code == 409027  # it is the account's
    role = {"name": "clerk", "permissions": ["run:read"]}
    assert (await server.owner.post("/v1/roles", role)).status == 200
    await _account(server, "clerks", role="clerk")
    assert (await server.owner.delete("/v1/roles/clerk")).code == 409029
    other = await server.other_owner()
    assert (await other.get(f"/v1/service-accounts/{account['id']}")).code == 404024
    assert (await other.post("/v1/api-keys", {"name": "x", "serviceAccountId": account["id"]})).code == 404024


@pytest.mark.both_stores
async def test_it_is_nobodys_hand_and_its_runs_are_approved_by_somebody_else(server: Composition) -> None:
    """Neither who answers for it, nor who made its key; and it decides nothing that a person is asked."""
    _, of_ada = await _person(server, "ada@example.com", "approval:decide", "admin")
    bob, of_bob = await _person(server, "bob@example.com", "approval:decide")
    _, of_cleo = await _person(server, "cleo@example.com", "approval:decide")
    account = await _account(server, permissions=["run:inline", "run:read", "approval:decide"], ownerId=bob)
    machine = server.client((await _key(of_ada, account))["key"])
    run = (await machine.post("/v1/runs", {"definition": BARRED})).data["runId"]
    path = f"/v1/approvals/{await question_of(server.owner, run)}"
    for client in (of_ada, of_bob, machine):
        assert (await client.post(f"{path}/approve")).status == 403
    assert (await of_cleo.post(f"{path}/approve")).status == 200
    assert (await ended(server.owner, run))["status"] == "success"

    other = (await server.owner.post("/v1/runs", {"definition": ASKING})).data["runId"]
    path = f"/v1/approvals/{await question_of(server.owner, other)}"
    for verb in ("approve", "reject"):
        assert "nobody's hand" in (await machine.post(f"{path}/{verb}")).body["message"]
    by_resume = await machine.post(f"/v1/runs/{other}/nodes/ask/resume", {"data": {"decision": "approved"}})
    assert by_resume.status == 403
    assert (await of_bob.post(f"{path}/reject")).status == 200
