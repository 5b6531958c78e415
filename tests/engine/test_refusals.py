"""What an action refuses before it sends: each mode says the same, and nothing goes out."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from echoing import Echo, echoing
from engine.conftest import Bench
from testkit.composition import composed

SECRET = "whsec_ZXhhbXBsZSBzZWNyZXQgb2YgdGhpcnR5LXR3byBieXRlcw"
GIVEN = {"none": None, "line": "a\nb", "host": "10.1.2.3", "long": "x" * 9000, "text": "y" * 40_000, "name": "a b"}
MODES: tuple[dict[str, bool], ...] = ({"simulate": True}, {}, {"dustTest": True})
INVALID, REFUSED = "INVALID_INPUT", "REFUSED"
# `localhost` is 127.0.0.1, which the server below may not reach; the outside system of the tests is at 127.0.0.2
PRIVATE = "http://localhost/orders"
FORBIDDEN: dict[str, tuple[dict[str, Any], str]] = {
    "an address without http": ({"url": "ftp://api.example.com/"}, INVALID),
    "a user in the address": ({"url": "http://me:hunter2@{{$trigger.body.host}}/"}, INVALID),
    "a host that is no host": ({"url": "http://{{$trigger.body.name}}/"}, INVALID),
    "another spelling of an address": ({"url": "http://0x7f.1/"}, INVALID),
    "an address of a private network": ({"url": "http://{{$trigger.body.host}}/"}, INVALID),
    "the address of a cloud's metadata": ({"url": "http://169.254.169.254/latest"}, INVALID),
    "a private address of IPv6": ({"url": "http://[::1]:8080/"}, INVALID),
    "a name of a private address": ({"url": PRIVATE}, INVALID),
    "a header that the server sets": ({"url": "ECHO", "headers": {"Host": "a"}}, INVALID),
    "a header with a line break": ({"url": "ECHO", "headers": {"X-A": "{{$trigger.body.line}}"}}, INVALID),
}
HTTP: dict[str, tuple[dict[str, Any], str]] = {
    "a method that there is not": ({"url": "ECHO", "method": "{{$trigger.body.name}}"}, INVALID),
    "a header name with a space": ({"url": "ECHO", "headers": {"a b": "c"}}, INVALID),
    "a query that makes the address too long": ({"url": "ECHO", "query": {"q": "{{$trigger.body.long}}"}}, INVALID),
    "two bodies": ({"url": "ECHO", "json": 1, "body": "{{$trigger.body.name}}"}, INVALID),
    "a body that is too large": ({"url": "ECHO", "body": "{{$trigger.body.text}}"}, INVALID),
    "a form that is too large": ({"url": "ECHO", "form": {"a": "{{$trigger.body.text}}"}}, INVALID),
    "a write that repeats itself": ({"url": "ECHO", "retries": "{{1 + 1}}"}, INVALID),
}
HOOK: dict[str, tuple[dict[str, Any], str]] = {
    "no secret in the end": ({"url": "ECHO", "secret": "{{$trigger.body.none}}"}, INVALID),
    "a secret of another form": ({"url": "ECHO", "secret": "{{$trigger.body.name}}"}, INVALID),
    "data that is too large": ({"url": "ECHO", "data": "{{$trigger.body.text}}", "secret": SECRET}, INVALID),
    "a header of the signature": ({"url": "ECHO", "headers": "{{ {'webhook-id': 'a'} }}"}, INVALID),
}
TABLE: dict[str, tuple[dict[str, Any], str]] = {
    "no such table": ({"table": "nothing", "rows": {"a": 1}}, "TABLE_UNKNOWN"),
    "no rows in the end": ({"table": "nothing", "rows": "{{$trigger.body.none}}"}, INVALID),
}
NOTICE: dict[str, tuple[dict[str, Any], str]] = {
    "an empty text": ({"body": "{{$trigger.body.none}}"}, INVALID),
    "a text that is too long": ({"body": "{{$trigger.body.text}}"}, INVALID),
}


class Refusals:
    """A server, an outside system, and one node for each refusal."""

    def __init__(self, bench: Bench, echo: Echo) -> None:
        self.bench = bench
        self.echo = echo
        self.nodes: dict[str, dict[str, Any]] = {}
        self.codes: dict[str, str] = {}

    def add(self, name: str, type: str, payload: dict[str, Any], code: str, connector: Any = None) -> None:
        """One node; `ECHO` stands for the outside system."""
        node_id = f"n{len(self.nodes)}"
        shown = {key: self.echo.url if value == "ECHO" else value for key, value in payload.items()}
        self.nodes[node_id] = {"type": type, "payload": shown, "onError": "continue", "titleOverride": name}
        if connector is not None:
            self.nodes[node_id]["connector"] = connector
        self.codes[name] = code

    async def connector(self, type: str, hosts: list[str] | None = None, **data: Any) -> dict[str, str]:
        """A stored connector, as a node names it."""
        body = {"type": type, "name": type, "data": data, "allowedHosts": hosts or []}
        return {"type": type, "id": (await self.bench.api.post("/v1/connectors", body)).data["id"]}

    async def found(self, **mode: bool) -> dict[str, tuple[str, Any]]:
        """Each node's error in one run: its code, and what it says."""
        run = await self.bench.run(self.nodes, payload=GIVEN, **mode)
        state = {node["titleOverride"]: run["executionState"][node_id] for node_id, node in self.nodes.items()}
        errors = {name: one.get("error") or {"code": one["status"], "message": None} for name, one in state.items()}
        return {name: (error["code"], error["message"]) for name, error in errors.items()}


