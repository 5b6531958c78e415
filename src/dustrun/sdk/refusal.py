"""Errors of actions whose input does not fit the state of the outside world."""

from __future__ import annotations

from dustrun.errors import Code, Invalid, Problem


def refuse(message: str, field: str) -> Invalid:
    """The error to raise; `field` is the path of the payload field, like `rows[3].amount`."""
    return _invalid(message, field, Code.ACTION_INPUT_INVALID)


def refuse_small(message: str, field: str) -> Invalid:
    """The error for an amount below the venue's minimum, which `message` names if it is known; a dust test then ends
    with `DUST_BELOW_MINIMUM`."""
    return _invalid(message, field, Code.AMOUNT_BELOW_MINIMUM)


def _invalid(message: str, field: str, code: Code) -> Invalid:
    text = message if message.endswith((".", "?", "!")) else f"{message}."
    text = text[:1].upper() + text[1:]
    return Invalid(text, code=code, details=[Problem(f"payload.{field}", text)])
