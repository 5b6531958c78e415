"""Connectors that a person consents to, at a real provider and at one that loses answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
import sqlalchemy as sa

from dustrun.errors import Code
from dustrun.storage.db.statement import Statement
from dustrun.storage.db.tables import connectors
from echoing import Echo, echoing
from engine.conftest import Bench
from testkit.composition import composed
from testkit.oidc import CLIENT, SECRET, RealProvider

CALLBACK = "/v1/oauth/callback"


@pytest.fixture(scope="module")
def provider() -> Iterator[RealProvider]:
    """A real provider, whose refresh tokens work once."""
    provider = RealProvider(f"http://127.0.0.1:8080{CALLBACK}")
    provider.tell(people={"ada": {"name": "Ada"}})
    try:
        yield provider
    finally:
        provider.close()


@pytest.fixture
async def echo() -> AsyncIterator[Echo]:
    async with echoing() as echo:
        echo.refresh_prefix = "refresh"
        yield echo


@pytest.fixture
async def bench(tmp_path: Path, store_url: str) -> AsyncIterator[Bench]:
    async with composed(tmp_path, database_url=store_url, outbound_allow=("127.0.0.1", "localhost")) as composition:
        yield Bench(composition)


async def connector(bench: Bench, url: str, authorize: str, token: str, **data: Any) -> dict[str, Any]:
    endpoints = {"authorizeUrl": f"{url}{authorize}", "tokenUrl": f"{url}{token}"}
    data = {**endpoints, "clientId": CLIENT, "clientSecret": SECRET, **data}
    body = {"type": "oauth2-authorization-code", "name": "Books", "data": data, "allowedHosts": [url]}
    made: dict[str, Any] = (await bench.api.post("/v1/connectors", body)).data
    return made


async def begun(bench: Bench, made: dict[str, Any]) -> str:
    url: str = (await bench.api.post(f"/v1/connectors/{made['id']}/consent")).data["url"]
    return url


def state_in(url: str) -> str:
    return parse_qs(urlsplit(url).query)["state"][0]


async def confirmed(bench: Bench, **reply: str) -> tuple[int, str]:
    answer = await bench.api.http.post(f"{CALLBACK}?{urlencode(reply)}", headers={"Host": "127.0.0.1:8080"})
    return answer.status_code, answer.text


async def state_of(bench: Bench, made: dict[str, Any]) -> str:
    found: str = (await bench.api.get(f"/v1/connectors/{made['id']}")).data["consent"]
    return found


async def connected(bench: Bench, echo: Echo, **data: Any) -> dict[str, Any]:
    made = await connector(bench, echo.url, "/authorize", "/token", **data)
    state = state_in(await begun(bench, made))
    assert (await confirmed(bench, state=state, code="c"))[0] == 200
    return made


def asking(made: dict[str, Any], url: str) -> dict[str, Any]:
    reference = {"type": made["type"], "id": made["id"]}
    return {"ask": {"type": "http-request", "connector": reference, "payload": {"url": url}}}


async def let_token_end(bench: Bench, made: dict[str, Any], **columns: Any) -> None:
    change = sa.update(connectors).where(connectors.c.id == made["id"]).values(token_expires_at=0, **columns)
    await bench.composition.parts.data.connectors._writer.write(lambda tx: tx.do(Statement(change)))
    bench.composition.parts.data.consents._connections.tokens.forget(made["id"])


async def failure_of(bench: Bench, made: dict[str, Any], url: str) -> str:
    run = await bench.run(asking(made, url))
    assert run["status"] == "failure"
    return str(run["error"]["message"])


async def test_consent_at_a_real_provider_and_renewal_by_rotation(bench: Bench, provider: RealProvider) -> None:
    made = await connector(bench, provider.url, "/auth", "/token", scope="openid offline_access")
    assert (made["consent"], made["connectedAt"]) == ("notConnected", None)
    assert "not connected yet" in await failure_of(bench, made, f"{provider.url}/me")
    reply = await asyncio.to_thread(provider.sign_in, await begun(bench, made), "ada")
    assert reply["iss"] == provider.url
    shown = await bench.api.http.get(f"{CALLBACK}?{urlencode(reply)}")
    assert "<b>Books</b>" in shown.text
    assert "form-action 'self'" in shown.headers["content-security-policy"]
    assert await state_of(bench, made) == "notConnected", "nothing happens before somebody confirms"
    status, said = await confirmed(bench, **reply)
    assert status == 200, said
    assert (await confirmed(bench, **reply))[0] == 403, "it is used up"
    assert await state_of(bench, made) == "connected"
    for _ in range(2):
        assert (await bench.run(asking(made, f"{provider.url}/me")))["status"] == "success"
        await let_token_end(bench, made)
    runs = await asyncio.gather(*(bench.run(asking(made, f"{provider.url}/me")) for _ in range(5)))
    assert {run["status"] for run in runs} == {"success"}, "five nodes share one refresh"


async def test_answers_that_belong_to_no_consent_change_nothing(bench: Bench, echo: Echo) -> None:
    made = await connector(bench, echo.url, "/authorize", "/token")
    query = parse_qs(urlsplit(await begun(bench, made)).query)
    assert query["code_challenge_method"] == ["S256"]
    assert query["redirect_uri"] == [f"http://127.0.0.1:8080{CALLBACK}"]
    state = query["state"][0]
    status, said = await confirmed(bench, state=state, code="c", iss="https://evil.example")
    assert (status, "another provider" in said) == (403, True)
    assert (await confirmed(bench, state="state_guessed", code="c"))[0] == 403
    status, said = await confirmed(bench, state=state, error="access_denied", error_description="<b>No</b>")
    assert (status, "access_denied" in said, "<b>No" in said) == (403, True, False)
    assert (await confirmed(bench, state=state, code="c"))[0] == 403, "a refusal uses it up"
    assert (echo.asked, await state_of(bench, made)) == ([], "notConnected")
    bearer = {"type": "http-bearer", "name": "b", "data": {"token": "t" * 20}, "allowedHosts": ["a.example.com"]}
    other = (await bench.api.post("/v1/connectors", bearer)).data
    assert other["consent"] is None
    assert (await bench.api.post(f"/v1/connectors/{other['id']}/consent")).code == Code.BODY_INVALID


async def test_consent_ends_with_a_change_of_what_it_was_for(bench: Bench, echo: Echo) -> None:
    made = await connected(bench, echo)
    path = f"/v1/connectors/{made['id']}"
    await bench.api.put(path, {"name": "Renamed"})
    assert (await bench.run(asking(made, f"{echo.url}/guarded")))["status"] == "success"
    assert len(echo.asked) == 1, "a new name asks for no new token"
    late = state_in(await begun(bench, made))
    data = (await bench.api.get(path)).data["maskedData"] | {"scope": "more"}
    await bench.api.put(path, {"data": data})
    assert await state_of(bench, made) == "notConnected"
    assert (await confirmed(bench, state=late, code="c"))[0] == 409


async def test_refresh_token_whose_answer_was_lost_is_never_sent_again(bench: Bench, echo: Echo) -> None:
    made = await connected(bench, echo)
    await let_token_end(bench, made, renewing_since=1)
    for _ in range(2):
        assert "needs reconnecting: its refresh token was sent" in await failure_of(bench, made, f"{echo.url}/guarded")
    assert (len(echo.asked), await state_of(bench, made)) == (1, "needsReconnecting")
    shown = (await bench.api.get(f"/v1/connectors/{made['id']}")).data
    assert shown["failure"]["what"] == "reconnect"
    await confirmed(bench, state=state_in(await begun(bench, made)), code="c")
    assert await state_of(bench, made) == "connected"
    assert (await bench.run(asking(made, f"{echo.url}/guarded")))["status"] == "success"


async def test_provider_known_not_to_rotate_is_asked_again(bench: Bench, echo: Echo) -> None:
    made = await connected(bench, echo)
    echo.refresh_prefix = None
    await let_token_end(bench, made)
    assert (await bench.run(asking(made, f"{echo.url}/guarded")))["status"] == "success"
    await let_token_end(bench, made, renewing_since=1)
    assert (await bench.run(asking(made, f"{echo.url}/guarded")))["status"] == "success"
    assert [form.get("refresh_token") for form in echo.asked] == [None, "refresh-1", "refresh-1"]


async def test_revoked_grant_is_asked_for_once(bench: Bench, echo: Echo) -> None:
    made = await connected(bench, echo)
    await let_token_end(bench, made)
    echo.token_error = "invalid_grant"
    for _ in range(3):
        assert "needs reconnecting" in await failure_of(bench, made, f"{echo.url}/guarded")
    assert (len(echo.asked), await state_of(bench, made)) == (2, "needsReconnecting")


async def test_token_without_end_is_kept_and_tokens_are_never_shown(bench: Bench, echo: Echo) -> None:
    echo.refresh_prefix, echo.expires_in = None, None
    made = await connected(bench, echo)
    assert (await bench.run(asking(made, f"{echo.url}/guarded")))["status"] == "success"
    assert await state_of(bench, made) == "connected"
    assert "access-1" not in (await bench.api.get(f"/v1/connectors/{made['id']}")).response.text
