"""Starts a run for each transaction that an address sends or receives.

Whatever the transaction does counts: a payment, a call, a reverted attempt if `status` says so. It is known from its
block, so nothing of it is known before: pending transactions start no run, since they may never be in a block. What a
contract does within another transaction is none of the address; for coin and tokens that reach it so, use
`eth-receive`, `erc20-receive` and `nft-transfer`. Every block's transactions are read, so catching up after a long
downtime takes longer than with logs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from dustrun.core.triggers.chain.watch import ChainWatch, SentTransaction
from dustrun.sdk.trigger import Finding, TriggerContext, chain
from dustrun.triggers._event_output import example_output
from dustrun.triggers.chain.chain_config import HOLDER, Addresses, check_watched
from dustrun.triggers.chain.sent_transactions import EXAMPLE, TransactionConfig, TransactionOutput


class Config(TransactionConfig):
    """Whose transactions start a run."""

    address: Addresses = Field(description="The address that is watched, or a list of addresses.")
    direction: Literal["from", "to", "any"] = Field(
        "any", description="Whether it sends (`from`), is sent to (`to`), or either."
    )


class Output(TransactionOutput):
    """One transaction."""

    selector: str | None = Field(description="The first 4 bytes of its data, which name the function; null: none.")
    data_length: int = Field(description="The bytes of data that it carries.")
    created: str | None = Field(description="The contract that it created.")


async def _check(ctx: TriggerContext, config: Config) -> list[Finding]:
    return await check_watched(ctx, config)


@chain(
    config=Config,
    output=Output,
    check=_check,
    example_config={"chainId": 1, "address": HOLDER, "direction": "to", "confirmations": 12},
    example_output=example_output(
        {**EXAMPLE, "selector": "0xa9059cbb", "dataLength": 68, "created": None}, "evm-transaction"
    ),
)
def watch(config: Config) -> ChainWatch:
    """Keeps the transactions with one of the addresses on the side that counts."""
    addresses, direction = frozenset(config.address), config.direction

    def match(sent: SentTransaction) -> Mapping[str, Any] | None:
        is_sender = direction != "to" and sent.sender in addresses
        is_recipient = direction != "from" and sent.recipient in addresses
        if not (is_sender or is_recipient) or not config.counts(sent):
            return None
        selector = f"0x{sent.data[:4].hex()}" if len(sent.data) >= 4 else None
        return {"selector": selector, "dataLength": len(sent.data), "created": sent.contract}

    return ChainWatch(**config.watched, match_transaction=match)
