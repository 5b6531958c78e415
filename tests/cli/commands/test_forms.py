"""`dustrun forms`: a link from its making to its end, against a real server process."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from served import served

REFUND = {
    "name": "Refund",
    "definition": {
        "nodes": {
            "root": {
                "type": "manual",
                "payload": {"inputSchema": {"type": "object", "properties": {"order": {"type": "string"}}}},
                "children": ["say"],
            },
            "say": {"type": "log", "payload": {"message": "{{$trigger.body.order}}"}},
        },
        "triggerNodeIds": ["root"],
    },
}


def _answer(address: str, body: Any) -> Any:
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(address, json.dumps(body).encode(), headers, method="POST")
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.loads(answer.read())["data"]


def test_a_link_from_its_making_to_its_end(tmp_path: Path) -> None:
    with served(tmp_path / "data") as server:
        (tmp_path / "refund.json").write_text(json.dumps(REFUND))
        server.json("workflow", "create", str(tmp_path / "refund.json"))
        refused = server.dustrun("forms", "create", "Refund")
        assert refused.returncode != 0
        assert "publish it first" in refused.stderr
        server.json("workflow", "publish", "Refund")
        made = server.json("forms", "create", "Refund", "--max-runs", "2", "--days", "7", "--title", "Ask")
        assert (made["mode"], made["maxRuns"], made["title"], made["state"]) == ("simulate", 2, "Ask", "open")
        secret = made["url"].rpartition("/forms/")[2]
        assert _answer(f"{server.url}/v1/forms/{secret}", {"values": {"order": "17"}})["status"] in ("running", "done")
        shown = server.dustrun("forms", "list", "Refund").stdout
        assert [cell in shown for cell in (made["id"], "Ask", "simulate", "open", "1/2")] == [True] * 5
        told = server.dustrun("forms", "revoke", "Refund", made["id"])
        assert told.stdout == f"Nothing answers at {made['id']} any more; it started 1 runs.\n"
        with pytest.raises(urllib.error.HTTPError):
            _answer(f"{server.url}/v1/forms/{secret}", {"values": {}})
        assert server.json("forms", "list", "Refund")[0]["state"] == "revoked"
