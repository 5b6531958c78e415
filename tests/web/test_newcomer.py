"""What a newcomer builds from an empty canvas, without the documentation, until its simulation has passed: counted in
clicks and keys. What it takes may fall, and must not rise."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import expect
from price_source import PriceSource

from testkit.e2e.server import Server
from testkit.web.app import App
from testkit.web.newcomer import Newcomer


@pytest.fixture(scope="module")
def source() -> PriceSource:
    """Has orders."""
    source = PriceSource()
    source.start()
    return source


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, source: PriceSource) -> Iterator[Server]:
    """A server that may ask the source."""
    server = Server(tmp_path_factory.mktemp("server"), outbound_allow=source.address)
    try:
        yield server.start()
    finally:
        server.close()


@pytest.fixture
def person(app: App) -> Newcomer:
    """Somebody who has never been here."""
    return Newcomer(app)


@pytest.mark.long
def test_an_api_is_polled_and_a_change_told(person: Newcomer, source: PriceSource, server: Server) -> None:
    person.begin("HTTP poll")
    person.fill("URL", f"http://{source.address}/orders")
    person.fill("Items", "body.orders")
    person.attempt()
    person.add("alert")
    person.press_button("Create a connector")
    form = person.page.get_by_role("dialog", name="New connector")
    person.write("Team", form)
    person.click(form.get_by_placeholder("e.g. slack://"))
    person.type("slack://TokenA/TokenB/TokenC/#orders")
    assert person.app.faults() == []
    person.click(form.get_by_role("button", name="Store"))
    expect(person.inspector.get_by_role("combobox", name="Connector")).to_have_text(re.compile("Team"))
    person.click(person.inspector.get_by_role("textbox", name="Body"))
    person.type("Order {{$trigger.body.item.")
    cents = person.page.get_by_role("option", name=re.compile("^cents"))
    expect(cents).to_contain_text("799")
    person.click(cents)
    [start, tell] = person.simulate().values()
    assert (start["type"], tell["type"]) == ("http-poll", "notify")
    assert tell["payload"]["body"] == "Order {{$trigger.body.item.cents}}"
    assert tell["connector"]["id"] == server.call("GET", "/v1/connectors")["items"][0]["id"]
    person.took(14, 113)


@pytest.mark.long
def test_a_step_offers_what_nobody_knows_by_heart(person: Newcomer) -> None:
    person.begin("On a schedule")
    person.press_button("every Monday at 9:00")
    expect(person.inspector.get_by_role("textbox", name="Schedule")).to_have_text("0 9 * * MON")
    person.add("price")
    expect(person.inspector.get_by_text("in US dollars")).to_be_visible()
    expect(person.inspector.get_by_text("required").first).to_be_visible()
    expect(person.inspector.get_by_role("alert")).to_have_count(0)
    person.choose("Chain ID", "8453")
    person.add("buy")
    expect(person.inspector.get_by_role("combobox", name="Chain ID", exact=True)).to_have_value("8453")
    person.choose("Token in", "native")
    person.choose("Token out", "USDC")
    person.press_button("Create a wallet")
    form = person.page.get_by_role("dialog", name="New wallet")
    person.click(form.get_by_role("textbox", name="Name"))
    person.type("Savings")
    person.click(form.get_by_role("button", name="New wallet"))
    expect(person.inspector.get_by_role("combobox", name="Wallet", exact=True)).to_have_text(re.compile("Savings"))
    expect(person.inspector.get_by_role("link", name="Its balances and policy")).to_be_visible()
    assert person.app.faults() == []
    person.page.mouse.move(700, 500)
    expect(person.page.get_by_role("tooltip")).to_have_count(0)
