"""The catalogue of actions, triggers, connector types and control nodes, discovered in packages and entry points."""

from __future__ import annotations

import difflib
import functools
import importlib
import importlib.util
import inspect
import pkgutil
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, Final, TypeVar

from pydantic import BaseModel

from dustrun import actions, connectors, triggers
from dustrun.core.workflow.control import BRANCHES_IN, CONTROL, DOCS, RESULTS
from dustrun.core.workflow.specs import NodeSpec, Specs, api_of
from dustrun.errors import Code, Invalid, NotFound
from dustrun.records import dataclass
from dustrun.sdk import Action, Effect, Trigger
from dustrun.sdk.connector import Connector
from dustrun.sdk.fields import hinted_fields, schema_of
from dustrun.sdk.package import Package

Declared = Action | Trigger | Connector
_TYPE: Final = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
IMPORTED: Final = "imported-operation"
"""The action that carries out all operations of imported documents, whose types are `<api>.<operation>`."""
GROUPS: Final = ("dustrun.actions", "dustrun.triggers", "dustrun.connectors")
"""Groups of the entry points by which installed packages offer types."""
_CONNECTORS: Final = GROUPS[2]
_Value = TypeVar("_Value")


class _WithImported(dict[str, _Value]):
    """By type; one of an imported document stands for `IMPORTED`, which itself is no type."""

    imported: _Value

    def __missing__(self, kind: str) -> _Value:
        if api_of(kind) is None:
            raise KeyError(kind)
        return self.imported

    def get(self, kind: str, default: Any = None) -> Any:
        """The value, also of an imported type."""
        return super().get(kind, default) if api_of(kind) is None else self.imported


@dataclass(frozen=True, slots=True, eq=False)
class Catalog:
    """All node types and connector types; one is equal only to itself."""

    actions: Mapping[str, Action]
    triggers: Mapping[str, Trigger]
    connectors: Mapping[str, Connector]
    _specs: Mapping[str, NodeSpec]

    def specs(self) -> Specs:
        """The node types, as validation and the planner need them."""
        return self._specs

    def public_actions(self, *, summary: bool = False) -> list[dict[str, Any]]:
        """All actions and control nodes as API objects, sorted by type."""
        return [self.public_action(kind, summary=summary) for kind in sorted({*self.actions, *CONTROL})]

    def public_action(self, kind: str, *, summary: bool = False) -> dict[str, Any]:
        """One action or control node as an API object; `summary` omits schemas and examples. Raises `NotFound`."""
        if kind in CONTROL:
            return _public_control(kind, summary)
        if kind not in self.actions:
            raise self._unknown(kind, "action", {*self.actions, *CONTROL})
        return _public_action(self.actions[kind], summary)

    def public_triggers(self, *, summary: bool = False) -> list[dict[str, Any]]:
        """All triggers as API objects, sorted by type."""
        return [self.public_trigger(kind, summary=summary) for kind in sorted(self.triggers)]

    def public_trigger(self, kind: str, *, summary: bool = False) -> dict[str, Any]:
        """One trigger as an API object; raises `NotFound`."""
        if kind not in self.triggers:
            raise self._unknown(kind, "trigger", set(self.triggers))
        trigger = self.triggers[kind]
        shown: dict[str, Any] = {"type": kind, "kind": trigger.kind, "summary": trigger.summary}
        shown |= {"tags": [trigger.kind], "connectors": list(trigger.connector)}
        shown["connectorRequired"] = trigger.connector_required
        shown["package"] = _public_package(trigger.package)
        if not summary:
            shown |= {
                "description": trigger.description,
                "inputSchema": schema_of(trigger.config),
                "outputSchema": schema_of(trigger.output),
                "exampleInput": trigger.example_config,
                "exampleOutput": trigger.example_output,
            }
        return shown

    def connector(self, kind: str) -> Connector:
        """One connector type; raises `NotFound` with similar names."""
        if kind not in self.connectors:
            raise self._unknown(kind, "connector type", set(self.connectors))
        return self.connectors[kind]

    def public_connectors(self) -> list[dict[str, Any]]:
        """All connector types as API objects, sorted by type."""
        return [self.public_connector(kind) for kind in sorted(self.connectors)]

    def public_connector(self, kind: str) -> dict[str, Any]:
        """One connector type as an API object; raises `NotFound`."""
        return _public_connector(self.connector(kind))

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
        "fundsMovement": [movement.public() for movement in action.funds_movement],
        "requiresGas": action.effect is Effect.SPEND and bool(action.funds_movement),
        "connectors": list(action.connector),
        "connectorRequired": bool(action.connector) and not action.connector_optional,
        "branches": [],
        "branchesIn": None,
        "package": _public_package(action.package),
    }
    if not summary:
        shown |= {
            "description": action.description,
            "inputSchema": schema_of(action.input),
            "outputSchema": schema_of(action.output),
            "exampleInput": action.example_input,
            "exampleOutput": action.example_output,
        }
    return shown


