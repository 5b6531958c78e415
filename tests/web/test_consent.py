"""Connecting a connector at a real provider, in a browser."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from testkit.e2e.server import Server
from testkit.oidc import CLIENT, SECRET, RealProvider
from testkit.web.app import App


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, RealProvider]]:
    """A server, and a provider that knows it."""
    server = Server(tmp_path_factory.mktemp("server"), outbound_allow="localhost")
    provider = RealProvider(f"{server.url}/v1/oauth/callback")
    provider.tell(people={"ada": {"name": "Ada"}})
    try:
        yield server.start(), provider
    finally:
        server.close()
        provider.close()


def test_somebody_consents_in_a_new_window(browser: Browser, world: tuple[Server, RealProvider]) -> None:
    server, provider = world
    data = {
        "authorizeUrl": f"{provider.url}/auth",
        "tokenUrl": f"{provider.url}/token",
        "clientId": CLIENT,
        "clientSecret": SECRET,
        "scope": "openid offline_access",
    }
    body = {"type": "oauth2-authorization-code", "name": "Books", "data": data, "allowedHosts": [provider.url]}
    made = server.call("POST", "/v1/connectors", body)
    app = App(browser, server).sign_in()
    app.open(f"/connectors/{made['id']}")
    expect(app.page.get_by_text("Not connected yet")).to_be_visible()
    with app.page.expect_popup() as opened:
        app.page.get_by_role("button", name="Connect", exact=True).click()
    page = opened.value
    page.get_by_role("textbox", name="Name").fill("ada")
    page.get_by_role("button", name="Go").click()
    expect(page.get_by_text("Books")).to_be_visible()
    expect(app.page.get_by_text("Not connected yet")).to_be_visible()
    page.get_by_role("button", name="Connect").click()
    expect(page.get_by_role("heading", name="Connected")).to_be_visible()
    page.close()
    expect(app.page.get_by_text("Connected", exact=True)).to_be_visible()
    expect(app.page.get_by_role("button", name="Connect again")).to_be_visible()
    assert server.call("GET", f"/v1/connectors/{made['id']}")["consent"] == "connected"
    app.close()
