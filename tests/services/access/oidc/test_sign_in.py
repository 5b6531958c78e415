"""Signing in at a provider: who it is, whose it is, and every answer that signs nobody in."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from dustrun.storage.db.tables import identities, sign_in_attempts
from testkit.composition import Composition, composed
from testkit.identity_provider import CLIENT, IdentityProvider, providing
from testkit.issuer import rsa_key
from testkit.sharing import until

BASE = "http://127.0.0.1:8080"
ADA = {"name": "Ada", "email": "ada@example.com", "email_verified": True, "groups": ["traders"]}
BOB = {"name": "Bob", "email": "bob@example.com", "email_verified": True, "groups": ["readers"]}
GROUPS = {"traders": ("wallet:spend", "run:read", "key:write"), "readers": ("run:read",)}


class Browser:
    """A browser with cookies of its own."""

    def __init__(self, server: Composition, base: str = BASE) -> None:
        self.http = httpx.AsyncClient(transport=httpx.ASGITransport(server.app), base_url=base)

    async def begin(self) -> str:
        answer = await self.http.post("/v1/session/provider")
        assert answer.status_code == 200, answer.text
        return str(answer.json()["data"]["url"])

    async def finish(self, **body: Any) -> tuple[int, str]:
        """Code and message of the answer."""
        answer = await self.http.post("/v1/session/provider/finish", json=body)
        if answer.is_success:
            self.http.headers["X-CSRF-Token"] = answer.json()["data"]["csrfToken"]
        return answer.json()["code"], answer.json()["message"]

    async def sign_in(self, provider: IdentityProvider, subject: str) -> tuple[int, str]:
        return await self.finish(**provider.sign_in(await self.begin(), subject))

    async def me(self) -> dict[str, Any]:
        answer = await self.http.get("/v1/me")
        found: dict[str, Any] = answer.json()["data"] if answer.is_success else {}
        return found


@asynccontextmanager
async def _world(folder: Path, **settings: Any) -> AsyncIterator[tuple[Composition, IdentityProvider]]:
    async with contextlib.AsyncExitStack() as stack:
        provider = await stack.enter_async_context(providing(ada=ADA, bob=BOB))
        chosen = {**provider.settings, "sign_in_groups": GROUPS, **settings}
        yield await stack.enter_async_context(composed(folder, **chosen)), provider


async def _person(server: Composition, email: str) -> dict[str, Any]:
    found = (await server.owner.get("/v1/people?limit=100")).data["items"]
    return next(one for one in found if one["email"] == email)


async def test_a_server_without_a_provider_offers_none(tmp_path: Path) -> None:
    async with composed(tmp_path) as server:
        assert (await server.owner.get("/v1/session/provider")).data == {"name": None}
        assert (await server.owner.post("/v1/session/provider", headers={"Host": "127.0.0.1:8080"})).status == 404


@pytest.mark.both_stores
async def test_a_person_is_a_subject_of_the_issuer(tmp_path: Path, store_url: str) -> None:
    async with _world(tmp_path, database_url=store_url, sign_in_name="Acme") as (server, provider):
        assert (await server.owner.get("/v1/session/provider")).data == {"name": "Acme"}
        ada, again = Browser(server), Browser(server)
        assert (await ada.sign_in(provider, "ada"))[0] == 200
        me = await ada.me()
        assert (me["keyName"], set(me["permissions"]), me["isSession"]) == ("Ada", set(GROUPS["traders"]), True)
        person = await _person(server, "ada@example.com")
        assert (person["id"], person["state"], person["invitedBy"]) == (me["personId"], "active", "provider")
        made = await ada.http.post("/v1/api-keys", json={"name": "script", "permissions": ["run:read"]})
        assert made.json()["data"]["personId"] == person["id"]

        provider.people["ada"] = {**ADA, "email": "countess@example.com"}  # an address may change, and go to others
        provider.people["eve"] = {**ADA, "name": "Eve"}
        assert (await again.sign_in(provider, "ada"))[0] == 200
        assert (await again.me())["personId"] == person["id"]
        code, message = await Browser(server).sign_in(provider, "eve")
        assert (code, "Another account" in message) == (409025, True)

        stored = str(await server.rows(sa.select(identities)))
        assert "ada" in stored
        assert not any(token in stored for token in provider.refreshing)
        actions = [one["action"] for one in (await server.owner.get("/v1/audit?limit=100")).data["items"]]
        assert {"person.create", "person.identity", "session.start"} <= set(actions)


async def test_an_invitation_is_matched_once_by_a_verified_address(tmp_path: Path) -> None:
    settings = {"sign_in_groups": {}, "sign_in_create": False}
    async with _world(tmp_path, **settings) as (server, provider):
        code, message = await Browser(server).sign_in(provider, "ada")
        assert (code, "Nobody has invited" in message) == (403023, True)
        invitation = {"name": "A", "email": "ADA@example.com", "permissions": ["run:read"]}
        made = (await server.owner.post("/v1/people", invitation)).data
        provider.people["ada"] = {**ADA, "email_verified": False}
        assert (await Browser(server).sign_in(provider, "ada"))[0] == 403023
        provider.people["ada"] = ADA
        ada = Browser(server)
        assert (await ada.sign_in(provider, "ada"))[0] == 200
        me = await ada.me()
        assert (me["personId"], me["permissions"]) == (made["id"], ["run:read"])
        token = made["url"].partition("#signin=")[2]
        redeemed = await Browser(server).http.post("/v1/session/redeem", json={"token": token})
        assert redeemed.status_code == 401  # the invitation is used up

        invitation = {"name": "B", "email": "bob@example.com", "permissions": ["run:read"]}
        bob = (await server.owner.post("/v1/people", invitation)).data
        token = bob["url"].partition("#signin=")[2]
        assert (await Browser(server).http.post("/v1/session/redeem", json={"token": token})).status_code == 200
        code, message = await Browser(server).sign_in(provider, "bob")  # he is known by his link, not by the provider
        assert (code, f"dustrun people link {bob['id']}" in message) == (409025, True)
        assert (await server.owner.post(f"/v1/people/{bob['id']}/links")).status == 200
        signed_in = Browser(server)
        assert (await signed_in.sign_in(provider, "bob"))[0] == 200
        assert (await signed_in.me())["personId"] == bob["id"]


async def test_somebody_deactivated_here_is_not_let_in_by_the_provider(tmp_path: Path) -> None:
    async with _world(tmp_path) as (server, provider):
        ada = Browser(server)
        await ada.sign_in(provider, "ada")
        path = f"/v1/people/{(await ada.me())['personId']}"
        assert (await server.owner.send("PATCH", path, {"state": "deactivated"})).status == 200
        assert await ada.me() == {}
        assert (await ada.sign_in(provider, "ada"))[0] == 409026
        assert (await server.rows(sa.select(identities.c.sealed)))[0] == (None,)
        assert (await server.owner.send("PATCH", path, {"state": "active"})).status == 200
        assert (await ada.sign_in(provider, "ada"))[0] == 200


def _lie(**claims: Any) -> Callable[[IdentityProvider], None]:
    return lambda provider: provider.lies.update(claims)


def _signed_by_another(provider: IdentityProvider) -> None:
    provider.signed_by = rsa_key()


def _no_refresh(provider: IdentityProvider) -> None:
    provider.gives_refresh = False


async def test_answers_that_sign_nobody_in_say_why(tmp_path: Path) -> None:
    """Of one server: each answer is wrong in one way, and each sign-in is used up by it."""
    wrong: list[tuple[Callable[[IdentityProvider], None], str]] = [
        (_lie(iss="https://other.example"), "of another issuer"),
        (_lie(aud="other"), "for another audience"),
        (_lie(aud=[CLIENT, "other"]), "another client"),
        (_lie(nonce="other"), "another sign-in (nonce)"),
        (_lie(nonce=None), "another sign-in (nonce)"),
        (_lie(sub=None), "lacks a claim"),
        (_lie(exp=None), "lacks a claim"),
        (_signed_by_another, "signature is wrong"),
        (_no_refresh, "offline_access"),
        (_lie(groups=["x"]), "None of your groups"),
        (_lie(email=None, email_verified=None), "no verified e-mail"),
    ]
    async with _world(tmp_path, wrong_keys_per_second=0) as (server, provider):
        browser = Browser(server)
        for lie, said in wrong:
            provider.people["ada"] = {"groups": ["traders"]} if "e-mail" in said else ADA
            lie(provider)
            code, message = await browser.sign_in(provider, "ada")
            assert (code, said in message) == (403023, True), (said, message)
            provider.lies, provider.signed_by, provider.gives_refresh = {}, None, True
        provider.people["ada"] = ADA
        for ahead, said in ((300, "ahead of"), (-300, "behind")):
            provider.lies = {"iat": int(time.time()) + ahead, "exp": int(time.time()) + 3600}
            code, message = await browser.sign_in(provider, "ada")
            assert (code, said in message, "30" in message) == (403023, True, True), message
        provider.lies = {}
        await _check_browser_answers(server, provider, browser)
        assert (await server.owner.get("/v1/people")).data["items"] == []
        assert await browser.me() == {}
        assert (await browser.sign_in(provider, "ada"))[0] == 200
        assert await server.rows(sa.select(sign_in_attempts)) == []


async def _check_browser_answers(server: Composition, provider: IdentityProvider, browser: Browser) -> None:
    """What is wrong in what the browser brings."""
    sent = provider.sign_in(await browser.begin(), "ada")
    code, message = await browser.finish(**{**sent, "state": "state_other"})
    assert (code, "used already" in message) == (403023, True)
    code, message = await Browser(server).finish(**sent)
    assert (code, "another browser" in message) == (403023, True)
    assert (await browser.finish(**sent))[0] == 403023  # used up

    for iss in ("https://other.example", None):
        sent = provider.sign_in(await browser.begin(), "ada")
        code, message = await browser.finish(**{**sent, "iss": iss})
        assert (code, "another provider" in message) == (403023, True)
    sent = provider.sign_in(await browser.begin(), "ada")
    code, message = await browser.finish(**{**sent, "code": "stolen"})
    assert (code, "invalid_grant" in message) == (403023, True)
    stolen = provider.sign_in(await Browser(server).begin(), "ada")["code"]
    sent = provider.sign_in(await browser.begin(), "ada")
    assert (await browser.finish(**{**sent, "code": stolen}))[0] == 403023  # PKCE: it is another sign-in's
    sent = provider.sign_in(await browser.begin(), "ada")
    declined = {
        "state": sent["state"],
        "iss": sent["iss"],
        "error": "access_denied",
        "error_description": "Not\x00 you.",
    }
    assert await browser.finish(**declined) == (403023, "The provider does not sign you in (access_denied): Not you.")
    sent = provider.sign_in(await browser.begin(), "ada")
    late = sa.update(sign_in_attempts).values(begun_at=sign_in_attempts.c.begun_at - 601_000)
    await server.execute(late)
    assert (await browser.finish(**sent))[0] == 403023

    foreign = await browser.http.post("/v1/session/provider", headers={"Origin": "http://evil.example"})
    assert foreign.json()["code"] == 403020
    elsewhere = await Browser(server, "http://localhost:8080").http.post("/v1/session/provider")
    assert (elsewhere.json()["code"], BASE in elsewhere.json()["message"]) == (403020, True)
    provider.is_silent = True
    sent = provider.sign_in(await browser.begin(), "ada")
    assert (await browser.finish(**sent))[0] // 1000 == 503
    provider.is_silent = False


async def test_groups_may_be_told_by_the_user_info_endpoint_alone(tmp_path: Path) -> None:
    async with _world(tmp_path) as (server, provider):
        provider.tells_in_token = False
        ada = Browser(server)
        assert (await ada.sign_in(provider, "ada"))[0] == 200
        assert set((await ada.me())["permissions"]) == set(GROUPS["traders"])
        provider.keys = {"two": rsa_key()}  # a new key is read when a token names it
        assert "/me" in provider.asked


async def test_groups_and_the_end_reach_whoever_is_signed_in(tmp_path: Path) -> None:
    """A group that comes, one that goes, a provider that is silent, and a person who is gone there and comes back."""
    settings = {"sign_in_check_s": 1.0, "sign_in_silence_s": 1.0}
    async with _world(tmp_path, **settings) as (server, provider):
        bob = Browser(server)
        assert (await bob.sign_in(provider, "bob"))[0] == 200
        first = await bob.me()
        provider.people["bob"] = {**BOB, "groups": ["readers", "traders"]}

        async def has(*names: str) -> bool:
            return set((await bob.me()).get("permissions", [])) == set(names)

        async def is_out() -> bool:
            return await bob.me() == {}

        await until(lambda: has(*GROUPS["traders"]))
        assert (await bob.me())["keyId"] == first["keyId"]  # it gained, so nothing ended
        made = await bob.http.post("/v1/api-keys", json={"name": "script", "permissions": ["wallet:spend"]})
        script = server.client(made.json()["data"]["key"])
        assert (await script.get("/v1/me")).status == 200

        provider.people["bob"] = BOB
        await until(is_out)
        assert (await script.get("/v1/me")).status == 401
        assert (await bob.sign_in(provider, "bob"))[0] == 200
        assert await has(*GROUPS["readers"])
        person = await _person(server, "bob@example.com")
        assert person["id"] == first["personId"]

        provider.is_silent = True
        await until(is_out)
        assert (await _person(server, "bob@example.com"))["state"] == "active"  # signed out, and no more
        provider.is_silent = False
        assert (await bob.sign_in(provider, "bob"))[0] == 200

        del provider.people["bob"]
        await until(is_out)
        assert (await _person(server, "bob@example.com"))["state"] == "deactivated"
        assert (await bob.sign_in(provider, "bob"))[0] == 403023
        provider.people["bob"] = BOB
        assert (await bob.sign_in(provider, "bob"))[0] == 200
        assert (await _person(server, "bob@example.com"))["state"] == "active"


@pytest.mark.parametrize(
    ("published", "told"),
    [
        ("http://id.example.com/end?tenant=1", "http://id.example.com/end?tenant=1&client_id=dustrun"),
        ("javascript:alert(1)", None),
        (None, None),
    ],
)
async def test_whoever_signs_out_is_told_where_to_sign_out_at_the_provider(
    tmp_path: Path, published: str | None, told: str | None
) -> None:
    async with _world(tmp_path) as (server, provider):
        provider.leaves_at = published
        bob = Browser(server)
        assert (await bob.sign_in(provider, "bob"))[0] == 200
        answer = await bob.http.delete("/v1/session")
        assert answer.json()["data"] == {"ended": True, "providerUrl": told}
        assert await bob.me() == {}
        by_key = await bob.http.post("/v1/session", json={"key": server.owner_key})
        bob.http.headers["X-CSRF-Token"] = by_key.json()["data"]["csrfToken"]
        assert (await bob.http.delete("/v1/session")).json()["data"] == {"ended": True, "providerUrl": None}


@pytest.mark.parametrize("told", ["claims", "settings"])
async def test_a_group_that_vanishes_ends_all_but_locks_nobody_out_for_good(tmp_path: Path, told: str) -> None:
    """Of the provider's claims, or of the settings of a server that was started again: the session, stream and key of
    whoever was in it end; when a group gives something again, they sign in."""
    async with contextlib.AsyncExitStack() as stack:
        provider = await stack.enter_async_context(providing(bob={**BOB, "groups": ["traders"]}))
        groups = {"traders": ("run:read", "run:stream", "key:write"), "readers": ("run:read",)}
        chosen = {**provider.settings, "sign_in_groups": groups, "sign_in_check_s": 1.0}
        async with composed(tmp_path, **chosen) as server:
            bob = Browser(server)
            assert (await bob.sign_in(provider, "bob"))[0] == 200
            made = await bob.http.post("/v1/api-keys", json={"name": "script", "permissions": ["run:read"]})
            script = made.json()["data"]["key"]
            stream = asyncio.create_task(bob.http.get("/v1/activity/stream"))
            if told == "claims":
                provider.people["bob"] = {**BOB, "groups": ["vanished"]}
                assert (await stream).status_code == 200  # it was open, and has ended
            else:
                stream.cancel()
        if told == "settings":
            chosen["sign_in_groups"] = {"readers": ("run:read",)}
        async with composed(tmp_path, **chosen) as server:
            bob.http = httpx.AsyncClient(
                transport=httpx.ASGITransport(server.app), base_url=BASE, cookies=bob.http.cookies
            )

            async def is_out() -> bool:
                return await bob.me() == {}

            await until(is_out)
            assert (await server.client(script).get("/v1/me")).status == 401
            person = await _person(server, "bob@example.com")
            assert (person["role"], person["state"]) == (None, "deactivated")
            code, message = await bob.sign_in(provider, "bob")
            assert (code, "None of your groups" in message) == (403023, True)
            assert (await server.owner.get("/v1/me")).status == 200
            provider.people["bob"] = BOB
            assert (await bob.sign_in(provider, "bob"))[0] == 200
            assert (await bob.me())["permissions"] == ["run:read"]


async def test_the_way_back_in_stays_though_the_provider_lets_everybody_go(tmp_path: Path) -> None:
    async with _world(tmp_path, sign_in_groups={"traders": ("admin",)}, sign_in_check_s=1.0) as (server, provider):
        ada = Browser(server)
        assert (await ada.sign_in(provider, "ada"))[0] == 200
        owner = (await server.owner.get("/v1/me")).data["keyId"]
        path = f"/v1/people/{(await ada.me())['personId']}"
        assert (await server.owner.send("PATCH", path, {"keyIds": [owner]})).status == 200
        provider.people.clear()

        async def is_out() -> bool:
            return await ada.me() == {}

        await until(is_out)
        assert (await server.owner.get("/v1/me")).status == 200
