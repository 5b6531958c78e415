"""Makes a wallet's signer: a key from the vault, one from an environment variable, or a remote signer. Keys leave the
vault only here, for the keyring and for an export."""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

from dustrun import ids
from dustrun.core.values import exact_json
from dustrun.errors import Code, Conflict, Invalid, Permanent, Problem
from dustrun.services.access.rate_limits import Excess
from dustrun.settings import Settings
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Tx
from dustrun.storage.money.wallets import ENV, LOCAL, REMOTE, WalletRow
from dustrun.storage.secrets.vault import Vault
from dustrun.wallets import keystore
from dustrun.wallets.keystore import Keystore
from dustrun.wallets.local import Keyring, LocalSigner, key_of_variable
from dustrun.wallets.remote import Remote, RemoteSigner
from dustrun.wallets.secp256k1 import SecretKey
from dustrun.wallets.signer import Signer

T = TypeVar("T")
KIND: Final = "wallet"
_PASSWORD_BYTES: Final = 32
_MOST_WAITING: Final = 8


class Signers:
    """Makes signers, and holds what they share: unlocked keys and connections to remote signers."""

    def __init__(
        self, database: Database, vault: Vault, settings: Settings, environment: Mapping[str, str] | None = None
    ) -> None:
        self._database = database
        self._vault = vault
        self._environment = os.environ if environment is None else environment
        self._keyring = Keyring(settings.wallet_unlock_s)
        self._remotes = [
            (org_id, Remote(name, url, settings.signer_timeout_s))
            for org_id, name, url in map(_read_remote, settings.remote_signers)
        ]
        self._variables = [_apart(entry) for entry in settings.env_signers]
        # One thread: passwords of people cost up to 256 MiB each, so they take turns.
        self._slow = ThreadPoolExecutor(1, thread_name_prefix="keystore")
        self._waiting = 0

    def signer_of(self, wallet: WalletRow) -> Signer:
        """A wallet's signer; raises `Conflict` if the wallet cannot sign, `Permanent` if the operator has removed its
        signer. Unlocks nothing yet."""
        if not wallet.can_sign:
            state = "is archived" if wallet.archived_at is not None else "is watch-only"
            raise Conflict(f'The wallet "{wallet.name}" {state}; it signs nothing.', code=Code.WALLET_CANNOT_SIGN)
        if wallet.kind == REMOTE:
            return RemoteSigner(wallet.address, self.remote(wallet.org_id, wallet.signer or ""))
        return LocalSigner(wallet.address, functools.partial(self._borrow, wallet))

    async def _borrow(self, wallet: WalletRow) -> SecretKey:
        return await self._keyring.key(wallet.id, functools.partial(self.unlock, wallet))

    async def unlock(self, wallet: WalletRow) -> SecretKey:
        """The key of a local or environment wallet; it must match the wallet's address. The caller wipes it."""
        if wallet.kind == ENV:
            key = self.variable(wallet.org_id, wallet.signer or "")
        elif wallet.kind == LOCAL and wallet.sealed is not None:
            text = await self._vault.read(self._database, wallet.org_id, KIND, wallet.id, wallet.sealed)
            key = await asyncio.to_thread(_open, text)
        else:
            raise Conflict("This server does not hold the key of that wallet.", code=Code.WALLET_CANNOT_SIGN)
        if key.address() != wallet.address:
            key.wipe()
            raise Permanent(f'The key of the wallet "{wallet.name}" does not match its address; it signs nothing.')
        return key

    async def prepare(self) -> None:
        """Await this before a unit that calls `seal`."""
        await self._vault.prepare()

    def seal(self, tx: Tx, org_id: str, wallet_id: str, key: SecretKey, address: str) -> str:
        """A key as it is stored: a keystore under a random password, both sealed by the vault, which is what protects
        it. The keystore keeps the bare key out of memory when the vault's keys are rotated, and its MAC and address
        reveal a damaged key before it signs."""
        password = ids.new_entropy(_PASSWORD_BYTES)
        inner = keystore.encrypt_lightly(key, password, address)
        text = exact_json.dumps({"keystore": inner, "password": password.hex()})
        return self._vault.seal(tx, org_id, KIND, wallet_id, text)

    async def slowly(self, work: Callable[[], T]) -> T:
        """Derives a key from a person's password, one at a time in a thread; raises `TooMany`."""
        if self._waiting >= _MOST_WAITING:
            raise Excess.KEYSTORES.refusal(5)
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._slow, work)
        finally:
            self._waiting -= 1

    def remote(self, org_id: str, name: str) -> Remote:
        """A remote signer that the operator allows for the organisation; raises `Invalid` that names the allowed
        ones."""
        allowed = {remote.name: remote for owner, remote in self._remotes if owner in ("", org_id)}
        if name not in allowed:
            raise _not_allowed("remote signer", name, list(allowed), "remote_signers")
        return allowed[name]

    def variable(self, org_id: str, name: str) -> SecretKey:
        """The key in an environment variable that the operator allows for the organisation; raises `Invalid`."""
        allowed = [variable for owner, variable in self._variables if owner in ("", org_id)]
        if name not in allowed:
            raise _not_allowed("environment variable", name, allowed, "env_signers")
        return key_of_variable(name, self._environment)

    def forget(self, wallet_id: str) -> None:
        """Wipes a wallet's unlocked key."""
        self._keyring.forget(wallet_id)

    async def close(self) -> None:
        """Wipes all keys and closes connections."""
        self._keyring.close()
        self._slow.shutdown(wait=False, cancel_futures=True)
        for _, remote in self._remotes:
            await remote.close()


def _open(text: bytes) -> SecretKey:
    stored: dict[str, Any] = exact_json.loads_own(text)
    return Keystore(stored["keystore"]).decrypt(bytes.fromhex(stored["password"]))


def _apart(entry: str) -> tuple[str, str]:
    """Splits `org_…/NAME` into organisation and name; without an organisation it is for all: ''."""
    org_id, _, name = entry.rpartition("/")
    return org_id, name


def _read_remote(entry: str) -> tuple[str, str, str]:
    head, _, url = entry.partition("=")
    return *_apart(head), url


def _not_allowed(what: str, name: str, allowed: list[str], setting: str) -> Invalid:
    known = ", ".join(f'"{found}"' for found in allowed) or "none"
    message = f'the server\'s operator allows no {what} "{name}" (setting {setting}); allowed: {known}'
    return Invalid("The wallet's signer cannot be used.", details=[Problem("signer", message)])
