"""The interface of signers, wherever the key is: on this server, in a remote signer, or in a key service."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from dustrun.records import dataclass


@dataclass(frozen=True, slots=True)
class UnsignedTransaction:
    """A transaction to be signed; amounts in base units of the native coin.

    `to` None creates a contract. With `is_legacy` it is an EIP-155 transaction whose gas price is `max_fee_units`, else
    an EIP-1559 transaction with an empty access list.
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
    """The bytes to broadcast, and the transaction hash (0x-hex)."""

    raw: bytes
    hash: str


class Signer(Protocol):
    """Signs for one address. Every method verifies its result: a signature of another key or of other content is never
    returned.

    Raises `Temporary` if the signer does not answer (no signature was obtained), `Permanent` if it refuses to sign,
    `Refused` (403040) if it signed something else, `Invalid` for content that cannot be signed.
    """

    @property
    def address(self) -> str:
        """The EIP-55 checksummed address."""
        ...

    async def sign_transaction(self, unsigned: UnsignedTransaction) -> SignedTransaction:
        """The signed transaction."""
        ...

    async def sign_message(self, message: bytes) -> bytes:
        """65 bytes r, s, v (27 or 28) over the message with the prefix of EIP-191."""
        ...

    async def sign_typed_data(self, document: Mapping[str, Any]) -> bytes:
        """65 bytes r, s, v (27 or 28) over an EIP-712 document: `types`, `primaryType`, `domain`, `message`."""
        ...
