"""Signing with a key that this server holds itself."""

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
    """What is signed of a message: EIP-191, version 0x45."""
    return keccak256(b"\x19Ethereum Signed Message:\n" + str(len(message)).encode() + message)


def join_signature(r: int, s: int, parity: int) -> bytes:
    """A signature as wallets hand it out: r, s, v with v 27 or 28."""
    return r.to_bytes(32, "big") + s.to_bytes(32, "big") + bytes([27 + parity])


class Keyring:
    """Keys that were unlocked: few, for a short time, and wiped when that is over. One is unlocked at a time, so that
    the work and memory of unlocking are bounded however many wallets sign at once."""

    def __init__(self, keep_s: float, most: int = 64) -> None:
        self._keep_s = keep_s
        self._most = most
        self._kept: OrderedDict[str, tuple[SecretKey, float]] = OrderedDict()
        self._turn = asyncio.Lock()

    async def key(self, wallet_id: str, unlock: Unlock) -> SecretKey:
        """The wallet's key. It may be wiped at the caller's next `await`: sign first."""
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
        # all are kept equally long, so the oldest come first
        while self._kept and next(iter(self._kept.values()))[1] <= now:
            self._kept.popitem(last=False)[1][0].wipe()

    def forget(self, wallet_id: str) -> None:
        """Wipes a wallet's key now."""
        kept = self._kept.pop(wallet_id, None)
        if kept is not None:
            kept[0].wipe()

    def close(self) -> None:
        """Wipes every key."""
        while self._kept:
            self._kept.popitem()[1][0].wipe()

    def __len__(self) -> int:
        return len(self._kept)


class LocalSigner:
    """Signs with a key out of the keyring."""

    def __init__(self, address: str, borrow: Unlock) -> None:
        self._address = address
        self._borrow = borrow

    @property
    def address(self) -> str:
        """The address, checksummed."""
        return self._address

    async def sign_transaction(self, unsigned: UnsignedTransaction) -> SignedTransaction:
        """Signs on the event loop: about a tenth of a millisecond, less than a change of threads costs."""
        return transaction.sign(unsigned, await self._borrow())

    async def sign_message(self, message: bytes) -> bytes:
        """Signs a message."""
        digest = digest_of_message(message)
        return join_signature(*(await self._borrow()).sign(digest))

    async def sign_typed_data(self, document: Mapping[str, Any]) -> bytes:
        """Signs a document, which is hashed in a thread: a large one takes its time."""
        digest = await asyncio.to_thread(typed_data.digest_of, document)
        return join_signature(*(await self._borrow()).sign(digest))


def key_of_variable(name: str, environment: Mapping[str, str]) -> SecretKey:
    """The key that an environment variable holds; raises `Permanent` that does not show it."""
    text = environment.get(name)
    if not text:
        raise Permanent(f'The environment variable "{name}" is not set in the server; set it and start again.')
    try:
        return SecretKey(bytes.fromhex(text.strip().removeprefix("0x")))
    except ValueError:
        message = (
            f'The environment variable "{name}" holds no private key: 64 hexadecimal digits, 0x before them or not.'
        )
        raise Permanent(message) from None
