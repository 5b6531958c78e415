"""Roles: what each may do, of every route and every road to money; and people who have one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from contract.asking import OPERATIONS, PERMISSION_OF
from dustrun.services.access.principal import PERMISSIONS, Principal
from dustrun.services.access.roles import BUILT_IN
from services.access.test_people import ADA, Browser
from testkit.composition import Composition, composed

_FOR_ALL = ("public", "any key")
_READS = {name for name in PERMISSION_OF.values() if name.endswith(":read") and name != "metrics:read"} | {"run:stream"}
_BUILDS = {
    *("workflow:create", "workflow:update", "workflow:publish", "workflow:execute", "workflow:simulate"),
    *("workflow:delete", "run:cancel", "run:inline", "connector:write", "hook:write", "table:write"),
    *("chat:write", "assistant:use"),
}
_OF_THE_SERVER = {"metrics:read", "operator"}
_EVERYTHING = {*PERMISSION_OF.values(), *PERMISSIONS} - {*_FOR_ALL}
EXPECTED: dict[str, set[str]] = {
    "owner": _EVERYTHING,
    "admin": _EVERYTHING - _OF_THE_SERVER,
    "builder": _READS | _BUILDS,
    "spender": _READS | {"workflow:execute", "workflow:simulate", "run:cancel", "wallet:spend", "transaction:write"},
    "approver": _READS | {"approval:decide"},
    "viewer": _READS,
}
"""The permissions of routes that each role has."""
_ADMIN = {"owner", "admin"}
_COMPUTES = {
    *("analyze_definition_funds", "attribute_transactions", "convert_policy_sentences", "create_stream_token"),
    *("evaluate_expression", "plan_dust", "replay_wallet_policy", "test_trigger", "try_payment", "validate_workflow"),
}
"""What is no GET and only tells whoever reads."""
ROADS = {
    "a run spends; a version is accepted": ("wallet:spend", {*_ADMIN, "spender"}),
    "a transaction is replaced or cancelled": ("transaction:write", {*_ADMIN, "spender"}),
    "a spend is approved": ("approval:decide", {*_ADMIN, "approver"}),
    "a policy is loosened, a wallet exported": ("wallet:admin", _ADMIN),
    "a wallet is made or imported, a policy is written": ("wallet:write", _ADMIN),
    "a key is made that could do it": ("key:write", _ADMIN),
    "a person is made who could do it": ("admin", _ADMIN),
    "a directory fills the groups that could do it": ("people:provision", _ADMIN),
    "a run is started, over HTTP, MCP or the assistant's launch": ("workflow:execute", {*_ADMIN, "builder", "spender"}),
    "a trigger, a webhook or a form starts runs": ("workflow:publish", {*_ADMIN, "builder"}),
    "a template becomes a workflow": ("workflow:create", {*_ADMIN, "builder"}),
    "the assistant is asked, and asks to launch": ("assistant:use", {*_ADMIN, "builder"}),
}


def _holder(role: str) -> Principal:
    return Principal("key_1", "org_1", BUILT_IN[role][1])


@pytest.mark.parametrize("role", BUILT_IN)
def test_every_role_opens_its_routes_alone(role: str) -> None:
    """Of every route that there is: a permission that a new route brings is nobody's until it is written here."""
    holder = _holder(role)
    opened = {name for name, needed in PERMISSION_OF.items() if needed in _FOR_ALL or holder.may(needed)}
    assert opened == {name for name, needed in PERMISSION_OF.items() if needed in _FOR_ALL or needed in EXPECTED[role]}


@pytest.mark.parametrize("road", ROADS)
def test_roads_to_money_are_for_the_roles_that_have_them(road: str) -> None:
    permission, roles = ROADS[road]
    assert {role for role in BUILT_IN if _holder(role).may(permission)} == roles


def test_who_builds_spends_nothing_and_who_approves_starts_nothing() -> None:
    assert _holder("builder").spendable is None
    assert not _holder("approver").runs_beyond_simulations
    together = BUILT_IN["builder"][1] | BUILT_IN["spender"][1]
    assert not Principal("key_1", "org_1", together).may("approval:decide")


def test_a_viewer_changes_nothing() -> None:
    viewer = _holder("viewer")
    writes = {
        name for name, (method, _) in OPERATIONS.items()
        if method != "GET" and PERMISSION_OF[name] not in _FOR_ALL and viewer.may(PERMISSION_OF[name])
    }  # fmt: skip
    assert writes == _COMPUTES


@pytest.fixture
async def server(tmp_path: Path, store_url: str) -> AsyncIterator[Composition]:
    async with composed(tmp_path, database_url=store_url) as composition:
        yield composition


@pytest.mark.both_stores
async def test_a_person_has_a_role_and_another_one_ends_what_the_first_had(server: Composition) -> None:
    own = {"name": "bookkeeper", "permissions": ["transaction:read", "run:read"]}
    assert (await server.owner.post("/v1/roles", own)).data["permissions"] == ["run:read", "transaction:read"]
    body: dict[str, Any] = {"name": "Ada", "email": ADA["email"], "role": "bookkeeper"}
    made = (await server.owner.post("/v1/people", body)).data
    assert (made["role"], made["permissions"]) == ("bookkeeper", ["run:read", "transaction:read"])
    ada, path = Browser(server), f"/v1/people/{made['id']}"
    assert await ada.redeem(made["url"]) == 200
    assert (await server.owner.delete("/v1/roles/bookkeeper")).code == 409029

    changed = (await server.owner.send("PATCH", path, {"role": "approver"})).data
    assert (changed["role"], changed["permissions"]) == ("approver", sorted(BUILT_IN["approver"][1]))
    assert (await ada.send("GET", "/v1/me"))[0] == 401  # at once; they sign in by a new link
    assert (await server.owner.delete("/v1/roles/bookkeeper")).status == 200
    changed = (await server.owner.send("PATCH", path, {"permissions": ["run:read"]})).data
    assert (changed["role"], changed["permissions"]) == (None, ["run:read"])
    renamed = (await server.owner.send("PATCH", path, {"role": "viewer"})).data["role"]
    assert (renamed, (await server.owner.send("PATCH", path, {"name": "A"})).data["role"]) == ("viewer", "viewer")


async def test_wrong_roles_are_refused(server: Composition) -> None:
    own = {"name": "bookkeeper", "permissions": ["run:read"]}
    assert (await server.owner.post("/v1/roles", own)).status == 200
    for name in ("bookkeeper", "owner"):
        assert (await server.owner.post("/v1/roles", {**own, "name": name})).code == 409028
    assert (await server.owner.post("/v1/roles", {"name": "x", "permissions": ["fly"]})).code // 1000 == 400
    assert (await server.owner.delete("/v1/roles/owner")).code == 404019
    body = {"name": "Ada", "email": "ada@example.com"}
    reply = await server.owner.post("/v1/people", {**body, "role": "bilder"})
    assert (reply.fields, "builder" in str(reply.body)) == (["role"], True)
    assert (await server.owner.post("/v1/people", {**body, "role": "viewer", "scope": "read"})).status == 400
    admin = await server.client_with("admin")
    assert (await admin.post("/v1/people", {**body, "role": "owner"})).status == 403  # more than the caller has
    assert (await admin.post("/v1/roles", {"name": "x", "permissions": ["operator"]})).status == 403
    other = await server.other_owner()
    assert (await other.delete("/v1/roles/bookkeeper")).code == 404019
    assert [one["name"] for one in (await other.get("/v1/roles")).data["items"]] == list(BUILT_IN)