def _public_package(package: Package | None) -> dict[str, str] | None:
    return None if package is None else package.public()


def _public_connector(connector: Connector) -> dict[str, Any]:
    return {
        "type": connector.type,
        "summary": connector.summary,
        "description": connector.description,
        "tags": list(connector.tags),
        "attachesToHttp": connector.attaches,
        "movesMoney": connector.moves_money,
        "secretFields": sorted(connector.secret_fields),
        "dataSchema": connector.data_schema(),
        "exampleData": connector.example,
        "package": _public_package(connector.package),
    }


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
        "connectors": [],
        "connectorRequired": False,
        "branches": list(spec.branches({})) if spec.branches is not None else [],
        "branchesIn": BRANCHES_IN.get(kind),
        "package": None,
    }
    if not summary:
        shown |= {
            "description": inspect.getdoc(spec.payload) or "",
            "inputSchema": schema_of(spec.payload),
            "outputSchema": schema_of(RESULTS[kind]),
            "exampleInput": doc.example_input,
            "exampleOutput": doc.example_output,
        }
    return shown


@dataclass(frozen=True, slots=True)
class _Found:
    """A module that may declare a type."""

    name: str
    family: str
    module: ModuleType
    must_declare: bool = False
    package: Package | None = None

    @property
    def type(self) -> str:
        """The type it provides: the module name in kebab case."""
        return self.name.replace("_", "-")

    def declared(self) -> list[Declared]:
        """The declarations of this module, without imported ones. Raises `Invalid` unless there is exactly one."""
        values = [value for value in vars(self.module).values() if isinstance(value, Declared)]
        own = [value for value in values if _module_of(value) == self.module.__name__]
        if len(own) > 1:
            raise Invalid(
                f"The file {_place(self.module)} declares {len(own)} actions or triggers; put each into its own file."
            )
        if not own and self.must_declare:
            raise Invalid(
                f"The file {_place(self.module)} declares no action or trigger. "
                'Files whose names begin with "_" are ignored.'
            )
        if own and _TYPE.fullmatch(self.type) is None:
            raise Invalid(
                f"The file {_place(self.module)} has a name that cannot be a type: use lower case and underscores, "
                "like send_message.py."
            )
        return own

    @functools.lru_cache(maxsize=512)  # noqa: B019 (it is about modules, which stay)
    def named(self) -> list[tuple[Declared, NodeSpec | None]]:
        """The declarations with their type and texts, and what validation needs of them."""
        return [_named(value, self) for value in self.declared()]


def _module_of(value: Declared) -> str:
    return value.origin if isinstance(value, Trigger) else str(getattr(value.run, "__module__", ""))


def _place(module: ModuleType) -> str:
    return f'"{Path(module.__file__).name}"' if module.__file__ else f'"{module.__name__}"'


def load(actions_dir: Path | None = None) -> Catalog:
    """Loads the types of this package, of installed entry points, and of the operator's folder.

    Raises `Invalid`, which names the file, if one cannot be loaded or its type already exists.
    """
    actions_found: _WithImported[Action] = _WithImported()
    triggers_found: dict[str, Trigger] = {}
    connectors_found: dict[str, Connector] = {}
    specs: _WithImported[NodeSpec] = _WithImported(CONTROL)
    for found in _find(actions_dir):
        for value, spec in found.named():
            if found.type in (connectors_found if isinstance(value, Connector) else specs):
                raise Invalid(f'Two files provide the type "{found.type}"; the second is {_place(found.module)}.')
            if spec is not None:
                specs[found.type] = spec
            if isinstance(value, Action):
                actions_found[found.type] = value
            elif isinstance(value, Connector):
                connectors_found[found.type] = value
            else:
                triggers_found[found.type] = value
    attaching = tuple(sorted(name for name, connector in connectors_found.items() if connector.attaches))
    for action in actions_found.values():
        required = bool(action.connector) and not action.connector_optional
        specs[action.type] = replace(
            specs[action.type],
            connectors=_taken(action.connector, attaching),
            connector_required=required,
            connector_instead_of=action.connector_instead_of,
            url_fields=hinted_fields(action.input, "x-url"),
            narrows=action.effect_of is not None or action.effect_by is not None,
            effect_fields=hinted_fields(action.input, "x-effect"),
            result=action.output,
        )
    for trigger in triggers_found.values():
        specs[trigger.type] = replace(
            specs[trigger.type],
            connectors=_taken(trigger.connector, attaching),
            url_fields=hinted_fields(trigger.config, "x-url"),
            server_fields=hinted_fields(trigger.config, "x-server"),
        )
    actions_found.imported, specs.imported = actions_found.pop(IMPORTED), specs.pop(IMPORTED)
    return Catalog(actions_found, triggers_found, connectors_found, specs)


