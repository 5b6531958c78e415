"""The trigger that a caller fires: the payload comes out as it went in, or with every problem told."""

from __future__ import annotations

import time
from typing import Any

import pytest
from pydantic import ValidationError

from dustrun.core.values.exact_json import loads
from dustrun.errors import Code, Invalid
from dustrun.triggers.manual import Config, accept


def problems(schema: dict[str, Any], payload: str) -> list[tuple[str, str]]:
    config = Config.model_validate({"inputSchema": schema})
    value = loads(payload)
    with pytest.raises(Invalid) as caught:
        accept.accept(config, value)
    assert caught.value.code is Code.PAYLOAD_INVALID
    return [(found["field"], found["message"]) for found in caught.value.public_details()]


def test_a_valid_payload_comes_out_as_it_went_in() -> None:
    config = Config.model_validate({"inputSchema": {"properties": {"usd": {"type": "number"}}}})
    payload = loads('{"usd": 0.10, "more": [1]}')
    assert accept.accept(config, payload) is payload


@pytest.mark.parametrize("config", [{}, {"inputSchema": None}, {"inputSchema": {}}])
def test_without_a_schema_everything_is_accepted(config: dict[str, Any]) -> None:
    made = Config.model_validate(config)
    payload = {"anything": [1]}
    assert accept.accept(made, payload) is payload
    assert made.compiled is None


def test_a_schema_is_compiled_once() -> None:
    config = Config.model_validate({"inputSchema": {"type": "object"}})
    assert config.compiled is config.compiled


def test_a_valid_payload_costs_little() -> None:
    properties = {f"field{n}": {"type": "number", "minimum": 0} for n in range(20)}
    config = Config.model_validate({"inputSchema": {"properties": properties, "required": list(properties)}})
    payload = dict.fromkeys(properties, 1)
    accept.accept(config, payload)
    start = time.process_time()
    for _ in range(100):
        accept.accept(config, payload)
    assert time.process_time() - start < 0.5


def test_every_problem_is_told_with_its_field() -> None:
    schema = {
        "required": ["usd", "to"],
        "additionalProperties": False,
        "properties": {
            "usd": {"type": "number"},
            "to": {"type": "string"},
            "rows": {"items": {"properties": {"n": {"type": "integer"}}}},
        },
    }
    assert problems(schema, '{"rows": [{}, {"n": 1.5}, {"n": "x"}], "use": 1}') == [
        ("payload", 'The field "usd" is required.'),
        ("payload", 'The field "to" is required.'),
        ("payload.use", 'Unknown field. Did you mean "usd"?'),
        ("payload.rows[1].n", "It must be a whole number, not a number with a fraction."),
        ("payload.rows[2].n", "It must be a whole number, not a string."),
    ]


def test_a_broken_schema_is_told_when_the_workflow_is_checked() -> None:
    with pytest.raises(ValidationError, match="is not a valid JSON Schema: 'nope' is not valid"):
        Config.model_validate({"inputSchema": {"type": "nope"}})
