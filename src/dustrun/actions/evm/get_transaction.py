"""Looks a transaction up by its hash.

Use it for transactions that somebody else made, or that an earlier node sent. A hash that the chain does not know is
no error: `status` is then `unknown`, and the transaction may still come. Where there is no transaction (`hash` is null:
an approval that was not needed, or a simulation) it is `none`. To wait for one use `wait-for-confirmations`.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from dustrun.actions.evm.coins import native_coin
from dustrun.actions.evm.contract_calls import EventFields, LogFields, read_events, show_events, show_logs
from dustrun.actions.evm.fields import ChainId
from dustrun.core.values.amounts import format_units
from dustrun.sdk import Context, Effect, Fields, action
from dustrun.sdk.chain import ChainTransaction

HASH = r"^0x[0-9a-fA-F]{64}$"


class Input(Fields):
    """Which transaction."""

    chain_id: ChainId
    hash: str | None = Field(pattern=HASH, description="Its hash; null when there is none to look for.")
    events: list[str] = Field(
        [], max_length=50, description="Events to decode: `Deposited(address indexed who, uint256 amount)`."
    )


class Output(Fields):
    """What the chain knows of it; null for what it does not."""

    hash: str | None = Field(description="Its hash.")
    status: Literal["unknown", "pending", "success", "failed", "none"] = Field(
        description="What became of it; `none` when there was no transaction."
    )
    sender: str | None = Field(description="Who sent it.")
    to: str | None = Field(description="Where to; null when it creates a contract.")
    nonce: int | None = Field(description="The sender's number for it.")
    value: str | None = Field(description="Native coin that it moves, in base units.")
    value_formatted: str | None = Field(description="The same for people.")
    data: str | None = Field(description="Its calldata, 0x-hex.")
    block_number: int | None = Field(description="The block that it is in.")
    confirmations: int = Field(description="Blocks from its own to the head, its own included.")
    gas_used: str | None = Field(description="Gas that it used.")
    fee: str | None = Field(description="The whole fee in base units of the native coin.")
    fee_formatted: str | None = Field(description="The same for people.")
    events: list[EventFields] = Field(description="The events that `events` declares.")
    logs: list[LogFields] = Field(description="All events, as the chain has them.")


def status_of(found: ChainTransaction | None) -> Literal["unknown", "pending", "success", "failed"]:
    """What became of a transaction."""
    if found is None:
        return "unknown"
    if found.block_number is None:
        return "pending"
    return "success" if found.is_success else "failed"


@action(
    effect=Effect.READ,
    input=Input,
    output=Output,
    example_input={
        "chainId": 1,
        "hash": "0x5c504ed432cb51138bcf09aa5e8a410dd4a1e204ef84bfed1be16dfba1b22060",
    },
    example_output={
        "hash": "0x5c504ed432cb51138bcf09aa5e8a410dd4a1e204ef84bfed1be16dfba1b22060",
        "status": "success",
        "sender": "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266",
        "to": "0x70997970C51812dc3A010C7d01b50e0d17dc79C8",
        "nonce": 7,
        "value": "10000000000000000",
        "valueFormatted": "0.01",
        "data": "0x",
        "blockNumber": 21000000,
        "confirmations": 3,
        "gasUsed": "21000",
        "fee": "420000000000000",
        "feeFormatted": "0.00042",
        "events": [],
        "logs": [],
    },
    tags=("evm", "transaction"),
)
async def get_transaction(input: Input, ctx: Context) -> Output:
    """Asks the chain."""
    chain = ctx.chain(input.chain_id)
    events = read_events(input.events, None)
    found = await chain.find_transaction(input.hash.lower()) if input.hash is not None else None
    status = status_of(found) if input.hash is not None else "none"
    facts = dict.fromkeys(Output.model_fields) | {"confirmations": 0, "events": [], "logs": []}
    if found is not None:
        coin = native_coin(chain)
        facts |= {
            "sender": found.sender,
            "to": found.to,
            "nonce": found.nonce,
            "value": str(found.value_units),
            "value_formatted": coin.format(found.value_units),
            "data": f"0x{found.data.hex()}",
            "block_number": found.block_number,
            "confirmations": found.confirmations,
            "gas_used": None if found.gas_used is None else str(found.gas_used),
            "fee": None if found.fee_units is None else str(found.fee_units),
            "fee_formatted": None if found.fee_units is None else format_units(found.fee_units, coin.decimals),
            "events": show_events(found.logs, events),
            "logs": show_logs(found.logs),
        }
    return Output(**facts | {"hash": input.hash and input.hash.lower(), "status": status})
