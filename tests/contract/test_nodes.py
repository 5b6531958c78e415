"""The contract that every action, trigger and control node keeps. `-k convert-temperature` looks at one of them."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from dustrun.catalog import load
from dustrun.core.values import exact_json
from dustrun.core.workflow.control import CONTROL, DOCS
from dustrun.sdk import Action, Effect

CATALOG = load()
ROOT = Path(__file__).resolve().parent.parent.parent
ACTIONS = [pytest.param(action, id=kind) for kind, action in sorted(CATALOG.actions.items())]
NODES = [*CATALOG.public_actions(), *CATALOG.public_triggers()]
_KIND = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")

every_action = pytest.mark.parametrize("action", ACTIONS)
every_node = pytest.mark.parametrize("node", [pytest.param(node, id=node["type"]) for node in NODES])


def _undescribed(schema: dict[str, Any], name: str) -> Iterator[str]:
    for field, part in schema.get("properties", {}).items():
        if not part.get("description"):
            yield f"{name}.{field}"
    for title, part in schema.get("$defs", {}).items():
        yield from _undescribed(part, title)


def _floats(value: Any) -> list[float]:
    if isinstance(value, dict | list):
        items = value.values() if isinstance(value, dict) else value
        return [found for item in items for found in _floats(item)]
    return [value] if isinstance(value, float) else []


@every_node
def test_it_is_named_and_told(node: dict[str, Any]) -> None:
    assert _KIND.fullmatch(node["type"])
    assert node["summary"].endswith((".", "…"))
    assert len(node["summary"]) <= 140
    assert list(_undescribed(node["inputSchema"], "input")) == []
    assert list(_undescribed(node["outputSchema"], "output")) == []


@every_node
def test_its_schemas_and_examples_are_exact_json(node: dict[str, Any]) -> None:
    assert exact_json.loads(exact_json.dumps(node))["type"] == node["type"]
    assert _floats([node["exampleInput"], node["exampleOutput"]]) == []


@every_action
def test_its_examples_are_valid(action: Action) -> None:
    action.input.model_validate(action.example_input)
    made = action.output.model_validate(action.example_output).model_dump(by_alias=True)
    assert exact_json.loads(exact_json.dumps(made)) == exact_json.loads(exact_json.dumps(action.example_output))


@every_action
def test_its_effect_fits(action: Action) -> None:
    effect = action.effect_for(action.input.model_validate(action.example_input))
    order = list(Effect)
    assert order.index(effect) <= order.index(action.effect), "effect_of may only narrow the declared effect"
    assert action.is_async or action.effect is Effect.PURE, "what reaches out is a coroutine"
    if action.effect_of is None and action.effect is Effect.WRITE and not action.inside:
        assert action.preview is not None, "a write shows what would go out"
    if action.effect is Effect.SPEND:
        is_signature = action.type.startswith("sign-")
        assert is_signature or action.funds_movement, "a spend says which of its fields move value"
        assert action.needs_wallet


@every_action
def test_the_fields_that_move_value_are_in_its_input(action: Action) -> None:
    for movement in action.funds_movement:
        for name, path in movement.public().items():
            if name.endswith("Field"):
                _walk(action.input.model_json_schema(by_alias=True), path)


def _walk(schema: dict[str, Any], path: str) -> None:
    part = schema
    for step in path.split("."):
        assert step.removesuffix("[]") in part["properties"], path
        part = part["properties"][step.removesuffix("[]")]
        part = _items(part) if step.endswith("[]") else part
        if "$ref" in part:
            part = schema["$defs"][part["$ref"].rpartition("/")[2]]


def _items(part: dict[str, Any]) -> dict[str, Any]:
    """The schema of a list's items; the list may be optional."""
    lists = [part, *part.get("anyOf", ())]
    items: dict[str, Any] = next(one["items"] for one in lists if "items" in one)
    return items


@every_action
def test_a_preview_is_json(action: Action) -> None:
    if action.preview is not None:
        exact_json.dumps(action.preview(action.input.model_validate(action.example_input)))


@every_action
def test_it_has_a_test_of_its_own(action: Action) -> None:
    module = action.type.replace("-", "_")
    assert (ROOT / "tests/actions" / action.family.replace("-", "_") / f"test_{module}.py").exists()
    source = inspect.getsourcefile(action.run)
    assert source is not None
    assert Path(source).stem == module, "the file's name is the type"


@pytest.mark.parametrize("kind", sorted(CATALOG.triggers))
def test_a_trigger_has_valid_examples(kind: str) -> None:
    trigger = CATALOG.triggers[kind]
    trigger.config.model_validate(trigger.example_config)
    trigger.output.model_validate(trigger.example_output)


@pytest.mark.parametrize("kind", sorted(CONTROL))
def test_a_control_node_has_valid_examples(kind: str) -> None:
    TypeAdapter(CONTROL[kind].payload).validate_python(DOCS[kind].example_input)
    assert set(DOCS[kind].example_output) <= set(CONTROL[kind].result_fields or ()), "some fields come only at times"


def test_no_field_is_a_float() -> None:
    numbers = [part for node in NODES for part in _parts(node["outputSchema"]) if part.get("type") == "number"]
    assert numbers == [], "use int or Decimal; a Decimal's schema names a pattern too"


def _parts(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for part in schema.get("properties", {}).values():
        yield part
    for part in schema.get("$defs", {}).values():
        yield from _parts(part)
