"""Results as they are kept: what was stored can be read again, and what cannot be stored fails its node only."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

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