@pytest.fixture
async def refusals(tmp_path: Path, store_url: str) -> AsyncIterator[Refusals]:
    settings = {"database_url": store_url, "outbound_allow": ("127.0.0.2",), "outbound_max_body_bytes": 30_000}
    async with echoing("127.0.0.2") as echo, composed(tmp_path, **settings) as composition:
        yield Refusals(Bench(composition), echo)


async def fill(refusals: Refusals) -> None:
    """Every refusal that an action of this server can have before it sends."""
    for name, (payload, code) in FORBIDDEN.items():
        refusals.add(f"http-request: {name}", "http-request", {"method": "POST", **payload}, code)
        refusals.add(f"send-webhook: {name}", "send-webhook", {"secret": SECRET, **payload}, code)
    for name, (payload, code) in HTTP.items():
        refusals.add(f"http-request: {name}", "http-request", {"method": "POST", **payload}, code)
    for name, (payload, code) in HOOK.items():
        refusals.add(f"send-webhook: {name}", "send-webhook", {"secret": SECRET, **payload}, code)
    for name, (payload, code) in TABLE.items():
        refusals.add(f"write-table: {name}", "write-table", payload, code)
    url = refusals.echo.url
    good = await refusals.connector("apprise", url=f"json://{url.removeprefix('http://')}/")
    for name, (payload, code) in NOTICE.items():
        refusals.add(f"notify: {name}", "notify", payload, code, good)
    for name, service in (  # the others are in tests/outbound/test_notifier.py: each is asked about in a process
        ("a private address", "json://10.1.2.3/"),
        ("no such service", "nosuch://token/"),
    ):
        refusals.add(
            f"notify: {name}", "notify", {"body": "x"}, INVALID, await refusals.connector("apprise", url=service)
        )
    elsewhere = await refusals.connector("http-bearer", ["api.example.com"], token="tok_0123456789")
    refusals.add(
        "a host that is none of the connector's", "http-request", {"method": "POST", "url": url}, REFUSED, elsewhere
    )
    apart = await refusals.connector("http-bearer", ["127.0.0.2"], token="tok_0123456789")
    refusals.add("without TLS, which was not allowed", "http-request", {"method": "POST", "url": url}, REFUSED, apart)
    client = {"tokenUrl": "http://10.1.2.3/token", "clientId": "me", "clientSecret": "secret-0123456789"}
    provider = await refusals.connector("oauth2-client-credentials", [url], **client)
    refusals.add("a provider at a private address", "http-request", {"method": "POST", "url": url}, INVALID, provider)
    for type, payload in (
        ("http-request", {"method": "POST", "url": url}),
        ("send-webhook", {"url": url}),
        ("notify", {"body": "x"}),
    ):
        kind = {"http-request": "http-bearer", "send-webhook": "webhook-secret", "notify": "apprise"}[type]
        refusals.add(f"{type}: a connector that was deleted", type, payload, INVALID, {"type": kind, "id": "conn_gone"})


async def test_refusal_before_sending_in_every_mode(refusals: Refusals) -> None:
    await fill(refusals)
    simulated, live, dust = [await refusals.found(**mode) for mode in MODES]
    assert {name: code for name, (code, _) in live.items()} == refusals.codes
    assert simulated == live
    assert dust == live
    assert refusals.echo.seen == refusals.echo.asked == []


async def test_allowed_writes_in_a_simulation_are_not_sent(refusals: Refusals) -> None:
    url = refusals.echo.url
    refusals.add("post", "http-request", {"method": "POST", "url": f"{url}/echo"}, "success")
    refusals.add("hook", "send-webhook", {"url": f"{url}/echo", "secret": SECRET}, "success")
    refusals.add("unknown name", "http-request", {"method": "POST", "url": "https://nowhere.invalid/"}, "success")
    bearer = await refusals.connector("http-bearer", [url], token="tok_0123456789")
    refusals.add("bearer", "http-request", {"method": "POST", "url": f"{url}/guarded"}, "success", bearer)
    client = {"tokenUrl": f"{url}/token", "clientId": "me", "clientSecret": "secret-0123456789"}
    provider = await refusals.connector("oauth2-client-credentials", [url], **client)
    refusals.add("oauth2", "http-request", {"method": "POST", "url": f"{url}/guarded"}, "success", provider)
    service = await refusals.connector("apprise", url=f"json://{url.removeprefix('http://')}/echo")
    refusals.add("notify", "notify", {"body": "x"}, "success", service)
    found = await refusals.found(simulate=True)
    assert {name: code for name, (code, _) in found.items()} == refusals.codes
    assert refusals.echo.seen == refusals.echo.asked == []


