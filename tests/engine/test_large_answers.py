"""Answers to waiting nodes as large and as deep as they can be: from people, and from called runs."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import pytest

from dustrun.engine.node.outcome import Job
from engine.conftest import Bench
from engine.test_subworkflows import call
from engine.test_variables import Flow, result
from testkit.composition import composed
from testkit.news import serving

DEEPEST = 98
"""How deep a payload may nest its values: 100 levels, of which the document and its payload are two."""


def nested(depth: int) -> Any:
    """So many lists in one another."""
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


async def test_resume_takes_values_as_deep_as_a_payload_takes(bench: Bench) -> None:
    run_id = await bench.start({"ask": {"type": "wait", "payload": {"timeoutMs": 60_000}}})
    await bench.until(run_id, lambda run: bool(run["status"] == "waiting"))
    deep = {"deep": nested(DEEPEST)}
    assert (await bench.api.post(f"/v1/runs/{run_id}/nodes/ask/resume", {"data": deep})).status == 200
    run = await bench.ended(run_id)
    assert result(run, "ask")["triggerResult"] == deep


@pytest.mark.both_stores
async def test_results_of_a_called_run_that_no_node_may_keep_fail_the_call(tmp_path: Path, store_url: str) -> None:
    """They are not even handed over: the caller would decode all of them, only to refuse them."""
    async with composed(tmp_path, database_url=store_url, max_result_bytes=20_000) as server:
        bench = Bench(server)
        keep = {"array": "{{$trigger.body.rows}}", "field": "$item", "operator": "$gte", "value": 0}
        callee = await Flow.make(bench, {f"keep{number}": {"type": "filter", "payload": keep} for number in range(5)})
        passed = {"payload": {"rows": "{{$trigger.body.rows}}"}}
        run = await bench.run({"call": call(callee.id, payload=passed)}, payload={"rows": [7] * 3_000})
    found = run["executionState"]["call"]["error"]
    assert (run["status"], found["code"], found["retryable"]) == ("failure", "LIMIT", False)
    assert "more than 20000 bytes" in found["message"]
    assert "setting max_result_bytes" in found["message"]


async def test_nodes_that_fail_keep_nothing_in_memory(tmp_path: Path, store_url: str) -> None:
    """What a run carries may be large, and the collector seldom comes by."""
    settings = {"database_url": store_url, "outbound_allow": ("127.0.0.1",)}
    async with serving() as news, composed(tmp_path, **settings) as server:
        bench, news.status = Bench(server), 404
        ask = {"type": "http-request", "payload": {"method": "POST", "url": news.url}}
        gc.collect()
        gc.disable()
        try:
            for _ in range(5):
                assert (await bench.run({"ask": ask}))["status"] == "failure"
            left = [one for one in gc.get_objects() if isinstance(one, Job)]
        finally:
            gc.enable()
    assert left == []
