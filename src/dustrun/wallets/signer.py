"""What signs for a wallet, whatever holds its key: this server, a signer elsewhere, or a key service."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class UnsignedTransaction:
    """A transaction to be signed; amounts in base units of the native coin.

    `to` None creates a contract. With `is_legacy` it is one of EIP-155 and `max_fee_units` its gas price; else one of
    EIP-1559 with an empty access list.
    """

    chain_id: int
    nonce: int
    to: str | None
    value_units: int
    data: bytes
    gas_limit: int
    max_fee_units: int
    tip_units: int
    is_legacy: bool = False


@dataclass(frozen=True, slots=True)
class SignedTransaction:
    """The bytes to broadcast, and their hash (0x-hex) by which the chain will know them."""

    raw: bytes
    hash: str


class Signer(Protocol):
    """Signs for one address. Every method checks what it hands out: a signature of another key or of other content
    is never returned.

    Raises `Temporary` when what holds the key does not answer, so that nothing was signed that anybody has;
    `Permanent` when it will not sign; `Refused` (403040) when it signed something else; `Invalid` for content that
    cannot be signed.
    """

    @property
    def address(self) -> str:
        """The address, EIP-55 checksummed."""
        ...

    async def sign_transaction(self, unsigned: UnsignedTransaction) -> SignedTransaction:
        """Signs a transaction."""
        ...

    async def sign_message(self, message: bytes) -> bytes:
        """65 bytes r, s, v (27 or 28) over the message with the prefix of EIP-191."""
        ...

    async def sign_typed_data(self, document: Mapping[str, Any]) -> bytes:
        """65 bytes r, s, v (27 or 28) over an EIP-712 document: `types`, `primaryType`, `domain`, `message`."""
        ...
