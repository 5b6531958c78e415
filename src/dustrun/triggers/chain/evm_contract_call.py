"""Starts a run for each transaction that calls a contract, or one of its functions.

Use it for contracts that emit no event for what you want to know. Only the call that the transaction itself makes
counts, with its arguments decoded: calls by other contracts are not found, and neither are pending transactions, which
may never be in a block. Where the contract emits an event, use `evm-log`, which misses none of them and reads less.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from pydantic import Field, ValidationInfo, field_validator

from dustrun.core.evm.abi import AbiFault, show_all
from dustrun.core.evm.calls import find_function
from dustrun.core.triggers.chain.watch import ChainWatch, SentTransaction
from dustrun.sdk.trigger import Finding, TriggerContext, chain
from dustrun.triggers._event_output import example_output
from dustrun.triggers.chain.chain_config import HOLDER, USDC, Addresses, check_watched
from dustrun.triggers.chain.sent_transactions import EXAMPLE, TransactionConfig, TransactionOutput


class Config(TransactionConfig):
    """Which calls start a run."""

    contract: Addresses = Field(description="The contract, or a list of contracts.")
    abi: Any = Field(None, description="The JSON ABI of the contract: a list, a single entry, or a compiler artifact.")
    function: str | None = Field(
        None,
        min_length=1,
        max_length=2000,
        description="The function: `transfer(address to, uint256 value)`, or its name in `abi`; null: any call.",
    )

    @field_validator("function")
    @classmethod
    def _check_function(cls, text: str | None, info: ValidationInfo) -> str | None:
        if text is not None:
            try:
                find_function(text, info.data.get("abi"))
            except AbiFault as fault:
                raise ValueError(fault.message) from None
        return text


class Output(TransactionOutput):
    """One call."""

    contract: str = Field(description="The contract.")
    function: str | None = Field(description="The function's signature, if `function` names one.")
    selector: str | None = Field(description="The first 4 bytes of the data, which name the function; null: none.")
    args: dict[str, Any] | None = Field(
        description="Its arguments by name or place; integers above 48 bits as strings. Null if they do not decode."
    )


async def _check(ctx: TriggerContext, config: Config) -> list[Finding]:
    return await check_watched(ctx, config, [("contract", one) for one in config.contract])


@chain(
    config=Config,
    output=Output,
    check=_check,
    example_config={
        "chainId": 1,
        "contract": USDC,
        "function": "transfer(address to, uint256 value)",
        "confirmations": 12,
    },
    example_output=example_output(
        {
            **EXAMPLE,
            "recipient": USDC,
            "contract": USDC,
            "function": "transfer(address,uint256)",
            "selector": "0xa9059cbb",
            "args": {"to": HOLDER, "value": "2500000"},
        },
        "evm-contract-call",
    ),
)
def watch(config: Config) -> ChainWatch:
    """Keeps the transactions to one of the contracts that call the function."""
    contracts = frozenset(config.contract)
    function = find_function(config.function, config.abi) if config.function is not None else None

    def match(sent: SentTransaction) -> Mapping[str, Any] | None:
        if sent.recipient not in contracts or not config.counts(sent):
            return None
        if function is not None and sent.data[:4] != function.selector:
            return None
        args = None
        if function is not None and sent.succeeded is not None:
            with contextlib.suppress(AbiFault):  # anybody may send anything behind a selector
                args = show_all(function.inputs, function.decode_args(sent.data))
        return {
            "contract": sent.recipient,
            "function": None if function is None else function.signature,
            "selector": f"0x{sent.data[:4].hex()}" if len(sent.data) >= 4 else None,
            "args": args,
        }

    return ChainWatch(**config.watched, match_transaction=match)
