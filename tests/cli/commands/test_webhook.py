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
    with urllib.request.urlopen(request, timeout=60) as answer:
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


def test_hook_from_its_secret_to_its_end(server: Served) -> None:
    made = _shown(server, "hooks", "create", "Alerts", "https://hooks.example.com/x", "--event", "run.failed").strip()
    assert made.startswith("whsec_")
    [hook] = server.json("hooks", "list")["items"]
    assert (hook["subscribedEventTypes"], "secret" in hook) == (["run.failed"], False)
    assert "disabled" in _shown(server, "hooks", "disable", hook["id"])
    assert server.json("hooks", "enable", hook["id"])["status"] == "active"
    rotated = server.json("hooks", "rotate-secret", hook["id"], "--overlap-hours", "1")
    assert (rotated["secret"] == made, rotated["previousSecretUntil"] is None) == (False, False)
    assert "Alerts" in _shown(server, "hooks", "show", hook["id"])
    assert server.json("hooks", "deliveries")["items"] == []
    done = server.dustrun("hooks", "retry", "dlv_missing")
    assert (done.returncode, "dlv_missing" in done.stderr) == (2, True)
    server.json("hooks", "delete", hook["id"])
    assert server.json("hooks", "list")["items"] == []


def test_config_of_a_trigger_is_tried(server: Served) -> None:
    found = server.json("triggers", "test", "cronjob", "--config", '{"schedule": "0 9 * * *"}')
    assert (found["origin"], len(found["fires"])) == ("sample", 10)
    assert found["fires"][0]["at"] in _shown(
        server, "triggers", "test", "cronjob", "--config", '{"schedule": "0 9 * * *"}'
    )
    refused = server.dustrun("triggers", "test", "rss", "--config", '{"url": 5}')
    assert (refused.returncode, "config.url" in refused.stderr) == (2, True)
