"""Output fields about an included transaction."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from dustrun.core.evm.network import Network
from dustrun.core.money.intent import Receipt
from dustrun.core.values.amounts import format_units
from dustrun.sdk import Fields


class TransactionFields(Fields):
    """Output fields of every action that makes one transaction."""

    hash: str | None = Field(description="Hash of the transaction; null in a simulation, or if none was needed.")
    block_number: int | None = Field(description="Number of its block.")
    gas_used: str | None = Field(description="Gas used.")
    fee: str | None = Field(description="Total fee in base units of the native coin.")
    fee_formatted: str | None = Field(description="Total fee in whole coins.")
    explorer_url: str | None = Field(description="Link to the chain's block explorer.")


def transaction_facts(receipt: Receipt | None, network: Network) -> dict[str, Any]:
    """The values of `TransactionFields`; all null if there was no transaction."""
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
    """The transaction's name in error messages."""
    return "The simulated transaction" if receipt.hash is None else f"The transaction {receipt.hash}"
