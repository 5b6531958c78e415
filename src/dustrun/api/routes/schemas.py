"""`/v1/schemas/…`: JSON Schemas of the documents that people write, generated from the models that validate them."""

from __future__ import annotations

import asyncio
from functools import lru_cache
from typing import Any

from pydantic import BaseModel
from starlette.responses import Response

from dustrun.api.description import editor_schema
from dustrun.catalog import Catalog
from dustrun.core.money.policy import WalletPolicy
from dustrun.core.values import exact_json
from dustrun.operations.declaration.encoding import as_it_is
from dustrun.operations.declaration.operation import PUBLIC, Noun
from dustrun.operations.declaration.parts import Call
from dustrun.operations.shapes.workflows import WorkflowContent

noun = Noun("Schemas")


_MEDIA = "application/schema+json"


def _text(name: str, schema: dict[str, Any]) -> bytes:
    about = {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": f"/v1/schemas/{name}.json"}
    return exact_json.dumps({**about, **schema})


@lru_cache(maxsize=8)
def _of_model(name: str, model: type[BaseModel]) -> bytes:
    return _text(name, {**model.model_json_schema(by_alias=True), "title": model.__name__})


@lru_cache(maxsize=8)
def _of_workflows(catalog: Catalog) -> bytes:
    return _text("definition", editor_schema.build(catalog, WorkflowContent))


@noun.get(
    "/v1/schemas/definition.json",
    permission=PUBLIC,
    answers=dict[str, Any],
    media_type=_MEDIA,
    shape=as_it_is,
)
async def get_definition_schema(call: Call) -> Response:
    """Get the JSON Schema of a workflow: of a definition, and of a file that holds one.

    The answer is the schema without an envelope, so that editors can refer to its URL. It has the payload of every node
    type of this server, with descriptions, defaults and examples.
    """
    schema = await asyncio.to_thread(_of_workflows, call.parts.catalog)  # a tenth of a second of work
    return Response(schema, media_type=_MEDIA)


@noun.get(
    "/v1/schemas/wallet-policy.json",
    permission=PUBLIC,
    answers=dict[str, Any],
    media_type=_MEDIA,
    shape=as_it_is,
)
async def get_wallet_policy_schema(call: Call) -> Response:
    """Get the JSON Schema of a wallet's policy.

    The answer is the schema without an envelope, so that editors can refer to its URL.
    """
    return Response(_of_model("wallet-policy", WalletPolicy), media_type=_MEDIA)
