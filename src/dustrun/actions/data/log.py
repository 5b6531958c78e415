"""Writes a line into the run's log, for people who follow it.

Use it to say what a workflow found or decided. It changes nothing outside of the run.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from dustrun.core.values.exact_json import dumps_text
from dustrun.sdk import Context, Effect, Fields, action


class Input(Fields):
    """What to say."""

    message: Any = Field(description="The line; values that are no text are written as JSON.")
    level: Literal["debug", "info", "warning", "error"] = Field("info", description="How much it matters.")
    data: Any = Field(None, description="Anything to keep beside the line.")


class Output(Fields):
    """What was said."""

    message: str = Field(description="The line as it was written.")


@action(
    effect=Effect.PURE,
    input=Input,
    output=Output,
    example_input={"message": "The price is {{$trigger.body.usd}} USD.", "level": "info"},
    example_output={"message": "The price is 2000 USD."},
    tags=("debug",),
)
def log(value: Input, ctx: Context) -> Output:
    """Adds a `log` event."""
    text = value.message if isinstance(value.message, str) else dumps_text(value.message)
    ctx.log(text, level=value.level, data=value.data)
    return Output(message=text)
