"""Writes a line to the run's log.

Use it to record what a workflow found or decided. It changes nothing outside of the run.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from dustrun.core.values.exact_json import dumps_text
from dustrun.sdk import Context, Effect, Fields, action


class Input(Fields):
    """The log line."""

    message: Any = Field(description="The message; values other than strings are written as JSON.")
    level: Literal["debug", "info", "warning", "error"] = Field("info", description="Log level.")
    data: Any = Field(None, description="Extra data to store with the line.")


class Output(Fields):
    """The line that was logged."""

    message: str = Field(description="The message as it was logged.")


@action(
    effect=Effect.PURE,
    input=Input,
    output=Output,
    example_input={"message": "The price is {{$trigger.body.usd}} USD.", "level": "info"},
    example_output={"message": "The price is 2000 USD."},
    tags=("debug",),
)
def log(value: Input, ctx: Context) -> Output:
    """Emits a `log` event."""
    text = value.message if isinstance(value.message, str) else dumps_text(value.message)
    ctx.log(text, level=value.level, data=value.data)
    return Output(message=text)
