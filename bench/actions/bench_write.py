"""Changes nothing, but counts as a write: its start and its result are each synced before what follows.

Only for benchmarks: peers sync every step, so a fair comparison must too.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from dustrun.sdk import Context, Effect, Fields, action


class Input(Fields):
    """Anything."""

    value: Any = Field(None, description="Returned as it is.")


class Output(Fields):
    """The same."""

    value: Any = Field(description="The input's value.")


@action(
    effect=Effect.WRITE,
    input=Input,
    output=Output,
    example_input={"value": 1},
    example_output={"value": 1},
    idempotent=True,
)
async def bench_write(value: Input, ctx: Context) -> Output:
    """Returns its input."""
    return Output(value=value.value)
