"""Words JSON Schema errors for the sender of the payload. Values are not repeated: they may be secret or long.

A missing field is reported at the object that lacks it; `payload_check` adds its name to the message.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Final

from dustrun.core.values.exact_json import dumps_text
from dustrun.errors import Problem

_MOST_CHARS: Final = 300


def is_number(value: Any) -> bool:
    """Whether a value is a number; booleans are not."""
    return isinstance(value, int | Decimal) and not isinstance(value, bool)


def problem(error: Any) -> Problem:
    """Converts a validator's error to a problem of one payload field."""
    from dustrun.core.validate import field_path  # slow import

    tell = _WORDS.get(error.validator)
    message = tell(error) if tell else f'It does not satisfy "{error.validator or "false"}" of the schema.'
    return Problem(field_path(["payload", *error.absolute_path]), message)


def _kind(value: Any) -> str:
    if is_number(value):
        return "a number"
    words = {bool: "true or false", str: "a string", list: "a list", dict: "an object"}
    return "null" if value is None else next(word for kind, word in words.items() if isinstance(value, kind))


_TYPES: Final = {
    "null": "null",
    "boolean": "true or false",
    "string": "a string",
    "array": "a list",
    "object": "an object",
    "number": "a number",
    "integer": "a whole number",
}


def _type(error: Any) -> str:
    wanted = [error.validator_value] if isinstance(error.validator_value, str) else error.validator_value
    found = "a number with a fraction" if is_number(error.instance) and "integer" in wanted else _kind(error.instance)
    return f"It must be {' or '.join(_TYPES[kind] for kind in wanted)}, not {found}."


def _shown(value: Any) -> str:
    text = dumps_text(value)
    return text if len(text) <= _MOST_CHARS else f"{text[:_MOST_CHARS]}…"


def _enum(error: Any) -> str:
    return f"It must be one of {_shown(error.validator_value)[1:].removesuffix(']')}."


def _unknown(error: Any) -> str:
    from dustrun.core.validate import suggest  # slow import

    known = error.schema.get("properties", ())
    return f"Unknown field.{suggest(str(error.path[-1]), known)}"


def _bound(words: str) -> Callable[[Any], str]:
    return lambda error: words.format(_shown(error.validator_value))


_WORDS: Final[Mapping[str, Callable[[Any], str]]] = {
    "type": _type,
    "enum": _enum,
    "required": lambda error: f'The field "{error.message[:100]}" is required.',
    "additionalProperties": _unknown,
    "properties": lambda _: "No value is allowed here.",
    "const": _bound("It must be {}."),
    "pattern": _bound("It must match the pattern {}."),
    "minimum": _bound("It must be at least {}."),
    "maximum": _bound("It must be at most {}."),
    "exclusiveMinimum": _bound("It must be more than {}."),
    "exclusiveMaximum": _bound("It must be less than {}."),
    "multipleOf": _bound("It must be a multiple of {}."),
    "minLength": _bound("It must have at least {} characters."),
    "maxLength": _bound("It must have at most {} characters."),
    "minItems": _bound("It must have at least {} items."),
    "maxItems": _bound("It must have at most {} items."),
    "minProperties": _bound("It must have at least {} fields."),
    "maxProperties": _bound("It must have at most {} fields."),
    "uniqueItems": lambda _: "Two of its items are equal.",
    "anyOf": lambda _: "It matches none of the alternatives that the schema allows.",
    "oneOf": lambda _: "It must match exactly one of the alternatives of the schema.",
    "not": lambda _: "It matches a schema that is not allowed here.",
    "contains": lambda _: 'Too few or too many of its items match the "contains" schema.',
    "dependentRequired": lambda _: "A field that another field requires is missing.",
}
