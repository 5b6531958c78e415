"""Passkeys: added, used and refused, and what whoever has one must do with it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from services.access.test_people import ADA, BASE, Browser
from services.access.test_service_accounts import BARRED
from testkit.approving import question_of
from testkit.authenticator import Authenticator, encode
from testkit.composition import Composition, composed

Json = dict[str, Any]
FINISH = "/v1/session/passkey/finish"


@pytest.fixture
async def server(tmp_path: Path, store_url: str) -> AsyncIterator[Composition]:
    async with composed(tmp_path, database_url=store_url, public_url=BASE) as composition:
        yield composition


async def _person(server: Composition, email: str = "ada@example.com", *permissions: str) -> tuple[Json, Browser]:
    body = {**ADA, "email": email, **({"permissions": [*permissions]} if permissions else {})}
    made = (await server.owner.post("/v1/people", body)).data
    browser = Browser(server)
    assert await browser.redeem(made["url"]) == 200
    return made, browser


async def _add(browser: Browser, device: Authenticator, name: str = "Laptop") -> Json:
    _, asked = await browser.send("POST", "/v1/passkeys/begin")
    code, made = await browser.send("POST", "/v1/passkeys", {"name": name, "credential": device.create(_key(asked))})
    assert code == 200, made
    return dict(made)


def _key(asked: Json) -> Json:
    return dict(asked["publicKey"])


async def _asked(browser: Browser) -> Json:
    _, asked = await browser.send("POST", "/v1/session/passkey")
    return _key(asked)


async def _enter(browser: Browser, credential: Json) -> int:
    """Signs a browser in; the code of the answer."""
    answer = await browser.http.post(FINISH, json={"credential": credential})
    if answer.is_success:
        browser.http.headers["X-CSRF-Token"] = answer.json()["data"]["csrfToken"]
    return int(answer.json()["code"])


@pytest.mark.both_stores
async def test_a_person_adds_a_passkey_signs_in_by_it_and_removes_it(server: Composition) -> None:
    made, browser = await _person(server)
    device = Authenticator(BASE)
    added = await _add(browser, device)
    other = Browser(server)
    assert await _enter(other, device.get(await _asked(other))) == 200
    _, me = await other.send("GET", "/v1/me")
    assert (me["personId"], me["isSession"]) == (made["id"], True)
    _, listed = await other.send("GET", "/v1/passkeys")
    assert [(one["id"], one["name"], one["lastUsedAt"] is not None) for one in listed["items"]] == [
        (added["id"], "Laptop", True)
    ]
    path = f"/v1/passkeys/{added['id']}"
    assert (await other.send("PATCH", path, {"name": "Old laptop"}))[1]["name"] == "Old laptop"
    assert await browser.send("DELETE", path) == (403, 403022)  # a passkey did not begin this session
    assert (await other.send("DELETE", path))[0] == 200
    assert await _enter(other, device.get(await _asked(other))) == 403024
    done = [one["action"] for one in (await server.owner.get("/v1/audit")).data["items"]]
    assert {"passkey.add", "passkey.use", "passkey.rename", "passkey.remove"} <= set(done)


async def test_wrong_answers_are_refused(server: Composition) -> None:
    """Of another origin, to a challenge that was answered, to one of another purpose, of another person, altered."""
    _, browser = await _person(server)
    _, of_bob = await _person(server, "bob@example.com")
    device, elsewhere, bobs = Authenticator(BASE), Authenticator("https://dustrun.example.net"), Authenticator(BASE)
    _, asked = await browser.send("POST", "/v1/passkeys/begin")
    to_enter = {**_key(asked), "challenge": (await _asked(browser))["challenge"]}
    for body in (
        elsewhere.create(_key(asked)),
        device.create(_key((await of_bob.send("POST", "/v1/passkeys/begin"))[1])),  # asked of somebody else
        device.create(to_enter),
        {"id": "x"},
    ):
        assert await browser.send("POST", "/v1/passkeys", {"name": "x", "credential": body}) == (403, 403024)
    again = device.create(_key(asked))  # its challenge was answered, though wrongly
    assert await browser.send("POST", "/v1/passkeys", {"name": "x", "credential": again}) == (403, 403024)
    await _add(browser, device)
    added = await _add(of_bob, bobs)

    right = device.get(await _asked(browser))
    assert [await _enter(browser, right), await _enter(browser, right)] == [200, 403024]
    device.origin = "https://dustrun.example.net"
    assert await _enter(browser, device.get(await _asked(browser))) == 403024
    device.origin = BASE
    device.checks = False
    assert await _enter(browser, device.get(await _asked(browser))) == 403024
    device.checks = True
    bobs_id = encode(added["id"].encode())
    assert await _enter(browser, device.get(await _asked(browser), userHandle=bobs_id)) == 403024
    forged = device.get(await _asked(browser))
    signature = bobs.get(await _asked(browser))["response"]["signature"]
    forged["response"]["signature"] = signature
    assert await _enter(browser, forged) == 403024
    device.count = 0  # a copy of the key, which has counted less
    assert await _enter(browser, device.get(await _asked(browser))) == 403024
    assert await _enter(browser, {"id": 7, "response": {"clientDataJSON": "!"}}) == 403024


async def test_who_has_one_must_use_it_to_count_as_just_signed_in(server: Composition) -> None:
    made, browser = await _person(server)
    body = {"name": "k", "permissions": ["run:read"]}
    assert (await browser.send("POST", "/v1/api-keys", body))[0] == 200
    device = Authenticator(BASE)
    await _add(browser, device)
    assert await browser.send("POST", "/v1/api-keys", body) == (403, 403022)
    assert await browser.send("POST", "/v1/passkeys/begin") == (403, 403022)  # nor does it add another one
    by_link = Browser(server)
    link = (await server.owner.post(f"/v1/people/{made['id']}/links")).data["url"]
    assert await by_link.redeem(link) == 200
    assert await by_link.send("POST", "/v1/api-keys", body) == (403, 403022)
    assert await _enter(by_link, device.get(await _asked(by_link))) == 200
    assert (await by_link.send("POST", "/v1/api-keys", body))[0] == 200
    assert (await server.owner.delete(f"/v1/people/{made['id']}/passkeys")).data == {"removed": 1}  # they lost it
    link = (await server.owner.post(f"/v1/people/{made['id']}/links")).data["url"]
    assert await browser.redeem(link) == 200
    assert (await browser.send("POST", "/v1/api-keys", body))[0] == 200


async def test_one_person_approves_their_own_run_with_their_passkey(server: Composition) -> None:
    _, browser = await _person(server, "ada@example.com", "admin")
    (own,) = (await server.owner.get("/v1/organizations")).data["items"]
    changed = await server.owner.send("PATCH", f"/v1/organizations/{own['id']}", {"singlePersonApproves": True})
    assert changed.status == 200
    _, key = await browser.send("POST", "/v1/api-keys", {"name": "k", "permissions": ["admin"]})
    of_ada, device = server.client(key["key"]), Authenticator(BASE)
    _, run = await browser.send("POST", "/v1/runs", {"definition": BARRED})
    path = f"/v1/approvals/{await question_of(server.owner, run['runId'])}/approve"
    await _add(browser, device)
    assert await browser.send("POST", path) == (403, 403025)
    assert (await of_ada.post(path)).code == 403025  # nor with a key of theirs
    assert await _enter(browser, device.get(await _asked(browser))) == 200
    assert (await browser.send("POST", path))[0] == 200


async def test_nobody_else_has_passkeys(server: Composition) -> None:
    assert (await server.owner.post("/v1/passkeys/begin")).status == 403
    assert (await server.owner.get("/v1/passkeys")).data["items"] == []
    made, browser = await _person(server)
    device = Authenticator(BASE)
    added = await _add(browser, device)
    _, of_bob = await _person(server, "bob@example.com")
    assert await of_bob.send("DELETE", f"/v1/passkeys/{added['id']}") == (404, 404025)
    assert (await server.owner.send("PATCH", f"/v1/people/{made['id']}", {"state": "deactivated"})).status == 200
    assert await _enter(browser, device.get(await _asked(browser))) == 403024
