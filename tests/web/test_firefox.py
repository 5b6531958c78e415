"""The flows that depend on the browser, in Firefox: signing in, exact numbers, a stream, a public form."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import build_web
import pytest

from testkit.e2e.node import npm_install
from testkit.e2e.server import Server
from testkit.web.firefox import Window, opened, running

EXACT = "3127.418290517364281904"
WHOLE = str(2**256 - 1)
_TEXT = "document.body.innerText"


@pytest.fixture(scope="module")
def firefox() -> Iterator[str]:
    """A running Firefox, and an app that is built from these sources."""
    npm_install(build_web.SOURCES)
    build_web.build()
    with running() as address:
        yield address


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


async def test_named_flows_in_firefox(firefox: str, server: Server) -> None:
    workflow, secret = _odd(server), _form(server)
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
        await window.until(f"{_TEXT}.includes('Run ended')")
        await window.until("document.querySelectorAll('.card.success, .card.failure').length === 1")
        assert window.errors == []


async def _change_template(window: Window) -> None:
    field = "[...document.querySelectorAll('.cm-content')].find((e) => e.ariaLabel === 'Template')"
    await window.until(f"Boolean({field})")
    await window.evaluate(f"{field}.focus()")
    await window.type("\ue010y")  # to the end
