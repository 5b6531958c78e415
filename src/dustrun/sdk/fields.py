"""The base of every `Input`, `Output` and `Config`, and hints for the editor, docs and masking."""

from __future__ import annotations

import copy
import functools
from typing import Annotated, Any

from pydantic import BaseModel, Field
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from dustrun.core.values.fields import Fields

__all__ = ["ChainId", "Fields", "hinted_fields", "raw", "schema_of", "secret"]

ChainId = Annotated[
    int,
    Field(
        ge=1,
        description="EIP-155 chain id: 1 is Ethereum, 8453 is Base.",
        json_schema_extra={"x-widget": "chain"},
    ),
]


def raw(default: Any = ..., *, description: str, **options: Any) -> Any:
    """A field whose text is never parsed as a template (code, templates of another language)."""
    return Field(default, description=description, json_schema_extra={"x-raw": True}, **options)


def secret(default: Any = ..., *, description: str, **options: Any) -> Any:
    """A secret field: omitted from `repr` and marked in the schema. In a connector it is stored encrypted, never
    returned, and masked by value in runs; elsewhere the mark is only a hint for exports and editors."""
    return Field(default, description=description, repr=False, json_schema_extra={"x-secret": True}, **options)


@functools.lru_cache(maxsize=1024)
def hinted_fields(model: type[BaseModel], hint: str) -> frozenset[str]:
    """The wire names of a model's fields that carry a hint such as `x-raw`."""
    return frozenset(
        info.alias or name
        for name, info in model.model_fields.items()
        if isinstance(info.json_schema_extra, dict) and info.json_schema_extra.get(hint)
    )


class _Untitled(GenerateJsonSchema):
    """Without the titles that pydantic makes of names; the names say the same."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        found = super().model_schema(schema)
        found.pop("title", None)
        return found

    def typed_dict_schema(self, schema: core_schema.TypedDictSchema) -> JsonSchemaValue:
        found = super().typed_dict_schema(schema)
        found.pop("title", None)
        return found

    def enum_schema(self, schema: core_schema.EnumSchema) -> JsonSchemaValue:
        found = super().enum_schema(schema)
        found.pop("title", None)
        return found


def schema_of(model: type[BaseModel]) -> dict[str, Any]:
    """A model's JSON Schema as the catalogue shows it. Fields that count milliseconds have the widget `duration`."""
    return copy.deepcopy(_schema(model))


@functools.lru_cache(maxsize=1024)
def _schema(model: type[BaseModel]) -> dict[str, Any]:
    schema = model.model_json_schema(by_alias=True, schema_generator=_Untitled)
    for name, shown in schema.get("properties", {}).items():
        if name.endswith("Ms"):
            shown.setdefault("x-widget", "duration")
    return schema
