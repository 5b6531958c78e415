"""Starts a run when a transaction of this server is final, has reverted, is stuck, or is removed by a reorg.

Use it to book what was paid, or to tell somebody what went wrong, for all workflows at once. A workflow never hears of
its own transactions, nor of those that it led to."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

from pydantic import Field

from dustrun.sdk import Polled, TriggerContext
from dustrun.sdk.trigger import Fact, polled
from dustrun.triggers._event_output import EventOutput, example_output
from dustrun.triggers.happened.facts_poll import HappenedConfig, news, recent_of

Status = Literal["final", "reverted", "stuck", "reorged", "cancelled", "displaced", "refused"]


class Config(HappenedConfig):
    """Which transactions start a run."""

    statuses: tuple[Status, ...] = Field(
        ("reverted", "stuck", "reorged"),
        min_length=1,
        description="What became of them. `displaced`: another transaction took the nonce; `refused`: never sent, by a "
        "policy or a decision.",
    )
    stuck_after_ms: int = Field(
        600_000, ge=10_000, le=604_800_000, description="How long a transaction is sent before it counts as stuck."
    )
    modes: tuple[Literal["live", "dust"], ...] = Field(("live",), min_length=1, description="The modes of their runs.")


class Output(EventOutput):
    """A transaction."""

    status: Status = Field(description="What became of it.")
    transaction_id: str = Field(description="Its id.")
    run_id: str | None = Field(description="The run that sent it.")
    workflow_id: str | None = Field(description="The run's workflow; null: an inline run.")
    path: str | None = Field(description="The node in the run.")
    mode: Literal["live", "dust"] = Field(description="The run's mode.")
    wallet_id: str = Field(description="The wallet.")
    chain_id: int = Field(description="The chain.")
    from_: str = Field(alias="from", description="The sender.")
    nonce: int | None = Field(description="Its nonce; null: never signed.")
    hash: str | None = Field(description="Its hash; null: never signed.")
    block_number: int | None = Field(description="The block that has it.")
    error: dict[str, Any] | None = Field(description="What went wrong: `code` and `message`.")
    at: str = Field(description="When it happened, RFC 3339.")
    depth: int = Field(description="How many runs in a row led to this one by such events, itself included.")
    through: list[str] = Field(description="The workflows of these runs, oldest first, without this one.")


def _counts(config: Config, one: Fact) -> bool:
    told = one.what in config.statuses and one.data["mode"] in config.modes
    return told and config.takes(one.data["workflowId"])


async def _stuck(ctx: TriggerContext, config: Config) -> Sequence[Fact]:
    return await ctx.facts.stuck(config.stuck_after_ms) if "stuck" in config.statuses else ()


async def _recent(ctx: TriggerContext, config: Config) -> dict[str, Any] | None:
    return await recent_of(ctx, "transaction", partial(_counts, config), await _stuck(ctx, config))


_EXAMPLE: dict[str, Any] = {
    "status": "reverted",
    "transactionId": "tx_01m8brt9hae4de3w6f0w3c1rmr",
    "runId": "run_01m8brt9hae4de3w6f0w3c1rmr",
    "workflowId": "wf_01m8brt9hae4de3w6f0w3c1rmr",
    "path": "pay",
    "mode": "live",
    "walletId": "wal_01m8brt9hae4de3w6f0w3c1rmr",
    "chainId": 1,
    "from": "0x70997970C51812dc3A010C7d01b50e0d17dc79C8",
    "nonce": 7,
    "hash": "0x" + "ab" * 32,
    "blockNumber": 22000000,
    "error": {"code": "REVERTED", "message": "transfer amount exceeds balance"},
    "at": "2026-01-31T12:00:00.000Z",
    "depth": 1,
    "through": ["wf_01m8brt9hae4de3w6f0w3c1rmr"],
}


@polled(
    config=Config,
    output=Output,
    recent=_recent,
    example_config={"statuses": ["reverted", "stuck"], "stuckAfterMs": 600000},
    example_output=example_output(_EXAMPLE, "transaction"),
)
async def poll(ctx: TriggerContext, config: Config, cursor: Any) -> Polled:
    """The outcomes of transactions since the cursor."""
    return await news(ctx, "transaction", cursor, partial(_counts, config), await _stuck(ctx, config))
