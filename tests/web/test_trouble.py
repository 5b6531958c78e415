"""Trouble: a server that restarts, a key that ends, odd data and much of it. Nothing is lost or executed."""

from __future__ import annotations

import contextlib
import json
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import pytest
from playwright.sync_api import Page, Route, expect

from testkit.e2e.server import Server
from testkit.web.app import App, Open
from testkit.web.steps import choose

HOSTILE = "<img src=x onerror=window.__ran=1>\u202egnirts<script>window.__ran=1</script>{{constructor}}"
FAR_AT_LEAST = 50
TOLD_WITHIN_S = 4.0
"""The page takes three seconds at most; the rest is for a machine that does other things."""
CALLS_TO_CHOOSE = 100_000
CALLS_TO_TYPE = 100_000
RIGHT_TO_LEFT = "تحويل الأموال " * 12


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that tests may kill."""
    server = Server(tmp_path_factory.mktemp("server"))
    try:
        yield server.start()
    finally:
        server.close()


def _say(message: str, **more: Any) -> dict[str, Any]:
    return {"type": "log", "payload": {"message": message}, **more}


class Refusing(BaseHTTPRequestHandler):
    """What a browser meets in a restart: a proxy, or a server that is not ready, says 503."""

    asked: ClassVar[set[str]] = set()

    def do_GET(self) -> None:
        self.asked.add(self.path.partition("?")[0])
        self.send_response(503)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Says nothing."""


@contextlib.contextmanager
def _refusing(port: int) -> Iterator[set[str]]:
    Refusing.asked.clear()
    server = ThreadingHTTPServer(("127.0.0.1", port), Refusing)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield Refusing.asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_server_restarts_under_the_app(app: App, server: Server) -> None:
    hold = {"type": "wait", "payload": {"timeoutMs": 3_600_000}}
    nodes = {"root": {"type": "manual", "children": ["say"]}, "say": _say("a", children=["hold"]), "hold": hold}
    workflow = server.create_workflow({"nodes": nodes})
    run = server.start_run(workflow)
    watching = app.tab()
    watching.goto(f"{server.url}/runs/{run}")
    expect(watching.locator(".card.waiting")).to_have_count(1)
    listing = app.tab()
    listing.goto(f"{server.url}/runs")
    expect(listing.get_by_role("link", name=re.compile(run))).to_be_visible()
    page = app.open(f"/workflows/{workflow}")
    field = choose(page, "Say").get_by_role("textbox", name="Message")
    expect(field).to_have_text("a")
    with server.hanging():  # accepts, and says nothing
        begun = time.monotonic()
        expect(page.get_by_text("The server does not answer since")).to_be_visible()
        assert time.monotonic() - begun < TOLD_WITHIN_S
    expect(page.get_by_text("The server does not answer since")).to_have_count(0)
    server.kill()
    field.fill("typed while it was away")
    expect(page.get_by_text("Not saved", exact=True)).to_be_visible()
    expect(watching.get_by_text("Connection lost")).to_be_visible()
    for one in (page, watching, listing):  # the tab that listens tells the others
        expect(one.get_by_text("The server does not answer since")).to_be_visible()
    assert app.faults() == []
    with _refusing(server.port) as asked:
        app.until(lambda: {f"/v1/runs/{run}/stream", "/v1/activity/stream"} <= asked)
    server.start()
    expect(page.get_by_text("The server does not answer since")).to_have_count(0)
    unheard = server.start_run(workflow)
    app.until(lambda: _message(server, workflow) == "typed while it was away")
    server.call("POST", f"/v1/runs/{run}/cancel")
    expect(watching.locator("header.top").get_by_text("Cancelled")).to_be_visible()
    expect(listing.get_by_role("link", name=re.compile(unheard))).to_be_visible()


def test_a_save_that_is_never_answered_is_tried_again(app: App, server: Server) -> None:
    nodes = {"root": {"type": "manual", "children": ["say"]}, "say": _say("a")}
    workflow = server.create_workflow({"nodes": nodes})
    app.page.clock.install()
    held: list[Route] = []

    def hold(route: Route) -> None:
        is_first_save = route.request.method == "PUT" and not held
        held.append(route) if is_first_save else route.continue_()

    app.page.route(f"**/v1/workflows/{workflow}", hold)
    page = app.open(f"/workflows/{workflow}")
    choose(page, "Say").get_by_role("textbox", name="Message").fill("kept")
    app.until(lambda: bool(held))
    page.clock.fast_forward(30_000)
    app.until(lambda: _message(server, workflow) == "kept")


def test_a_write_that_is_never_answered_says_so(app: App, server: Server) -> None:
    app.page.clock.install()
    held: list[Route] = []
    app.page.route(
        "**/v1/tables", lambda route: held.append(route) if route.request.method == "POST" else route.continue_()
    )
    page = app.open("/tables")
    page.get_by_role("button", name="New table").first.click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("textbox", name="Name").first.fill("kept")
    dialog.get_by_role("button", name="New table").click()
    app.until(lambda: bool(held))
    page.clock.fast_forward(60_000)
    expect(dialog.get_by_text("it is not known whether this arrived")).to_be_visible()


def _message(server: Server, workflow: str) -> str:
    return str(server.call("GET", f"/v1/workflows/{workflow}")["definition"]["nodes"]["say"]["payload"]["message"])


