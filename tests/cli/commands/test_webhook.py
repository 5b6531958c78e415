"""`dustrun webhook`: addresses and what came in there, against a real server process."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from served import Served, served

ORDERS = {
    "name": "Orders",
    "definition": {
        "nodes": {
            "root": {"type": "webhook", "children": ["say"]},
            "say": {"type": "log", "payload": {"message": "order {{string($trigger.body.orderId)}}"}},
        },
        "triggerNodeIds": ["root"],
    },
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    home = tmp_path_factory.mktemp("home")
    with served(home / "data") as found:
        (home / "orders.json").write_text(json.dumps(ORDERS))
        found.json("workflow", "create", str(home / "orders.json"))
        found.json("workflow", "publish", "Orders")
        yield found


def _send(address: str, body: Any) -> int:
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(address, json.dumps(body).encode(), headers, method="POST")
    with urllib.request.urlopen(request, timeout=10) as answer:
        return int(answer.status)


def _shown(server: Served, *words: str) -> str:
    done = server.dustrun(*words)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_webhook_from_its_address_to_its_end(server: Served) -> None:
    url = server.json("webhook", "rotate", "Orders")["url"]
    assert _send(f"{server.url}/v1/webhooks/{url.rsplit('/', 1)[1]}", {"orderId": 17}) == 202
    [listed] = server.json("webhook", "list", "Orders")
    assert (listed["nodeId"], listed["methods"], len(listed["addresses"])) == ("root", ["POST"], 1)
    assert "secret-url" in _shown(server, "webhook", "list", "Orders")

    [event] = server.json("webhook", "events", "Orders")["items"]
    shown = _shown(server, "webhook", "events", "Orders")
    assert [cell in shown for cell in (event["id"], "started", event["runId"], event["createdAt"][:10])] == [True] * 4

    told = _shown(server, "webhook", "replay", event["id"])
    newest = server.json("webhook", "events", "Orders")["items"][0]
    assert (newest["replayOf"], newest["runId"] == event["runId"]) == (event["id"], False)
    assert told == f"Triggered by {newest['id']}: {newest['runId']}\n"

    assert _shown(server, "webhook", "revoke", "Orders") == 'Nothing answers for the webhook "root" any more.\n'
    assert server.json("webhook", "list", "Orders")[0]["addresses"] == []


def test_unknown_event_cannot_be_replayed(server: Served) -> None:
    done = server.dustrun("webhook", "replay", "evt_missing")
    assert (done.returncode, "evt_missing" in done.stderr) == (2, True)
