"""A directory provisions people over SCIM: what they may do, how they sign in, and what ends with them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from dustrun.services.access.scim.documents import GROUP, PATCH, USER
from services.access.oidc.test_sign_in import Browser
from testkit.composition import Composition, composed
from testkit.identity_provider import IdentityProvider, providing

ERROR = "urn:ietf:params:scim:api:messages:2.0:Error"
GROUPS = {
    "traders": ("wallet:spend", "run:read", "key:write"),
    "readers": ("run:read",),
    "operators": ("admin", "operator"),
}
CLAIMS = {"name": "Ada", "email": "ada@example.com", "email_verified": True}
ADA = {"schemas": [USER], "userName": "ada", "emails": [{"value": "ada@example.com", "primary": True}]}


class ScimClient:
    """What a directory sends, and the answers."""

    def __init__(self, server: Composition, key: str) -> None:
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/scim+json"}
        transport = httpx.ASGITransport(server.app)
        self._http = httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8080", headers=headers)

    async def send(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Status and document."""
        answer = await self._http.request(method, f"/scim/v2{path}", json=body)
        assert not answer.content or answer.headers["content-type"] == "application/scim+json"
        assert (answer.headers["cache-control"], answer.headers["x-content-type-options"]) == ("no-store", "nosniff")
        return answer.status_code, answer.json() if answer.content else None

    async def make(self, path: str, body: Any) -> str:
        """The id of what was created."""
        status, found = await self.send("POST", path, body)
        assert status == 201, found
        return str(found["id"])

    async def patch(self, path: str, *operations: dict[str, Any]) -> tuple[int, Any]:
        return await self.send("PATCH", path, {"schemas": [PATCH], "Operations": list(operations)})


@asynccontextmanager
async def _world(folder: Path, **settings: Any) -> AsyncIterator[tuple[Composition, ScimClient, IdentityProvider]]:
    async with contextlib.AsyncExitStack() as stack:
        provider = await stack.enter_async_context(providing(ada=CLAIMS))
        chosen = {**provider.settings, "sign_in_groups": GROUPS, **settings}
        server = await stack.enter_async_context(composed(folder, **chosen))
        yield server, ScimClient(server, await server.key_with("people:provision")), provider


def _group(name: str, *members: str) -> dict[str, Any]:
    return {"schemas": [GROUP], "displayName": name, "members": [{"value": one} for one in members]}


async def _permissions(server: Composition, person_id: str) -> set[str]:
    return set((await server.owner.get(f"/v1/people/{person_id}")).data["permissions"])


@pytest.mark.both_stores
async def test_who_is_provisioned_signs_in_and_ends_when_deactivated(tmp_path: Path, store_url: str) -> None:
    async with _world(tmp_path, database_url=store_url) as (server, scim, provider):
        status, made = await scim.send("POST", "/Users", {**ADA, "externalId": "ada"})
        assert (status, made["active"], made["groups"]) == (201, True, [])
        path = f"/Users/{made['id']}"
        assert made["meta"]["location"].endswith(f"/scim/v2{path}")
        code, message = await Browser(server).sign_in(provider, "ada")
        assert (code, "None of your groups" in message) == (403023, True)  # no claim tells of any, and no directory
        group = await scim.make("/Groups", _group("traders", made["id"]))
        assert await _permissions(server, made["id"]) == set(GROUPS["traders"])

        ada = Browser(server)
        assert (await ada.sign_in(provider, "ada"))[0] == 200  # without an invitation: the directory vouches
        me = await ada.me()
        assert (me["personId"], set(me["permissions"])) == (made["id"], set(GROUPS["traders"]))
        script = (await ada.http.post("/v1/api-keys", json={"name": "script", "permissions": ["run:read"]})).json()
        script_key = server.client(script["data"]["key"])
        assert (await script_key.get("/v1/runs")).status == 200

        status, found = await scim.patch(path, {"op": "Replace", "path": "active", "value": "False"})
        assert (status, found["active"]) == (200, False)
        assert await ada.me() == {}
        assert (await script_key.get("/v1/runs")).status == 401
        assert (await ada.sign_in(provider, "ada"))[0] == 409026
        assert (await scim.patch(path, {"op": "replace", "value": {"active": True}}))[1]["active"] is True
        assert (await ada.sign_in(provider, "ada"))[0] == 200
        assert (await script_key.get("/v1/runs")).status == 401  # an old key stays revoked

        remove = {"op": "remove", "path": f'members[value eq "{made["id"]}"]'}
        assert (await scim.patch(f"/Groups/{group}", remove))[1]["members"] == []
        assert await ada.me() == {}
        assert await _permissions(server, made["id"]) == set()
        code, message = await ada.sign_in(provider, "ada")
        assert (code, "in the directory" in message) == (403023, True)
        assert (await scim.send("DELETE", path))[0] == 204
        assert (await scim.send("GET", path))[0] == 404
        assert (await server.owner.get(f"/v1/people/{made['id']}")).data["state"] == "deactivated"
        actions = {one["action"] for one in (await server.owner.get("/v1/audit?limit=100")).data["items"]}
        assert {"directory-user.create", "directory-group.join", "directory-group.leave"} <= actions


