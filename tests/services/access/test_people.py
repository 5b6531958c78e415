"""People: their sessions and keys are one hand, and end together."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from dustrun.core.triggers.event import TriggerEvent
from dustrun.errors import Conflict, Invalid
from dustrun.services.access.api_keys import make_key
from dustrun.services.access.hands import is_one_hand
from dustrun.services.access.rescue import rescue
from dustrun.services.runs.resume_links import ResumeLinks, secret_of
from dustrun.settings import Settings
from dustrun.storage.access import keys as key_rows
from dustrun.storage.db.statement import Tx
from dustrun.storage.db.tables import people, sign_in_links, web_sessions
from testkit.approving import ASKING, question_of
from testkit.composition import Composition, composed
from testkit.sharing import ended, until

ADA = {"name": "Ada", "email": "Ada@example.com", "permissions": ["key:write", "run:read", "run:stream"]}
OWN = Path(__file__).parents[3] / "testkit/own_triggers"
BASE = "http://127.0.0.1:8080"


@pytest.fixture
async def server(tmp_path: Path, store_url: str) -> AsyncIterator[Composition]:
    async with composed(tmp_path, database_url=store_url) as composition:
        yield composition


class Browser:
    """A browser that a link has signed in."""

    def __init__(self, server: Composition) -> None:
        self.http = httpx.AsyncClient(transport=httpx.ASGITransport(server.app), base_url=BASE)

    async def redeem(self, url: str) -> int:
        answer = await self.http.post("/v1/session/redeem", json={"token": url.partition("#signin=")[2]})
        if answer.is_success:
            self.http.headers["X-CSRF-Token"] = answer.json()["data"]["csrfToken"]
        return answer.status_code

    async def send(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        answer = await self.http.request(method, path, json=body)
        return answer.status_code, answer.json().get("data") if answer.is_success else answer.json()["code"]


async def _invite(server: Composition, **fields: Any) -> tuple[dict[str, Any], Browser]:
    made = (await server.owner.post("/v1/people", {**ADA, **fields})).data
    browser = Browser(server)
    assert await browser.redeem(made["url"]) == 200
    return made, browser


@pytest.mark.both_stores
async def test_an_invited_person_signs_in_once_by_their_link(server: Composition) -> None:
    made = (await server.owner.post("/v1/people", ADA)).data
    assert (made["state"], made["email"], made["joinedAt"]) == ("invited", "ada@example.com", None)
    token = made["url"].partition("#signin=")[2]
    stored = str(await server.rows(sa.select(people))) + str(await server.rows(sa.select(sign_in_links)))
    assert token
    assert token not in stored
    first, second = Browser(server), Browser(server)
    assert [await first.redeem(made["url"]), await second.redeem(made["url"])] == [200, 401]
    _, me = await first.send("GET", "/v1/me")
    assert (me["personId"], me["keyName"], me["permissions"]) == (made["id"], "Ada", sorted(ADA["permissions"]))
    (listed,) = (await server.owner.get("/v1/people")).data["items"]
    assert (listed["state"], listed["joinedAt"] is not None) == ("active", True)
    (session,) = (await server.owner.get(f"/v1/people/{made['id']}/sessions")).data["items"]
    assert session["keyId"] == made["keyId"]


async def test_a_newer_link_takes_back_the_older_one(server: Composition) -> None:
    made = (await server.owner.post("/v1/people", ADA)).data
    newer = (await server.owner.post(f"/v1/people/{made['id']}/links")).data["url"]
    assert [await Browser(server).redeem(made["url"]), await Browser(server).redeem(newer)] == [401, 200]
    newest = (await server.owner.post(f"/v1/people/{made['id']}/links")).data["url"]
    assert (await server.owner.delete(f"/v1/people/{made['id']}/sessions")).data == {"ended": 1}
    assert await Browser(server).redeem(newest) == 401


async def _sessions_of(browser: Browser) -> list[tuple[str, bool]]:
    _, page = await browser.send("GET", "/v1/sessions")
    return [(one["id"], one["current"]) for one in page["items"]]


@pytest.mark.both_stores
async def test_sessions_end_one_by_one(server: Composition) -> None:
    """By their person, and by an administrator; the others go on."""
    made, laptop = await _invite(server)
    path = f"/v1/people/{made['id']}"
    phone, tablet = Browser(server), Browser(server)
    for one in (phone, tablet):
        assert await one.redeem((await server.owner.post(f"{path}/links")).data["url"]) == 200
    own = dict(await _sessions_of(laptop))
    here = next(session for session, is_current in own.items() if is_current)
    of_phone = next(session for session, is_current in await _sessions_of(phone) if is_current)
    assert (len(own), here != of_phone) == (3, True)
    hashes = [row[0] for row in await server.rows(sa.select(web_sessions.c.hash))]
    assert not any(hash in str(own) for hash in hashes)
    stream = await _stream(server, phone)
    assert (await laptop.send("DELETE", f"/v1/sessions/{of_phone}"))[0] == 200
    assert (await stream).status_code == 200  # it was open, and has ended
    assert await laptop.send("DELETE", f"/v1/sessions/{of_phone}") == (404, 404018)
    assert [(await one.send("GET", "/v1/me"))[0] for one in (laptop, phone, tablet)] == [200, 401, 200]
    assert (await server.owner.delete(f"{path}/sessions/{here}")).data["current"] is False
    assert (await server.owner.delete(f"{path}/sessions/{here}")).code == 404018
    assert [(await one.send("GET", "/v1/me"))[0] for one in (laptop, tablet)] == [401, 200]
    ended = [one for one in (await server.owner.get("/v1/audit")).data["items"] if one["action"] == "session.end"]
    assert [one["detail"].get("person") for one in ended] == [made["id"], None]


async def test_nobody_sees_or_ends_sessions_of_others(server: Composition) -> None:
    """Not those of another person, nor with a key of the same person those that may do more than it."""
    _, ada = await _invite(server)
    bob_row, bob = await _invite(server, email="bob@example.com")
    ((session, _),) = await _sessions_of(ada)
    assert await bob.send("DELETE", f"/v1/sessions/{session}") == (404, 404018)
    assert (await server.owner.delete(f"/v1/people/{bob_row['id']}/sessions/{session}")).code == 404018
    assert (await (await server.other_owner()).delete(f"/v1/sessions/{session}")).code == 404018
    assert (await server.owner.delete(f"/v1/sessions/{session}")).code == 404018
    for rights, seen in ((["run:read"], 0), (sorted(ADA["permissions"]), 1)):
        _, key = await ada.send("POST", "/v1/api-keys", {"name": "k", "permissions": rights})
        client = server.client(key["key"])
        assert len((await client.get("/v1/sessions")).data["items"]) == seen
        assert (await client.delete(f"/v1/sessions/{session}")).status == (200 if seen else 404)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"email": "ADA@EXAMPLE.COM"}, 409025),
        ({"email": "ada"}, 400002),
        ({"email": "ada@exam\u0440le.com"}, 400002),
        ({"email": "a b@example.com"}, 400002),
        ({"permissions": ["fly"]}, 400002),
    ],
)
async def test_wrong_invitations_are_refused(server: Composition, fields: dict[str, Any], expected: int) -> None:
    assert (await server.owner.post("/v1/people", ADA)).status == 200
    reply = await server.owner.post("/v1/people", {**ADA, **fields})
    assert (reply.code // 1000, reply.code) == (expected // 1000, reply.code if expected // 1000 == 400 else expected)


async def test_nobody_gives_more_than_they_have(server: Composition) -> None:
    admin = await server.client_with("admin")
    stronger = {**ADA, "permissions": ["operator"]}
    assert (await admin.post("/v1/people", stronger)).status == 403
    assert (await admin.post("/v1/people", ADA)).status == 200
    other = await server.other_owner()
    (ada,) = (await server.owner.get("/v1/people")).data["items"]
    assert (await other.get(f"/v1/people/{ada['id']}")).code == 404017
    assert (await other.send("PATCH", f"/v1/people/{ada['id']}", {"state": "deactivated"})).code == 404017
    assert (await other.get("/v1/people")).data["items"] == []


async def test_keys_of_a_person_are_theirs_and_only_a_fresh_session_makes_them(server: Composition) -> None:
    made, browser = await _invite(server)
    status, key = await browser.send("POST", "/v1/api-keys", {"name": "script", "permissions": ["run:read"]})
    assert (status, key["personId"], key["createdBy"]) == (200, made["id"], made["keyId"])
    entries = (await server.owner.get("/v1/audit?limit=100")).data["items"]
    assert {one["personId"] for one in entries if one["action"] == "key.create"} == {made["id"]}
    await server.execute(sa.text("UPDATE web_sessions SET created_at = created_at - 700000"))
    assert await browser.send("POST", "/v1/api-keys", {"name": "x", "permissions": ["run:read"]}) == (403, 403022)
    owner = Browser(server)
    link = (await server.owner.post("/v1/session/links")).data["url"]
    assert await owner.redeem(link) == 200
    assert await owner.send("POST", "/v1/people", {**ADA, "email": "b@example.com"}) == (403, 403022)


@pytest.mark.both_stores
async def test_a_deactivated_person_can_do_nothing_and_comes_back_by_a_new_link(server: Composition) -> None:
    made, browser = await _invite(server)
    _, key = await browser.send("POST", "/v1/api-keys", {"name": "script", "permissions": ["run:read"]})
    script = server.client(key["key"])
    unused = (await server.owner.post(f"/v1/people/{made['id']}/links")).data["url"]
    detail = (await server.owner.get(f"/v1/people/{made['id']}")).data["dependents"]
    assert (detail["keys"], detail["sessions"]) == (sorted([made["keyId"], key["id"]]), 1)

    gone = (await server.owner.send("PATCH", f"/v1/people/{made['id']}", {"state": "deactivated"})).data
    assert (gone["state"], gone["deactivatedAt"] is not None) == ("deactivated", True)
    assert [(await browser.send("GET", "/v1/me"))[0], (await script.get("/v1/me")).status] == [401, 401]
    assert await Browser(server).redeem(unused) == 401
    assert (await server.owner.post(f"/v1/people/{made['id']}/links")).code == 409026
    assert (await server.owner.post("/v1/people", ADA)).code == 409025

    back = (await server.owner.send("PATCH", f"/v1/people/{made['id']}", {"state": "active"})).data
    assert (back["state"], back["permissions"]) == ("active", sorted(ADA["permissions"]))
    assert (await browser.send("GET", "/v1/me"))[0] == 401
    link = (await server.owner.post(f"/v1/people/{made['id']}/links")).data["url"]
    assert await browser.redeem(link) == 200
    assert (await script.get("/v1/me")).status == 401


async def test_new_permissions_end_what_had_the_old_ones(server: Composition) -> None:
    made, browser = await _invite(server)
    path = f"/v1/people/{made['id']}"
    changed = (await server.owner.send("PATCH", path, {"permissions": ["run:read"], "name": "Ada L."})).data
    assert (changed["permissions"], changed["name"], changed["state"]) == (["run:read"], "Ada L.", "active")
    assert (await browser.send("GET", "/v1/me"))[0] == 401
    await server.owner.send("PATCH", path, {"state": "deactivated"})
    assert (await server.owner.send("PATCH", path, {"permissions": ["run:read"]})).fields == ["permissions"]


async def _owners_key(server: Composition) -> str:
    return str((await server.owner.get("/v1/me")).data["keyId"])


async def test_the_last_way_back_in_stays(server: Composition) -> None:
    """A person who administers is no way back in: nobody has the secret of the key of their sessions."""
    made, browser = await _invite(server, permissions=["admin"])
    owner = await _owners_key(server)
    path = f"/v1/people/{made['id']}"
    assert (await server.owner.delete(f"/v1/api-keys/{owner}?keepMade=true")).code == 409020
    assert (await server.owner.send("PATCH", path, {"keyIds": [owner]})).status == 200
    assert (await server.owner.send("PATCH", path, {"state": "deactivated"})).code == 409020
    assert (await browser.send("GET", "/v1/me"))[0] == 200


async def test_a_key_is_given_to_one_person_for_good_with_its_hand(server: Composition) -> None:
    maker = (await server.owner.post("/v1/api-keys", {"name": "m", "permissions": ["key:write", "run:read"]})).data
    child = (await server.client(maker["key"]).post("/v1/api-keys", {"name": "c", "permissions": ["run:read"]})).data
    ada, bob = [(await server.owner.post("/v1/people", {**ADA, "email": f"{n}@e.com"})).data["id"] for n in "ab"]

    async def give(person: str, key: str) -> int:
        reply = await server.owner.send("PATCH", f"/v1/people/{person}", {"keyIds": [key]})
        return int(reply.code)

    assert await give(ada, child["id"]) == 409027  # it would become another hand than its maker
    assert await give(ada, maker["id"]) == 200
    assert await give(ada, child["id"]) == 200
    assert await give(bob, child["id"]) == 409027
    assert (await server.owner.get(f"/v1/api-keys/{child['id']}")).data["personId"] == ada
    assert await give(ada, "key_" + "0" * 26) // 1000 == 400


async def test_keys_and_sessions_of_a_person_are_one_hand(server: Composition) -> None:
    """In 1,000 generated keys: two of one person are always one hand, of two people never; the rest is as it was."""
    (org,) = [row[0] for row in await server.rows(sa.text("SELECT id FROM organizations"))]
    pick = random.Random(33)

    def unit(tx: Tx) -> list[tuple[str, str | None, bool]]:
        made: list[tuple[str, str | None, bool]] = []
        for number in range(1_000):
            maker = pick.choice(made) if made and pick.random() < 0.6 else None
            is_admin = pick.random() < 0.3
            invited = f"per_{number}" if pick.random() < 0.3 else None
            person = invited or (maker[1] if maker else None)
            rights = ["admin"] if is_admin else ["run:read"]
            key = make_key(org, "k", rights, created_by=maker[0] if maker else None, person_id=person).row
            key_rows.insert(tx, key)
            made.append((key.id, person, is_admin))
        return made

    made = await server.parts.writer.write(unit)

    def check(tx: Tx) -> list[tuple[str, str]]:
        pairs = [(pick.choice(made), pick.choice(made)) for _ in range(3_000)]
        people_ = {one[1] for one in made if one[1]}
        pairs += [
            (one, two) for who in people_ for own in [[k for k in made if k[1] == who]] for one in own for two in own
        ]
        return [
            (one[0], two[0])
            for one, two in pairs
            if (one[1] or two[1]) and is_one_hand(tx, org, one[0], two[0]) != (one[1] == two[1])
        ]

    assert await server.parts.database.read(check) == []


async def test_a_person_does_not_approve_what_their_other_key_asks(server: Composition) -> None:
    """Ada administers, so her key and the owner's would be two hands, were the owner's key not given to her."""
    definition = {"nodes": {**ASKING["nodes"], "ask": {**ASKING["nodes"]["ask"], "payload": {"message": "Pay?"}}}}
    ada, of_ada = await _invite(server, permissions=["admin"])
    _, of_bob = await _invite(server, email="bob@example.com", permissions=["approval:decide", "run:read"])
    run = (await server.owner.post("/v1/runs", {"definition": definition})).data
    question = await question_of(server.owner, run["runId"])
    path = f"/v1/people/{ada['id']}"
    assert (await server.owner.send("PATCH", path, {"keyIds": [await _owners_key(server)]})).status == 200
    assert (await of_ada.send("POST", f"/v1/approvals/{question}/approve"))[0] == 403
    assert (await of_bob.send("POST", f"/v1/approvals/{question}/approve"))[0] == 200
    assert (await ended(server.owner, run["runId"]))["status"] == "success"


@pytest.mark.both_stores
async def test_what_a_person_left_is_listed_and_what_becomes_of_it(tmp_path: Path, store_url: str) -> None:
    """A session, a stream, a link that approves, a published trigger, and runs that wait, of somebody deactivated."""
    async with composed(tmp_path, database_url=store_url, actions_dir=OWN) as server:
        rights = ["workflow:create", "workflow:read", "workflow:publish", "workflow:execute", "run:read", "run:stream"]
        made, browser = await _invite(server, permissions=rights)
        path = f"/v1/people/{made['id']}"
        definition = {
            "nodes": {**ASKING["nodes"], "bell": {"type": "bell", "payload": {}, "children": ["ask"]}},
            "triggerNodeIds": ["root", "bell"],
        }
        _, flow = await browser.send(
            "POST", "/v1/workflows", {"name": "w", "description": "", "definition": definition}
        )
        assert (await browser.send("POST", f"/v1/workflows/{flow['id']}/publish"))[0] == 200
        call = {"payload": {}, "triggerNodeId": "root"}
        _, run = await browser.send("POST", f"/v1/workflows/{flow['id']}/run", call)
        question = await question_of(server.owner, run["runId"])
        _, linked = await browser.send("POST", f"/v1/workflows/{flow['id']}/run", call)
        await question_of(server.owner, linked["runId"])
        links = ResumeLinks(secret_of(tmp_path), BASE)
        link = links.make(made["organizationId"], linked["runId"], "ask").removeprefix(BASE)
        signed_out = await _stream(server, browser)
        assert (await server.owner.delete(f"{path}/sessions")).data == {"ended": 1}
        assert (await signed_out).status_code == 200
        assert (await browser.send("GET", "/v1/me"))[0] == 401
        assert await browser.redeem((await server.owner.post(f"{path}/links")).data["url"]) == 200
        stream = await _stream(server, browser)

        assert (await server.owner.send("PATCH", path, {"state": "deactivated"})).status == 200
        assert (await stream).status_code == 200  # it was open, and has ended
        left = (await server.owner.get(path)).data["dependents"]
        assert (left["keys"], left["sessions"]) == ([], 0)
        assert (left["workflows"], left["runs"]) == ([flow["id"]], [linked["runId"], run["runId"]])
        assert (await browser.send("POST", link.partition("?")[0], {"data": {"decision": "approved"}}))[0] == 401
        (sub,) = await server.parts.triggers.subscriptions.list_of(flow["id"])
        fired = await server.parts.triggers.intake.fire(sub, TriggerEvent("a", {}, 1_700_000_000_000))
        assert (fired.action, fired.reason) == ("skipped", "key_revoked")
        assert (await server.owner.post(f"/v1/approvals/{question}/approve", {"comment": "seen"})).status == 200
        assert (await ended(server.owner, run["runId"]))["status"] == "success"
        by_link = await Browser(server).send("POST", link, {"data": {"decision": "approved"}})
        assert by_link == (200, {"action": "resumed", "reason": None})  # it is the run's, not the person's
        assert (await ended(server.owner, linked["runId"]))["status"] == "success"
        assert (await server.owner.get(path)).data["dependents"]["runs"] == []


async def _stream(server: Composition, browser: Browser) -> asyncio.Task[httpx.Response]:
    """A stream of the organisation's activity, once it is open; its answer comes when it ends."""
    (org,) = [row[0] for row in await server.rows(sa.text("SELECT id FROM organizations"))]
    task = asyncio.create_task(browser.http.get("/v1/activity/stream"))

    async def is_read() -> bool:
        return server.parts.streams.hub.has_readers(org)

    await until(is_read)
    return task


