"""Transform data with JavaScript in a sandbox.

For what expressions cannot do: loops, lookups, reshaping of many items. The code runs in its own process without
network, files or environment, with limits on time, memory and output. Prefer an expression, `filter`, `pluck` or
`group` where one is enough: they need no process and are checked before the run.

Guide: docs/guides/code-transform.md
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from dustrun.sdk import Context, Effect, Fields, action
from dustrun.sdk.fields import raw


class Input(Fields):
    """The code and its one input value."""

    code: str = raw(
        description="Body of an async JavaScript function of `input`; its return value becomes `value`.",
        min_length=1,
        max_length=262_144,
    )
    input: Any = Field(
        None,
        description=(
            "Any JSON, templates allowed. Integers beyond 2^53 arrive as BigInt, decimals that a JavaScript number "
            "cannot hold exactly as strings."
        ),
    )


class Output(Fields):
    """The return value and log of the code."""

    value: Any = Field(description="The return value as exact JSON; null if nothing was returned.")
    logs: list[str] = Field(description="Lines of console.log, at most 100 lines and 16384 characters.")


@action(
    effect=Effect.PURE,
    input=Input,
    output=Output,
    example_input={
        "code": "return {total: input.prices.reduce((sum, price) => sum + price, 0)}",
        "input": {"prices": [1, 2, 3]},
    },
    example_output={"value": {"total": 6}, "logs": []},
    idempotent=True,
    tags=("data", "javascript", "code"),
)
async def code_transform(input: Input, ctx: Context) -> Output:
    """Runs the code in the sandbox."""
    result = await ctx.script.run(input.code, input.input)
    return Output(value=result.value, logs=list(result.logs))
