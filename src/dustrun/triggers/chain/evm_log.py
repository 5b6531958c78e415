"""Starts a run for each event log of a contract.

Give the event's signature with its arguments' names, as Solidity declares it; they become `args` of the payload.
`filter` is an expression over them, like `value >= 1000000 && to == "0x…"`: integers are exact, addresses match in any
case, and the chain filters by indexed arguments itself. `args` names them all and `log` has `address`, `blockNumber`
and `transactionHash`. An indexed string, bytes or list is only known by its hash.

Each log starts one run, however often its block is replaced. See the guide on chain triggers.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field, ValidationInfo, field_validator

from dustrun.core.evm.abi import AbiFault
from dustrun.core.triggers.chain.event_filter import FilterFault, compile_filter, matcher, query_of, read_event
from dustrun.core.triggers.chain.watch import ChainWatch
from dustrun.sdk.fields import raw
from dustrun.sdk.trigger import Finding, TriggerContext, chain
from dustrun.triggers._event_output import example_output
from dustrun.triggers.chain.chain_config import (
    BLOCK,
    HOLDER,
    OTHER,
    TRANSACTION,
    USDC,
    Addresses,
    ChainOutput,
    FromBlock,
    check_watched,
)


class Config(FromBlock):
    """Which logs start a run."""

    address: Addresses | None = Field(
        None, description="The contract, or a list of contracts; null: any contract that emits the event."
    )
    event_signature: str = Field(
        min_length=3,
        max_length=2000,
        description="Like `event Transfer(address indexed from, address indexed to, uint256 value)`.",
    )
    filter: str | None = raw(
        None, max_length=4000, description="An expression over the event's arguments, like `value >= 1000000`."
    )

    @field_validator("event_signature")
    @classmethod
    def _check_signature(cls, text: str) -> str:
        try:
            read_event(text)
        except AbiFault as fault:
            raise ValueError(fault.message) from None
        return text

    @field_validator("filter")
    @classmethod
    def _check_filter(cls, text: str | None, info: ValidationInfo) -> str | None:
        signature = info.data.get("event_signature")
        if text is not None and signature is not None:
            try:
                compile_filter(text, read_event(signature))
            except FilterFault as fault:
                raise ValueError(str(fault)) from None
        return text


class Output(ChainOutput):
    """One log, decoded."""

    contract: str = Field(description="The contract that emitted it.")
    event: str = Field(description="The event's name.")
    args: dict[str, Any] = Field(description="The event's arguments by name; integers above 48 bits as strings.")
    transaction_hash: str = Field(description="Its transaction.")
    transaction_index: int = Field(description="The transaction's place in the block.")
    log_index: int = Field(description="The log's place in the block.")
    position: int = Field(description="The log's place in its transaction, which no reorg changes.")


async def _check(ctx: TriggerContext, config: Config) -> list[Finding]:
    contracts = [("address", one) for one in config.address or ()]
    return await check_watched(ctx, config, contracts)


_EXAMPLE = {
    **BLOCK,
    **TRANSACTION,
    "logIndex": 12,
    "position": 0,
    "contract": USDC,
    "event": "Transfer",
    "args": {"from": OTHER, "to": HOLDER, "value": "2500000"},
}


@chain(
    config=Config,
    output=Output,
    check=_check,
    example_config={
        "chainId": 1,
        "address": USDC,
        "eventSignature": "event Transfer(address indexed from, address indexed to, uint256 value)",
        "filter": f'to == "{HOLDER}" && value >= 1000000',
        "confirmations": 12,
    },
    example_output=example_output(_EXAMPLE, "evm-log"),
)
def watch(config: Config) -> ChainWatch:
    """Asks for the event's logs, and keeps those for which the filter holds."""
    event = read_event(config.event_signature)
    condition = compile_filter(config.filter, event) if config.filter is not None else None
    demanded = condition.topics if condition is not None else ()
    query = query_of(event, config.address or (), demanded)
    return ChainWatch(**config.watched, query=query, match_log=matcher(event, condition))
