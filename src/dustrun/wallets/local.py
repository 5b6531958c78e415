"""Signing with keys stored on this server."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from dustrun import clock
from dustrun.core.evm import typed_data
from dustrun.core.values.addresses import keccak256
from dustrun.errors import Permanent
from dustrun.wallets import transaction
from dustrun.wallets.secp256k1 import SecretKey
from dustrun.wallets.signer import SignedTransaction, UnsignedTransaction

Unlock = Callable[[], Awaitable[SecretKey]]


def digest_of_message(message: bytes) -> bytes:
    """The 32-byte digest of a message (EIP-191, version 0x45)."""
    return keccak256(b"\x19Ethereum Signed Message:\n" + str(len(message)).encode() + message)


def join_signature(r: int, s: int, parity: int) -> bytes:
    """The 65 bytes r, s, v of a signature, with v 27 or 28."""
    return r.to_bytes(32, "big") + s.to_bytes(32, "big") + bytes([27 + parity])


class Keyring:
    """Cache of at most `most` unlocked keys, each for `keep_s` seconds, then wiped. Keys are unlocked one at a time,
    which bounds the CPU and memory used when many wallets sign at once."""

    def __init__(self, keep_s: float, most: int = 64) -> None:
        self._keep_s = keep_s
        self._most = most
        self._kept: OrderedDict[str, tuple[SecretKey, float]] = OrderedDict()
        self._turn = asyncio.Lock()

    async def key(self, wallet_id: str, unlock: Unlock) -> SecretKey:
        """The wallet's key, unlocked if necessary. It may be wiped at the caller's next `await`, so sign before
        that."""
        kept = self._kept.get(wallet_id)
        if kept is not None:
            return kept[0]
        async with self._turn:
            kept = self._kept.get(wallet_id)
            if kept is not None:
                return kept[0]
            key = await unlock()
            self._keep(wallet_id, key)
            return key

    def _keep(self, wallet_id: str, key: SecretKey) -> None:
        while len(self._kept) >= self._most:
            self._kept.popitem(last=False)[1][0].wipe()
        self._kept[wallet_id] = (key, clock.monotonic_s() + self._keep_s)
        asyncio.get_running_loop().call_later(self._keep_s, self._expire)

    def _expire(self) -> None:
        now = clock.monotonic_s()
        # all keys have the same lifetime, so the oldest come first
        while self._kept and next(iter(self._kept.values()))[1] <= now:
            self._kept.popitem(last=False)[1][0].wipe()

    def forget(self, wallet_id: str) -> None:
        """Wipes a wallet's key immediately."""
        kept = self._kept.pop(wallet_id, None)
        if kept is not None:
            kept[0].wipe()

    def close(self) -> None:
        """Wipes all keys."""
        while self._kept:
            self._kept.popitem()[1][0].wipe()

    def __len__(self) -> int:
        return len(self._kept)


class LocalSigner:
    """Signs with a key of the keyring."""

    def __init__(self, address: str, borrow: Unlock) -> None:
        self._address = address
        self._borrow = borrow

    @property
    def address(self) -> str:
        """The EIP-55 checksummed address."""
        return self._address

    async def sign_transaction(self, unsigned: UnsignedTransaction) -> SignedTransaction:
        """Signs on the event loop, since it takes only about 0.1 ms, less than switching threads."""
        return transaction.sign(unsigned, await self._borrow())

    async def sign_message(self, message: bytes) -> bytes:
        """The 65 bytes r, s, v over the message with the EIP-191 prefix."""
        digest = digest_of_message(message)
        return join_signature(*(await self._borrow()).sign(digest))

    async def sign_typed_data(self, document: Mapping[str, Any]) -> bytes:
        """Signs an EIP-712 document, which is hashed in a thread because large ones take long."""
        digest = await asyncio.to_thread(typed_data.digest_of, document)
        return join_signature(*(await self._borrow()).sign(digest))


def key_of_variable(name: str, environment: Mapping[str, str]) -> SecretKey:
    """The key in an environment variable; raises `Permanent`, which does not show its value."""
    text = environment.get(name)
    if not text:
        raise Permanent(f'The environment variable "{name}" is not set in the server; set it and restart the server.')
    try:
        return SecretKey(bytes.fromhex(text.strip().removeprefix("0x")))
    except ValueError:
        message = (
            f'The environment variable "{name}" must contain a private key: 64 hexadecimal digits, optionally after 0x.'
        )
        raise Permanent(message) from None
