"""The JSON Schema with which editors complete and check workflow files.

It is made from the models that validate, and from the node types that this server has. Fields beside the standard's are
those that editors know: `enumDescriptions`, `deprecationMessage`, `doNotSuggest`, `patternErrorMessage`.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from dustrun.api.description.sharing import parts
from dustrun.catalog import Catalog
from dustrun.core.values.fields import IGNORED
from dustrun.core.workflow.control import DOCS
from dustrun.core.workflow.definition import Definition
from dustrun.core.workflow.program import TESTS_ONLY
from dustrun.core.workflow.specs import NodeSpec
from dustrun.records import dataclass
from dustrun.services.workflows.import_export import FORMAT, FileReference

Json = dict[str, Any]
_EXPRESSION = {"$ref": "#/$defs/Expression"}
_OWN_SCHEMA = {"$schema": {"type": "string", "description": "The address of this schema, for editors."}}
_ABOUT_A_VALUE = ("description", "default", "examples", "x-raw", "x-secret", "x-widget", "x-group")
_LIMITS_OF_TEXT = ("pattern", "format", "enum", "const", "minLength", "maxLength")


@dataclass(frozen=True, slots=True)
class _Type:
    """A node type: what validation knows of it, and what the catalogue says."""

    spec: NodeSpec
    summary: str
    description: str
    example: Any


def build(catalog: Catalog, file: type[BaseModel]) -> Json:
    """The schema of a definition and of the files that hold one; `file` is the model of a file's settings."""
    models = [(model, "validation") for model in (Definition, file, FileReference)]
    _, shared = models_json_schema(models, by_alias=True)  # type: ignore[arg-type]
    defs: Json = shared["$defs"]
    defs["WorkflowFile"] = _file_schema(defs.pop(file.__name__))
    bare = {**defs["Definition"], "properties": {**defs["Definition"]["properties"], **_OWN_SCHEMA}}
    defs["DefinitionFile"] = bare
    types = {one.spec.type: one for one in _types(catalog)}
    defs["Node"] = _node_schema(defs["Node"], types)
    for one in types.values():
        defs |= _payload_schemas(one)
    defs["Expression"] = {
        "type": "string",
        "pattern": r"\{\{",
        "patternErrorMessage": "An expression has the form {{ … }}.",
        "description": "An expression, evaluated when the node begins.",
    }
    for schema in defs.values():
        _tidy(schema)
    return {**_root(defs["Definition"]["properties"]["nodes"]["description"]), "$defs": defs}


def _root(about_nodes: str) -> Json:
    """Decides between the forms by the field that only one of them has; without either, both are completed."""
    undecided = {"allOf": [{"$ref": "#/$defs/WorkflowFile"}, {"properties": {"nodes": {"description": about_nodes}}}]}
    return {
        "title": "Workflow",
        "description": "A workflow: a definition by itself, or in a file with its name and settings.",
        "type": "object",
        "if": {"required": ["definition"]},
        "then": {"$ref": "#/$defs/WorkflowFile"},
        "else": {"if": {"required": ["nodes"]}, "then": {"$ref": "#/$defs/DefinitionFile"}, "else": undecided},
    }


def _file_schema(settings: Json) -> Json:
    """A file has the settings of a new workflow; only the definition is required."""
    properties = {**settings["properties"], **_OWN_SCHEMA}
    del properties["uniqueName"]  # an option of the request
    properties["payload"] = {"description": "An example payload, for `dustrun run FILE`."}
    properties["dustrunWorkflow"] = {"const": FORMAT, "description": "The format, in an exported file."}
    properties["references"] = {
        "type": "array",
        "items": {"$ref": "#/$defs/FileReference"},
        "description": "What the `unbound:` names of the definition stand for.",
    }
    about = "A workflow with its name and settings."
    return {**settings, "description": about, "properties": properties, "required": ["definition"]}


# --- nodes ---


def _types(catalog: Catalog) -> Iterator[_Type]:
    specs = catalog.specs()
    for kind in sorted(specs):
        spec = specs[kind]
        if kind in DOCS:
            yield _Type(spec, DOCS[kind].summary, inspect.getdoc(spec.payload) or "", DOCS[kind].example_input)
        elif kind in catalog.triggers:
            trigger = catalog.triggers[kind]
            yield _Type(spec, trigger.summary, trigger.description, trigger.example_config)
        else:
            action = catalog.actions[kind]
            yield _Type(spec, action.summary, action.description, action.example_input)


