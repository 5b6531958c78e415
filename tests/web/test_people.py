"""The page of people: invited, given a key, signed out, deactivated by whoever administers; sessions by all."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from testkit.e2e.server import Server
from testkit.web.app import App, new_context


def _invite(server: Server, name: str, *permissions: str) -> dict[str, Any]:
    body = {"name": name, "email": f"{name.lower()}@example.com", "permissions": list(permissions)}
    made: dict[str, Any] = server.call("POST", "/v1/people", body)
    return made


def _window(browser: Browser, server: Server, link: str) -> App:
    """A browser that a link has signed in."""
    session: BrowserContext = new_context(browser)
    token = link.partition("#signin=")[2]
    answer = session.request.post(f"{server.url}/v1/session/redeem", data={"token": token})
    assert answer.ok, answer.text()
    return App(browser, server, session=session)


@pytest.mark.long
def test_people_from_the_invitation_to_the_end(browser: Browser, server: Server) -> None:
    ada = _window(browser, server, _invite(server, "Ada", "admin")["url"])
    machine = server.call("POST", "/v1/api-keys", {"name": "machine", "permissions": ["run:read"]})["id"]
    page = ada.open("/people")
    uses = page.get_by_role("region", name="What the organisation uses")
    expect(uses.get_by_role("row", name="Connectors")).to_contain_text("1,000")
    page.get_by_role("button", name="Invite").click()
    dialog = page.get_by_role("dialog", name="Invite")
    dialog.get_by_role("textbox", name="Name").fill("Bob")
    dialog.get_by_role("textbox", name="E-mail").fill("bob@example.com")
    assert ada.faults() == []
    dialog.get_by_role("button", name="Invite").click()
    shown = page.get_by_role("dialog", name="Link to sign in")
    link = shown.locator("code").inner_text()
    assert ada.faults() == []
    shown.get_by_role("button", name="I have copied it").click()
    bob = _window(browser, server, link)

    page.get_by_role("link", name="Bob").click()
    detail = page.get_by_role("region", name="Bob")
    detail.get_by_role("button", name="Give a key").click()
    page.get_by_role("combobox", name="Key").fill("machine")
    page.get_by_role("option", name=machine).click()
    page.get_by_role("dialog").get_by_role("button", name="Give a key").click()
    expect(page.get_by_role("region", name="In their name").get_by_role("link", name="machine")).to_be_visible()
    _check_what_bob_sees(bob)

    sessions = page.get_by_role("region", name="Sessions", exact=True)
    expect(sessions.get_by_role("row")).to_have_count(2)
    assert ada.faults() == []
    sessions.get_by_role("button", name="End session").click()
    expect(sessions.get_by_text("No open session.")).to_be_visible()
    assert bob.page.request.get(f"{server.url}/v1/me").status == 401
    detail.get_by_role("button", name="Deactivate").click()
    asked = page.get_by_role("dialog", name="Deactivate Bob?")
    expect(asked.get_by_role("link", name="machine")).to_be_visible()
    assert ada.faults() == []
    asked.get_by_role("button", name="Deactivate").click()
    expect(detail.get_by_role("button", name="Let in again")).to_be_visible()
    assert server.call("GET", f"/v1/api-keys/{machine}")["revokedAt"] is not None
    for window in (ada, bob):
        window.close()


def _check_what_bob_sees(bob: App) -> None:
    """His own sessions; neither pages nor requests of what he may not read."""
    asked: list[str] = []
    bob.page.on("response", lambda answer: asked.append(f"{answer.status} {answer.url}"))
    page: Page = bob.open("/people")
    expect(page.get_by_role("region", name="Your sessions").get_by_text("this browser")).to_be_visible()
    expect(page.get_by_role("button", name="Invite")).to_have_count(0)
    assert [one for one in asked if one.startswith("4") or "/v1/people" in one or "/quotas" in one] == []
    assert bob.faults() == []