async def test_a_directory_never_gives_what_concerns_the_server(tmp_path: Path) -> None:
    async with _world(tmp_path) as (server, scim, _):
        user = await scim.make("/Users", ADA)
        group = await scim.make("/Groups", _group("operators", user))
        assert await _permissions(server, user) == {"admin"}
        assert (await scim.patch(f"/Groups/{group}", {"op": "replace", "value": {"displayName": "readers"}}))[0] == 200
        assert await _permissions(server, user) == {"run:read"}
        status, found = await scim.send("PUT", f"/Groups/{group}", _group("traders"))
        assert (status, found["members"]) == (200, [])
        assert await _permissions(server, user) == set()
        assert (await scim.send("DELETE", f"/Groups/{group}"))[0] == 204
        assert (await scim.send("GET", f"/Groups/{group}"))[0] == 404


async def test_who_is_here_already_is_taken_over_with_what_they_may_do(tmp_path: Path) -> None:
    async with _world(tmp_path) as (server, scim, _):
        invitation = {"name": "Ada", "email": "ada@example.com", "permissions": ["workflow:read"]}
        person = (await server.owner.post("/v1/people", invitation)).data["id"]
        assert await scim.make("/Users", ADA) == person
        assert await _permissions(server, person) == {"workflow:read"}
        await scim.make("/Groups", _group("readers", person))
        assert await _permissions(server, person) == {"run:read"}


async def test_a_directory_vouches_for_nobody_who_was_here_before_it(tmp_path: Path) -> None:
    """Else its key would be as powerful as every person: it could say that an employee is the administrator."""
    async with _world(tmp_path) as (server, scim, provider):
        provider.people["mallory"] = {"name": "M", "email": "mallory@example.com", "email_verified": True}
        invitation = {"name": "Root", "email": "root@example.com", "permissions": ["admin"]}
        person = (await server.owner.post("/v1/people", invitation)).data["id"]  # whose invitation is open
        user = {"schemas": [USER], "userName": "root@example.com", "externalId": "mallory"}
        path = f"/Users/{await scim.make('/Users', user)}"
        assert path == f"/Users/{person}"
        readers = await scim.make("/Groups", _group("readers"))
        assert (await Browser(server).sign_in(provider, "mallory"))[0] == 403023
        emails = [{"value": "mallory@example.com", "primary": True}]
        assert (await scim.patch(path, {"op": "replace", "value": {"emails": emails}}))[0] == 200
        assert (await Browser(server).sign_in(provider, "mallory"))[0] == 403023
        member = {"op": "add", "path": "members", "value": [{"value": person}]}
        assert (await scim.patch(f"/Groups/{readers}", member))[0] == 200
        assert (await Browser(server).sign_in(provider, "mallory"))[0] == 409025

        for sender in ("directory", "administrator"):
            if sender == "directory":
                assert (await scim.patch(path, {"op": "replace", "value": {"active": False}}))[0] == 200
            else:
                assert (await server.owner.send("PATCH", f"/v1/people/{person}", {"state": "active"})).status == 200
                assert (
                    await server.owner.send("PATCH", f"/v1/people/{person}", {"state": "deactivated"})
                ).status == 200
            status, found = await scim.patch(path, {"op": "replace", "value": {"active": True}})
            assert (status, "before the directory" in found["detail"]) == (409, True)
            assert (await scim.send("GET", path))[1]["active"] is False


