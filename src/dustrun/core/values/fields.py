"""The one base model of everything that crosses the wire: snake_case in Python, camelCase outside, nothing unknown."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel


class Fields(BaseModel):
    """A frozen model with camelCase names on the wire; unknown fields are refused.

    Its validator is built when it is first used: a server has hundreds of models and most of them wait for long."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        extra="forbid",
        frozen=True,
        defer_build=True,
    )
