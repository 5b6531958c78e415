"""Moves what many operations repeat under `components`, so that a client's generator sees it once."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

Json = dict[str, Any]
_SUBSCHEMAS = ("items", "additionalProperties", "contentSchema", "not", "if", "then", "else", "propertyNames")
_LISTS = ("anyOf", "allOf", "oneOf", "prefixItems")
_BY_NAME = ("properties", "patternProperties", "$defs")


def share(document: Json) -> None:
    """Replaces repeated headers, error answers, parameters and envelopes by references to `components`."""
    components = document["components"]
    operations = [one for path in document["paths"].values() for one in path.values()]
    _title_components_only(components["schemas"])
    _derive_envelopes(components["schemas"])
    for operation in operations:
        for status, response in operation["responses"].items():
            _share_headers(components, response)
            if "schema" in response.get("content", {}).get("application/json", {}) and int(status) >= 400:
                operation["responses"][status] = _shared_failure(components, status, response)
    _share_parameters(components, operations)
    _share_examples(components, operations)


def _share_examples(components: Json, operations: list[Json]) -> None:
    """Shows one example for all operations that answer the same."""
    answers = [one["responses"].get("200", {}).get("content", {}).get("application/json", {}) for one in operations]
    answers = [answer for answer in answers if "$ref" in answer.get("schema", {})]
    count = Counter(answer["schema"]["$ref"] for answer in answers)
    shown = {answer["schema"]["$ref"]: answer["example"] for answer in answers if "example" in answer}
    for answer in answers:
        ref = answer["schema"]["$ref"]
        if count[ref] > 1 and ref in shown:
            answer.pop("example", None)
            name = ref.rpartition("/")[2]
            answer["examples"] = {"answer": _reference(components, "examples", name, {"value": shown[ref]})}


def _reference(components: Json, kind: str, name: str, value: Any) -> Json:
    """A reference to a component; raises ValueError if another has the name."""
    if components.setdefault(kind, {}).setdefault(name, value) != value:
        raise ValueError(f"two different {kind} are named {name}; describe them differently")
    return {"$ref": f"#/components/{kind}/{name}"}


# --- schemas ---


def _title_components_only(schemas: Json) -> None:
    """Gives each component a title of its own; drops the others, which only repeat the field's name."""
    count = Counter(schema.setdefault("title", name) for name, schema in schemas.items())
    for name, schema in schemas.items():
        for part in parts(schema):
            part.pop("title", None)
        if count[schema["title"]] > 1:
            schema["title"] = name.replace("-", "")


def untitle(schema: Json) -> None:
    """Drops the title of a schema that is no component, and those of its parts."""
    schema.pop("title", None)
    for part in parts(schema):
        part.pop("title", None)


def parts(schema: Any) -> Iterator[Json]:
    """All schemas inside a schema, without itself."""
    if not isinstance(schema, dict):
        return
    inner = [schema.get(key) for key in _SUBSCHEMAS]
    inner += [one for key in _LISTS for one in schema.get(key, [])]
    inner += [one for key in _BY_NAME for one in schema.get(key, {}).values()]
    for one in inner:
        if isinstance(one, dict):
            yield one
            yield from parts(one)


def _derive_envelopes(schemas: Json) -> None:
    """Leaves of each `Envelope_X_` only its `data`; the rest is in the schema `Envelope`."""
    envelopes = [name for name, schema in schemas.items() if schema["title"].startswith("Envelope[")]
    for name in envelopes:
        own = schemas[name]
        data = own["properties"].pop("data")
        common = {**own, "title": "Envelope", "description": "What every successful answer has beside `data`."}
        common["required"] = [field for field in own["required"] if field != "data"]
        schemas["Envelope"] = common
        schemas[name] = {
            "title": own["title"],
            "allOf": [
                {"$ref": "#/components/schemas/Envelope"},
                {"type": "object", "properties": {"data": data}, "required": ["data"]},
            ],
        }


# --- answers ---


def _share_headers(components: Json, response: Json) -> None:
    if "headers" in response:
        headers = response["headers"].items()
        response["headers"] = {name: _reference(components, "headers", name, header) for name, header in headers}


def _shared_failure(components: Json, status: str, response: Json) -> Json:
    """A reference to an error answer, which is named for its codes: `Failure_404_002_004`."""
    content = response["content"]["application/json"]
    codes = list(content["examples"])
    content["examples"] = {
        code: _reference(components, "examples", f"Failure_{code}", example)
        for code, example in content["examples"].items()
    }
    name = "_".join(["Failure", status, *(code.removeprefix(status) for code in codes)])
    return _reference(components, "responses", name, response)


# --- parameters ---


def _share_parameters(components: Json, operations: list[Json]) -> None:
    """Moves the parameters that several operations have in the same words."""
    everywhere = [one for operation in operations for one in operation.get("parameters", [])]
    for parameter in everywhere:
        untitle(parameter["schema"])
    count = Counter(_text(parameter) for parameter in everywhere)
    repeated = {text for text, times in count.items() if times > 1}
    namesakes = Counter(json.loads(text)["name"] for text in repeated)
    for operation in operations:
        for at, parameter in enumerate(operation.get("parameters", [])):
            if _text(parameter) in repeated:
                name = _parameter_name(parameter, alone=namesakes[parameter["name"]] == 1)
                operation["parameters"][at] = _reference(components, "parameters", name, parameter)


def _text(parameter: Json) -> str:
    return json.dumps(parameter, sort_keys=True, default=str)


def _parameter_name(parameter: Json, *, alone: bool) -> str:
    """`Limit`; for one of several with this name, its description too: `IdOfTheRun`."""
    name, words = _camel(parameter["name"]), _camel(parameter.get("description", ""))
    if parameter["in"] == "header":
        return f"{name}Header"  # `Last-Event-ID` and the query's `lastEventId` differ in more than one letter's case
    if alone or not words:
        return name
    return words if words.startswith(name) else name + words


def _camel(text: str) -> str:
    return "".join(word[0].upper() + word[1:] for word in re.findall(r"[A-Za-z0-9]+", text))