@pytest.mark.both_stores
async def test_a_rescue_makes_a_key_of_the_organisation_that_is_named(tmp_path: Path, store_url: str) -> None:
    async with composed(tmp_path, database_url=store_url) as server:
        other = (await server.owner.post("/v1/organizations", {"name": "Other"})).data["id"]
    settings, file = Settings(data_dir=tmp_path, database_url=store_url), tmp_path / "rescue.key"
    for wanted in (None, "org_nobody"):
        with pytest.raises(Invalid, match=other):
            rescue(settings, organization_id=wanted, file=file)
    assert not file.exists()
    file.write_text("no key")
    with pytest.raises(Conflict, match="no key"):
        rescue(settings, organization_id=other, file=file)
    file.unlink()
    made = rescue(settings, organization_id=other, file=file)
    async with composed(tmp_path, database_url=store_url) as server:
        rescued = server.client(file.read_text().strip())
        assert (await rescued.get("/v1/me")).data["permissions"] == ["admin"]  # the server is the first one's
        (entry,) = (await rescued.get(f"/v1/audit?apiKeyId={made.key_id}")).data["items"]
        assert (entry["action"], entry["subject"]) == ("key.rescue", made.key_id)


@pytest.mark.both_stores
async def test_runs_are_found_by_who_started_them_with_whichever_key_of_theirs(server: Composition) -> None:
    permissions = ["run:inline", "run:read", "key:write"]
    ada, browser = await _invite(server, permissions=permissions)
    _, key = await browser.send("POST", "/v1/api-keys", {"name": "of Ada", "permissions": permissions})
    machine = server.client(key["key"])
    hello = {"definition": {"nodes": {"root": {"type": "manual", "children": []}}}, "simulate": True}
    _, by_hand = await browser.send("POST", "/v1/runs", hello)
    by_key = (await machine.post("/v1/runs", hello)).data
    others = (await server.owner.post("/v1/runs", hello)).data

    async def found(client: Any, who: str, more: str = "") -> list[str]:
        return [one["id"] for one in (await client.get(f"/v1/runs?startedBy={who}{more}")).data["items"]]

    hers = [by_key["runId"], by_hand["runId"]]
    assert [await found(machine, who) for who in (ada["id"], "me")] == [hers, hers]
    assert await found(server.owner, ada["id"]) == hers
    assert await found(server.owner, ada["id"], "&status=failure") == []
    assert await found(server.owner, key["id"]) == hers[:1]
    assert await found(server.owner, "me") == [others["runId"]]
    assert await found(server.owner, "per_unknown") == []
