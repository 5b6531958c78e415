"""The first hour's eleven tasks, as somebody does them who has read nothing: counted in clicks (on a phone: taps) and
keys, from the first page, in Chromium and Firefox. What they take may fall, and must not rise."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from devchain import chain as devchain
from devchain.market import ETHER
from devchain.node import CHAIN_ID
from playwright.sync_api import Browser, expect
from price_source import PriceSource

from testkit.e2e.server import Server
from testkit.web.app import App, new_session
from testkit.web.newcomer import Newcomer
from testkit.web.steps import card

ANN = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
_LONG = pytest.mark.long
in_both = pytest.mark.parametrize("browser", ["chromium", pytest.param("firefox", marks=_LONG)], indirect=True)
in_both_long = pytest.mark.parametrize("browser", ["chromium", "firefox"], indirect=True)
Enter = Callable[..., Newcomer]


@pytest.fixture
def enter(browser: Browser) -> Iterator[Enter]:
    """Somebody comes to the first page of a server, signed in."""
    with contextlib.ExitStack() as leaving:

        def enter(server: Server, **look: bool) -> Newcomer:
            session = new_session(browser, server)
            leaving.callback(session.close)
            app = App(browser, server, session=session, **look)
            leaving.callback(app.close)
            return Newcomer(app)

        yield enter


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, source: PriceSource) -> Iterator[Server]:
    """A server that may ask the source, and has a workflow: its first page is that of every day."""
    server = Server(tmp_path_factory.mktemp("server"), outbound_allow=source.address)
    try:
        server.start()
        server.create_workflow({"nodes": {"root": {"type": "manual"}}})
        yield server
    finally:
        server.close()


@pytest.fixture
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server on which nobody has done anything."""
    server = Server(tmp_path_factory.mktemp("empty"))
    try:
        yield server.start()
    finally:
        server.close()


def _nodes(server: Server, person: Newcomer) -> dict[str, Any]:
    """Of the workflow that is open."""
    found: dict[str, Any] = server.call("GET", _place(person))["definition"]["nodes"]
    return found


def _place(person: Newcomer) -> str:
    """In the API, of the thing whose page is open."""
    path = person.page.url.removeprefix(person.app.server.url).split("?")[0]
    return f"/v1{path}"


def _ended(person: Newcomer, server: Server, run: str) -> dict[str, Any]:
    """A run, once it has ended."""

    def find() -> dict[str, Any] | None:
        found: dict[str, Any] = server.call("GET", f"/v1/runs/{run}")
        return found if found["finishedAt"] else None

    ended: dict[str, Any] = person.app.until(find)
    return ended


@in_both
def test_the_first_page_leads_to_a_workflow_that_runs(enter: Enter, empty: Server) -> None:
    person = enter(empty)
    page = person.page
    expect(page.get_by_role("heading", name="Workflows that move money and call APIs")).to_be_visible()
    expect(page.locator("main ol li")).to_have_count(3)
    person.begin()
    person.add("log")
    person.write("hello")
    person.simulate()
    person.click(page.get_by_role("link", name="Home"))
    expect(page.get_by_role("heading", name="While you were away")).to_be_visible()
    person.took(4, 9)


@_LONG
@in_both_long
def test_an_api_is_asked_every_ten_minutes_and_a_low_price_told(
    enter: Enter, server: Server, source: PriceSource
) -> None:
    person = enter(server)
    page = person.page
    person.begin("On a schedule")
    person.click(person.inspector.get_by_role("textbox", name="When"))
    person.type("every 10 minutes")
    person.add("http request")
    person.write(f"http://{source.address}/price?symbol=ETH")
    person.simulate()
    person.add("if")
    expect(person.inspector.get_by_text("Give exactly one of condition and expression")).to_be_visible()
    expect(person.inspector.get_by_role("alert")).to_have_count(0)
    person.write("usd < 5000")
    expect(person.inspector.get_by_text("Yes, with the last known values.")).to_be_visible()
    person.add("notify")
    person.write("ETH is cheap")
    person.press_button("Create a connector")
    form = page.get_by_role("dialog", name="New connector")
    person.write("Team", form)
    person.click(form.get_by_placeholder("e.g. slack://"))
    person.type("slack://TokenA/TokenB/TokenC/#orders")
    person.press("Enter")
    expect(person.inspector.get_by_role("combobox", name="Connector")).to_have_text(re.compile("Team"))
    nodes = person.simulate()
    assert {one["type"] for one in nodes.values()} == {"interval", "http-request", "if", "notify"}
    assert nodes["notify"]["branch"] == "then"
    person.click(page.get_by_role("button", name="Publish"))
    person.click(page.get_by_role("dialog").get_by_role("button", name="Publish"))
    done = page.get_by_role("dialog", name="Published")
    expect(done).to_contain_text(re.compile(r"Next run .*\d\d:\d\d, in "))
    expect(page.locator(".mantine-Modal-header")).to_have_count(1)  # the one before is gone
    assert server.call("GET", _place(person))["status"] == "active"
    person.took(13, 141)


