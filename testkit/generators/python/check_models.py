"""Holds the models of datamodel-code-generator against the document: every answer's model reads the document's own
example and loses nothing of it; a field is required exactly if its schema says so. Prints what differs."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dustrun_models
from pydantic import BaseModel

DOCUMENT = json.loads(Path("openapi.json").read_text())


def model_of(schema: str) -> Any:
    """The model of a component: `EnvelopeListActionAnswer` of `Envelope_list_ActionAnswer__`."""
    return getattr(dustrun_models, "".join(word[0].upper() + word[1:] for word in re.findall(r"[A-Za-z0-9]+", schema)))


def lost() -> Iterator[str]:
    """The operations whose answer is not the example that they were given."""
    for operations in DOCUMENT["paths"].values():
        for operation in operations.values():
            content = operation["responses"]["200"]["content"].get("application/json")
            if content is not None:
                example = content["example"]
                model = model_of(content["schema"]["$ref"].rpartition("/")[2])
                answer = model.model_validate_json(json.dumps(example))
                if answer.model_dump(mode="json", by_alias=True, exclude_unset=True) != example:
                    yield operation["operationId"]


def misjudged() -> Iterator[str]:
    """The fields that are required and should not be, or the reverse."""
    for name, schema in DOCUMENT["components"]["schemas"].items():
        if "properties" not in schema:
            continue
        model: type[BaseModel] = model_of(name)
        fields = {field.alias or own: field.is_required() for own, field in model.model_fields.items()}
        for field in schema["properties"]:
            if fields[field] != (field in schema.get("required", [])):
                yield f"{name}.{field}"


print(json.dumps({"lost": list(lost()), "misjudged": list(misjudged())}))
