"""The vault: seals secrets under the data key of their organisation, and opens them again.

How a service uses it:

    await vault.prepare()                                   # before the unit; makes the master key file at first need
    sealed = vault.seal(tx, org_id, "wallet", wallet_id, secret)     # in the unit that writes the row
    secret = vault.open(tx, org_id, "wallet", wallet_id, sealed)     # in any transaction
    secret = await vault.read(database, org_id, "wallet", wallet_id, sealed)        # outside of one

A sealed text belongs to its organisation, kind and record: moved elsewhere it does not open. Sealing and opening are
computing alone, some tens of microseconds, and at most one look at the table of data keys; a column that holds sealed
texts must be listed in `sealing.SEALED`, or a rotation would leave it behind.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from dustrun import clock, ids, log
from dustrun.errors import Bug, Code, Permanent, Temporary
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Tx
from dustrun.storage.db.writer import Writer
from dustrun.storage.secrets import data_keys, sealing
from dustrun.storage.secrets.data_keys import DataKeyRow
from dustrun.storage.secrets.master_key import SETTING, MasterKey, MasterKeyFile, locked
from dustrun.storage.secrets.sealing import Unsealable

_logger = log.get(__name__)
_FORMAT = "v1"
_KEPT = 10_000


class Vault:
    """Seals and opens secrets; keeps the master key and used data keys in memory."""

    def __init__(self, master_key_file: Path) -> None:
        self.file = MasterKeyFile(master_key_file)
        self._masters: dict[str, MasterKey] = {}
        self._current: MasterKey | None = None
        self._keys: dict[str, bytes] = {}
        self._preparing = asyncio.Lock()

    def unlock(self, database: Database) -> None:
        """Reads the master key at process start and tries it on every data key.

        Raises `Temporary` (503003), naming the file and the fix, if there are secrets that it does not decrypt.
        """
        self.use(self.file.read())
        rows = database.read_now(data_keys.list_all)
        if not rows:
            return
        if self._current is None:
            raise locked(
                f'The store holds secrets, and the master key file "{self.file.path}" is missing. Put back the file '
                f"with the key {_names(rows)}, or set {SETTING} to its path. Without it the secrets are lost."
            )
        foreign = [row for row in rows if row.master_id not in self._masters]
        if foreign:
            raise locked(
                f'The master key file "{self.file.path}" does not belong to this store: it has '
                f"{', '.join(self._masters)}, but the secrets need {_names(foreign)}. Put the right file there, or "
                f"set {SETTING} to its path."
            )
        for row in rows:
            self.unwrap(row)

    def key_of(self, database: Database) -> MasterKey:
        """The current master key of a store; creates the file if the store has no secrets yet and there is none."""
        self.unlock(database)
        return self._current or self.file.create()

    def use(self, masters: list[MasterKey]) -> None:
        """Uses these master keys, the current one first."""
        self._masters = {key.id: key for key in masters}
        self._current = masters[0] if masters else None

    async def prepare(self) -> None:
        """Await it before a unit that seals. Creates the master key file, in a thread, if there is none yet.

        Raises `Temporary` (503003) if that fails. The path and the fix go only to the log, because callers must not
        see them.
        """
        if self._current is not None:
            return
        async with self._preparing:
            if self._current is None:
                try:
                    self.use([await asyncio.to_thread(self.file.create)])
                except Temporary as error:
                    _logger.error("the master key cannot be used", error=error.message)
                    raise locked("No secret can be stored: the master key cannot be used. The log says why.") from error

    async def bind(self, database: Database, writer: Writer, org_id: str) -> None:
        """Binds a store of several servers to this server's master key, which it creates if there is none: from the
        first start on there is a file to copy, and a server with another one does not start.

        `org_id`: whose data key is made for that. Raises `Temporary` (503003), naming the file and the fix.
        """
        if await database.read(data_keys.list_all):
            return
        if self._current is None:
            self.use([await asyncio.to_thread(self.file.create)])
        await writer.write(lambda tx: self._bind(tx, org_id), repeatable=True)
        _logger.info("the store belongs to the master key", file=str(self.file.path))

    def _bind(self, tx: Tx, org_id: str) -> None:
        if not data_keys.list_all(tx):
            self._add_key(tx, org_id)
        for row in data_keys.list_all(tx):
            self.unwrap(row)  # another server may have been the first, with another master key

    def seal(self, tx: Tx, org_id: str, kind: str, record_id: str, plaintext: bytes) -> str:
        """Encrypts a secret for a record's column. Creates the organisation's data key in the same unit if needed.

        `prepare` must have been awaited."""
        row = data_keys.find_current(tx, org_id) or self._add_key(tx, org_id)
        sealed = sealing.seal(self.unwrap(row), plaintext, (_FORMAT, row.id, org_id, kind, record_id))
        return f"{_FORMAT}.{row.id}.{sealed}"

    def open(self, tx: Tx, org_id: str, kind: str, record_id: str, sealed: str) -> bytes:
        """Decrypts what `seal` returned for the same record; raises `Permanent` (500002)."""
        key_id = key_of(sealed)
        key = self._keys.get(key_id)
        if key is None:
            row = data_keys.find(tx, org_id, key_id)
            if row is None:
                raise _unreadable(kind, record_id)
            key = self.unwrap(row)
        try:
            return sealing.unseal(key, sealed.split(".", 2)[2], (_FORMAT, key_id, org_id, kind, record_id))
        except Unsealable:
            raise _unreadable(kind, record_id) from None

    async def read(self, database: Database, org_id: str, kind: str, record_id: str, sealed: str) -> bytes:
        """Like `open`, in its own read transaction."""
        return await database.read(lambda tx: self.open(tx, org_id, kind, record_id, sealed))

    def add_key(self, tx: Tx, org_id: str) -> DataKeyRow:
        """Creates a new current data key for an organisation; the previous one only decrypts."""
        data_keys.retire(tx, org_id, at_ms=clock.now_ms())
        return self._add_key(tx, org_id)

    def _add_key(self, tx: Tx, org_id: str) -> DataKeyRow:
        for other in data_keys.list_all(tx):
            self.unwrap(other)  # servers that share a store must have the same master key
        row = self.wrap(ids.new_id("dk"), org_id, sealing.new_key(), clock.now_ms())
        data_keys.insert(tx, row)
        return row

    def wrap(self, key_id: str, org_id: str, key: bytes, at_ms: int) -> DataKeyRow:
        """Wraps a data key with the current master key."""
        master = self._current
        if master is None:
            raise Bug("A secret was to be sealed before Vault.prepare() was awaited.")
        wrapped = sealing.seal(master.key, key, (_FORMAT, "data key", master.id, org_id, key_id))
        return DataKeyRow(key_id, org_id, master.id, wrapped, at_ms)

    def unwrap(self, row: DataKeyRow) -> bytes:
        """Decrypts and caches a data key; raises `Temporary` (503003) if no master key unwraps it."""
        # Cached by id, never as "the current one", so that a key whose unit was rolled back is never used.
        key = self._keys.get(row.id)
        if key is not None:
            return key
        master = self._masters.get(row.master_id)
        if master is None:  # another server on this machine may have made the file meanwhile
            self.use(self.file.read())
            master = self._masters.get(row.master_id)
        if master is None:
            raise locked(
                f'The master key file "{self.file.path}" does not hold the key {row.master_id}, which the store needs. '
                f"Put the right file there, or set {SETTING} to its path."
            )
        try:
            key = sealing.unseal(master.key, row.wrapped, (_FORMAT, "data key", master.id, row.org_id, row.id))
        except Unsealable:
            raise locked(
                f"The data key {row.id} of the store was modified and cannot be unwrapped with {master.id}; restore "
                "the store from a backup."
            ) from None
        if len(self._keys) >= _KEPT:
            self._keys.clear()
        self._keys[row.id] = key
        return key


def key_of(sealed: str) -> str:
    """The id of the data key that encrypted a text."""
    form, _, rest = sealed.partition(".")
    key_id, dot, _ = rest.partition(".")
    if form != _FORMAT or not dot:
        raise Permanent("A stored secret has a format that this version does not know.", code=Code.SECRET_UNREADABLE)
    return key_id


def _unreadable(kind: str, record_id: str) -> Permanent:
    message = (
        f'The stored secret of the {kind} "{record_id}" cannot be decrypted: it was modified, encrypted for another '
        "record, or abandoned by a vault reset. Enter it again, or restore a backup whose master key you have."
    )
    return Permanent(message, code=Code.SECRET_UNREADABLE)


def _names(rows: list[DataKeyRow]) -> str:
    return ", ".join(sorted({row.master_id for row in rows}))
