"""What a newcomer builds from an empty canvas, without the documentation: counted in clicks and fields, and free of
problems at the end."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from testkit.e2e.server import Server
from testkit.web.app import App

RECIPIENT = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"


class Newcomer:
    """A person at the editor; `acts` counts clicks, choices and fields."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.page: Page = app.open("/")
        self.acts = 0

    def begin(self, starts_by: str | None = None) -> None:
        """A new workflow, with its trigger chosen."""
        self._act(self.page.get_by_role("button", name="New workflow").first.click)
        self._act(self.page.locator(".card").first.click)
        if starts_by:
            self._act(lambda: self.page.get_by_label("Starts by").select_option(starts_by))

    def add(self, words: str, branch: str | None = None) -> None:
        """One step after the selected one."""
        self._act(self.page.get_by_role("button", name="Add a step", exact=True).click)
        if branch:
            self._act(self.page.get_by_role("dialog").get_by_text(branch, exact=True).click)
        self.page.get_by_role("combobox", name="Search steps").fill(words)
        self._act(lambda: self.page.keyboard.press("Enter"))
        expect(self.page.get_by_role("dialog")).to_have_count(0)

    def fill(self, field: str, text: str) -> None:
        """One field of the step."""
        inspector = self.page.get_by_role("complementary")
        box = inspector.get_by_role("textbox", name=field, exact=True)
        if not box.count():
            self._act(inspector.get_by_role("button", name=re.compile("more setting")).click)
        self._act(lambda: box.fill(text))
        self.page.keyboard.press("Escape") if self.page.locator(".cm-tooltip").count() else None

    def choose(self, field: str, value: str) -> None:
        """One choice of the step."""
        box = self.page.get_by_role("complementary").get_by_role("combobox", name=field, exact=True)
        self._act(lambda: box.select_option(value))

    def attempt(self) -> None:
        """Has the trigger look once: expressions and the payload begin with what it saw."""
        inspector = self.page.get_by_role("complementary")
        self._act(inspector.get_by_role("tab", name="Test").click)
        self._act(inspector.get_by_role("button", name="Try this trigger").click)
        seen = inspector.get_by_role("region", name="What a run would start with")
        expect(seen).to_contain_text("A real event")
        assert self.app.faults() == []

    def open(self, step: str) -> None:
        """Goes back to a step."""
        self._act(self.page.locator(".card").filter(has_text=step).first.click)

    def _act(self, act: Any) -> None:
        act()
        self.acts += 1

    def done(self) -> dict[str, Any]:
        """What is saved, once it has no problems."""
        expect(self.page.get_by_text("Saved", exact=True)).to_be_visible()
        expect(self.page.get_by_role("button", name=re.compile("problem"))).to_have_count(0)
        expect(self.page.get_by_role("button", name="Simulate", exact=True)).to_be_enabled()
        workflow = self.page.url.rsplit("/", 1)[1].partition("?")[0]
        found: dict[str, Any] = self.app.server.call("GET", f"/v1/workflows/{workflow}")["definition"]["nodes"]
        return found


@pytest.fixture(scope="module")
def shop() -> Iterator[str]:
    """The address of an API with one order."""

    class Shop(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b'{"orders": [{"id": "A-17", "total": 20.5}]}'
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Shop) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/orders"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that may ask this machine."""
    server = Server(tmp_path_factory.mktemp("server"), outbound_allow="127.0.0.1")
    try:
        yield server.start()
    finally:
        server.close()


@pytest.fixture
def person(app: App) -> Newcomer:
    """Somebody who has never been here."""
    return Newcomer(app)


def test_an_api_is_polled_and_a_change_told(person: Newcomer, shop: str) -> None:
    person.begin("http-poll")
    person.fill("URL", shop)
    person.fill("Items", "body.orders")
    person.attempt()
    person.add("if")
    person.page.get_by_role("textbox", name="Expression").click()
    person.page.keyboard.type("$trigger.body.item.")
    expect(person.page.get_by_role("option", name=re.compile("^total"))).to_contain_text("20.5")
    person.page.keyboard.type("total > 10")
    expect(person.page.get_by_role("button", name=re.compile("more setting"))).to_have_count(0)
    person.add("http request", branch="then")
    person.fill("URL", "https://example.com/notices")
    person.choose("Method", "POST")
    person.fill("JSON", '{"text": "It changed: {{string($trigger.body.item)}}"}')
    nodes = person.done()
    assert [node["type"] for node in nodes.values()] == ["http-poll", "if", "http-request"]
    assert person.acts <= 20


def test_a_step_says_what_it_needs(person: Newcomer) -> None:
    person.begin()
    person.add("notify")
    inspector = person.page.get_by_role("complementary")
    expect(inspector.get_by_role("link", name="Make a connector first")).to_be_visible()
    expect(inspector.locator(".cm-placeholder").first).to_have_text(re.compile("^e.g. "))
    person.page.mouse.move(700, 500)
    expect(person.page.get_by_role("tooltip")).to_have_count(0)
    assert person.app.faults() == []


@pytest.mark.long
def test_a_purchase_is_guarded_by_a_price(person: Newcomer) -> None:
    person.begin("cronjob")
    person.fill("Schedule", "0 9 * * MON")
    person.add("get price")
    person.choose("Chain ID", "1")
    person.add("if")
    person.fill("Expression", "$nodes.getPrice.result.usd < 3000")
    person.add("uniswap v2", branch="then")
    person.choose("Chain ID", "1")
    person.choose("Token in", "USDC")
    person.choose("Token out", "WETH")
    person.fill("Amount in", "25000000")
    nodes = person.done()
    assert nodes["swapUniswapV2"]["branch"] == "then"
    assert person.acts <= 20


@pytest.mark.long
def test_a_payout_is_approved_first(person: Newcomer, server: Server) -> None:
    person.begin()
    person.add("approve")
    person.fill("Message", "Pay?")
    person.add("send native", branch="approved")
    person.choose("Chain ID", "1")
    person.fill("Recipient", RECIPIENT)
    person.fill("Amount", "1000")
    nodes = person.done()
    assert nodes["sendNative"]["branch"] == "approved"
    assert person.acts <= 12
