"""`/v1/schemas/definition.json`: the JSON Schema of a definition, from the models that validate it."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from starlette.responses import JSONResponse, Response

from dustrun.api.auth import PUBLIC
from dustrun.api.routing import Call, Routes
from dustrun.core import exact_json
from dustrun.core.definition import Definition

routes = Routes("Schemas")
router = routes.router


class SchemaDocument(JSONResponse):
    """A JSON Schema, by its own media type."""

    media_type = "application/schema+json"


@lru_cache(maxsize=1)
def _document() -> bytes:
    schema = Definition.model_json_schema(by_alias=True)
    about = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "/v1/schemas/definition.json",
    }
    return exact_json.dumps({**about, **schema, "title": "Definition"})


@routes.get("/v1/schemas/definition.json", permission=PUBLIC, answers=dict[str, Any], raw=SchemaDocument)
async def get_definition_schema(call: Call) -> Response:
    """Get the JSON Schema of a workflow definition.

    The document itself, without an envelope, so that editors can point at it.
    """
    return Response(_document(), media_type=SchemaDocument.media_type)
