"""Requests of a directory: with a key of its own, a page of users, and a group of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from dustrun import ids
from dustrun.services.access.scim.documents import PATCH
from testkit.routes.drivers import body_of
from testkit.routes.requests import Drive, Prepare, get, send
from testkit.routes.stored import Stored

_ROOT = "/scim/v2"


async def _call(stored: Stored, method: str, path: str, body: Any) -> Any:
    made = body_of(body)
    status, answer = await stored.drivers.call(method, _ROOT + path, made, key=stored.known["scim"])
    assert status == 201, answer[:300]
    return json.loads(answer)


async def keyed(stored: Stored) -> Mapping[str, str]:
    """The next request comes with the directory's key; there are a page of users, and a group of them."""
    if "scim" not in stored.known:
        made = await stored.send("POST", "/v1/api-keys", {"name": "directory", "permissions": ["people:provision"]})
        stored.known["scim"] = made["key"]
        users = [await _user(stored) for _ in range(200)]
        stored.known["scimUsers"] = json.dumps(users)
        stored.known["scimUser"], stored.known["scimGroup"] = users[0], await _group(stored, users)
    stored.drivers.next_key = stored.known["scim"]
    return {}


async def _user(stored: Stored) -> str:
    return str((await _call(stored, "POST", "/Users", new_user(stored)))["id"])


async def _group(stored: Stored, users: list[str]) -> str:
    body = {"displayName": ids.new_id("g"), "members": [{"value": one} for one in users]}
    return str((await _call(stored, "POST", "/Groups", body))["id"])


def new_user(_stored: Stored) -> Any:
    """A user whom there is not."""
    return {"userName": f"{ids.new_id('u')}@example.com", "displayName": "n" * 200, "externalId": "e" * 200}


def _members(stored: Stored) -> Any:
    listed = [{"value": one} for one in json.loads(stored.known["scimUsers"])]
    return {"displayName": ids.new_id("g"), "members": listed}


def _patch(*operations: Any) -> Any:
    return {"schemas": [PATCH], "Operations": list(operations)}


def _fresh(kind: str) -> Prepare:
    async def prepare(stored: Stored) -> Mapping[str, str]:
        await keyed(stored)
        made = await _user(stored) if kind == "user" else await _group(stored, [await _user(stored)])
        await keyed(stored)
        return {"id": made}

    return prepare


SCIM_DRIVES: dict[str, list[Drive]] = {
    "GET /scim/v2/Users": [get("?count=200", keyed), get('?filter=userName+eq+"nobody"', keyed)],
    "POST /scim/v2/Users": [send(new_user, keyed)],
    "GET /scim/v2/Users/{id}": [get("", keyed, id="scimUser")],
    "PUT /scim/v2/Users/{id}": [send(new_user, keyed, id="scimUser")],
    "PATCH /scim/v2/Users/{id}": [send(_patch({"op": "replace", "value": {"active": True}}), keyed, id="scimUser")],
    "DELETE /scim/v2/Users/{id}": [send(None, _fresh("user"))],
    "GET /scim/v2/Groups": [get("?count=200", keyed)],
    "POST /scim/v2/Groups": [send(_members, keyed)],
    "GET /scim/v2/Groups/{id}": [get("", keyed, id="scimGroup")],
    "PUT /scim/v2/Groups/{id}": [send(_members, keyed, id="scimGroup")],
    "PATCH /scim/v2/Groups/{id}": [
        send(
            lambda one: _patch({"op": "replace", "path": "members", "value": _members(one)["members"]}),
            keyed,
            id="scimGroup",
        )
    ],
    "DELETE /scim/v2/Groups/{id}": [send(None, _fresh("group"))],
    "GET /scim/v2/ServiceProviderConfig": [get("", keyed)],
    "GET /scim/v2/ResourceTypes": [get("", keyed)],
    "GET /scim/v2/ResourceTypes/{id}": [get("", keyed, id="User")],
    "GET /scim/v2/Schemas": [get("", keyed)],
    "GET /scim/v2/Schemas/{id}": [get("", keyed, id="urn:ietf:params:scim:schemas:core:2.0:User")],
}
