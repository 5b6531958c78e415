"""The error of an action whose input does not fit the world that it found."""

from __future__ import annotations

from dustrun.errors import Code, Invalid, Problem


def refuse(message: str, field: str) -> Invalid:
    """What to raise for it; `field` is the field of the payload to look at, like `rows[3].amount`."""
    text = message if message.endswith((".", "?", "!")) else f"{message}."
    text = text[:1].upper() + text[1:]
    return Invalid(text, code=Code.ACTION_INPUT_INVALID, details=[Problem(f"payload.{field}", text)])
