"""A run on the canvas: its items, attempts and called runs; and nothing freezes when there is much to show."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from testkit.e2e.server import Server
from testkit.web.app import App, Open

MANY = 700
_DRAWN = "document.querySelectorAll('*').length"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Server:
    """A server that takes large payloads, and nothing else of its own."""
    server = Server(tmp_path_factory.mktemp("server"), max_body_bytes="16000000", max_result_bytes="16000000")
    return server.start()


@pytest.fixture(scope="module", autouse=True)
def _closing(server: Server) -> object:
    yield
    server.close()


@pytest.fixture(scope="module")
def looped(server: Server) -> tuple[str, str]:
    """A workflow that calls another for each item, and its run."""
    called = server.create_workflow(
        {"nodes": {"root": {"type": "manual", "children": ["say"]}, "say": {"type": "format", "payload": SAY}}}
    )
    loop = {
        "root": {"type": "manual", "children": ["each"]},
        "each": {"type": "for-each", "payload": {"array": "{{$trigger.body.list}}"}, "loopBody": ["call"]},
        "call": {"type": "call-workflow", "payload": {"workflowId": called, "payload": {"word": "{{$item}}"}}},
    }
    workflow = server.create_workflow({"nodes": loop})
    return workflow, server.start_run(workflow, payload={"list": ["a", "b", "c"]})


SAY = {"template": "said {{$trigger.body.word}}"}


def _ended(app: App, run: str) -> None:
    app.until(lambda: app.server.call("GET", f"/v1/runs/{run}?summary=true")["finishedAt"])


@pytest.fixture
def app(shared_app: App) -> App:
    """The window of this file."""
    return shared_app


@pytest.mark.long
def test_an_item_is_picked_and_its_called_run_opened(app: App, looped: tuple[str, str]) -> None:
    _, run = looped
    _ended(app, run)
    page = app.turn_to(f"/runs/{run}?step=each")
    expect(page.locator(".card.success")).to_have_count(1)
    expect(page.locator(".card.success")).to_contain_text("3 of 3 items")
    items = page.get_by_role("list", name="Items")
    expect(items.get_by_role("listitem")).to_have_count(3)
    items.get_by_role("button").nth(1).click()
    expect(items.get_by_role("button").nth(1)).to_have_attribute("aria-pressed", "true")
    page.locator(".card").filter(has_text="Call").last.click()
    step = page.get_by_role("complementary", name="call")
    expect(step).to_contain_text("Item 2 of 3")
    expect(step).to_contain_text("said b")
    assert app.faults() == []
    page.reload()
    expect(step).to_contain_text("said b")
    step.get_by_role("searchbox", name="Go to an item").fill("1")
    step.get_by_role("searchbox", name="Go to an item").press("Enter")
    expect(step).to_contain_text("said a")
    for said in ("said b", "said c"):
        step.get_by_role("button", name="Next item").click()
        expect(step).to_contain_text(said)
    step.get_by_role("tab", name="Sent").click()
    step.get_by_role("link", name="The run it called").click()
    expect(page.get_by_role("link", name="Called by another run")).to_be_visible()
    page.locator(".card").filter(has_text="Say").last.click()
    expect(page.get_by_role("complementary", name="say")).to_contain_text("said c")
    page.go_back()
    expect(step).to_contain_text("Item 3 of 3")


@pytest.mark.long
def test_a_retry_of_a_live_run_asks_and_says_what_it_keeps(app: App, server: Server) -> None:
    refused = {"method": "POST", "url": "http://127.0.0.1:9/orders"}
    nodes = {
        "root": {"type": "manual", "children": ["say"]},
        "say": {"type": "format", "payload": {"template": "hello"}, "children": ["post"]},
        "post": {"type": "http-request", "payload": refused},
    }
    run = server.start_run(server.create_workflow({"nodes": nodes}))
    _ended(app, run)
    page = app.turn_to(f"/runs/{run}?step=post")
    expect(page.get_by_role("heading", name="Nothing was changed outside. Post failed.")).to_be_visible()
    step = page.get_by_role("complementary", name="post")
    expect(step).to_contain_text("It failed, so it has no output.")
    expect(step.get_by_role("link", name="Change its settings")).to_be_visible()
    page.get_by_role("button", name="Try again from “Post”").click()
    dialog = page.get_by_role("dialog", name="Run again what has not succeeded?")
    expect(dialog.get_by_role("button", name="Cancel")).to_be_focused()
    expect(dialog).to_contain_text("Not sent before, and may be sent now")
    expect(dialog.get_by_role("listitem")).to_have_text(["Post"])
    assert app.faults() == []
    dialog.get_by_role("button", name="Run it again").click()
    expect(page.get_by_role("link", name="Retry of an earlier run")).to_have_attribute("href", f"/runs/{run}")
    expect(page.locator(".card").filter(has_text="Say").last).to_contain_text("kept")
    page.locator(".card").filter(has_text="Post").last.click()
    step.get_by_role("link", name="Change its settings").click()
    expect(page.get_by_role("complementary", name="Step Post")).to_be_visible()
    assert app.faults() == []


@pytest.mark.long
def test_a_result_is_pinned_with_one_click(app: App, server: Server, looped: tuple[str, str]) -> None:
    workflow, run = looped
    _ended(app, run)
    page = app.turn_to(f"/runs/{run}?step=call&items=each:0")
    page.get_by_role("button", name="Pin this result").click()
    expect(page.get_by_text("Pinned. Simulations use this result")).to_be_visible()
    node = server.call("GET", f"/v1/workflows/{workflow}")["definition"]["nodes"]["call"]
    assert node["pinned"]["result"] == {"text": "said a"}
    page.get_by_role("button", name="Unpin").click()
    expect(page.get_by_role("button", name="Pin this result")).to_be_visible()
    assert "pinned" not in server.call("GET", f"/v1/workflows/{workflow}")["definition"]["nodes"]["call"]


@pytest.mark.long
def test_many_items_and_events_are_drawn_in_part(app: App, server: Server) -> None:
    loop = {
        "root": {"type": "manual", "children": ["each"]},
        "each": {"type": "for-each", "payload": {"array": "{{$trigger.body.list}}"}, "loopBody": ["say"]},
        "say": {"type": "log", "payload": {"message": "{{$item}}"}},
    }
    run = server.start_run(server.create_workflow({"nodes": loop}), payload={"list": list(range(MANY))})
    _ended(app, run)
    page = app.turn_to(f"/runs/{run}?tab=events")
    events = page.get_by_role("list", name="What happened")
    expect(events.get_by_role("listitem").first).to_have_attribute(
        "aria-setsize", str(len(server.events_of(run))), timeout=60_000
    )
    assert page.evaluate(_DRAWN) < 2_000
    _scroll_to_end(page, ".events")
    expect(events.get_by_text("Run finished")).to_be_visible()
    page.goto(f"{server.url}/runs/{run}?step=each")
    items = page.get_by_role("list", name="Items")
    expect(items.get_by_role("listitem").first).to_have_attribute("aria-setsize", str(MANY))
    _scroll_to_end(page, ".items")
    items.get_by_role("button", name=re.compile(f"^{MANY}")).click()
    expect(page.locator(".card.success")).to_contain_text(str(MANY - 1))
    assert page.evaluate(_DRAWN) < 2_000
    assert app.faults() == []


def _scroll_to_end(page: Page, list_: str) -> None:
    page.locator(f"{list_} li").first.wait_for()
    page.evaluate("(at) => { const one = document.querySelector(at); one.scrollTop = one.scrollHeight }", list_)


@pytest.mark.long
def test_ten_megabytes_are_shown_in_part(app: App, server: Server) -> None:
    rows = [{"id": i, "text": "x" * 80} for i in range(50_000)]  # twice in the result
    workflow = server.create_workflow({"nodes": {"root": {"type": "manual", "payload": {}}}})
    run = server.start_run(workflow, payload={"rows": rows})
    page = app.turn_to(f"/runs/{run}?step=root")
    step = page.get_by_role("complementary", name="root")
    body = step.locator("details").filter(has_text="body").first
    expect(body).to_be_visible()
    step.get_by_text("rows").first.click()
    expect(step.get_by_role("button", name="Show 100 more").first).to_be_visible()
    assert page.evaluate(_DRAWN) < 4_000
    step.get_by_role("button", name="Close").click()
    expect(step).to_have_count(0)


@pytest.mark.long
def test_a_phone_lists_the_steps(member: Open, looped: tuple[str, str]) -> None:
    _, run = looped
    app = member(narrow=True, dark=True)
    _ended(app, run)
    page = app.open(f"/runs/{run}")
    page.get_by_role("list", name="Steps").get_by_role("button", name=re.compile("Each")).click()
    page.get_by_role("list", name="Items").get_by_role("button").first.click()
    assert app.faults() == []


@pytest.mark.long
def test_the_canvas_shows_what_shapes_a_spend(app: App, server: Server) -> None:
    """While *Why* of a step is open: what can change it is bright, what only decides has a thin outline; for a run, and
    for a version in the editor."""
    test = {"type": "if", "payload": {"expression": "$inputs.n > 0"}, "children": ["amount", "note"]}
    amount = {"type": "log", "payload": {"message": "{{$inputs.n}}"}, "children": ["pay"], "branch": "then"}
    pay = {"chainId": 1, "recipient": "0x" + "1" * 40, "amount": "{{string(1 * int(amount.result.message))}}"}
    nodes = {
        "root": {"type": "manual", "children": ["test"]},
        "test": test,
        "amount": amount,
        "note": {"type": "log", "payload": {"message": "none"}, "branch": "else"},
        "pay": {"type": "send-native", "payload": pay},
    }
    workflow = server.create_workflow({"nodes": nodes})
    run = server.start_run(workflow, payload={"n": 7}, simulate=True)
    _ended(app, run)
    for address in (f"/runs/{run}?step=pay", f"/workflows/{workflow}"):
        page = app.turn_to(address)
        if "runs" not in address:
            page.locator(".card").filter(has_text="Pay").click()
        expect(page.locator(".shapes-data, .shapes-decides")).to_have_count(0)
        page.get_by_role("tab", name="Why").click()
        expect(page.locator(".card.shapes-data")).to_have_text([re.compile("Root"), re.compile("Amount")])
        expect(page.locator(".card.shapes-decides")).to_have_text([re.compile("Test")])
        expect(page.get_by_role("complementary")).to_contain_text("`$trigger.n`".replace("`", ""))
        page.get_by_role("tab", name="Input").click()
        expect(page.locator(".shapes-data, .shapes-decides")).to_have_count(0)
    assert app.faults() == []
