"""Builds a text from a template and values.

Without `values` the template is the text: fill it with `{{ }}` expressions. With `values` its clauses are filled in
order: `%s` anything, `%d` an integer, `%.2f` a number with that many digits, `%x` hexadecimal, `%%` a percent sign. Any
number of later nodes can use the text.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from dustrun.actions.data.items import refuse
from dustrun.core.expression.fault import Fault
from dustrun.core.expression.functions.formatting import format_text
from dustrun.core.expression.values import DEFAULT_LIMITS, Meter
from dustrun.sdk import Context, Effect, Fields, action


class Input(Fields):
    """The template and its values."""

    template: str = Field(description="The text, with `{{ }}` expressions or `%` clauses.")
    values: list[Any] | None = Field(None, description="Values for the `%` clauses, in order; one per clause.")


class Output(Fields):
    """The filled text."""

    text: str = Field(description="The filled text.")


@action(
    effect=Effect.PURE,
    input=Input,
    output=Output,
    example_input={"template": "%s owes %.2f USD", "values": ["Ann", 12]},
    example_output={"text": "Ann owes 12.00 USD"},
    idempotent=True,
    tags=("text",),
)
def format_template(input: Input, ctx: Context) -> Output:
    """Fills the clauses if there are values."""
    if input.values is None:
        return Output(text=input.template)
    try:
        return Output(text=format_text(Meter(DEFAULT_LIMITS), input.template, input.values))
    except Fault as fault:
        raise refuse(fault.message.removeprefix("format(): ").capitalize(), "template") from None
