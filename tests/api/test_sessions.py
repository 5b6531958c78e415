"""Browser sessions: cookies that stand for a key, and everything that must not come in with them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from dustrun.storage.db.statement import Statement
from dustrun.storage.db.tables import sign_in_links, web_sessions
from testkit.composition import DEFINITION, Composition, composed

BASE = "http://127.0.0.1:8080"
HOUR_MS = 3_600_000
NEW = {"name": "w", "description": "", "definition": DEFINITION}


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Composition]:
    async with composed(tmp_path) as composition:
        yield composition


class Browser:
    """A browser at the server's address."""

    def __init__(self, server: Composition, base: str = BASE) -> None:
        self.http = httpx.AsyncClient(transport=httpx.ASGITransport(server.app), base_url=base)
        self.token = ""

    async def sign_in(self, path: str, body: dict[str, Any]) -> httpx.Response:
        answer = await self.http.post(path, json=body)
        self.token = answer.json()["data"]["csrfToken"] if answer.is_success else ""
        return answer

    async def send(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, int]:
        """Sends with cookies and token; status and code."""
        sent = {"X-CSRF-Token": self.token, **{name.replace("_", "-"): value for name, value in headers.items()}}
        answer = await self.http.request(method, path, json=body, headers=sent)
        return answer.status_code, answer.json()["code"]


@pytest.fixture
async def browser(server: Composition) -> AsyncIterator[Browser]:
    one = Browser(server)
    assert (await one.sign_in("/v1/session", {"key": server.owner_key})).status_code == 200
    yield one
    await one.http.aclose()


async def test_a_session_stands_for_its_key_and_shows_it_to_nobody(server: Composition, browser: Browser) -> None:
    me = (await browser.http.get("/v1/me")).json()["data"]
    assert (me["isSession"], me["organizationName"], "admin" in me["permissions"]) == (True, "Default", True)
    assert (await browser.send("POST", "/v1/workflows", NEW))[0] == 200
    stored = [str(row) for row in await server.rows(sa.select(web_sessions))]
    cookies = {one.name: one for one in browser.http.cookies.jar}
    (name,) = (one for one in cookies if not one.endswith("_csrf"))
    assert server.owner_key not in str(cookies.values())
    assert all(str(one.value) not in stored[0] for one in cookies.values())
    assert cookies[name].has_nonstandard_attr("HttpOnly")
    assert not cookies[f"{name}_csrf"].has_nonstandard_attr("HttpOnly")
    assert {one.get_nonstandard_attr("SameSite") for one in cookies.values()} == {"strict"}


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"X_CSRF_Token": ""}, 403021),
        ({"X_CSRF_Token": "csrf_wrong"}, 403021),
        ({"Sec_Fetch_Site": "cross-site"}, 403020),
        ({"Sec_Fetch_Site": "same-site"}, 403020),
        ({"Origin": "http://127.0.0.1:3000"}, 403020),
        ({"Origin": "null"}, 403020),
        ({"Host": "evil.example"}, 403020),
        ({"Host": "127.0.0.1.evil.example"}, 403020),
    ],
)
async def test_a_write_that_its_page_did_not_send_is_refused(
    browser: Browser, headers: dict[str, str], code: int
) -> None:
    assert await browser.send("POST", "/v1/workflows", NEW, **headers) == (403, code)
    assert (await browser.http.get("/v1/workflows")).json()["data"]["items"] == []


async def test_a_read_needs_no_token_but_its_own_page(browser: Browser) -> None:
    assert (await browser.http.get("/v1/workflows")).status_code == 200
    assert (await browser.send("GET", "/v1/workflows", Sec_Fetch_Site="same-site"))[1] == 403020


async def test_keys_and_wallets_need_the_key_itself(server: Composition, browser: Browser) -> None:
    key = {"name": "k", "scope": "read"}
    wallet = (await server.owner.post("/v1/wallets", {"name": "w"})).data["id"]
    assert await browser.send("POST", "/v1/api-keys", key) == (403, 403022)
    assert await browser.send("POST", f"/v1/wallets/{wallet}/export", {"password": "a long password"}) == (403, 403022)
    assert await browser.send("POST", "/v1/session/links") == (403, 403022)
    assert (await server.owner.post("/v1/api-keys", key)).status == 200


