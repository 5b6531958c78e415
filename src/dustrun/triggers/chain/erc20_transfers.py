"""Transfers of a token to or from addresses, for the two triggers that watch for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from dustrun.core.triggers.chain.event_filter import TRANSFER, query_of, word_of
from dustrun.core.triggers.chain.queries import LogQuery
from dustrun.core.triggers.chain.watch import ChainLog, ChainWatch
from dustrun.sdk.trigger import Finding, TriggerContext
from dustrun.triggers.chain.chain_config import (
    BLOCK,
    HOLDER,
    OTHER,
    TRANSACTION,
    USDC,
    Address,
    Addresses,
    ChainOutput,
    FromBlock,
    Units,
    check_watched,
)


class TransferConfig(FromBlock):
    """Which transfers start a run."""

    address: Addresses = Field(description="The address that is watched, or a list of addresses.")
    token_address: Address = Field(description="The token's contract.", json_schema_extra={"x-widget": "token"})
    min_amount: Units | None = Field(None, description="The smallest amount that counts, in the token's base units.")


class TransferOutput(ChainOutput):
    """One transfer."""

    contract: str = Field(description="The token's contract.")
    sender: str = Field(description="Who sent.")
    recipient: str = Field(description="Who received.")
    amount: str = Field(description="The amount in base units.")
    transaction_hash: str = Field(description="Its transaction.")
    transaction_index: int = Field(description="The transaction's place in the block.")
    log_index: int = Field(description="The transfer's log in the block.")
    position: int = Field(description="The log's place in its transaction, which no reorg changes.")


async def check(ctx: TriggerContext, config: TransferConfig) -> list[Finding]:
    """The obstacles that keep it from watching."""
    return await check_watched(ctx, config, [("tokenAddress", config.token_address)])


def example(sender: str, recipient: str) -> dict[str, Any]:
    """The payload of a transfer."""
    log = {"logIndex": 12, "position": 0, "contract": USDC}
    return {**BLOCK, **TRANSACTION, **log, "sender": sender, "recipient": recipient, "amount": "2500000"}


INCOMING, OUTGOING = example(OTHER, HOLDER), example(HOLDER, OTHER)
EXAMPLE_CONFIG = {"chainId": 1, "address": HOLDER, "tokenAddress": USDC, "minAmount": "1000000", "confirmations": 12}


def watch_transfers(config: TransferConfig, side: Literal["from", "to"]) -> ChainWatch:
    """Asks for the token's transfers with one of the addresses on that side."""
    words = frozenset(word_of(address) for address in config.address)
    base = query_of(TRANSFER, [config.token_address])
    topics = (base.topics[0], words) if side == "from" else (base.topics[0], None, words)
    least = config.min_amount or 0

    def match(log: ChainLog) -> Mapping[str, Any] | None:
        found = TRANSFER.find(log.topic_bytes, log.data)
        if found is None or found["value"] < least:
            return None
        return {"sender": found["from"], "recipient": found["to"], "amount": str(found["value"])}

    return ChainWatch(**config.watched, query=LogQuery(base.addresses, topics), match_log=match)
