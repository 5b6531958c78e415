"""The base of every `Input`, `Output` and `Config`, and hints for the editor, docs and masking."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from dustrun.core.values.fields import Fields

__all__ = ["Fields", "hinted_fields", "raw", "secret"]


def raw(default: Any = ..., *, description: str, **options: Any) -> Any:
    """A field whose text is never parsed as a template (code, templates of another language)."""
    return Field(default, description=description, json_schema_extra={"x-raw": True}, **options)


def secret(default: Any = ..., *, description: str, **options: Any) -> Any:
    """A secret field: omitted from `repr` and marked in the schema. In a connector it is stored encrypted, never
    returned, and masked by value in runs; elsewhere the mark is only a hint for exports and editors."""
    return Field(default, description=description, repr=False, json_schema_extra={"x-secret": True}, **options)


def hinted_fields(model: type[BaseModel], hint: str) -> frozenset[str]:
    """The wire names of a model's fields that carry a hint such as `x-raw`."""
    return frozenset(
        info.alias or name
        for name, info in model.model_fields.items()
        if isinstance(info.json_schema_extra, dict) and info.json_schema_extra.get(hint)
    )