def _taken(named: tuple[str, ...], attaching: tuple[str, ...]) -> tuple[str, ...]:
    """The connector types that a declaration means; `http` stands for all that add a credential to requests."""
    return tuple(each for name in named for each in (attaching if name == "http" else (name,)))


def _find(actions_dir: Path | None) -> Iterator[_Found]:
    yield from _bundled()
    for entry in _installed(tuple(sys.path)):
        name, module = entry.module.rpartition(".")[2], _load_entry(entry)
        family = entry.name.partition(".")[0]  # names in a group differ, and a family has many actions
        yield _Found(name, family, module, must_declare=True, package=_package_of(entry))
    if actions_dir is not None:
        yield from _find_own(actions_dir)


@functools.cache
def _bundled() -> tuple[_Found, ...]:
    """The modules of this package."""
    parts = [name.split(".") for package in (actions, triggers, connectors) for name in _modules_of(package)]
    return tuple(_Found(one[-1], one[-2], importlib.import_module(".".join(one))) for one in parts)


def _modules_of(package: ModuleType) -> list[str]:
    infos = pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    return [info.name for info in infos if not info.ispkg]


def names(actions_dir: Path | None = None) -> tuple[frozenset[str], frozenset[str]]:
    """The names that node types and connector types may have, by the modules that are there: `load` without importing
    them."""
    own = [] if actions_dir is None else [path.stem for path in actions_dir.glob("*.py")]
    found: dict[bool, set[str]] = {False: {*own}, True: {*own}}
    for package in (actions, triggers, connectors):
        found[package is connectors].update(name.rpartition(".")[2] for name in _modules_of(package))
    for entry in _installed(tuple(sys.path)):
        found[entry.group == _CONNECTORS].add(entry.module.rpartition(".")[2])
    nodes, stored = (frozenset(name.replace("_", "-") for name in found[is_stored]) for is_stored in (False, True))
    return nodes | CONTROL.keys(), stored


@functools.lru_cache(maxsize=8)
def _installed(_path: tuple[str, ...]) -> tuple[EntryPoint, ...]:
    """The entry points of the packages on a path; found once, since every installed package is read for that."""
    installed = entry_points()
    return tuple(entry for group in GROUPS for entry in installed.select(group=group))


def _find_own(folder: Path) -> Iterator[_Found]:
    if not folder.is_dir():
        raise Invalid(f'The setting actions_dir names "{folder}", which is not a folder.')
    for path in sorted(folder.glob("*.py")):
        if not path.stem.startswith("_"):
            yield _Found(path.stem, "own", _load_file(path), must_declare=True)


def _package_of(entry: EntryPoint) -> Package | None:
    return None if entry.dist is None else Package(entry.dist.name, entry.dist.version)


def _load_entry(entry: EntryPoint) -> ModuleType:
    try:
        return importlib.import_module(entry.module)
    except Exception as error:
        package = entry.dist.name if entry.dist is not None else entry.name
        message = f'The package "{package}" offers "{entry.module}", which cannot be loaded: {_reason(error)}'
        raise Invalid(message) from error


def _load_file(path: Path) -> ModuleType:
    name = f"dustrun_own_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # pydantic resolves annotations through it
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise Invalid(f'The action file "{path.name}" cannot be loaded: {_reason(error)}') from error
    return module


def _reason(error: Exception) -> str:
    where = f" (line {error.lineno})" if isinstance(error, SyntaxError) and error.lineno else ""
    return f"{type(error).__name__}: {error.msg if isinstance(error, SyntaxError) else error}{where}"


def _documented(module: ModuleType) -> tuple[str, str]:
    summary, _, description = (inspect.getdoc(module) or "").partition("\n")
    return summary.strip(), description.strip()


def _named(value: Declared, found: _Found) -> tuple[Declared, NodeSpec | None]:
    summary, description = _documented(found.module)
    known: dict[str, Any] = {
        "type": found.type,
        "summary": summary,
        "description": description,
        "package": found.package,
    }
    if isinstance(value, Action):
        action = replace(value, family=found.family, **known)
        return action, _action_spec(action)
    if isinstance(value, Trigger):
        trigger = replace(value, **known)
        return trigger, _trigger_spec(trigger)
    return replace(value, **known), None


def _action_spec(action: Action) -> NodeSpec:
    is_open = action.output.model_config.get("extra") == "allow"
    fields = None if is_open else _field_names(action.output) or None
    spec = NodeSpec(action.type, "action", action.effect.value, action.input, None, fields, action.raw_fields)
    return replace(spec, movements=action.funds_movement, origins=action.origins)


def _trigger_spec(trigger: Trigger) -> NodeSpec:
    return NodeSpec(trigger.type, "trigger", "pure", trigger.config, None, _field_names(trigger.output))


def _field_names(model: type[BaseModel]) -> frozenset[str]:
    return frozenset(info.alias or name for name, info in model.model_fields.items())
