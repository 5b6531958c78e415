"""Starts a run when someone asks for it: the API, the command line, the editor.

Use it for everything that a person or a program starts. With `inputSchema` the payload is checked first.
"""

from __future__ import annotations

import functools
from typing import Any

from pydantic import ConfigDict, Field, field_validator

from dustrun.core.exact_json import dumps_text, loads
from dustrun.errors import Code, Invalid, Problem
from dustrun.sdk import Fields, manual

_MOST_PROBLEMS = 50


class Config(Fields):
    """What the payload must look like."""

    input_schema: dict[str, Any] | None = Field(
        None, description="JSON Schema (2020-12) that the payload must satisfy; none accepts every object."
    )

    @field_validator("input_schema")
    @classmethod
    def _check_schema(cls, schema: dict[str, Any] | None) -> dict[str, Any] | None:
        if schema:
            _check(schema)
        return schema


class Output(Fields):
    """The event: the payload's own keys, and these."""

    model_config = ConfigDict(extra="allow")

    body: dict[str, Any] = Field(description="The whole payload.")
    headers: dict[str, str] = Field(description="Headers of the request, for a webhook.")
    query: dict[str, str] = Field(description="Query of the request, for a webhook.")
    source: str = Field(description="What started the run.")
    triggered_at: str = Field(description="When, RFC 3339.")


def _check(schema: dict[str, Any]) -> None:
    from jsonschema import Draft202012Validator  # slow import
    from jsonschema.exceptions import SchemaError

    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        where = "/".join(str(part) for part in error.path)
        raise ValueError(f"is no JSON Schema: {error.message}{f' at {where}' if where else ''}") from None
    _check_parts(schema)


def _check_parts(value: Any) -> None:
    """Refuses what could reach out or hang: references to elsewhere, and patterns that RE2 does not take."""
    import re2  # slow import

    if isinstance(value, list):
        for item in value:
            _check_parts(item)
    if not isinstance(value, dict):
        return
    reference = value.get("$ref")
    if isinstance(reference, str) and not reference.startswith("#"):
        raise ValueError(f'may refer only to itself ("#/…"), not to "{reference}"')
    patterns = [value["pattern"]] if isinstance(value.get("pattern"), str) else []
    if isinstance(value.get("patternProperties"), dict):
        patterns += list(value["patternProperties"])
    for pattern in patterns:
        try:
            re2.compile(pattern)
        except re2.error:
            raise ValueError(f'has a pattern that is no RE2 expression: "{pattern}"') from None
    for item in value.values():
        _check_parts(item)


@functools.lru_cache(maxsize=500)
def _validator(schema_text: str) -> Any:
    """The compiled schema; `pattern` runs on RE2, which cannot hang."""
    import re2  # slow import
    from jsonschema import Draft202012Validator, ValidationError, validators

    def pattern(_validator: Any, expression: str, instance: Any, _schema: Any) -> Any:
        if isinstance(instance, str) and not re2.search(expression, instance):
            yield ValidationError(f"{instance!r} does not match {expression!r}")

    return validators.extend(Draft202012Validator, {"pattern": pattern})(loads(schema_text))


@manual(
    config=Config,
    output=Output,
    example_config={"inputSchema": {"type": "object", "properties": {"usd": {"type": "number"}}}},
    example_output={
        "usd": 2000,
        "body": {"usd": 2000},
        "headers": {},
        "query": {},
        "source": "api",
        "triggeredAt": "2026-01-31T12:00:00.000Z",
    },
)
def accept(config: Config, payload: dict[str, Any]) -> dict[str, Any]:
    """The payload, if the schema takes it."""
    if not config.input_schema:
        return payload
    errors = sorted(
        _validator(dumps_text(config.input_schema)).iter_errors(payload), key=lambda e: list(map(str, e.path))
    )
    if errors:
        problems = [Problem(_path(error), error.message[:500]) for error in errors[:_MOST_PROBLEMS]]
        raise Invalid(
            "The payload does not satisfy the trigger's input schema.", code=Code.PAYLOAD_INVALID, details=problems
        )
    return payload


def _path(error: Any) -> str:
    path = "payload"
    for part in error.absolute_path:
        path += f"[{part}]" if isinstance(part, int) else f".{part}"
    return path
