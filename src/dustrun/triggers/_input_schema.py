"""The schema that a trigger checks its payload against."""

from __future__ import annotations

import functools
from typing import Any

from pydantic import Field, field_validator

from dustrun.core.json_schema.check import PayloadCheck
from dustrun.core.json_schema.schema import check_schema
from dustrun.sdk import Fields


class InputSchema(Fields):
    """Validation of the payload."""

    input_schema: dict[str, Any] | None = Field(
        None, description="JSON Schema (2020-12) of the payload; without it, every payload is accepted."
    )

    @field_validator("input_schema")
    @classmethod
    def _check_schema(cls, schema: dict[str, Any] | None) -> dict[str, Any] | None:
        try:
            check_schema(schema or {})
        except ValueError as error:
            raise ValueError(f"the schema {error}") from None
        return schema

    @functools.cached_property
    def compiled(self) -> PayloadCheck | None:
        """The compiled schema, built at the first run; None if everything is accepted."""
        return PayloadCheck(self.input_schema) if self.input_schema else None
