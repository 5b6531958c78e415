"""An action whose every attempt is scripted, for tests of the engine: a real one, loaded from the operator's folder."""

from __future__ import annotations

import asyncio
from typing import Any

from pydantic import Field

from dustrun.errors import Permanent, Refused, Temporary, Uncertain
from dustrun.sdk import Context, Effect, Fields, action

SEEN: list[tuple[str, str]] = []
"""(name, idempotency key) of every attempt that began, in order."""

LET_GO: set[str] = set()
"""Names whose held attempts go on."""

VALUES: list[Any] = []
"""The value of every attempt, as the action really got it."""

_ERRORS: dict[str, type[Exception]] = {
    "temporary": Temporary,
    "permanent": Permanent,
    "uncertain": Uncertain,
    "refused": Refused,
    "bug": RuntimeError,
}


class Input(Fields):
    """What to do."""

    name: str = Field("x", description="Whose attempt it is.")
    effect: Effect = Field(Effect.WRITE, description="The effect to have.")
    outcomes: tuple[str, ...] = Field((), description="What each attempt comes to; `ok` when there is no more.")
    sleep_ms: int = Field(0, description="How long each attempt takes.")
    held: bool = Field(False, description="Whether each attempt waits until the test lets it go on.")
    value: Any = Field(None, description="The result's value.")
    idempotent: bool = Field(False, description="Whether the other side deduplicates.")


class Output(Fields):
    """What it did."""

    value: Any = Field(description="The input's value.")
    attempts: int = Field(description="Attempts of this name so far.")


@action(
    effect=Effect.WRITE,
    effect_of=lambda value: value.effect,
    idempotent_of=lambda value: value.idempotent,
    input=Input,
    output=Output,
    example_input={"name": "x"},
    example_output={"value": "example", "attempts": 1},
    preview=lambda value: {"name": value.name, "value": value.value},
)
async def trial(value: Input, ctx: Context) -> Output:
    """Notes the attempt, takes its time, and comes to what it is told."""
    SEEN.append((value.name, ctx.idempotency_key))
    VALUES.append(value.value["link"] if isinstance(value.value, dict) and "link" in value.value else value.value)
    attempts = sum(1 for name, _ in SEEN if name == value.name)
    ctx.progress("begun", percent=0)
    await asyncio.sleep(value.sleep_ms / 1000)
    while value.held and value.name not in LET_GO:
        await asyncio.sleep(0.01)
    outcome = value.outcomes[attempts - 1] if attempts <= len(value.outcomes) else "ok"
    if outcome != "ok":
        raise _ERRORS[outcome](f"attempt {attempts} is {outcome}")
    return Output(value=value.value, attempts=attempts)
