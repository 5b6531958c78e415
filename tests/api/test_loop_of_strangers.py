"""Nothing that a stranger may send holds the event loop for 50 ms of processor time: bodies of webhooks under every way
to sign them, forms, and values that are small to send and large to read, check, keep or show."""

from __future__ import annotations

import functools
import json
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlencode

import pytest

from dustrun import clock
from testkit.composition import Composition
from testkit.loop_watch import least_hold, watched

MOST_S = 0.05
MOST_BYTES = 1_048_576
FORM = "application/x-www-form-urlencoded"
TOPIC = "arn:aws:sns:us-east-1:123456789012:t"
SIGNED = {
    "x-hub-signature-256": "sha256=" + "0" * 64,
    "stripe-signature": "t=1," + ",".join(["v1=" + "0" * 64] * 100),
    "x-slack-signature": "v0=" + "0" * 64,
    "x-slack-request-timestamp": "1",
    "x-shopify-hmac-sha256": "AAAA",
    "x-signature-256": "0" * 64,
    "x-signature-ed25519": "00" * 64,
    "x-signature-timestamp": "1",
    "x-twilio-signature": "AAAA",
    "webhook-id": "a",
    "webhook-signature": " ".join(["v1," + "A" * 44] * 100),
    "authorization": "Bearer " + "A" * 8_000,
}
AUTHS: dict[str, dict[str, Any]] = {
    **{name: {"type": name} for name in ("stripe", "github", "slack", "shopify", "hmac", "standard-webhooks")},
    "discord": {"type": "discord", "publicKey": "ab" * 32},
    "google-pubsub": {"type": "google-pubsub", "serviceAccount": "a@b.example"},
    "aws-sns": {"type": "aws-sns", "topicArn": TOPIC},
    "twilio": {"type": "twilio"},
}


def _many(item: str, size: int = MOST_BYTES) -> str:
    return f"[{','.join([item] * ((size - 200) // (len(item) + 1)))}]"


# JSON of the largest size: cheap to send, dear in one way or another
VALUES: dict[str, str] = {
    "numbers": _many("1"),
    "fractions": _many("0.5"),
    "exponents": _many("1e400", 600_000),
    "digits": _many("9" * 900),
    "texts": _many('""'),
    "escapes": '"' + "\\u00e4" * 170_000 + '"',
    "lists": _many("[]"),
    "objects": _many('{"a":1}'),
    "keys": "{" + ",".join(f'"k{number}":0' for number in range(90_000)) + "}",
    "deep": _many("[" * 60 + "]" * 60),
}
FORMS = {
    "percents": "a=" + "%41" * 349_000,
    "plus": "a=" + "+" * 1_048_000,
    "fields": urlencode({f"a{number}": "ä" * 170 for number in range(999)}),
}


async def _address(server: Composition, auth: dict[str, Any]) -> str:
    trigger = {"type": "webhook", "payload": {"auth": auth}, "children": ["say"]}
    nodes = {"root": trigger, "say": {"type": "log", "payload": {"message": "{{$trigger.body}}"}}}
    workflow = await server.owner.create_workflow({"nodes": nodes, "triggerNodeIds": ["root"]})
    assert (await server.owner.post(f"/v1/workflows/{workflow['id']}/publish")).status == 200
    made = await server.owner.post(f"/v1/workflows/{workflow['id']}/webhooks/root/rotate", {})
    return "/" + str(made.data["url"]).split("/", 3)[3]


async def _held(cases: dict[str, Callable[[], Awaitable[None]]]) -> dict[str, int]:
    """What holds the loop too long, and for how many milliseconds."""
    with watched() as watch:
        found = {name: await least_hold(watch, work, MOST_S) for name, work in cases.items()}
    return {name: round(held * 1000) for name, held in found.items() if held >= MOST_S}


async def test_no_body_of_a_webhook_holds_the_loop(server: Composition) -> None:
    await _drive_webhooks(server, ["twilio"], ["exponents"])