def _node_schema(node: Json, types: dict[str, _Type]) -> Json:
    kind = {
        "description": node["properties"]["type"]["description"],
        "enum": list(types),
        "enumDescriptions": [one.summary for one in types.values()],
    }
    by_type = [
        {"if": {"properties": {"type": {"const": name}}, "required": ["type"]}, "then": _node_of(one)}
        for name, one in types.items()
    ]
    payload = {"description": node["properties"]["payload"]["description"]}  # each type says what it must be
    return {**node, "properties": {**node["properties"], "type": kind, "payload": payload}, "allOf": by_type}


def _node_of(one: _Type) -> Json:
    """The schema of a node of this type alone."""
    spec = one.spec
    properties: Json = {"payload": {"$ref": f"#/$defs/{spec.type}"}}
    required = []
    if any(info.is_required() for info in spec.payload.model_fields.values()):
        required.append("payload")
    if spec.connectors:
        taken = {"enum": [*spec.connectors, *(() if spec.kind == "trigger" else ("wallet",))]}
        properties["connector"] = {"properties": {"type": taken}}
        required += ["connector"] if spec.connector_required else []
    return {"properties": properties, **({"required": required} if required else {})}


# --- payloads ---


def _payload_schemas(one: _Type) -> Json:
    """The schema of a type's payload, named as the type, and those that it refers to."""
    kind = one.spec.type
    schema = one.spec.payload.model_json_schema(by_alias=True, ref_template=f"#/$defs/{kind}.{{model}}")
    parts = {f"{kind}.{name}": part for name, part in schema.pop("$defs", {}).items()}
    schema["description"] = f"{one.summary}\n\n{one.description}".strip()
    schema["examples"] = [one.example]
    for name, field in schema.get("properties", {}).items():
        if isinstance(one.example, dict) and name in one.example:
            field.setdefault("examples", [one.example[name]])
    schemas = {kind: schema, **parts}
    if one.spec.kind == "trigger" or kind in TESTS_ONLY:
        return schemas  # its texts are parsed as they are
    return {name: _open_inside(part) for name, part in schemas.items()}


def _open(schema: Any) -> Any:
    """The same schema, or an expression: its value is known only when the node begins."""
    if not isinstance(schema, dict):
        return schema
    opened = _open_inside(schema)
    choices = opened.get("anyOf", [opened])
    if any(_takes_any_text(choice) for choice in choices):
        return opened
    about = {name: value for name, value in opened.items() if name in _ABOUT_A_VALUE}
    rest = {name: value for name, value in opened.items() if name not in about}
    return {**about, "anyOf": [*rest.get("anyOf", [rest]), _EXPRESSION]}


def _takes_any_text(schema: Json) -> bool:
    if not schema.keys() - _ABOUT_A_VALUE - {"title"}:
        return True
    return schema.get("type") == "string" and not any(limit in schema for limit in _LIMITS_OF_TEXT)


def _open_inside(schema: Json) -> Json:
    """Opens what is inside a list or an object, and each choice of several."""
    opened = {**schema}
    for name in ("items", "additionalProperties"):
        if name in opened:
            opened[name] = _open(opened[name])
    for name in ("properties", "patternProperties"):
        if name in opened:
            opened[name] = {key: _open(part) for key, part in opened[name].items()}
    if "prefixItems" in opened:
        opened["prefixItems"] = [_open(part) for part in opened["prefixItems"]]
    for name in ("anyOf", "oneOf"):
        if name in opened:
            opened[name] = [_open_inside(part) for part in opened[name]]
    return opened


# --- what an editor should not show ---


def _tidy(schema: Json) -> None:
    """Drops titles that repeat a field's name and defaults that mean absent; marks what is ignored."""
    for part in [schema, *parts(schema)]:
        for name in ("title", "x-widget", "x-group"):  # those of forms
            part.pop(name, None)
        if part.get("default", ...) is None:
            del part["default"]
        if part.get(IGNORED) is True:
            part |= {"deprecationMessage": part["description"], "doNotSuggest": True}
