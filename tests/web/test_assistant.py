"""The assistant's page: what it says and does is shown as it happens, and what it asks is decided there."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from dustrun.core.stream_events import OF_TURNS
from testkit import processes
from testkit.e2e.guide import ROOT
from testkit.e2e.server import Server
from testkit.model_server import Asked, ModelServer, Reply, model_beside
from testkit.turn_scripts import launching, results_in
from testkit.web.app import App, Open

Json = dict[str, Any]
SAY = {
    "root": {"type": "manual", "children": ["say"]},
    "say": {"type": "log", "payload": {"message": "hello"}},
}
LOUD = {
    "root": {"type": "manual", "children": ["say"]},
    "say": {"type": "log", "payload": {"message": "HELLO"}, "children": ["again"]},
    "again": {"type": "log", "payload": {"message": "again"}},
}
PAY = {
    "root": {"type": "manual", "children": ["pay"]},
    "pay": {"type": "http-request", "payload": {"method": "POST", "url": "http://127.0.0.1:9/pay", "json": {"n": 1}}},
}
MARKUP = "See <img src=x onerror=alert(1)> and [this](https://evil.example/x). " + "One word after the other. " * 20


class Models:
    """What the model does: by the first word that the person says."""

    def __init__(self) -> None:
        self.workflow = self.paying = ""
        self.goes_on = threading.Event()

    def script(self, asked: Asked) -> Reply:
        said = [one["content"] for one in asked.messages if one["role"] == "user"][-1]
        if said.startswith("Run"):
            return launching(self.paying)(asked)
        if said.startswith("Change"):
            return self._change(asked)
        if said.startswith("Wait"):
            return Reply("Never read.", delay_s=60)
        return Reply(MARKUP, pause_s=0.01, goes_on=self.goes_on)

    def _change(self, asked: Asked) -> Reply:
        if results_in(asked):
            return Reply("It is louder now.")
        save = {"workflowId": self.workflow, "definition": {"nodes": LOUD, "triggerNodeIds": ["root"]}}
        return Reply(calls=(("save_workflow", save),))


@pytest.fixture(scope="module")
def models() -> Models:
    return Models()


@pytest.fixture(scope="module")
def model(models: Models) -> Iterator[ModelServer]:
    with model_beside(models.script) as server:
        yield server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    processes.share_more("dustrun.sdk.llm.protocol")
    server = Server(tmp_path_factory.mktemp("server"), outbound_allow="127.0.0.1")
    try:
        yield server.start()
    finally:
        server.close()


def ask(page: Page, text: str) -> None:
    page.get_by_role("textbox", name="Message").fill(text)
    page.get_by_role("button", name="Send").click()


def connect(server: Server, model: ModelServer, models: Models) -> None:
    if not models.workflow:
        server.call("POST", "/v1/connectors", model.connector())
        models.workflow = server.create_workflow({"nodes": SAY, "triggerNodeIds": ["root"]})
        models.paying = server.create_workflow({"nodes": PAY, "triggerNodeIds": ["root"]})


def refuse_once(port: int) -> None:
    """A server that is starting: it answers 503 until the page has asked for its stream, after which a browser gives
    up for good unless the page begins anew."""
    asked = threading.Event()

    class Starting(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(503)
            if "/stream" in self.path and "/conversations/" in self.path:
                asked.set()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", port), Starting) as starting:
        thread = threading.Thread(target=starting.serve_forever)
        thread.start()
        assert asked.wait(60)
        starting.shutdown()
        thread.join()


@pytest.mark.long
def test_without_a_model_it_says_what_to_do(app: App) -> None:
    page = app.open("/assistant")
    expect(page.get_by_text("No model is connected yet.")).to_be_visible()
    expect(page.get_by_role("link", name="Make a connector")).to_have_attribute("href", "/connectors")
    assert app.faults() == []


def test_an_answer_grows_and_is_text(member: Open, server: Server, model: ModelServer, models: Models) -> None:
    connect(server, model, models)
    app = member(dark=True)
    page = app.open("/assistant")
    expect(page.get_by_label("Model")).to_have_value(re.compile("small"))
    ask(page, "Hi there")
    page.wait_for_url(re.compile("/assistant/conv_"))
    thread = page.get_by_role("log")
    expect(thread).to_contain_text("One word")
    expect(page.get_by_text("The assistant is working.")).to_be_visible()
    models.goes_on.set()
    expect(thread).to_contain_text("1 request, 0 calls")
    expect(thread.get_by_text("<img src=x onerror=alert(1)>")).to_be_visible()
    assert thread.locator("img, a").count() == 0
    box = thread.get_by_text("<img src=x onerror=alert(1)>").bounding_box()
    assert box is not None
    assert box["width"] > 300
    shown = thread.inner_text()
    page.get_by_role("textbox", name="Message").fill("not sent yet")
    page.reload()
    expect(page.get_by_role("log")).to_contain_text("1 request, 0 calls")
    assert page.get_by_role("log").inner_text() == shown
    expect(page.get_by_role("textbox", name="Message")).to_have_value("not sent yet")
    expect(page.get_by_role("navigation", name="Conversations").get_by_role("link", name="Hi there")).to_be_visible()
    assert app.faults() == []


@pytest.mark.long
def test_a_launch_is_decided_on_a_phone_after_a_restart(
    member: Open, server: Server, model: ModelServer, models: Models
) -> None:
    connect(server, model, models)
    app = member(narrow=True)
    page = app.open("/assistant")
    expect(page.get_by_role("textbox", name="Message")).to_be_visible()
    assert app.faults() == []
    ask(page, "Run it for real, at http://127.0.0.1:9")
    decision = page.get_by_role("region", name="Your decision")
    expect(decision).to_contain_text('Run: version 1 of "Followed"')
    expect(decision.get_by_role("table")).to_contain_text("would send")
    expect(page.get_by_text("Waiting for your decision above.")).to_be_visible()
    server.stop()
    refuse_once(server.port)
    server.start()
    page.get_by_text("Simulated", exact=True).click()
    expect(page.get_by_role("region", name="What it asked")).to_contain_text(models.paying)
    assert app.faults() == []
    decision.get_by_role("button", name="Approve").click()
    dialog = page.get_by_role("dialog", name="Start this for real?")
    expect(dialog.get_by_role("button", name="Not yet")).to_be_focused()
    assert app.faults() == []
    assert server.call("GET", "/v1/runs?mode=live")["items"] == []
    dialog.get_by_role("button", name="Run live").click()
    expect(page.get_by_role("log")).to_contain_text("It was approved.")
    expect(decision).to_contain_text("Approved")
    expect(page.get_by_role("log")).to_contain_text("3 requests, 3 calls")
    [run] = server.call("GET", "/v1/runs?mode=live")["items"]
    page.get_by_role("link", name="Open the run").last.click()
    page.wait_for_url(re.compile(run["id"]))
    page.go_back()
    expect(page.get_by_role("log")).to_contain_text("It was approved.")
    assert app.faults() == []


@pytest.mark.long
def test_a_change_is_taken_in_parts_or_left(app: App, server: Server, model: ModelServer, models: Models) -> None:
    connect(server, model, models)
    page = app.open("/assistant")
    ask(page, "Change the greeting")
    change = page.get_by_role("region", name="A change to Followed: version 2")
    expect(change.locator(".react-flow__node")).to_have_count(3)
    change.get_by_label("Take again").uncheck()
    assert app.faults() == []
    change.get_by_role("button", name="Take 1 of 2").click()
    expect(change).to_contain_text("Taken.")
    saved = server.call("GET", f"/v1/workflows/{models.workflow}")
    assert (saved["version"], list(saved["definition"]["nodes"])) == (3, ["root", "say"])
    assert saved["definition"]["nodes"]["say"]["payload"] == {"message": "HELLO"}
    ask(page, "Change it once more")
    later = page.get_by_role("region", name="A change to Followed: version 4")
    later.get_by_role("button", name="Leave it").click()
    expect(later).to_contain_text("Left.")
    saved = server.call("GET", f"/v1/workflows/{models.workflow}")
    assert (saved["version"], list(saved["definition"]["nodes"])) == (5, ["root", "say"])
    assert app.faults() == []


@pytest.mark.long
def test_a_turn_is_stopped_by_its_button(app: App, server: Server, model: ModelServer, models: Models) -> None:
    connect(server, model, models)
    models.goes_on.set()
    page = app.open("/assistant")
    ask(page, "Wait for it")
    stop = page.get_by_role("button", name="Stop", exact=True)
    stop.click()
    expect(page.get_by_role("log")).to_contain_text("You stopped it.")
    expect(stop).to_have_count(0)
    ask(page, "Hi again")  # the conversation goes on at once
    expect(page.get_by_role("log")).to_contain_text("1 request, 0 calls")
    expect(page.get_by_role("log")).not_to_contain_text("Never read.")
    assert app.faults() == []


def test_page_listens_for_every_event() -> None:
    text = (ROOT / "web" / "src" / "assistant" / "stream.ts").read_text()
    listed = re.findall(r"'(\w+)'", text[text.index("TURN_EVENTS = [") : text.index("] as const")])
    assert set(listed) == set(OF_TURNS)
