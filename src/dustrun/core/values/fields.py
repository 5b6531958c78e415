"""The base model of all wire formats: snake_case in Python, camelCase in JSON, unknown fields rejected."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict
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
