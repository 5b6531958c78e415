"""Passkeys in a browser, with its virtual authenticator: added, used to sign in and to confirm, removed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from testkit.e2e.server import Server
from testkit.web.app import new_context

DEVICE = {
    "protocol": "ctap2",
    "transport": "internal",
    "hasResidentKey": True,
    "hasUserVerification": True,
    "isUserVerified": True,
    "automaticPresenceSimulation": True,
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that people open at a name: browsers give passkeys to no address."""
    server = Server(tmp_path_factory.mktemp("server"))
    server.configure(public_url=f"http://localhost:{server.port}")
    try:
        yield server.start()
    finally:
        server.close()


def _page(browser: Browser) -> Page:
    """A browser whose authenticator has no passkey yet, and always finds its person there."""
    page = new_context(browser).new_page()
    device = page.context.new_cdp_session(page)
    device.send("WebAuthn.enable")
    device.send("WebAuthn.addVirtualAuthenticator", {"options": DEVICE})
    return page


def test_a_passkey_from_its_making_to_its_end(browser: Browser, server: Server) -> None:
    body = {"name": "Ada", "email": "ada@example.com", "permissions": ["run:read", "key:write"]}
    person = server.call("POST", "/v1/people", body)
    page, link = _page(browser), str(person["url"])
    home = f"http://localhost:{server.port}"
    assert link.startswith(home)
    page.goto(link)
    page.get_by_role("navigation", name="Main").wait_for()
    page.goto(f"{home}/people")
    own = page.get_by_role("region", name="Your passkeys")
    own.get_by_role("button", name="Add a passkey").click()
    dialog = page.get_by_role("dialog", name="Add a passkey")
    dialog.get_by_role("textbox", name="Name").fill("Laptop")
    dialog.get_by_role("button", name="Go on").click()
    expect(own.get_by_role("cell", name="Laptop", exact=True)).to_be_visible()

    own.get_by_role("button", name="Rename the passkey Laptop").click()
    dialog = page.get_by_role("dialog", name="Rename the passkey Laptop")
    dialog.get_by_role("textbox", name="Name").fill("Old laptop")
    dialog.get_by_role("button", name="Save the name").click()
    expect(own.get_by_role("cell", name="Old laptop", exact=True)).to_be_visible()

    own.get_by_role("button", name="Remove the passkey Old laptop").click()  # the link has begun this session
    page.get_by_role("dialog", name="Is it you?").get_by_role("button", name="Cancel").click()
    expect(own.get_by_role("alert")).to_contain_text("your passkey if you have one")
    page.context.clear_cookies()
    page.evaluate("localStorage.clear()")
    page.goto(home)
    page.get_by_role("button", name="Sign in with a passkey").click()
    page.get_by_role("navigation", name="Main").wait_for()
    page.goto(f"{home}/people")
    own.get_by_role("button", name="Confirm with a passkey").click()
    expect(page.get_by_role("region", name="Your sessions").get_by_role("row")).to_have_count(4)

    page.goto(str(server.call("POST", f"/v1/people/{person['id']}/links")["url"]))
    page.get_by_role("navigation", name="Main").wait_for()
    page.goto(f"{home}/people")
    own.get_by_role("button", name="Remove the passkey Old laptop").click()
    page.get_by_role("dialog", name="Is it you?").get_by_role("button", name="Confirm with a passkey").click()
    expect(own.get_by_text("You have none.")).to_be_visible()
    page.context.close()
