"""The page of people: invited, given a key, signed out, deactivated by whoever administers; sessions by all."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect

from dustrun.core.audit_export import verify
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
    dialog.get_by_role("combobox", name="What they may do").click()
    page.get_by_role("option", name="Chosen permissions").click()
    dialog.get_by_label("See runs").check()
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


def test_roles_service_accounts_and_the_log(browser: Browser, server: Server) -> None:
    """A role of one's own, an account that has it, its key made and rotated; the log exported and checked."""
    eve = _window(browser, server, _invite(server, "Eve", "admin")["url"])
    page = eve.open("/roles")
    page.get_by_role("button", name="New role").click()
    dialog = page.get_by_role("dialog", name="New role")
    dialog.get_by_role("textbox", name="Name").fill("bookkeeper")
    dialog.get_by_label("Begin with").click()
    page.get_by_role("option", name="approver").click()
    dialog.get_by_label("Approve and reject what waits").uncheck()
    expect(dialog.get_by_label("Operate the whole server")).to_be_disabled()
    assert eve.faults() == []
    dialog.get_by_role("button", name="Make the role").click()
    expect(dialog).to_have_count(0)
    page.get_by_role("link", name="bookkeeper").click()
    own = page.get_by_role("region", name="bookkeeper")
    expect(own.get_by_text("See transactions")).to_be_visible()
    expect(own.get_by_text("Nobody has it.")).to_be_visible()

    page.get_by_role("link", name="Service accounts").click()
    page.get_by_role("button", name="New service account").click()
    dialog = page.get_by_role("dialog", name="New service account")
    dialog.get_by_role("textbox", name="Name").fill("shop")
    dialog.get_by_role("combobox", name="It may").click()
    expect(page.get_by_role("option", name="admin")).to_have_count(0)
    page.get_by_role("option", name="bookkeeper").click()
    assert eve.faults() == []
    dialog.get_by_role("button", name="Make the account").click()
    expect(dialog).to_have_count(0)
    page.get_by_role("link", name="shop").click()
    keys = page.get_by_role("region", name="Keys")
    _make_key(eve, keys)
    old = server.call("GET", "/v1/service-accounts")["items"][0]["keyIds"]
    keys.get_by_role("button", name="Rotate the key shop-1").click()
    page.get_by_role("dialog").get_by_role("button", name="Rotate").click()
    page.get_by_role("button", name="I have stored it").click()
    expect(keys.get_by_role("row")).to_have_count(3)
    expect(keys.get_by_text("ends soon")).to_have_count(1)
    assert eve.faults() == []
    page.get_by_role("region", name="shop").get_by_role("button", name="Disable").click()
    page.get_by_role("dialog").get_by_role("button", name="Disable").click()
    expect(keys.get_by_text("It has no key that is good.")).to_be_visible()
    assert server.call("GET", f"/v1/api-keys/{old[0]}")["revokedAt"] is not None

    page.get_by_role("link", name="Log").click()
    page.get_by_role("button", name="Export").click()
    dialog = page.get_by_role("dialog", name="Export")
    dialog.get_by_role("button", name="Fetch and check").click()
    expect(dialog.get_by_text("chain verified")).to_be_visible()
    assert eve.faults() == []
    with page.expect_download() as saved:
        dialog.get_by_role("button", name="Save the file").click()
    assert verify(saved.value.path().read_bytes().splitlines(keepends=True)).problems == []
    eve.close()


def _make_key(window: App, keys: Locator) -> None:
    keys.get_by_role("button", name="New key").click()
    dialog = window.page.get_by_role("dialog", name="New key")
    dialog.get_by_role("textbox", name="Name of the key").fill("shop-1")
    dialog.get_by_role("button", name="Make the key").click()
    shown = window.page.get_by_role("dialog", name="The key, shown once")
    expect(shown.locator("code")).to_contain_text("sk_")
    shown.get_by_role("button", name="I have stored it").click()


def test_whoever_signed_in_by_a_key_types_it_to_make_a_role(app: App, server: Server) -> None:
    page = app.open("/roles")
    page.get_by_role("button", name="New role").click()
    dialog = page.get_by_role("dialog", name="New role")
    dialog.get_by_role("textbox", name="Name").fill("clerk")
    dialog.get_by_label("See runs").check()
    dialog.get_by_role("button", name="Make the role").click()
    asked = page.get_by_role("dialog", name="Is it you?")
    asked.get_by_role("button", name="Cancel").click()
    expect(dialog.get_by_role("alert")).to_contain_text("send an API key")
    dialog.get_by_role("button", name="Make the role").click()
    assert app.faults() == []
    asked.get_by_label("Your own key, once more").fill(server.key)
    asked.get_by_role("button", name="Go on").click()
    expect(page.get_by_role("link", name="clerk")).to_be_visible()


def _check_what_bob_sees(bob: App) -> None:
    """His own sessions; neither pages nor requests of what he may not read."""
    asked: list[str] = []
    bob.page.on("response", lambda answer: asked.append(f"{answer.status} {answer.url}"))
    page: Page = bob.open("/people")
    expect(page.get_by_role("region", name="Your sessions").get_by_text("this browser")).to_be_visible()
    expect(page.get_by_role("button", name="Invite")).to_have_count(0)
    for hidden in ("Roles", "Service accounts", "Keys", "Log"):
        expect(page.get_by_role("link", name=hidden)).to_have_count(0)
    page = bob.open("/")
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    not_his = ("/v1/people", "/quotas", "/v1/roles", "/v1/service-accounts", "/v1/api-keys", "/v1/audit")
    assert [one for one in asked if one.startswith("4") or any(path in one for path in not_his)] == []
    assert bob.faults() == []
