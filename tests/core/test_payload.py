"""What a hook is told of an event: no results, no inputs, nothing long."""

from __future__ import annotations

import json

from dustrun.core.hooks import Subject, body_of

RUN = Subject("org_1", "wf_1", "run_1", "Pay", 3, "live")


def test_a_body_has_links_and_leaves_out_what_is_large() -> None:
    data = {
        "nodeId": "pay",
        "path": "each[3].pay",
        "attempt": 1,
        "status": "failure",
        "result": {"a": "b" * 1000},
        "data": {"secret": 1},
        "error": {"code": "x", "message": "m" * 2000, "details": [{"field": "f"}]},
        "transactionId": "tx_1",
        "hash": None,
    }
    text = body_of("node.failed", "run_1.7", "2026-01-01T00:00:00.000Z", RUN, data, "https://d.example")
    body = json.loads(text)
    assert len(text) < 1500
    assert body["type"] == "node.failed"
    assert body["timestamp"] == "2026-01-01T00:00:00.000Z"
    assert body["data"].pop("error") == {"code": "x", "message": "m" * 499 + "…"}
    assert body["data"] == {
        "eventId": "run_1.7",
        "organizationId": "org_1",
        "runId": "run_1",
        "workflowId": "wf_1",
        "workflowName": "Pay",
        "version": 3,
        "mode": "live",
        "nodeId": "pay",
        "path": "each[3].pay",
        "attempt": 1,
        "status": "failure",
        "transactionId": "tx_1",
        "links": {
            "run": "https://d.example/v1/runs/run_1",
            "workflow": "https://d.example/v1/workflows/wf_1",
            "transaction": "https://d.example/v1/transactions/tx_1",
        },
    }


def test_a_field_never_replaces_what_the_body_says_of_its_run() -> None:
    data = {"runId": "run_other", "workflowId": "wf_other", "links": {}, "eventId": "x", "nodes": ["a"] * 50}
    body = json.loads(body_of("run.waiting", "run_1.2", "t", RUN, data, ""))["data"]
    assert (body["runId"], body["workflowId"], body["eventId"]) == ("run_1", "wf_1", "run_1.2")
    assert len(body["nodes"]) == 20