@_LONG
@in_both_long
def test_a_transfer_is_asked_about_and_approved_on_a_phone(
    enter: Enter, server_with_chain: Server, chain: devchain.DevChain
) -> None:
    """With no command line: the rule, the workflow, the simulation, the payment, and that one person may approve."""
    server = server_with_chain
    organization = f"/v1/organizations/{server.call('GET', '/v1/organizations')['items'][0]['id']}"
    server.call("PATCH", organization, {"singlePersonApproves": False})
    wallet = server.call("POST", "/v1/wallets", {"name": "Savings", "kind": "local", "isDefault": True})
    chain.node.ask("anvil_setBalance", wallet["address"], hex(ETHER))
    policy = {"chains": [CHAIN_ID], "assets": [f"eip155:{CHAIN_ID}/native"], "recipients": [ANN]}
    server.call("PUT", f"/v1/wallets/{wallet['id']}/policy", {"policy": policy | {"limits": [{"maxUsd": "500"}]}})
    before = int(chain.node.ask("eth_getBalance", ANN, "latest"), 16)
    person = enter(server, narrow=True)
    page = person.page
    person.begin()
    person.add("pay")
    person.write(ANN)
    person.fill("In ETH", "0.01")
    person.press_button("Change policy")
    person.click(page.get_by_label("Ask a person"))
    person.type("1")
    person.click(page.get_by_role("button", name="Review the change"))
    person.click(page.get_by_role("button", name="Save policy"))
    expect(page.get_by_role("dialog")).to_have_count(0)
    person.simulate()
    person.click(page.locator(".modes").get_by_text("Live", exact=True))
    person.click(page.get_by_role("button", name="Run live", exact=True))
    live = page.get_by_role("dialog", name="Run live")
    person.click(live.get_by_role("button", name="Let one person approve"))
    asked = page.get_by_role("dialog", name="Let one person approve?")
    person.click(asked.get_by_role("button", name="Let one person approve"))
    expect(asked).to_have_count(0)
    expect(live.get_by_role("button", name="Let one person approve")).to_have_count(0)
    person.click(live.get_by_role("button", name="Move real money"))
    person.click(page.get_by_role("link", name="Review"))
    person.click(page.get_by_role("button", name=re.compile("^Approve")))
    expect(page.locator("header.top").get_by_text("Approved")).to_be_visible()
    person.app.until(lambda: int(chain.node.ask("eth_getBalance", ANN, "latest"), 16) == before + ETHER // 100)
    person.took(15, 51)


@_LONG
@in_both_long
def test_a_failed_run_is_found_and_tried_again(enter: Enter, server: Server, source: PriceSource) -> None:
    source.flaky = 0
    ask = {"type": "http-request", "payload": {"url": f"http://{source.address}/flaky"}, "retry": {"maxAttempts": 1}}
    workflow = server.create_workflow({"nodes": {"root": {"type": "manual", "children": ["ask"]}, "ask": ask}})
    person = enter(server)
    page = person.page
    run = server.start_run(workflow)
    assert _ended(person, server, run)["status"] == "failure"
    source.flaky = 2
    person.click(page.get_by_role("link", name="See and mend").first)
    expect(page.get_by_role("heading", name="Nothing was changed outside. Ask failed.")).to_be_visible()
    person.click(page.get_by_role("button", name="Try again from “Ask”"))
    person.click(page.get_by_role("dialog").get_by_role("button", name="Run it again"))
    expect(page.get_by_role("link", name="Retry of an earlier run")).to_have_attribute("href", f"/runs/{run}")
    expect(page.locator(".card.success").filter(has_text="Ask")).to_have_count(1)
    person.took(3, 0)


@_LONG
@in_both_long
def test_what_happened_last_night_is_seen(enter: Enter, server: Server) -> None:
    say = {"type": "log", "payload": {"message": "hello"}}
    refused = {"type": "http-request", "payload": {"method": "POST", "url": "http://127.0.0.1:9/orders"}}
    for node in (say, say, refused):
        run = server.start_run(
            server.create_workflow({"nodes": {"root": {"type": "manual", "children": ["a"]}, "a": node}})
        )
    person = enter(server)
    page = person.page
    _ended(person, server, run)
    person.click(page.get_by_text("Last night", exact=True))
    expect(page.get_by_role("link", name=re.compile(r"^Ran live [1-9]"))).to_be_visible()
    person.click(page.get_by_role("link", name=re.compile(r"^Failed [1-9]")))
    person.click(page.get_by_role("table", name="Runs").get_by_role("link").first)
    expect(page.get_by_role("heading", name="A failed.")).to_be_visible()
    person.took(3, 0)


@_LONG
@in_both_long
def test_a_workflow_is_changed_compared_and_restored(enter: Enter, server: Server) -> None:
    name = "Greeting"
    say = {"type": "log", "payload": {"message": "hello"}}
    nodes = {"root": {"type": "manual", "children": ["say"]}, "say": say}
    body = {"name": name, "description": "", "definition": {"nodes": nodes}}
    workflow = server.call("POST", "/v1/workflows", body)["id"]
    server.call("POST", f"/v1/workflows/{workflow}/publish", {})
    person = enter(server)
    page = person.page
    person.click(page.get_by_role("link", name="Workflows", exact=True))
    person.click(page.get_by_role("link", name=name).first)
    person.click(card(page, "Say"))
    person.fill("Message", ", world")
    person.app.until(lambda: _nodes(server, person)["say"]["payload"]["message"] != "hello")
    person.click(page.get_by_role("button", name="More actions"))
    person.click(page.get_by_role("menuitem", name="Versions"))
    differences = page.get_by_role("list", name="Differences").get_by_role("listitem")
    expect(differences).to_have_count(1)
    expect(differences.get_by_role("deletion").first).to_have_text("hello")
    person.click(page.get_by_role("button", name="Restore Version 1"))
    person.click(page.get_by_role("dialog").get_by_role("button", name="Restore"))
    page.wait_for_url(re.compile(f"/workflows/{workflow}$"))
    assert _nodes(server, person)["say"]["payload"]["message"] == "hello"
    server.call("DELETE", f"/v1/workflows/{workflow}")
    person.took(8, 7)


@_LONG
@in_both_long
def test_a_key_a_connector_a_wallet_and_its_policy_are_made(enter: Enter, server: Server) -> None:
    person = enter(server)
    page = person.page
    person.click(page.get_by_role("link", name="Keys"))
    person.click(page.get_by_role("button", name="New key"))
    person.write("reader", page.get_by_role("dialog"))
    person.click(page.get_by_label("Your own key, once more"))
    person.paste(server.key)
    person.press("Enter")
    person.click(page.get_by_role("button", name="I have stored it"))
    person.click(page.get_by_role("link", name="Connectors"))
    person.click(page.get_by_role("button", name="New connector").first)
    person.write("Prices", page.get_by_role("dialog"))
    person.click(page.get_by_role("textbox", name="Token"))
    person.paste("a-token-of-the-shop")
    person.click(page.get_by_label("Hosts"))
    person.type("api.example.com")
    person.click(page.get_by_role("button", name="Store"))
    page.wait_for_url(re.compile("/connectors/conn_"))
    person.click(page.get_by_role("link", name="Wallets"))
    person.click(page.get_by_role("button", name="New wallet").first)
    person.write("Payouts", page.get_by_role("dialog"))
    person.press("Enter")
    page.wait_for_url(re.compile("/wallets/wal_"))
    wallet = _place(person)
    person.click(page.get_by_role("button", name="Change policy"))
    person.click(page.get_by_role("tab", name="Sentences"))
    person.click(page.get_by_label("Write it in sentences"))
    person.type("on ethereum\npay ")
    person.paste(ANN)
    person.type(" up to $50 a day")
    person.click(page.get_by_role("button", name="Review the change"))
    person.click(page.get_by_role("button", name="Save policy"))
    expect(page.get_by_role("dialog")).to_have_count(0)
    policy = server.call("GET", f"{wallet}/policy")["policy"]
    assert (policy["chains"], policy["recipients"]) == ([1], [ANN])
    person.took(16, 71)


@_LONG
@in_both_long
def test_a_template_becomes_a_workflow_of_ones_own(enter: Enter, server: Server) -> None:
    person = enter(server)
    page = person.page
    person.click(page.get_by_role("link", name="Workflows", exact=True))
    person.click(page.get_by_role("link", name="Templates").first)
    person.click(page.get_by_label("Search templates"))
    person.type("sweep")
    person.click(page.get_by_role("button", name="Use it: Sweep to a safe address"))
    form = page.get_by_role("dialog", name="Sweep to a safe address")
    person.click(form.get_by_label("Send: Recipient"))
    person.paste(ANN)
    person.click(form.get_by_role("button", name="Create the workflow"))
    page.wait_for_url(re.compile("/workflows/wf_"))
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(card(page, "Send")).to_be_visible()
    assert _nodes(server, person)["send"]["payload"]["recipient"] == ANN
    person.took(6, 6)


@in_both
def test_a_pasted_curl_command_runs_without_its_secret(enter: Enter, server: Server, source: PriceSource) -> None:
    person = enter(server)
    person.begin()
    person.paste(f"curl 'http://{source.address}/price?symbol=BTC' -H 'Authorization: Bearer s3cret'")
    expect(person.page.get_by_text("Left out")).to_contain_text("Authorization")
    nodes = person.simulate()
    assert nodes["httpRequest"]["payload"] == {"url": f"http://{source.address}/price?symbol=BTC"}
    person.took(2, 1)


@_LONG
@in_both_long
def test_a_form_is_made_and_answered_by_a_stranger(enter: Enter, server: Server) -> None:
    person = enter(server)
    page = person.page
    person.begin()
    person.press_button("Add a field")
    person.add("log")
    person.write("{{$trigger.body.amount}}")
    person.app.until(lambda: "log" in _nodes(server, person))
    workflow = _place(person)
    person.click(page.get_by_role("button", name="Publish"))
    person.click(page.get_by_role("dialog").get_by_role("button", name="Publish"))
    person.click(page.get_by_role("dialog", name="Published").get_by_role("button", name="Done"))
    person.click(page.get_by_role("button", name="More actions"))
    person.click(page.get_by_role("menuitem", name="Public forms"))
    person.click(page.get_by_role("button", name="New link").first)
    person.click(page.get_by_role("button", name="Create the link"))
    shown = page.get_by_role("dialog", name="The link, shown once")
    link = shown.locator("code").inner_text()
    person.click(shown.get_by_role("button", name="I have copied it"))
    stranger = person.app.tab()
    stranger.goto(server.url + "/forms/" + link.rpartition("/")[2])
    stranger.get_by_label("Amount").fill("17")
    stranger.get_by_role("button", name="Send", exact=True).click()
    expect(stranger.get_by_text("Done. Thank you.")).to_be_visible()
    [run] = server.call("GET", f"/v1/runs?workflowId={workflow.rpartition('/')[2]}")["items"]
    assert (run["triggerSource"], run["mode"]) == ("form", "simulate")
    person.took(11, 28)


@in_both
def test_the_assistant_without_a_model_leads_to_one(enter: Enter, server: Server) -> None:
    person = enter(server)
    page = person.page
    person.click(page.get_by_role("link", name="Assistant"))
    expect(page.get_by_text("No model is connected yet.")).to_be_visible()
    person.click(page.get_by_role("link", name="Make a connector"))
    person.click(page.get_by_role("button", name="New connector").first)
    expect(page.get_by_role("dialog", name="New connector").get_by_role("textbox", name="Name")).to_be_focused()
    person.took(3, 0)
