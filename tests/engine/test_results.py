"""Results as they are kept: what was stored can be read again, and what cannot be stored fails its node only."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from dustrun.core.values.exact_json import MAX_DEPTH
from engine.conftest import Bench
from testkit.composition import composed

ODD = '''"""Returns what no store can keep."""

from decimal import Decimal
from typing import Any

from pydantic import Field

from dustrun.sdk import Context, Effect, Fields, action


class Input(Fields):
    """Which."""

    kind: str = Field(description="Which.")


class Output(Fields):
    """That."""

    value: Any = Field(description="That.")


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


ODD: dict[str, Any] = {
    "nan": Decimal("NaN"),
    "long": 10**2000,
    "set": {1, 2},
    "half": "\\ud800",
    "deep": nested(400),
    "keys": {1: 2},
}


@action(effect=Effect.PURE, input=Input, output=Output, example_input={"kind": "nan"}, example_output={"value": 1})
def odd(input: Input, ctx: Context) -> Output:
    """Returns it."""
    return Output(value=ODD[input.kind])
'''


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.fixture
async def odd_bench(tmp_path: Path, store_url: str) -> AsyncIterator[Bench]:
    actions = tmp_path / "actions"
    actions.mkdir()
    (actions / "odd.py").write_text(ODD)
    async with composed(tmp_path, database_url=store_url, actions_dir=actions) as composition:
        yield Bench(composition)


@pytest.mark.both_stores
async def test_a_result_around_the_deepest_payload_is_kept_and_shown(bench: Bench) -> None:
    deepest = nested(MAX_DEPTH - 3)
    nodes = {
        "wrap": {
            "type": "group",
            "payload": {"array": ["{{$trigger.body.deep}}"], "field": "k", "onMissing": "null"},
            "children": ["after"],
        },
        "after": {"type": "log", "payload": {"message": "{{size(wrap.result.groups)}}"}},
    }
    run = await bench.run(nodes, payload={"deep": deepest})
    assert run["status"] == "success"
    assert run["executionState"]["wrap"]["result"]["groups"][0]["items"] == [deepest]


@pytest.mark.parametrize("kind", ["nan", "long", "set", "half", "deep", "keys"])
async def test_a_result_that_cannot_be_kept_fails_its_node(odd_bench: Bench, kind: str) -> None:
    run = await odd_bench.run({"a": {"type": "odd", "payload": {"kind": kind}}})
    assert run["status"] == "failure"
    assert run["executionState"]["a"]["error"]["code"] == "INTERNAL"


async def test_results_of_control_nodes_fit_what_the_catalogue_says(bench: Bench) -> None:
    called = await bench.api.create_workflow()
    log = {"type": "log", "payload": {"message": "x"}}
    nodes = {
        "if": {"type": "if", "payload": {"expression": "1 == 1"}},
        "switch": {"type": "switch", "payload": {"cases": [{"name": "a", "expression": "1 == 2"}]}},
        "each": {
            "type": "for-each",
            "payload": {"array": [1, 2], "onItemError": "continue"},
            "loopBody": ["body"],
        },
        "body": {"type": "http-request", "payload": {"url": "{{ $item == 1 ? 'ftp://x' : 'gopher://x' }}"}},
        "empty": {"type": "for-each", "payload": {"array": [1]}, "loopBody": ["say"]},
        "say": log,
        "delay": {"type": "delay", "payload": {"delayMs": 5}},
        "respond": {"type": "respond", "payload": {"status": 201, "body": {"a": 1}}},
        "nothing": {"type": "respond", "payload": {"status": 204}},
        "wait": {"type": "wait", "payload": {"timeoutMs": 1000}, "pinned": {"status": "resumed", "triggerResult": {}}},
        "late": {"type": "wait", "payload": {"timeoutMs": 1000}, "pinned": {"status": "timed_out"}},
        "approve": {"type": "approve", "payload": {"message": "Yes?"}},
        "call": {"type": "call-workflow", "payload": {"workflowId": called["id"]}},
        "start": {"type": "call-workflow", "payload": {"workflowId": called["id"], "mode": "start"}},
        "set": {"type": "set-variable", "payload": {"name": "x", "value": 1}},
        "get": {"type": "get-variable", "payload": {"name": "y"}},
        "add": {"type": "increment-variable", "payload": {"name": "z"}},
        "stop": {"type": "stop", "payload": {"message": "Enough."}},
    }
    last = {"stop": nodes.pop("stop")}
    ended = [await bench.ended(await bench.start(part, simulate=True)) for part in (nodes, last)]
    catalogue = {shown["type"]: shown for shown in (await bench.api.get("/v1/actions")).data}
    seen = set()
    for node_id, node in {**nodes, **last}.items():
        states = [run["executionState"][node_id] for run in ended if node_id in run["executionState"]]
        for state in states:
            shown = catalogue[node["type"]]
            if state.get("result") is not None and shown["kind"] == "control":
                jsonschema.Draft202012Validator(shown["resultSchema"]).validate(state["result"])
                assert state["result"].keys() <= shown["resultSchema"]["properties"].keys()
                seen.add(node_id)
    assert seen == {*nodes, *last} - {"body", "say"}
