"""Holds the client of openapi-python-client against the document: every operation reads the document's own example of
its answer and loses nothing of it; a field is required exactly if its schema says so. Prints what differs."""

import json
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import attrs
import dustrun_client.models
import httpx
from dustrun_client import Client
from openapi_python_client.strings import ClassName, PythonIdentifier

DOCUMENT = json.loads(Path("openapi.json").read_text())
CLIENT = Client("http://localhost")


def lost() -> Iterator[str]:
    """The operations whose answer is not the example that they were given."""
    for operations in DOCUMENT["paths"].values():
        for operation in operations.values():
            name = operation["operationId"]
            ((kind, content),) = operation["responses"]["200"]["content"].items()
            module = import_module(f"dustrun_client.api.{PythonIdentifier(operation['tags'][0], '')}.{name}")
            if kind.endswith("json"):
                example = content.get("example", {})
                answer = module._parse_response(client=CLIENT, response=httpx.Response(200, json=example))
                if type(answer).__module__.partition(".")[0] != "dustrun_client" or answer.to_dict() != example:
                    yield name
            elif module._parse_response(client=CLIENT, response=httpx.Response(200, text="some text")) != "some text":
                yield name


def misjudged() -> Iterator[str]:
    """The fields that are required and should not be, or the reverse."""
    for name, schema in DOCUMENT["components"]["schemas"].items():
        model: Any = getattr(dustrun_client.models, ClassName(schema["title"], "field_"))
        if not attrs.has(model) or "properties" not in schema:
            continue
        fields = {field.name: field.default is attrs.NOTHING for field in attrs.fields(model)}
        for field in schema["properties"]:
            if fields[PythonIdentifier(field, "field_")] != (field in schema.get("required", [])):
                yield f"{name}.{field}"


print(json.dumps({"lost": list(lost()), "misjudged": list(misjudged())}))
