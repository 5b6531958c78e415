"""The catalogue: every action, trigger and control node, found by walking folders and entry points."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import inspect
import pkgutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from dustrun import actions, triggers
from dustrun.core.control import CONTROL, DOCS
from dustrun.core.specs import NodeSpec, Specs
from dustrun.errors import Code, Invalid, NotFound
from dustrun.sdk import Action, Trigger


@dataclass(frozen=True, slots=True)
class Catalog:
    """Everything that a node can be."""

    actions: Mapping[str, Action]
    triggers: Mapping[str, Trigger]
    _specs: Mapping[str, NodeSpec]

    def specs(self) -> Specs:
        """What validation and the planner must know of every type."""
        return self._specs

    def public_actions(self, *, summary: bool = False) -> list[dict[str, Any]]:
        """Every action and control node as the API shows it, by type."""
        return [self.public_action(kind, summary=summary) for kind in sorted({*self.actions, *CONTROL})]

    def public_action(self, kind: str, *, summary: bool = False) -> dict[str, Any]:
        """One action or control node as the API shows it; `summary` leaves out schemas and examples."""
        if kind in CONTROL:
            return _public_control(kind, summary)
        if kind not in self.actions:
            raise self._unknown(kind, "action", {*self.actions, *CONTROL})
        return _public_action(self.actions[kind], summary)

    def public_triggers(self, *, summary: bool = False) -> list[dict[str, Any]]:
        """Every trigger as the API shows it, by type."""
        return [self.public_trigger(kind, summary=summary) for kind in sorted(self.triggers)]

    def public_trigger(self, kind: str, *, summary: bool = False) -> dict[str, Any]:
        """One trigger as the API shows it."""
        if kind not in self.triggers:
            raise self._unknown(kind, "trigger", set(self.triggers))
        trigger = self.triggers[kind]
        shown: dict[str, Any] = {"type": kind, "kind": trigger.kind, "summary": trigger.summary}
        shown["tags"] = [trigger.kind]
        if not summary:
            shown |= {
                "description": trigger.description,
                "inputSchema": trigger.config.model_json_schema(by_alias=True),
                "outputSchema": trigger.output.model_json_schema(by_alias=True),
                "exampleInput": trigger.example_config,
                "exampleOutput": trigger.example_output,
            }
        return shown

    @staticmethod
    def _unknown(kind: str, what: str, known: set[str]) -> NotFound:
        close = difflib.get_close_matches(kind, known, n=2)
        hint = f' Did you mean "{close[0]}"?' if close else ""
        return NotFound(f'There is no {what} "{kind}".{hint}', code=Code.TYPE_UNKNOWN)


def _public_action(action: Action, summary: bool) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "type": action.type,
        "kind": "action",
        "family": action.family,
        "summary": action.summary,
        "effect": action.effect.value,
        "idempotent": action.idempotent,
        "tags": [action.family, *action.tags],
        "fundsMovement": [],
        "requiresGas": False,
    }
    if not summary:
        shown |= {
            "description": action.description,
            "inputSchema": action.input.model_json_schema(by_alias=True),
            "outputSchema": action.output.model_json_schema(by_alias=True),
            "exampleInput": action.example_input,
            "exampleOutput": action.example_output,
        }
    return shown


def _public_control(kind: str, summary: bool) -> dict[str, Any]:
    spec, doc = CONTROL[kind], DOCS[kind]
    shown: dict[str, Any] = {
        "type": kind,
        "kind": "control",
        "family": "control",
        "summary": doc.summary,
        "effect": "control",
        "idempotent": True,
        "tags": ["control"],
        "fundsMovement": [],
        "requiresGas": False,
    }
    if not summary:
        shown |= {
            "description": inspect.getdoc(spec.payload) or "",
            "inputSchema": spec.payload.model_json_schema(by_alias=True),
            "outputSchema": {"type": "object", "required": sorted(spec.result_fields or ())},
            "exampleInput": doc.example_input,
            "exampleOutput": doc.example_output,
        }
    return shown


def load(actions_dir: Path | None = None) -> Catalog:
    """Finds everything: this package's files, installed entry points, and the operator's own folder."""
    found_actions: dict[str, Action] = {}
    found_triggers: dict[str, Trigger] = {}
    for family, module in _modules(actions_dir):
        for value in list(vars(module).values()):
            if isinstance(value, Action) and not value.type:
                _add(found_actions, _named_action(value, family, module), module)
            elif isinstance(value, Trigger) and not value.type:
                _add(found_triggers, _named_trigger(value, module), module)
    specs = {**CONTROL}
    for action in found_actions.values():
        specs[action.type] = _action_spec(action)
    for trigger in found_triggers.values():
        fields = frozenset(trigger.output.model_json_schema(by_alias=True).get("properties", {}))
        specs[trigger.type] = NodeSpec(trigger.type, "trigger", "pure", trigger.config, None, fields)
    return Catalog(found_actions, found_triggers, specs)


def _modules(actions_dir: Path | None) -> Iterator[tuple[str, ModuleType]]:
    for package in (actions, triggers):
        for info in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not info.ispkg:
                yield info.name.split(".")[-2], importlib.import_module(info.name)
    for group in ("dustrun.actions", "dustrun.triggers"):
        for entry in entry_points(group=group):
            yield entry.name, importlib.import_module(entry.module)
    if actions_dir is not None:
        for path in sorted(actions_dir.glob("*.py")):
            yield "own", _load_file(path)


def _load_file(path: Path) -> ModuleType:
    name = f"dustrun_own_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # pydantic looks annotations up there
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise Invalid(f'The action file "{path.name}" cannot be loaded: {type(error).__name__}: {error}') from error
    return module


def _add(found: dict[str, Any], thing: Any, module: ModuleType) -> None:
    if thing.type in found or thing.type in CONTROL:
        raise Invalid(f'Two files provide the type "{thing.type}"; the second is {module.__name__}.')
    found[thing.type] = thing


def _type_of(module: ModuleType) -> str:
    return module.__name__.split(".")[-1].removeprefix("dustrun_own_").replace("_", "-")


def _documented(module: ModuleType) -> tuple[str, str]:
    summary, _, description = (inspect.getdoc(module) or "").partition("\n")
    return summary.strip(), description.strip()


def _named_action(action: Action, family: str, module: ModuleType) -> Action:
    summary, description = _documented(module)
    return replace(action, type=_type_of(module), family=family, summary=summary, description=description)


def _named_trigger(trigger: Trigger, module: ModuleType) -> Trigger:
    summary, description = _documented(module)
    return replace(trigger, type=_type_of(module), summary=summary, description=description)


def _action_spec(action: Action) -> NodeSpec:
    schema = action.output.model_json_schema(by_alias=True)
    is_open = schema.get("additionalProperties") not in (None, False)
    fields = None if is_open else frozenset(schema.get("properties", {})) or None
    return NodeSpec(action.type, "action", action.effect.value, action.input, None, fields, action.raw_fields)
