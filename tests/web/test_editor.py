"""The editor: built by keyboard alone, and up the ladder with the money in sight."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from devchain import chain as devchain
from devchain import demo
from devchain.node import CHAIN_ID
from playwright.sync_api import Page, Route, expect
from price_source import PriceSource

from dustrun.cli.http.client import Client
from testkit.e2e.server import Server
from testkit.web.app import App, Open
from testkit.web.steps import card, choose

EXACT = "3127.418290517364281904"
WHOLE = "115792089237316195423570985008687907853269984665640564039457584007913129639935"
# what a browser was before it could say a number's digits and write them
_OLD = """
delete JSON.rawJSON
const parse = JSON.parse
JSON.parse = (text, reviver) => parse(text, reviver && function (key, value) { return reviver.call(this, key, value) })
"""

OTHER = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"


@pytest.fixture(scope="module")
def server(server_with_chain: Server) -> Server:
    """A server that knows the bundled chain."""
    return server_with_chain


@pytest.fixture
def app(shared_app: App) -> App:
    """The window of this file."""
    return shared_app


def _make(server: Server, nodes: dict[str, Any]) -> str:
    return server.create_workflow({"nodes": nodes})


def _definition(server: Server, workflow: str) -> dict[str, Any]:
    found: dict[str, Any] = server.call("GET", f"/v1/workflows/{workflow}")["definition"]
    return found


def _saved(page: Page) -> None:
    expect(page.get_by_text("Saved", exact=True)).to_be_visible()


def _choose(page: Page, words: str) -> None:
    """One step from the catalogue, by keys."""
    page.keyboard.press("a")
    expect(page.get_by_role("combobox", name="Search steps")).to_be_focused()
    page.keyboard.type(words)
    page.get_by_role("option").first.wait_for()  # until the catalogue has come there is nothing to take
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_have_count(0)


def test_a_workflow_is_built_and_simulated_by_keyboard_alone(app: App, server: Server) -> None:
    workflow = _make(server, {"root": {"type": "manual"}})
    page = app.turn_to(f"/workflows/{workflow}")
    expect(card(page, "Root")).to_be_visible()
    page.keyboard.press("Alt+ArrowDown")
    _choose(page, "format")
    inspector = page.get_by_role("complementary", name="Step Format")
    inspector.get_by_role("textbox", name="Template").focus()
    page.keyboard.type("amount {{")
    page.keyboard.type("$trigger.body.amount")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Payload").focus()
    page.keyboard.press("Enter")
    page.get_by_role("textbox", name="Payload").fill('{"amount": ' + EXACT + "}")
    page.keyboard.press("Control+Enter")
    page.keyboard.press("Escape")
    expect(page.get_by_role("group", name="Replay of the run")).to_contain_text("Run finished")
    inspector.get_by_role("tab", name="Output").focus()
    page.keyboard.press("Enter")
    expect(inspector).to_contain_text(EXACT)
    assert _definition(server, workflow)["nodes"]["root"]["children"] == ["format"]
    assert app.faults() == []
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press(" ")
    page.keyboard.press(" ")
    expect(page.get_by_role("group", name="Replay of the run")).to_contain_text(re.compile("[123]/4"))


def _drag_the_canvas(page: Page) -> None:
    """There and back; meanwhile a cover spares the search for the card under the pointer, and afterwards it is gone."""
    cover = page.locator(".panned")
    page.mouse.move(300, 700)
    page.mouse.down()
    page.mouse.move(330, 660)
    expect(cover).to_have_count(1)
    page.mouse.move(300, 700)
    page.mouse.up()
    expect(cover).to_have_count(0)


@pytest.mark.long
def test_changes_are_undone_redone_and_saved(app: App, server: Server) -> None:
    workflow = _make(
        server, {"root": {"type": "manual", "children": ["log"]}, "log": {"type": "log", "payload": {"message": "a"}}}
    )
    page = app.turn_to(f"/workflows/{workflow}")
    expect(card(page, "Log")).to_be_visible()
    _drag_the_canvas(page)
    message = choose(page, "Log").get_by_role("textbox", name="Message")
    message.fill("b")
    message.blur()
    app.until(lambda: _definition(server, workflow)["nodes"]["log"]["payload"]["message"] == "b")
    page.keyboard.press("Delete")
    app.until(lambda: "log" not in _definition(server, workflow)["nodes"])
    page.get_by_role("button", name="Undo").click()
    app.until(lambda: _definition(server, workflow)["nodes"].get("log", {}).get("payload") == {"message": "b"})
    page.get_by_role("button", name="Undo").click()
    app.until(lambda: _definition(server, workflow)["nodes"]["log"]["payload"] == {"message": "a"})
    page.get_by_role("button", name="Redo").click()
    app.until(lambda: _definition(server, workflow)["nodes"]["log"]["payload"] == {"message": "b"})
    versions = server.call("GET", f"/v1/workflows/{workflow}/versions")["items"]
    assert [one["version"] for one in versions] == [6, 1]  # one, however often it was saved
    page.reload()
    expect(choose(page, "Log").get_by_role("textbox", name="Message")).to_have_text("b")


def test_what_is_run_is_what_is_seen(app: App, server: Server) -> None:
    say = {"type": "log", "payload": {"message": "old"}}
    workflow = _make(server, {"root": {"type": "manual", "children": ["say"]}, "say": say})
    page = app.turn_to(f"/workflows/{workflow}")
    saves: list[Route] = []
    runs: list[str] = []
    page.route(f"**/v1/workflows/{workflow}", _hold(saves))
    page.on("request", lambda sent: runs.append(sent.url) if sent.url.endswith("/run") else None)
    message = choose(page, "Say").get_by_role("textbox", name="Message")
    message.fill("new")
    app.until(lambda: saves)
    message.fill("newest")
    page.get_by_role("button", name="Simulate", exact=True).click()
    page.wait_for_timeout(500)
    assert runs == []  # the save under way does not have all
    saves[0].continue_()
    expect(page.get_by_role("group", name="Replay of the run")).to_contain_text("Run finished")
    run = server.call("GET", "/v1/runs?limit=1")["items"][0]
    at = f"/v1/workflows/{workflow}/versions/{run['workflowVersion']}"
    assert server.call("GET", at)["definition"]["nodes"]["say"]["payload"]["message"] == "newest"


def _hold(held: list[Route]) -> Callable[[Route], None]:
    """Keeps the first save back."""

    def take(route: Route) -> None:
        if route.request.method == "PUT" and not held:
            held.append(route)
        else:
            route.fallback()

    return take


@pytest.mark.long
def test_a_step_that_is_gone_is_no_longer_chosen(app: App, server: Server) -> None:
    workflow = _make(server, {"root": {"type": "manual", "children": []}})
    page = app.turn_to(f"/workflows/{workflow}")
    page.get_by_role("button", name="Add a step", exact=True).click()
    page.get_by_role("option", name="Delay").click()
    expect(page.get_by_role("complementary", name="Delay")).to_be_visible()
    page.get_by_role("button", name="Undo").click()
    expect(page.locator(".card")).to_have_count(1)
    choose(page, "Root")
    page.get_by_role("button", name="Add a step", exact=True).click()
    expect(page.get_by_role("dialog", name="Add a step after Root")).to_be_visible()


@pytest.mark.long
@pytest.mark.parametrize("browser_is_old", [False, True])
def test_numbers_and_what_is_unknown_come_back_as_they_were(member: Open, server: Server, browser_is_old: bool) -> None:
    app = member()
    if browser_is_old:
        app.page.add_init_script(_OLD)
    nodes = {
        "root": {"type": "manual", "children": ["odd", "say"]},
        "odd": {"type": "from-the-future", "payload": {"deep": [{"a": 1}]}},
        "say": {"type": "format", "payload": {"template": "x", "values": "VALUES"}},
    }
    text = json.dumps(nodes).replace('"VALUES"', f"[{EXACT}, {WHOLE}, -{WHOLE}, 0.1000000000000000055, 1.10, 7, 1e-30]")
    body = f'{{"name": "Odd", "description": "", "definition": {{"nodes": {text}}}}}'
    answer = server._session.post(
        f"{server.url}/v1/workflows", data=body, headers={"Content-Type": "application/json"}, timeout=30
    )
    workflow = answer.json()["data"]["id"]
    page = app.open(f"/workflows/{workflow}")
    expect(page.get_by_role("button", name="1 problem")).to_be_visible()
    step = choose(page, "Say")
    template = step.get_by_role("textbox", name="Template")
    expect(step.get_by_role("textbox", name="Values")).to_contain_text("0.000000000000000000000000000001")
    template.fill("y")
    app.until(lambda: '"template":"y"' in _raw(server, workflow))
    stored = _raw(server, workflow)
    small = "0.000000000000000000000000000001"
    assert f'"values":[{EXACT},{WHOLE},-{WHOLE},0.1000000000000000055,1.10,7,{small}]' in stored
    assert '{"deep":[{"a":1}]}' in stored


def _raw(server: Server, workflow: str) -> str:
    exact = {"Dustrun-Exact-Numbers": "true"}
    text: str = server._session.get(f"{server.url}/v1/workflows/{workflow}", headers=exact, timeout=30).text
    return text.replace(", ", ",").replace(": ", ":")


@pytest.mark.long
def test_a_problem_is_shown_at_its_step_and_field(app: App, server: Server) -> None:
    workflow = _make(
        server,
        {"root": {"type": "manual", "children": ["say"]}, "say": {"type": "format", "payload": {"template": "x"}}},
    )
    page = app.turn_to(f"/workflows/{workflow}")
    inspector = choose(page, "Say")
    page.get_by_role("textbox", name="Template").fill("🧊 {{nobody.result.x ?? 1}} {{$now}}")
    expect(inspector.locator(".cm-lintRange")).to_have_text(["nobody.result.x"])
    page.get_by_role("textbox", name="Template").fill("{{root.result.}}")
    page.keyboard.press("Escape")
    expect(inspector.get_by_role("alert")).to_contain_text("unexpected end of the expression")
    expect(page.locator(".card.wrong")).to_have_count(1)
    expect(page.get_by_role("button", name="Simulate", exact=True)).to_be_disabled()
    page.get_by_role("button", name="1 problem").click()
    assert app.faults() == []


def test_the_ladder_is_climbed_to_live(app: App, server: Server, chain: devchain.DevChain, source: PriceSource) -> None:
    ready = demo.prepare(Client(server.url, server.key), chain, f"http://{source.address}/notices")
    page = app.turn_to(f"/workflows/{ready.workflow_id}")
    page.get_by_role("button", name="Payload").click()
    page.get_by_role("textbox", name="Payload").fill(ready.payload.read_text())
    page.keyboard.press("Escape")
    ladder = page.get_by_role("region", name="What moved", exact=True)
    for mode, button in (("Simulate", "Simulate"), ("Cent test", "Test with a cent")):
        page.get_by_role("radiogroup", name="Mode").get_by_text(mode).click()
        page.get_by_role("button", name=button, exact=True).click()
        expect(page.get_by_role("group", name="Replay of the run")).to_contain_text("Run finished")
        expect(page.get_by_role("button", name=button, exact=True)).to_be_enabled()
    expect(ladder).to_contain_text("0.00199")
    page.get_by_role("radiogroup", name="Mode").get_by_text("Live").click()
    page.get_by_role("button", name="Run live").click()
    question = page.get_by_role("dialog", name="Run live")
    expect(question.get_by_role("button", name="Cancel")).to_be_focused()
    expect(question).to_contain_text("62.35")
    assert app.faults() == []
    page.keyboard.press("Enter")
    expect(question).to_have_count(0)
    workflow = server.call("GET", f"/v1/workflows/{ready.workflow_id}")
    assert workflow["ladder"]["live"] is None
    page.get_by_role("button", name="Run live").click()
    question.get_by_role("button", name="Move real money").click()
    expect(ladder.get_by_role("row", name=re.compile("Sell.*may take"))).to_contain_text("same")
    expect(page.locator(".rung.live").first).to_contain_text("−0.1 WETH")
    assert app.faults() == []
    run = server.call("GET", f"/v1/workflows/{ready.workflow_id}")["ladder"]["live"]
    assert server.call("GET", f"/v1/runs/{run}")["status"] == "success"
    _ghosts_follow_the_moment(page)
    _nothing_is_covered(app, page)


def test_every_reason_of_a_refusal_is_told(app: App, server: Server, chain: devchain.DevChain) -> None:
    wallet = server.call("POST", "/v1/wallets", {"name": "strict", "kind": "local"})
    chain.node.ask("anvil_setBalance", wallet["address"], hex(10**18))
    policy: dict[str, Any] = {"chains": [1], "assets": [], "recipients": []}
    server.call("PUT", f"/v1/wallets/{wallet['id']}/policy", {"policy": policy})
    payload = {"chainId": CHAIN_ID, "recipient": OTHER, "amount": "1"}
    nodes = {
        "root": {"type": "manual", "children": ["pay"]},
        "pay": {"type": "send-native", "payload": payload, "connector": {"type": "wallet", "id": wallet["id"]}},
    }
    page = app.turn_to(f"/workflows/{server.create_workflow({'nodes': nodes})}")
    tray = page.get_by_role("region", name="Run and effects")
    expect(tray).to_contain_text("Simulate it to see")
    page.get_by_role("button", name="Simulate", exact=True).click()
    expect(tray.get_by_role("list", name="Warnings")).to_contain_text("(and 2 more reasons)")
    expect(tray).not_to_contain_text("Simulate it to see")
    page.locator(".card").filter(has_text="Pay").click()
    settings = page.get_by_role("complementary")
    expect(settings.get_by_role("alert").get_by_role("listitem")).to_have_count(3)
    chains = settings.get_by_role("combobox", name="Chain ID", exact=True).get_by_role("option")
    expect(chains.first).to_have_text(re.compile(rf"\({CHAIN_ID}\)$"))
    expect(chains.filter(has_text="(8453)")).to_contain_text("no endpoint")
    assert app.faults() == []


@pytest.mark.long
def test_a_spend_that_nobody_could_approve_is_told_before_it_runs(
    app: App, server: Server, chain: devchain.DevChain
) -> None:
    wallet = server.call("POST", "/v1/wallets", {"name": "two hands", "kind": "local"})
    chain.node.ask("anvil_setBalance", wallet["address"], hex(10**18))
    coin = f"eip155:{CHAIN_ID}/native"
    policy: dict[str, Any] = {"chains": [CHAIN_ID], "assets": [coin], "recipients": [OTHER]}
    policy |= {"allowUnpricedAssets": True, "approvalAbove": {"assets": {coin: "0"}}, "approval": {"quorum": 2}}
    server.call("PUT", f"/v1/wallets/{wallet['id']}/policy", {"policy": policy})
    payload = {"chainId": CHAIN_ID, "recipient": OTHER, "amount": "1"}
    pay = {"type": "send-native", "payload": payload, "connector": {"type": "wallet", "id": wallet["id"]}}
    page = app.turn_to(f"/workflows/{_make(server, {'root': {'type': 'manual', 'children': ['pay']}, 'pay': pay})}")
    page.get_by_role("button", name="Simulate", exact=True).click()
    ladder = page.get_by_role("region", name="What moved", exact=True)
    expect(ladder).to_contain_text("asks a person")
    page.get_by_role("radiogroup", name="Mode").get_by_text("Live").click()
    page.get_by_role("button", name="Run live").click()
    dialog = page.get_by_role("dialog", name="Run live")
    expect(dialog).to_contain_text("asks a person before it is signed")
    expect(dialog).to_contain_text("Nobody could approve what your own runs ask: 2 other keys")
    dialog.get_by_text("Why this amount, why this recipient").click()
    expect(dialog.get_by_role("tabpanel")).to_contain_text("as written in")
    dialog.get_by_role("button", name="Move real money").click()
    asked = app.until(lambda: server.call("GET", "/v1/approvals")["items"])[0]
    hand = server.call("POST", "/v1/api-keys", {"name": "hand", "permissions": ["approval:decide", "run:read"]})
    page = app.turn_to(f"/runs/{asked['runId']}")
    beside = page.get_by_role("complementary", name="Asks you")
    expect(beside).to_contain_text("left to decide")
    expect(beside.get_by_role("button", name="Reject")).to_be_enabled()
    expect(beside.get_by_role("button", name="Approve")).to_have_count(0)
    assert app.faults() == []
    page = app.turn_to("/approvals")
    expect(page.get_by_role("table", name="Approvals")).to_contain_text("0 of 2 approvals")
    path = f"/v1/approvals/{asked['id']}/approve"
    server.call("POST", path, {"comment": "seen"}, {"Authorization": f"Bearer {hand['key']}"})
    page = app.turn_to(f"/approvals/{asked['id']}")
    facts = page.get_by_role("region", name="About this question")
    expect(facts).to_contain_text("1 of 2 approvals")
    expect(facts).to_contain_text(re.compile(f"{hand['id']} .* seen"))
    assert app.faults() == []
    server.call("POST", f"/v1/runs/{asked['runId']}/cancel")


def _nothing_is_covered(app: App, page: Page) -> None:
    """The ladder opens over the canvas after it was drawn; every step stays in sight above it."""
    page.reload()
    ladder = page.get_by_role("region", name="What moved", exact=True)
    expect(ladder).to_contain_text("62.35")
    cards = page.locator(".card")

    def is_whole() -> bool:
        boxes, top = [one.bounding_box() for one in cards.all()], ladder.bounding_box()
        lowest = max((box["y"] + box["height"] for box in boxes if box), default=0.0)
        return len(boxes) == 7 and top is not None and lowest <= top["y"]

    app.until(is_whole)


def _ghosts_follow_the_moment(page: Page) -> None:
    """What the run moved, in the balances: nothing before its spends, all of it at its end."""
    balances = page.get_by_role("region", name="Balances")
    weth = balances.locator("p").filter(has_text="WETH").locator("em")
    expect(weth).to_have_text("−0.1")
    page.evaluate("document.activeElement.blur()")
    replay = page.get_by_role("group", name="Replay of the run")
    steps = int(re.search(r"/(\d+)", replay.inner_text())[1])  # type: ignore[index]
    for _ in range(steps):
        page.keyboard.press("[")
    expect(weth).to_have_text("")
    for _ in range(steps):
        page.keyboard.press("]")
    expect(weth).to_have_text("−0.1")


@pytest.mark.long
def test_a_chosen_step_is_not_behind_its_settings(app: App, server: Server) -> None:
    steps = {name: {"type": "log", "payload": {"message": name}} for name in "abcd"}
    workflow = _make(server, {"root": {"type": "manual", "children": list(steps)}, **steps})
    page = app.turn_to(f"/workflows/{workflow}")
    settings, chosen = choose(page, "D"), card(page, "D")

    def is_in_sight() -> bool:
        at, beside = chosen.bounding_box(), settings.bounding_box()
        return at is not None and beside is not None and at["x"] + at["width"] <= beside["x"]

    app.until(is_in_sight)


def test_a_live_run_is_stopped(app: App, server: Server) -> None:
    workflow = _make(
        server,
        {"root": {"type": "manual", "children": ["hold"]}, "hold": {"type": "wait", "payload": {"timeoutMs": 600_000}}},
    )
    page = app.turn_to(f"/workflows/{workflow}")
    expect(page.get_by_text("Hold", exact=True)).to_be_visible()
    page.keyboard.press("3")
    page.get_by_role("button", name="Run live").click()
    page.get_by_role("button", name="Run it").click()
    expect(page.locator(".card.waiting")).to_have_count(1)
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_role("group", name="Replay of the run")).to_contain_text("Run cancelled")
    runs = server.call("GET", f"/v1/workflows/{workflow}/runs")["items"]
    assert [run["status"] for run in runs] == ["cancelled"]


@pytest.mark.long
def test_a_phone_shows_steps_and_a_sheet(member: Open, server: Server) -> None:
    workflow = _make(
        server, {"root": {"type": "manual", "children": ["say"]}, "say": {"type": "log", "payload": {"message": "x"}}}
    )
    app = member(narrow=True, dark=True)
    page = app.open(f"/workflows/{workflow}")
    page.get_by_role("list", name="Steps").get_by_role("button", name=re.compile("Say")).click()
    expect(page.get_by_role("textbox", name="Message")).to_be_visible()
    expect(page.locator(".react-flow")).to_have_count(0)
    assert app.faults() == []
    page.get_by_role("button", name="Close").first.click()
    page.get_by_role("button", name="Payload").click()
    box = page.get_by_role("textbox", name="Payload").bounding_box()
    assert box is not None
    assert box["x"] + box["width"] < 390
