"""The base model of all wire formats: snake_case in Python, camelCase in JSON, unknown fields rejected."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel


class Fields(BaseModel):
    """A frozen model with camelCase names on the wire; unknown fields are rejected.

    Its validator is built on first use: a server has hundreds of models, and most are needed late.
    """

    model_config = ConfigDict(
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        extra="forbid",
        frozen=True,
        defer_build=True,
    )

    @classmethod
    def complete(cls, wire: Mapping[str, Any]) -> Mapping[str, Any]:
        """An input with those fields that take their values from others, for a forecast that cannot validate it because
        some are unknown.
        """
        return wire


IGNORED = "x-ignored"
"""Marks such a field in a schema."""


def ignored(alias: str | None = None) -> Any:
    """A field that clients of other platforms send and that means nothing here: accepted with any value, never stored.
    The answer's `warnings` names it."""
    return Field(
        None,
        alias=alias,
        exclude=True,
        repr=False,
        description="Accepted from clients of other platforms and ignored; the answer's `warnings` names it.",
        json_schema_extra={"deprecated": True, IGNORED: True},
    )


@lru_cache(maxsize=256)
def ignored_names(model: type[BaseModel]) -> Mapping[str, str]:
    """The wire names of a model's ignored fields, by attribute."""
    return {
        name: info.alias or name
        for name, info in model.model_fields.items()
        if isinstance(info.json_schema_extra, dict) and IGNORED in info.json_schema_extra
    }