async def test_the_last_way_in_cannot_be_taken_away(tmp_path: Path) -> None:
    async with _world(tmp_path) as (server, scim, _):
        user = await scim.make("/Users", ADA)
        own = (await server.owner.get("/v1/me")).data["keyId"]
        assert (await server.owner.send("PATCH", f"/v1/people/{user}", {"keyIds": [own]})).status == 200
        for method, body in (("PUT", {**ADA, "active": False}), ("DELETE", None)):
            status, found = await scim.send(method, f"/Users/{user}", body)
            assert (status, "last unlimited" in found["detail"]) == (409, True)
        assert (await scim.send("GET", f"/Users/{user}"))[1]["active"] is True
        assert (await server.owner.get("/v1/me")).status == 200


async def test_nothing_but_its_own_key_opens_it_and_that_key_opens_nothing_else(tmp_path: Path) -> None:
    async with _world(tmp_path) as (server, scim, _):
        both = await server.key_with("people:provision", "run:read")
        for key in ((tmp_path / "owner.key").read_text().strip(), both):
            for path in ("/Users", "/Groups", "/Schemas", "/ServiceProviderConfig"):
                status, found = await ScimClient(server, key).send("GET", path)
                assert (status, found["status"], "alone" in found["detail"]) == (403, "403", True)
        assert (await ScimClient(server, "sk_wrong").send("GET", "/Users"))[0] == 401
        alone = server.client(await server.key_with("people:provision"))
        for path in ("/v1/people", "/v1/runs", "/v1/workflows", "/v1/audit", "/v1/api-keys"):
            assert (await alone.get(path)).status == 403
        assert (await scim.send("GET", "/ServiceProviderConfig"))[1]["patch"] == {"supported": True}
        for path, ids in (("/ResourceTypes", ["User", "Group"]), ("/Schemas", [USER, GROUP])):
            status, found = await scim.send("GET", path)
            assert [one["id"] for one in found["Resources"]] == ids
            assert [(await scim.send("GET", f"{path}/{one}"))[1]["id"] for one in ids] == ids


async def test_its_key_may_be_a_service_account_s_which_does_nothing_else(tmp_path: Path) -> None:
    """People whom it has made stay when its key is rotated, and when the account is disabled."""
    async with _world(tmp_path) as (server, _, _provider):
        body = {"name": "directory", "permissions": ["people:provision", "run:read"]}
        refused = await server.owner.post("/v1/service-accounts", body)
        assert (refused.status, refused.body["details"][0]["field"]) == (400, "permissions")
        account = (await server.owner.post("/v1/service-accounts", {**body, "permissions": ["people:provision"]})).data
        more = {"permissions": ["people:provision", "run:read"]}
        assert (await server.owner.send("PATCH", f"/v1/service-accounts/{account['id']}", more)).status == 400
        asked = {"name": "directory", "serviceAccountId": account["id"]}
        old = (await server.owner.post("/v1/api-keys", asked)).data
        user = await ScimClient(server, old["key"]).make("/Users", ADA)
        new = (await server.owner.post(f"/v1/api-keys/{old['id']}/rotate", {"graceS": 0})).data
        assert (await ScimClient(server, old["key"]).send("GET", f"/Users/{user}"))[0] == 401
        assert (await ScimClient(server, new["key"]).send("GET", f"/Users/{user}"))[1]["active"] is True
        await server.owner.post(f"/v1/service-accounts/{account['id']}/disable")
        assert (await ScimClient(server, new["key"]).send("GET", f"/Users/{user}"))[0] == 401
        assert (await server.owner.get(f"/v1/people/{user}")).data["state"] != "deactivated"


