"""Signing in at a real identity provider, in a browser and by the same requests without one."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
import requests
from playwright.sync_api import Browser, expect

from testkit.e2e.server import Server
from testkit.oidc import CLIENT, SECRET, RealProvider
from testkit.web.app import new_context

ADA = {"name": "Ada", "email": "ada@example.com", "email_verified": True, "groups": ["traders"]}
BOB = {"name": "Bob", "email": "bob@example.com", "email_verified": True, "groups": ["readers"]}
GROUPS = {"traders": ["run:read", "wallet:read"], "readers": ["run:read"]}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, RealProvider]]:
    """A server whose people sign in at a real provider."""
    folder = tmp_path_factory.mktemp("server")
    server = Server(folder)
    provider = RealProvider(f"{server.url}/sign-in")
    server.configure(
        sign_in_issuer=provider.url,
        sign_in_client_id=CLIENT,
        sign_in_client_secret=SECRET,
        sign_in_name="Acme",
        sign_in_scopes="openid,email,profile,groups,offline_access",
        sign_in_groups=json.dumps(GROUPS),
        sign_in_create="true",
        sign_in_check_s="1",
    )
    try:
        yield server.start(), provider
    finally:
        server.close()
        provider.close()


@pytest.fixture
def provider(world: tuple[Server, RealProvider]) -> RealProvider:
    """The provider, with its people and at the right time."""
    world[1].tell(people={"ada": ADA, "bob": BOB}, aheadMs=0)
    return world[1]


class Visitor:
    """Somebody with cookies of their own."""

    def __init__(self, server: Server) -> None:
        self.base = server.url
        self.http = requests.Session()

    def begin(self) -> str:
        answer = self.http.post(f"{self.base}/v1/session/provider", timeout=30)
        return str(answer.json()["data"]["url"])

    def finish(self, body: dict[str, Any]) -> tuple[int, str]:
        answer = self.http.post(f"{self.base}/v1/session/provider/finish", json=body, timeout=30).json()
        return answer["code"], answer["message"]

    def permissions(self) -> list[str]:
        """None if they are signed out."""
        answer = self.http.get(f"{self.base}/v1/me", timeout=30)
        return list(answer.json()["data"]["permissions"]) if answer.ok else []


def _until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_person_signs_in_with_the_provider(
    browser: Browser, world: tuple[Server, RealProvider], provider: RealProvider
) -> None:
    server, context = world[0], new_context(browser)
    page = context.new_page()
    page.goto(f"{server.url}/workflows")
    page.get_by_role("button", name="Sign in with Acme").click()
    page.get_by_role("textbox", name="Name").fill("eve")
    page.get_by_role("button", name="Go").click()
    expect(page.get_by_role("alert")).to_have_text(
        "The provider does not sign you in (access_denied): Nobody has this name."
    )
    box = page.get_by_role("alert").bounding_box()
    assert box is not None
    assert (box["width"] > 200, box["height"] > 20) == (True, True)  # for eyes, not for screen readers alone
    assert page.url == f"{server.url}/sign-in"  # what the provider answered is not in the address
    page.get_by_role("button", name="Sign in with Acme").click()
    page.get_by_role("textbox", name="Name").fill("ada")
    page.get_by_role("button", name="Go").click()
    page.get_by_role("navigation", name="Main").wait_for()
    assert page.url == f"{server.url}/"
    assert page.evaluate("fetch('/v1/me').then((a) => a.json()).then((a) => a.data.keyName)") == "Ada"
    assert page.evaluate("window.__violations") == []
    page.reload()
    page.get_by_role("navigation", name="Main").wait_for()
    page.get_by_role("button", name="More", exact=True).click()
    page.get_by_role("menuitem", name="Sign out").click()
    page.get_by_role("link", name="Sign out there too").click()
    page.get_by_role("button", name="Yes, sign me out").click()
    expect(page.get_by_role("heading", name="Sign-out Success")).to_be_visible()
    page.goto(f"{server.url}/workflows")
    page.get_by_role("button", name="Sign in with Acme").click()
    expect(page.get_by_role("textbox", name="Name")).to_be_visible()  # it asks who it is again
    context.close()


def test_groups_are_followed_until_the_person_is_gone(
    world: tuple[Server, RealProvider], provider: RealProvider
) -> None:
    bob = Visitor(world[0])
    assert bob.finish(provider.sign_in(bob.begin(), "bob"))[0] == 200
    assert bob.permissions() == GROUPS["readers"]
    provider.tell(people={"bob": {**BOB, "groups": ["readers", "traders"]}})
    _until(lambda: bob.permissions() == GROUPS["traders"])
    provider.tell(people={"bob": BOB})
    _until(lambda: bob.permissions() == [])  # what had the permission has ended
    assert bob.finish(provider.sign_in(bob.begin(), "bob"))[0] == 200
    assert bob.permissions() == GROUPS["readers"]
    provider.tell(people={})
    _until(lambda: bob.permissions() == [])


def test_answers_that_are_no_sign_in_are_refused(world: tuple[Server, RealProvider], provider: RealProvider) -> None:
    server, visitor = world[0], Visitor(world[0])
    good = provider.sign_in(visitor.begin(), "ada")
    assert visitor.finish({**good, "state": "other"})[0] == 403023
    assert visitor.finish({**good, "iss": "http://localhost:1"})[0] == 403023
    assert visitor.finish(good)[0] == 403023  # its sign-in is used up
    code, message = visitor.finish({**provider.sign_in(visitor.begin(), "ada"), "code": good["code"]})
    assert (code, "invalid_grant" in message) == (403023, True)  # PKCE: the code is of another sign-in

    used = provider.sign_in(visitor.begin(), "ada")
    assert visitor.finish(used)[0] == 200
    assert visitor.finish(used)[0] == 403023
    assert Visitor(server).finish(provider.sign_in(visitor.begin(), "ada"))[0] == 403023  # another browser

    url = urlsplit(visitor.begin())
    changed = urlencode({**dict(parse_qsl(url.query)), "nonce": "other"})
    code, message = visitor.finish(provider.sign_in(url._replace(query=changed).geturl(), "ada"))
    assert (code, "(nonce)" in message) == (403023, True)
    for ahead, where in ((300, "ahead of"), (-300, "behind")):
        provider.tell(aheadMs=ahead * 1000)
        code, message = visitor.finish(provider.sign_in(visitor.begin(), "ada"))
        assert (code, where in message) == (403023, True), message
