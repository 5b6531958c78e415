"""Native coin that moves to or from addresses, for the two triggers that watch for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from dustrun.core.triggers.chain.watch import ChainWatch, NativeMove
from dustrun.sdk.trigger import Finding, TriggerContext
from dustrun.triggers.chain.chain_config import (
    BLOCK,
    HOLDER,
    OTHER,
    TRANSACTION,
    Addresses,
    ChainOutput,
    FromBlock,
    Units,
    check_watched,
)


class MoveConfig(FromBlock):
    """Which moves of native coin start a run."""

    address: Addresses = Field(description="The address that is watched, or a list of addresses.")
    min_amount: Units | None = Field(None, description="The smallest amount that counts, in wei.")
    traces: Literal["auto", "never", "require"] = Field(
        "auto",
        description="Whether blocks are traced, which finds coin that contracts move: `auto` if an endpoint can, "
        "`never`, or `require`, which waits until one can.",
    )


class MoveOutput(ChainOutput):
    """One move of native coin."""

    sender: str = Field(description="Who sent.")
    recipient: str = Field(description="Who received.")
    amount: str = Field(description="The amount in wei.")
    found_in: Literal["transaction", "trace"] = Field(description="What it was read from.")
    path: str = Field(description="The call that moved it, like `0.2`; empty: the transaction itself.")
    transaction_hash: str = Field(description="Its transaction.")
    transaction_index: int = Field(description="The transaction's place in the block.")


async def check(ctx: TriggerContext, config: MoveConfig) -> list[Finding]:
    """The obstacles that keep it from watching."""
    return await check_watched(ctx, config)


def example(sender: str, recipient: str) -> dict[str, Any]:
    """The payload of a move."""
    move = {"sender": sender, "recipient": recipient, "amount": "1500000000000000000"}
    return {**BLOCK, **TRANSACTION, "foundIn": "trace", "path": "0.2", **move}


INCOMING, OUTGOING = example(OTHER, HOLDER), example(HOLDER, OTHER)
EXAMPLE_CONFIG = {"chainId": 1, "address": HOLDER, "minAmount": "1000000000000000000", "confirmations": 12}


def watch_moves(config: MoveConfig, side: Literal["from", "to"]) -> ChainWatch:
    """Keeps the moves with one of the addresses on that side."""
    addresses, least = frozenset(config.address), config.min_amount or 0

    def match(move: NativeMove) -> Mapping[str, Any] | None:
        party = move.sender if side == "from" else move.recipient
        if party not in addresses or move.units < least:
            return None
        return {"sender": move.sender, "recipient": move.recipient, "amount": str(move.units)}

    return ChainWatch(**config.watched, match_move=match, traces=config.traces)
