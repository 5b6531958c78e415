"""What results say of a transaction that happened."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from dustrun.core.evm.network import Network
from dustrun.core.money.intent import Receipt
from dustrun.core.values.amounts import format_units
from dustrun.sdk import Fields


class TransactionFields(Fields):
    """What the results of all actions that make one transaction share."""

    hash: str | None = Field(description="Hash of the transaction; null in a simulation, or when none was needed.")
    block_number: int | None = Field(description="The block that it is in.")
    gas_used: str | None = Field(description="Gas that it used.")
    fee: str | None = Field(description="The whole fee in base units of the native coin.")
    fee_formatted: str | None = Field(description="The fee for people.")
    explorer_url: str | None = Field(description="Where the explorer of the chain shows it.")


def transaction_facts(receipt: Receipt | None, network: Network) -> dict[str, Any]:
    """The fields of `TransactionFields`; all null when there was no transaction."""
    if receipt is None:
        return dict.fromkeys(TransactionFields.model_fields)
    is_shown = network.explorer is not None and receipt.hash is not None
    return {
        "hash": receipt.hash,
        "block_number": receipt.block_number,
        "gas_used": str(receipt.gas_used),
        "fee": str(receipt.fee_units),
        "fee_formatted": format_units(receipt.fee_units, network.native.decimals),
        "explorer_url": f"{str(network.explorer).rstrip('/')}/tx/{receipt.hash}" if is_shown else None,
    }


def name_of(receipt: Receipt) -> str:
    """How an error names a transaction."""
    return "The simulated transaction" if receipt.hash is None else f"The transaction {receipt.hash}"
