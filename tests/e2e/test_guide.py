"""The programs of the guide, run as the page shows them."""

from __future__ import annotations

import json

import pytest

from testkit.e2e.clients import Start, places
from testkit.e2e.flows import chain
from testkit.e2e.guide import snippets
from testkit.e2e.server import Server


def test_guide_has_the_programs_that_are_tested_here() -> None:
    names = {"curl", "fetch", "requests", "token", "browser", "eventsource", "idempotent"}
    assert set(snippets()) == names


@pytest.mark.parametrize("name", ["fetch", "requests"])
def test_program_starts_a_run_and_follows_it_to_the_end(name: str, server: Server, start: Start) -> None:
    workflow = server.create_workflow(chain(3, 200))
    program = start(name, server, WORKFLOW=workflow).finish()
    events = program.events()
    assert events[0]["type"] == "run_started"
    assert events[-1]["type"] == "run_finished"
    assert events == server.events_of(events[0]["runId"])
    assert program.complaints == ""


def test_curl_starts_a_run_and_follows_it_to_the_end(server: Server, start: Start) -> None:
    workflow = server.create_workflow(chain(3, 200))
    output = start("curl", server, WORKFLOW=workflow).finish().output
    blocks = [block.split("\n") for block in output.split("\n\n")]
    assert blocks[0] == ["retry: 1000"]
    assert blocks[-2:] == [["event: end", "data: {}"], [""]]
    events = [json.loads(block[2].removeprefix("data: ")) for block in blocks[1:-2]]
    heads = [[f"id: {event['seq']}", f"event: {event['type']}"] for event in events]
    assert [block[:2] for block in blocks[1:-2]] == heads
    assert events == server.events_of(events[0]["runId"])
    assert places(events) == list(range(1, len(events) + 1))


def test_program_that_is_refused_says_why(server: Server, start: Start) -> None:
    for name in ("curl", "fetch", "requests"):
        program = start(name, server, WORKFLOW="wf_00000000000000000000000000")
        with pytest.raises(AssertionError):
            program.finish()
        assert "404" in program.complaints, name


def test_post_sent_twice_under_one_key_starts_one_run(server: Server, start: Start) -> None:
    workflow = server.create_workflow(chain(1))
    printed = start("idempotent", server, WORKFLOW=workflow).finish().output.split()
    assert len(printed) == 2
    assert printed[0] == printed[1]
    assert [run["id"] for run in server.call("GET", f"/v1/workflows/{workflow}/runs")["items"]] == [printed[0]]
