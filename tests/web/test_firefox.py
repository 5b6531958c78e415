"""The named flows in Firefox, one after another in one window: signing in and out, exact numbers, streams, replay,
keys, problems, a conflict, 300 steps, the ladder to live with money, a cut stream, a cancel, approval on a phone, a
form. No policy is violated."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import build_web
import pytest
from devchain import chain as devchain
from devchain import demo
from price_source import PriceSource

from dustrun.cli.http.client import Client
from dustrun.core.values import exact_json
from testkit.e2e.node import npm_install
from testkit.e2e.server import Server
from testkit.web.firefox import Window, opened, running

EXACT = "3127.418290517364281904"
WHOLE = str(2**256 - 1)
_TEXT = "document.body.innerText"
_FIELD = "document.querySelector('textarea:not([aria-hidden])')"
ENTER, CONTROL, ESCAPE = "\ue007", "\ue009", "\ue00c"
MANY, SEEN = 300, 50  # a canvas draws only what is in sight
_HOLD = """() => {
  window.__held = []
  const send = window.fetch
  window.fetch = async (...asked) => {
    if (asked[1]?.method === 'PUT' && !window.__held.length) await new Promise((go) => window.__held.push(go))
    return send(...asked)
  }
}"""


@pytest.fixture(scope="module")
def firefox() -> Iterator[str]:
    """A running Firefox, and an app that is built from these sources."""
    npm_install(build_web.SOURCES)
    build_web.build()
    with running() as address:
        yield address


@pytest.fixture(scope="module")
def server(server_with_chain: Server) -> Server:
    """A server that knows the bundled chain."""
    return server_with_chain


def _odd(server: Server) -> str:
    nodes: dict[str, Any] = {
        "root": {"type": "manual", "children": ["say"]},
        "say": {"type": "format", "payload": {"template": "x", "values": "VALUES"}},
    }
    text = json.dumps(nodes).replace('"VALUES"', f"[{EXACT}, {WHOLE}, 1.10, 1e-30]")
    body = f'{{"name": "Odd", "description": "", "definition": {{"nodes": {text}}}}}'
    headers = {"Content-Type": "application/json"}
    answer = server._session.post(f"{server.url}/v1/workflows", data=body, headers=headers, timeout=30)
    return str(answer.json()["data"]["id"])


def _raw(server: Server, workflow: str) -> str:
    exact = {"Dustrun-Exact-Numbers": "true"}
    text: str = server._session.get(f"{server.url}/v1/workflows/{workflow}", headers=exact, timeout=30).text
    return text.replace(", ", ",").replace(": ", ":")


def _form(server: Server) -> str:
    schema = {"type": "object", "properties": {"amount": {"type": "number"}}, "required": ["amount"]}
    root = {"type": "manual", "payload": {"inputSchema": schema}, "children": ["answer"]}
    answer = {"type": "respond", "payload": {"body": "{{string($trigger.body.amount)}} it is"}}
    workflow = server.create_workflow({"nodes": {"root": root, "answer": answer}})
    server.call("POST", f"/v1/workflows/{workflow}/publish", {})
    return str(server.call("POST", f"/v1/workflows/{workflow}/forms", {})["url"]).rpartition("/")[2]


@pytest.mark.long
async def test_named_flows_in_firefox(
    firefox: str, server: Server, chain: devchain.DevChain, source: PriceSource
) -> None:
    workflow, secret = _odd(server), _form(server)
    ready = demo.prepare(Client(server.url, server.key), chain, f"http://{source.address}/notices")
    async with opened(firefox) as window:
        await window.open(f"{server.url}/forms/{secret}")
        await window.until(f"{_TEXT}.includes('Amount')")
        await window.evaluate("document.querySelector('input').focus()")
        await window.type(EXACT)
        await window.click("button", "Send")
        await window.until(f"{_TEXT}.includes('{EXACT} it is')")

        link = server.call("POST", "/v1/session/links")["url"]
        await window.open(f"{server.url}/workflows/{workflow}#{link.partition('#')[2]}")
        await window.click(".card", "Say")
        await window.until(f"{_TEXT}.includes('{EXACT}')")
        await _change_template(window)
        await window.until(f"{_TEXT}.includes('Saved')")
        while '"template":"xy"' not in _raw(server, workflow):
            await window.evaluate("new Promise((done) => setTimeout(done, 50))")
        assert f'"values":[{EXACT},{WHOLE},1.10,0.000000000000000000000000000001]' in _raw(server, workflow)
        await window.click("button", "Simulate")
        await window.until(f"/Run (finished|failed)/.test({_TEXT})")
        await window.until("document.querySelectorAll('.card.success, .card.failure').length === 1")
        await _replay_ends_as_the_run(window)
        await _build_by_keys(window)
        await _settle_a_conflict(window, server, workflow)
        await _draw_many(window, server)
        await _go_up_to_live(window, server, ready)
        await _stop_and_approve(window, server)
        await _hear_the_end_after_a_cut(window, server)
        await _sign_out(window)
        assert await window.evaluate("window.__violations") == []
        assert window.errors == []


async def _replay_ends_as_the_run(window: Window) -> None:
    """Back through the events, and on to the last."""
    await window.evaluate("document.activeElement.blur()")
    states = "[...document.querySelectorAll('.card')].map((e) => e.className.match(/success|failure/)?.[0] ?? '')"
    at_the_end = await window.evaluate(states)
    await window.type("[[[")
    await window.until(states, lambda found: found != at_the_end)
    await window.type("]]]")
    await window.until(states, lambda found: found == at_the_end)


async def _build_by_keys(window: Window) -> None:
    """A step after the chosen one, and what is wrong with it at its field."""
    await window.type("a")
    await window.until("document.activeElement.role === 'combobox'")
    await window.type("http request" + ENTER)
    await window.until("document.querySelectorAll('.card').length === 3")
    await window.until("[...document.querySelectorAll('.err')].some((e) => e.textContent.includes('required'))")
    await window.evaluate("document.activeElement.blur()")
    await window.chord(CONTROL, "z")
    await window.until("document.querySelectorAll('.card').length === 2")


async def _settle_a_conflict(window: Window, server: Server, workflow: str) -> None:
    """Somebody else saves what is being changed here."""
    await window.click(".card", "Say")
    await window.evaluate(f"({_HOLD})()")
    await _change_template(window)
    await window.until("window.__held.length > 0")
    definition = exact_json.loads(_raw(server, workflow))["data"]["definition"]
    definition["nodes"]["root"]["titleOverride"] = "Theirs"
    body, headers = exact_json.dumps_text({"definition": definition}), {"Content-Type": "application/json"}
    assert server._session.put(f"{server.url}/v1/workflows/{workflow}", data=body, headers=headers, timeout=30).ok
    await window.evaluate("window.__held.forEach((go) => go())")
    await window.click("button", "Keep both changes")
    await window.until("[...document.querySelectorAll('.card')].some((e) => e.textContent.includes('Theirs'))")
    while '"template":"xyy"' not in _raw(server, workflow):
        await window.evaluate("new Promise((done) => setTimeout(done, 50))")
    assert '"titleOverride":"Theirs"' in _raw(server, workflow)


async def _draw_many(window: Window, server: Server) -> None:
    """300 steps are drawn, and their run ends."""
    chain = {f"s{i}": {"type": "log", "payload": {"message": str(i)}, "children": [f"s{i + 1}"]} for i in range(MANY)}
    chain[f"s{MANY}"] = {"type": "log", "payload": {"message": "last"}}
    workflow = server.create_workflow({"nodes": {"root": {"type": "manual", "children": ["s0"]}, **chain}})
    await window.evaluate(f"history.pushState(null, '', '/workflows/{workflow}')")
    await window.until("document.querySelectorAll('.card').length", lambda drawn: drawn > SEEN)
    await window.click("button", "Simulate")
    await window.until(f"{_TEXT}.includes('Run finished')")


async def _go_up_to_live(window: Window, server: Server, ready: demo.Demo) -> None:
    """The amounts of each rung are shown; money moves only after a question whose answer is No unless one says so."""
    await window.evaluate(f"history.pushState(null, '', '/workflows/{ready.workflow_id}')")
    await window.click("button[aria-label=Payload]")
    await window.until(f"{_FIELD} !== null")
    await window.evaluate(f"{_FIELD}.focus()")
    await window.chord(CONTROL, "a")
    payload = json.dumps(ready.payload.read_text())  # at once: key by key takes a busy machine minutes
    assert await window.evaluate(f"document.execCommand('insertText', false, {payload})")
    await window.type(ESCAPE)
    for key, button, rung in (("1", "Simulate", "simulate"), ("2", "Test with dust", "dust")):
        await window.evaluate("document.activeElement.blur()")
        await window.type(key)
        await window.click("button", button)
        await window.until(f"document.querySelector('.rung.{rung}') !== null")
    await window.until(f"{_TEXT}.includes('0.00199')")
    await window.evaluate("document.activeElement.blur()")
    await window.type("3")
    await window.click("button", "Run live")
    await window.until("document.activeElement.textContent === 'Cancel'")
    await window.click("[role=dialog] button", "Move real money")
    await window.until("[...document.querySelectorAll('.rung.live')].some((e) => e.textContent.includes('−0.1 WETH'))")
    assert server.call("GET", f"/v1/workflows/{ready.workflow_id}")["ladder"]["live"]


async def _hear_the_end_after_a_cut(window: Window, server: Server) -> None:
    """The server goes away under a stream and comes back; what the run does then is shown."""
    hold = {"type": "wait", "payload": {"timeoutMs": 3_600_000}}
    workflow = server.create_workflow({"nodes": {"root": {"type": "manual", "children": ["hold"]}, "hold": hold}})
    run = server.start_run(workflow)
    await window.evaluate(f"history.pushState(null, '', '/runs/{run}')")
    await window.until("document.querySelectorAll('.card.waiting').length === 1")
    server.kill()
    await window.until(f"{_TEXT}.includes('Connection lost')")
    server.start()
    server.call("POST", f"/v1/runs/{run}/cancel")
    await window.until(f"{_TEXT}.includes('Cancelled')")


async def _stop_and_approve(window: Window, server: Server) -> None:
    """One question is approved on a phone; the run of another is cancelled."""
    ask = {"type": "approve", "payload": {"message": "Pay?", "allowStarter": True}}
    workflow = server.create_workflow({"nodes": {"root": {"type": "manual", "children": ["ask"]}, "ask": ask}})
    run = server.start_run(workflow)
    await window.evaluate(f"history.pushState(null, '', '/runs/{run}')")
    await window.click("button", "Cancel run")
    await window.click("[role=dialog] button", "Cancel run")
    await window.until(f"{_TEXT}.includes('Cancelled')")
    run = server.start_run(workflow)
    await window.resize(390, 844)
    await window.evaluate("history.pushState(null, '', '/approvals')")
    await window.click("a", "Pay?")
    await window.click("button", "Approve")
    await window.until(f"{_TEXT}.includes('Approved')")
    while server.call("GET", f"/v1/runs/{run}")["status"] != "success":
        await window.evaluate("new Promise((done) => setTimeout(done, 50))")
    await window.resize(1440, 900)


async def _sign_out(window: Window) -> None:
    await window.click("button[aria-label=More]")
    await window.click("[role=menuitem]", "Sign out")
    await window.until("document.querySelector('input[type=password]') !== null")


async def _change_template(window: Window) -> None:
    field = "[...document.querySelectorAll('.cm-content')].find((e) => e.ariaLabel === 'Template')"
    await window.until(f"Boolean({field})")
    await window.evaluate(f"{field}.focus()")
    await window.type("\ue010y")  # to the end
