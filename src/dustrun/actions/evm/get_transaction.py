"""Looks up a transaction by its hash.

Use it for transactions that somebody else made, or that an earlier node sent. A hash that the chain does not know is
not an error: `status` is then `unknown`, and the transaction may still appear. If there is no transaction (`hash` is
null: an approval that was not needed, or a simulation) it is `none`. To wait for one use `wait-for-confirmations`.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from dustrun.actions.evm.coins import native_coin
from dustrun.actions.evm.contract_calls import EventFields, LogFields, read_events, show_events, show_logs
from dustrun.actions.evm.fields import ChainId
from dustrun.core.values.amounts import format_units
from dustrun.sdk import Context, Effect, Fields, Origin, action
from dustrun.sdk.chain import ChainTransaction

HASH = r"^0x[0-9a-fA-F]{64}$"


class Input(Fields):
    """The transaction."""

    chain_id: ChainId
    hash: str | None = Field(pattern=HASH, description="Its hash; null if there is none.")
    events: list[str] = Field(
        [], max_length=50, description="Events to decode: `Deposited(address indexed who, uint256 amount)`."
    )


class Output(Fields):
    """The transaction as the chain knows it; unknown values are null."""

    hash: str | None = Field(description="Its hash.")
    status: Literal["unknown", "pending", "success", "failed", "none"] = Field(
        description="Its status; `none` if there was no transaction."
    )
    sender: str | None = Field(description="Sender address.")
    to: str | None = Field(description="Recipient; null if it creates a contract.")
    nonce: int | None = Field(description="Nonce.")
    value: str | None = Field(description="Native value, in base units.")
    value_formatted: str | None = Field(description="Native value in whole coins.")
    data: str | None = Field(description="Its calldata, 0x-hex.")
    block_number: int | None = Field(description="Number of its block.")
    confirmations: int = Field(description="Confirmations, counting its own block.")
    gas_used: str | None = Field(description="Gas used.")
    fee: str | None = Field(description="Total fee in base units of the native coin.")
    fee_formatted: str | None = Field(description="Total fee in whole coins.")
    events: list[EventFields] = Field(description="The decoded events that `events` declares.")
    logs: list[LogFields] = Field(description="All event logs, undecoded.")


def status_of(found: ChainTransaction | None) -> Literal["unknown", "pending", "success", "failed"]:
    """The status of a transaction."""
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
    origins=[Origin("chain", "chainId")],
    tags=("evm", "transaction"),
)
async def get_transaction(input: Input, ctx: Context) -> Output:
    """Looks it up on the chain."""
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
