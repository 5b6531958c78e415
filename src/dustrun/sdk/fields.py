"""The base of every `Input`, `Output` and `Config`, and hints that the editor, docs and masking read."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel


class Fields(BaseModel):
    """A model whose fields are snake_case in Python and camelCase on the wire; unknown fields are refused."""

    model_config = ConfigDict(
        alias_generator=to_camel, validate_by_name=True, validate_by_alias=True, extra="forbid", frozen=True
    )


def raw(default: Any = ..., *, description: str, **options: Any) -> Any:
    """A field whose text is never read as a template (code, templates of another language)."""
    return Field(default, description=description, json_schema_extra={"x-raw": True}, **options)


def secret(default: Any = ..., *, description: str, **options: Any) -> Any:
    """A field that is masked in every answer, event, log and error."""
    return Field(default, description=description, json_schema_extra={"x-secret": True}, **options)


def hinted_fields(model: type[BaseModel], hint: str) -> frozenset[str]:
    """The wire names of a model's fields that carry a hint such as `x-raw`."""
    return frozenset(
        info.alias or name
        for name, info in model.model_fields.items()
        if isinstance(info.json_schema_extra, dict) and info.json_schema_extra.get(hint)
    )