async def test_a_session_ends_with_its_key_and_by_signing_out(server: Composition, browser: Browser) -> None:
    made = (await server.owner.post("/v1/api-keys", {"name": "k", "scope": "read"})).data
    other = Browser(server)
    await other.sign_in("/v1/session", {"key": made["key"]})
    assert (await other.send("GET", "/v1/me"))[0] == 200
    await server.owner.delete(f"/v1/api-keys/{made['id']}")
    assert await other.send("GET", "/v1/me") == (401, 401001)
    kept = dict(browser.http.cookies)
    assert (await browser.send("DELETE", "/v1/session"))[0] == 200
    assert not dict(browser.http.cookies)
    browser.http.cookies.update(kept)
    assert (await browser.send("GET", "/v1/me"))[0] == 401


@pytest.mark.parametrize(
    ("column", "back_ms", "status"),
    [("seen_at", 11 * HOUR_MS, 200), ("seen_at", 13 * HOUR_MS, 401), ("created_at", 169 * HOUR_MS, 401)],
)
async def test_a_session_ends_unused_and_after_a_week(
    server: Composition, browser: Browser, column: str, back_ms: int, status: int
) -> None:
    older = Statement(sa.update(web_sessions).values({column: web_sessions.c[column] - back_ms}))
    await server.parts.writer.write(lambda tx: tx.do(older))
    assert (await browser.send("GET", "/v1/me"))[0] == status
    assert (await browser.send("GET", "/v1/me"))[0] == status


async def test_a_link_signs_in_once_and_for_ten_minutes(server: Composition) -> None:
    link = (await server.owner.post("/v1/session/links")).data
    token = link["url"].partition("#signin=")[2]
    browser = Browser(server)
    assert (await browser.sign_in("/v1/session/redeem", {"token": token})).status_code == 200
    assert (await browser.send("GET", "/v1/me"))[0] == 200
    assert (await Browser(server).sign_in("/v1/session/redeem", {"token": token})).status_code == 401
    late = (await server.owner.post("/v1/session/links")).data["url"].partition("#signin=")[2]
    passed = Statement(sa.update(sign_in_links).values(expires_at=sign_in_links.c.expires_at - 601_000))
    await server.parts.writer.write(lambda tx: tx.do(passed))
    assert (await Browser(server).sign_in("/v1/session/redeem", {"token": late})).status_code == 401


async def test_wrong_keys_start_nothing_and_are_slowed_down(server: Composition) -> None:
    wrong = Browser(server)
    codes = {(await wrong.sign_in("/v1/session", {"key": f"sk_{n:040}"})).status_code for n in range(250)}
    assert codes == {401, 429}
    assert not await server.rows(sa.select(web_sessions))
    foreign = await wrong.http.post(
        "/v1/session", json={"key": server.owner_key}, headers={"Origin": "http://evil.example"}
    )
    assert foreign.json()["code"] == 403020


async def test_behind_https_the_cookies_are_secure_and_bound_to_the_host(tmp_path: Path) -> None:
    async with composed(tmp_path, public_url="https://dustrun.example") as server:
        browser = Browser(server, "https://dustrun.example")
        assert (await browser.sign_in("/v1/session", {"key": server.owner_key})).status_code == 200
        cookies = list(browser.http.cookies.jar)
        assert all(one.name.startswith("__Host-dustrun_") and one.secure for one in cookies)
        assert (await browser.send("GET", "/v1/me"))[0] == 200


async def test_a_bearer_key_comes_before_a_cookie(server: Composition, browser: Browser) -> None:
    made = (await server.owner.post("/v1/api-keys", {"name": "k", "scope": "read"})).data
    me = (await browser.http.get("/v1/me", headers={"Authorization": f"Bearer {made['key']}"})).json()["data"]
    assert (me["keyId"], me["isSession"]) == (made["id"], False)
