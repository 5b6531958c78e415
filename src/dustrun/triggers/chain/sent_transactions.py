"""Transactions of addresses and calls of contracts, for the two triggers that watch for them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from dustrun.core.triggers.chain.watch import SentTransaction
from dustrun.triggers.chain.chain_config import BLOCK, HOLDER, OTHER, TRANSACTION, ChainOutput, FromBlock, Units


class TransactionConfig(FromBlock):
    """Which transactions start a run."""

    status: Literal["success", "reverted", "any"] = Field(
        "success", description="How they ended. What a reverted transaction was to do has not happened."
    )
    min_amount: Units | None = Field(None, description="The smallest amount of native coin that counts, in wei.")

    def counts(self, sent: SentTransaction) -> bool:
        """Whether a transaction counts as far as it is known."""
        if sent.units < (self.min_amount or 0):
            return False
        if sent.succeeded is None or self.status == "any":
            return True
        return sent.succeeded == (self.status == "success")


class TransactionOutput(ChainOutput):
    """One transaction."""

    transaction_hash: str = Field(description="Its hash.")
    transaction_index: int = Field(description="Its place in the block.")
    sender: str = Field(description="Who sent it.")
    recipient: str | None = Field(description="Whom it went to; null: it created a contract.")
    amount: str = Field(description="The native coin that it carried, in wei; of a reverted one, nothing moved.")
    nonce: int = Field(description="Its number among the sender's.")
    status: Literal["success", "reverted"] = Field(description="How it ended.")
    gas_used: str = Field(description="The gas that it used.")


EXAMPLE: dict[str, Any] = {
    **BLOCK,
    **TRANSACTION,
    "sender": OTHER,
    "recipient": HOLDER,
    "amount": "0",
    "nonce": 17,
    "status": "success",
    "gasUsed": "46109",
}
