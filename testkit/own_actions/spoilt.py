"""An action that spends and goes wrong in its own code, for tests of the engine."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from dustrun.core.money.intent import FundsMovement, Intent, Movement, Spend, Spent
from dustrun.core.values.amounts import Asset
from dustrun.sdk import Context, Effect, Fields, action


class Input(Fields):
    """What to send, and where to fail."""

    chain_id: int = Field(description="The chain.")
    recipient: str = Field(description="Who gets it.")
    amount: int = Field(description="Base units of native coin.")
    then: str | None = Field(None, description="Who gets as much in a second transaction, which nobody tries before.")
    fails: Literal["run", "finish", "never"] = Field("never", description="Which of its two functions has a defect.")


class Output(Fields):
    """What became of it."""

    amount: int = Field(description="The input's.")


async def conclude(value: Input, spend: Spend, spent: Spent, ctx: Context) -> Output:
    """Has a defect when it is told to."""
    if value.fails == "finish":
        raise RuntimeError("a defect of the author")
    return Output(amount=value.amount)


@action(
    effect=Effect.SPEND,
    funds_movement=[FundsMovement("send", "amount", recipient_field="recipient")],
    finish=conclude,
    input=Input,
    output=Output,
    example_input={"chainId": 1, "recipient": "0x70997970C51812dc3A010C7d01b50e0d17dc79C8", "amount": 1},
    example_output={"amount": 1},
)
async def spoilt(value: Input, ctx: Context) -> Spend:
    """Sends native coin, or has a defect."""
    if value.fails == "run":
        raise RuntimeError("a defect of the author")
    recipients = [value.recipient] if value.then is None else [value.recipient, value.then]
    return Spend(tuple(intent(value, f"{place}", to) for place, to in enumerate(recipients)))


def intent(value: Input, item: str, to: str) -> Intent:
    """One transfer."""
    moved = (Movement("send", Asset(value.chain_id), value.amount, to),)
    return Intent(item, value.chain_id, to, value.amount, b"", moved, f"Send {value.amount} wei to {to}")