async def test_refusal_of_an_assumed_input_says_how_to_go_on(refusals: Refusals) -> None:
    refusals.nodes = {
        "make": {
            "type": "http-request",
            "payload": {"method": "POST", "url": refusals.echo.url},
            "children": ["pay"],
        },
        "pay": {
            "type": "http-request",
            "payload": {"method": "POST", "url": "http://10.{{make.result.status}}.0.1/"},
        },
    }
    run = await refusals.bench.run(refusals.nodes, simulate=True)
    error = run["executionState"]["pay"]["error"]
    assert error["code"] == INVALID
    assert error["message"].endswith("pin the results of the nodes that it uses if a live run differs.")


async def test_validation_tells_what_needs_no_payload(refusals: Refusals) -> None:
    url = refusals.echo.url
    elsewhere = await refusals.connector("http-bearer", ["api.example.com"], token="tok_0123456789")
    refused = {
        name: {"type": "http-request", "payload": {"url": f"{origin}/{{{{$trigger.body.n}}}}"}}
        for name, origin in {
            "metadata": "http://169.254.169.254",
            "mapped": "https://[::ffff:10.1.2.3]:8443",
            "loopback": "http://127.0.0.1:8080",
            "local": "http://api.localhost:8080",
            "public": "https://93.184.216.34",
            "named": "https://nowhere.invalid",
        }.items()
    }
    nodes = {
        "root": {"type": "manual", "children": ["user", "host", "path", "hook", "signed", *refused]},
        "user": {"type": "http-request", "payload": {"url": "http://me:hunter2@api.example.com/{{$trigger.body.n}}"}},
        "host": {"type": "http-request", "payload": {"url": f"{url}/{{{{$trigger.body.n}}}}"}, "connector": elsewhere},
        "path": {
            "type": "http-request",
            "payload": {"url": "https://api.example.com/{{$trigger.body.n}}"},
            "connector": elsewhere,
        },
        "hook": {"type": "send-webhook", "payload": {"url": url}},
        "signed": {"type": "send-webhook", "payload": {"url": url, "secret": "{{$trigger.body.secret}}"}},
        **refused,
    }
    found = (await refusals.bench.api.post("/v1/workflows/validate", {"definition": {"nodes": nodes}})).data
    assert [(one["code"], one["field"]) for one in found["errors"]] == [
        ("connector_missing", "nodes.hook.connector"),
        ("url_invalid", "nodes.user.payload.url"),
        ("connector_host", "nodes.host.payload.url"),
    ]
    assert [(one["code"], one["field"], one["message"].partition(", and")[0]) for one in found["warnings"]] == [
        ("url_refused", f"nodes.{name}.payload.url", f'The host "{host}" may not be reached on port {port}: it {kind}')
        for name, host, port, kind in (
            ("metadata", "169.254.169.254", 80, "is a metadata address"),
            ("mapped", "::ffff:10.1.2.3", 8443, "is a private address"),
            ("loopback", "127.0.0.1", 8080, "is a loopback address"),
            ("local", "api.localhost", 8080, "resolves to a loopback address"),
        )
    ]
    nodes = {"root": {"type": "manual", "children": [*refused]}, **refused}
    made = await refusals.bench.api.create_workflow({"nodes": nodes}, name="warned")
    assert (await refusals.bench.api.post(f"/v1/workflows/{made['id']}/publish", {})).status == 200


async def test_refusal_in_a_called_workflow_in_a_loop_and_again_in_a_retry(refusals: Refusals) -> None:
    api = refusals.bench.api
    ask = {"type": "http-request", "payload": {"method": "POST", "url": "http://{{$trigger.body.host}}/"}}
    child = {"nodes": {"root": {"type": "manual", "children": ["ask"]}, "ask": ask}}
    called = await api.create_workflow(child, name="asks")
    nodes = {
        "each": {"type": "for-each", "payload": {"array": ["10.1.2.3"]}, "loopBody": ["call"]},
        "call": {"type": "call-workflow", "payload": {"workflowId": called["id"], "payload": {"host": "{{$item}}"}}},
    }
    told = []
    for mode in MODES[:2]:
        run = await refusals.bench.run(nodes, **mode)
        again = (await api.post(f"/v1/runs/{run['id']}/retry", {})).data
        for ended in (run, await refusals.bench.ended(again.get("runId") or again["id"])):
            assert ended["status"] == "failure"
            told.append(re.sub("run_[0-9a-z]+", "run_x", ended["executionState"]["each"]["error"]["message"]))
    assert len(set(told)) == 1, told
    assert "10.1.2.3" in told[0]