async def test_errors_say_what_a_directory_must_mend(tmp_path: Path) -> None:
    async with _world(tmp_path) as (_, scim, _provider):
        user = await scim.make("/Users", ADA)
        bob = await scim.make("/Users", {**ADA, "userName": "bob", "emails": [{"value": "bob@example.com"}]})
        await scim.make("/Groups", _group("readers"))
        wrong: list[tuple[str, str, Any, int, str | None]] = [
            ("POST", "/Users", {**ADA, "emails": [{"value": "c@example.com"}]}, 409, "uniqueness"),
            ("POST", "/Users", {**ADA, "userName": "c"}, 409, "uniqueness"),
            ("PUT", f"/Users/{bob}", {**ADA, "userName": "bob"}, 409, "uniqueness"),
            ("PUT", f"/Users/{bob}", {**ADA, "userName": "ADA"}, 409, "uniqueness"),
            ("POST", "/Groups", _group("readers"), 409, "uniqueness"),
            ("POST", "/Groups", _group("others", "per_nobody"), 404, None),
            ("POST", "/Users", {**ADA, "shoeSize": 40}, 400, "invalidSyntax"),
            ("POST", "/Users", [1], 400, "invalidSyntax"),
            ("GET", "/Users?filter=title%20pr", None, 400, "invalidFilter"),
            ("GET", "/Users?count=ten", None, 400, "invalidValue"),
            ("GET", "/Users/per_nobody", None, 404, None),
            ("GET", "/ServiceProviderConfig?filter=patch%20pr", None, 403, None),
            ("GET", "/Schemas?filter=id%20pr", None, 403, None),
        ]
        for method, path, body, expected, scim_type in wrong:
            status, found = await scim.send(method, path, body)
            assert (status, found["status"], found.get("scimType")) == (expected, str(expected), scim_type), path
            assert (found["schemas"], bool(found["detail"])) == ([ERROR], True), path
        assert (await scim.send("GET", f"/Users/{user}"))[1]["userName"] == "ada"


async def test_lists_are_filtered_and_paged(tmp_path: Path) -> None:
    async with _world(tmp_path) as (_, scim, _provider):
        users = [await scim.make("/Users", {"userName": f"User{n}@example.com"}) for n in range(5)]
        status, found = await scim.send("GET", '/Users?filter=userName eq "USER3@example.com"')
        assert (status, found["totalResults"], found["Resources"][0]["id"]) == (200, 1, users[3])
        seen: list[str] = []
        for start in (1, 3, 5, 7):
            page = (await scim.send("GET", f"/Users?startIndex={start}&count=2&attributes=userName"))[1]
            assert (page["totalResults"], page["startIndex"]) == (5, start)
            assert all(set(one) == {"schemas", "id", "userName"} for one in page["Resources"])
            seen += [one["id"] for one in page["Resources"]]
        assert seen == sorted(users)
        none = (await scim.send("GET", "/Users?count=0"))[1]
        assert (none["totalResults"], none["Resources"]) == (5, [])
        group = await scim.make("/Groups", _group("readers", *users[:2]))
        asked = f'/Groups?filter=displayName eq "readers" and members eq "{users[0]}"&excludedAttributes=members'
        found = (await scim.send("GET", asked))[1]
        assert [(one["id"], "members" in one) for one in found["Resources"]] == [(group, False)]
        assert (await scim.send("GET", f'/Groups?filter=members.value eq "{users[4]}"'))[1]["totalResults"] == 0


async def test_a_large_group_lets_others_have_their_turn(tmp_path: Path) -> None:
    async with _world(tmp_path) as (server, scim, _):
        users = [await scim.make("/Users", {"userName": f"u{n}@example.com"}) for n in range(250)]
        group = await scim.make("/Groups", _group("readers"))
        sending = asyncio.create_task(scim.send("PUT", f"/Groups/{group}", _group("readers", *users)))
        seen = set[int]()
        while not sending.done():
            seen.add(len((await scim.send("GET", f"/Groups/{group}"))[1]["members"]))
        assert len((await sending)[1]["members"]) == 250
        assert seen & {100, 200}, seen  # a transaction has a hundred of them
        assert await _permissions(server, users[-1]) == {"run:read"}
