"""`/v1/schemas/…`: JSON Schemas of the documents that people write, generated from the models that validate them."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from pydantic import BaseModel
from starlette.responses import JSONResponse, Response

from dustrun.api.auth import PUBLIC
from dustrun.api.routing import Call, Routes
from dustrun.core.money.policy import WalletPolicy
from dustrun.core.values import exact_json
from dustrun.core.workflow.definition import Definition

routes = Routes("Schemas")
router = routes.router


class SchemaDocument(JSONResponse):
    """A JSON Schema, with its own media type."""

    media_type = "application/schema+json"


@lru_cache(maxsize=8)
def _document(name: str, model: type[BaseModel]) -> bytes:
    schema = model.model_json_schema(by_alias=True)
    about = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"/v1/schemas/{name}.json",
    }
    return exact_json.dumps({**about, **schema, "title": model.__name__})


@routes.get("/v1/schemas/definition.json", permission=PUBLIC, answers=dict[str, Any], raw=SchemaDocument)
async def get_definition_schema(call: Call) -> Response:
    """Get the JSON Schema of a workflow definition.

    The answer is the schema without an envelope, so that editors can refer to its URL.
    """
    return Response(_document("definition", Definition), media_type=SchemaDocument.media_type)


@routes.get("/v1/schemas/wallet-policy.json", permission=PUBLIC, answers=dict[str, Any], raw=SchemaDocument)
async def get_wallet_policy_schema(call: Call) -> Response:
    """Get the JSON Schema of a wallet's policy.

    The answer is the schema without an envelope, so that editors can refer to its URL.
    """
    return Response(_document("wallet-policy", WalletPolicy), media_type=SchemaDocument.media_type)