@pytest.mark.long
async def test_no_body_of_any_webhook_holds_the_loop(server: Composition) -> None:
    await _drive_webhooks(server, [*AUTHS], [*VALUES])
    await _drive_webhooks(server, [""], [*VALUES])


async def _drive_webhooks(server: Composition, auths: list[str], values: list[str]) -> None:
    http, seen = server.client(None).http, set[int]()

    async def send(path: str, body: bytes, kind: str) -> None:
        headers = {**SIGNED, "webhook-timestamp": str(clock.now_ms() // 1000), "content-type": kind}
        seen.add((await http.post(path, content=body, headers=headers)).status_code)

    cases: dict[str, Callable[[], Awaitable[None]]] = {}
    for auth in auths:
        path = await _address(server, AUTHS[auth] if auth else {"type": "secret-url"})
        for name in values:
            text = VALUES[name]
            if auth == "aws-sns":  # it takes no more than this
                text = _many({"exponents": "1e400"}.get(name, "0.5"), 299_000)
            body = f'{{"TopicArn":"{TOPIC}","x":{text}}}'.encode()[:MOST_BYTES]
            cases[f"{auth}, {name}"] = functools.partial(send, path, body, "application/json")
        for name, text in FORMS.items():
            cases[f"{auth}, {name}"] = functools.partial(send, path, text.encode(), FORM)
    assert await _held(cases) == {}
    assert seen <= {202, 400, 401, 415, 503}, seen  # 503: more large bodies at once than the server takes


async def test_no_value_of_a_payload_holds_the_loop(server: Composition) -> None:
    await _drive_values(server, ["exponents"])


@pytest.mark.long
async def test_no_value_of_any_payload_holds_the_loop(server: Composition) -> None:
    await _drive_values(server, [*VALUES])


async def _drive_values(server: Composition, values: list[str]) -> None:
    """Payloads that a node hands on, a test reads, a schema checks, and a secret is looked for in."""
    owner = server.owner
    schema = {"properties": {"data": {"items": {"anyOf": [{"type": "number", "minimum": 0}, {"type": "string"}]}}}}
    connector = {"type": "http-bearer", "name": "secret", "allowedHosts": ["a.example"], "data": {"token": "t" * 40}}
    made = (await owner.post("/v1/connectors", connector)).data["id"]
    asks = {"url": "https://a.example/", "method": "POST", "json": "{{$trigger.body.data}}"}
    request = {"type": "http-request", "payload": asks, "connector": {"type": "http-bearer", "id": made}}
    say = {"type": "log", "payload": {"message": "{{$trigger.body.data}}", "data": "x {{$trigger.body.data}}"}}
    choose = {"type": "if", "payload": {"expression": "size($trigger.body.data) > 1"}}
    shapes: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
        "said": ({"say": say}, {}),
        "chosen": ({"choose": choose}, {}),
        "checked": ({"say": {"type": "log", "payload": {"message": "x"}}}, {"inputSchema": schema}),
        "asked": ({"ask": request}, {}),
    }

    async def start(body: bytes) -> None:
        headers = {"Content-Type": "application/json"}
        answer = await owner.http.post("/v1/runs", content=body, headers=headers)
        if answer.status_code == 200:
            await owner.http.get(f"/v1/runs/{answer.json()['data']['runId']}/effects")

    cases: dict[str, Callable[[], Awaitable[None]]] = {}
    for shape, (nodes, config) in shapes.items():
        for name in values:
            root = {"type": "manual", "payload": config, "children": [*nodes]}
            definition = {"nodes": {"root": root, **nodes}, "triggerNodeIds": ["root"]}
            head = json.dumps({"definition": definition, "simulate": shape == "asked", "wait": True})
            body = f'{head[:-1]},"payload":{{"data":{VALUES[name]}}}}}'.encode()[:MOST_BYTES]
            cases[f"{name} {shape}"] = functools.partial(start, body)
    assert await _held(cases) == {}