def test_a_revoked_key_signs_out_by_itself(window: Open, server: Server) -> None:
    made = server.call("POST", "/v1/api-keys", {"name": "short", "permissions": ["workflow:read", "run:read"]})
    app = window()
    page = app.page
    page.goto(f"{server.url}/runs")
    page.get_by_label("API key", exact=True).fill(made["key"])
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="Runs")).to_be_visible()
    server.call("DELETE", f"/v1/api-keys/{made['id']}")
    expect(page.get_by_role("button", name="Sign in")).to_be_visible()
    expect(page.get_by_role("heading", name="Runs")).to_have_count(0)


def test_text_of_others_is_only_text(member: Open, server: Server) -> None:
    nodes = {
        "root": {"type": "manual", "titleOverride": HOSTILE, "children": ["say", "odd"]},
        "say": _say(HOSTILE, titleOverride=RIGHT_TO_LEFT),
        "odd": {"type": "from<the>future", "payload": {"a": HOSTILE}},
    }
    body = {"name": HOSTILE[:99], "description": HOSTILE, "definition": {"nodes": nodes}}
    workflow = server.call("POST", "/v1/workflows", body)["id"]
    run = server.start_run(_fine(server), payload={"text": HOSTILE})
    app = member()
    for path in ("/", f"/workflows/{workflow}", f"/runs/{run}?step=say", "/runs", f"/runs/{run}?tab=events"):
        page = app.turn_to(path)
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        expect(page.get_by_text("Loading …")).to_have_count(0)
        page.wait_for_load_state("networkidle")
        assert page.evaluate("window.__ran") is None, path
        wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0, path
    page = app.turn_to(f"/workflows/{workflow}")
    page.locator(".card.unknown").click()
    expect(page.get_by_text("This server does not know this type of step")).to_be_visible()
    assert app.faults() == []
    assert server.call("GET", f"/v1/workflows/{workflow}")["definition"]["nodes"]["odd"] == nodes["odd"]


def _fine(server: Server) -> str:
    say = _say("{{$trigger.body.text}}", titleOverride=HOSTILE)
    return server.create_workflow({"nodes": {"root": {"type": "manual", "children": ["say"]}, "say": say}})


@pytest.mark.long
def test_a_thousand_steps_can_be_looked_at(app: App, server: Server) -> None:
    """What is drawn, asked and called is counted, which says the same on a busy machine."""
    nodes: dict[str, Any] = {"root": {"type": "manual", "children": ["s0"]}}
    for i in range(999):
        nodes[f"s{i}"] = _say(str(i), children=[f"s{i + 1}"] if i < 998 else [])
    workflow = server.create_workflow({"nodes": nodes})
    asked: list[str] = []
    app.page.on("request", lambda sent: asked.append(sent.url))
    page = app.open(f"/workflows/{workflow}")
    far = page.locator(".far .card")
    far.nth(FAR_AT_LEAST).wait_for()
    expect(page.get_by_text("Saved", exact=True)).to_be_visible()
    expect(far.locator("strong")).to_have_count(0)
    far.nth(20).click()
    settings = page.locator(".inspector .form")
    settings.wait_for()
    with _calls(page) as calls:
        far.nth(25).click()
        expect(page.locator(".card.chosen")).to_have_count(1)
        settings.wait_for()
    assert calls["Canvas"] < CALLS_TO_CHOOSE
    assert sum(url.endswith("/v1/workflows/validate") for url in asked) == 1
    page.get_by_role("textbox", name="Message").click()
    with _calls(page) as calls:
        page.keyboard.type("words", delay=100)
    assert calls.total() < len("words") * CALLS_TO_TYPE
    page.get_by_role("button", name="Show as a list").click()
    expect(page.get_by_role("list", name="Steps").get_by_role("listitem")).to_have_count(1_000)
    assert len(server.call("GET", f"/v1/workflows/{workflow}")["definition"]["nodes"]) == 1_000


@contextlib.contextmanager
def _calls(page: Page) -> Iterator[Counter[str]]:
    """How many functions of each of the app's files are called meanwhile."""
    devtools = page.context.new_cdp_session(page)
    devtools.send("Profiler.enable")
    devtools.send("Profiler.startPreciseCoverage", {"callCount": True, "detailed": False})
    devtools.send("Profiler.takePreciseCoverage")
    calls: Counter[str] = Counter()
    yield calls
    for script in devtools.send("Profiler.takePreciseCoverage")["result"]:
        name = re.sub(r"-[^-/]*\.js$", "", script["url"].rpartition("/")[2])
        calls[name] += sum(one["ranges"][0]["count"] for one in script["functions"])
    devtools.detach()


@pytest.mark.long
def test_events_out_of_order_and_twice_show_the_same(app: App, server: Server) -> None:
    """The stream is answered by the test: late, twice, and in another order."""
    nodes = {"root": {"type": "manual", "children": ["say"]}, "say": _say("x")}
    run = server.start_run(server.create_workflow({"nodes": nodes}))
    app.until(lambda: server.call("GET", f"/v1/runs/{run}")["finishedAt"])
    events = server.events_of(run)
    mixed = [*events[2:], *events[:3], *events]
    text = "".join(f"id: {one['seq']}\nevent: {one['type']}\ndata: {json.dumps(one)}\n\n" for one in mixed)
    page = app.page
    page.route(
        re.compile("/stream$"),
        lambda route: route.fulfill(
            status=200, content_type="text/event-stream", body=text + "event: end\ndata: {}\n\n"
        ),
    )
    app.open(f"/runs/{run}?tab=events")
    rows = page.get_by_role("list", name="What happened").get_by_role("listitem")
    expect(rows).to_have_count(len(events))
    expect(rows.last).to_contain_text("Run finished")
    page.goto(f"{server.url}/runs/{run}")
    expect(page.locator(".card.success")).to_have_count(1)
