"""The vault: seals secrets under the data key of their organisation, and opens them again.

How a service uses it:

    await vault.prepare()                                   # before the unit; makes the master key file at first need
    sealed = vault.seal(tx, org_id, "wallet", wallet_id, secret)     # in the unit that writes the row
    secret = vault.open(tx, org_id, "wallet", wallet_id, sealed)     # in any transaction
    secret = await vault.read(database, org_id, "wallet", wallet_id, sealed)        # outside of one

A sealed text belongs to its organisation, kind and record: moved elsewhere it does not open. Sealing and opening are
computing alone, some tens of microseconds, and at most one look at the table of data keys; a column that holds sealed
texts must be listed in `sealed_columns.py`, or a rotation would leave it behind.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from dustrun import clock, ids, log
from dustrun.errors import Bug, Code, Permanent, Temporary
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Tx
from dustrun.storage.secrets import data_keys, sealing
from dustrun.storage.secrets.data_keys import DataKeyRow
from dustrun.storage.secrets.master_key import SETTING, MasterKey, MasterKeyFile, locked
from dustrun.storage.secrets.sealing import Unsealable

_logger = log.get(__name__)
_FORMAT = "v1"
_KEPT = 10_000


class Vault:
    """Holds the master key and the data keys that were used, in memory."""

    def __init__(self, master_key_file: Path) -> None:
        self.file = MasterKeyFile(master_key_file)
        self._masters: dict[str, MasterKey] = {}
        self._current: MasterKey | None = None
        self._keys: dict[str, bytes] = {}
        self._preparing = asyncio.Lock()

    def unlock(self, database: Database) -> None:
        """At the start of a process: reads the master key and tries it on every data key.

        Raises `Temporary` (503003) that names the file and how to mend it, when secrets exist that it does not open.
        """
        self.use(self.file.read())
        rows = database.read_now(data_keys.list_all)
        if not rows:
            return
        if self._current is None:
            raise locked(
                f'The store holds secrets, and the master key file "{self.file.path}" is missing. Put the file back '
                f"that held the key {_names(rows)}, or say with {SETTING} where it is. Without it the secrets are lost."
            )
        foreign = [row for row in rows if row.master_id not in self._masters]
        if foreign:
            raise locked(
                f'The master key file "{self.file.path}" is not the one of this store: it holds '
                f"{', '.join(self._masters)}, and the secrets need {_names(foreign)}. Put the right file there, or say "
                f"with {SETTING} where it is."
            )
        for row in rows:
            self.unwrap(row)

    def use(self, masters: list[MasterKey]) -> None:
        """Takes these master keys, the one in use first."""
        self._masters = {key.id: key for key in masters}
        self._current = masters[0] if masters else None

    async def prepare(self) -> None:
        """To be awaited before a unit that seals. The first time ever it makes the master key file, in a thread.

        Raises `Temporary` (503003) when the file cannot be made; the log says where it is and how to mend it, which is
        no business of a caller.
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

    def seal(self, tx: Tx, org_id: str, kind: str, record_id: str, plaintext: bytes) -> str:
        """The text to store in the record's own column. Makes the organisation's data key, in this same unit, when it
        has none. `prepare` must have been awaited."""
        row = data_keys.find_current(tx, org_id) or self._add_key(tx, org_id)
        sealed = sealing.seal(self.unwrap(row), plaintext, (_FORMAT, row.id, org_id, kind, record_id))
        return f"{_FORMAT}.{row.id}.{sealed}"

    def open(self, tx: Tx, org_id: str, kind: str, record_id: str, sealed: str) -> bytes:
        """The plaintext of what `seal` made for this very record; raises `Permanent` (500002)."""
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
        """`open` in a reader's transaction."""
        return await database.read(lambda tx: self.open(tx, org_id, kind, record_id, sealed))

    def add_key(self, tx: Tx, org_id: str) -> DataKeyRow:
        """A new data key of an organisation, which seals from now on; the one before it only opens."""
        data_keys.retire(tx, org_id, at_ms=clock.now_ms())
        return self._add_key(tx, org_id)

    def _add_key(self, tx: Tx, org_id: str) -> DataKeyRow:
        row = self.wrap(ids.new_id("dk"), org_id, sealing.new_key(), clock.now_ms())
        data_keys.insert(tx, row)
        return row

    def wrap(self, key_id: str, org_id: str, key: bytes, at_ms: int) -> DataKeyRow:
        """A data key under the master key in use."""
        master = self._current
        if master is None:
            raise Bug("A secret was to be sealed before Vault.prepare() was awaited.")
        wrapped = sealing.seal(master.key, key, (_FORMAT, "data key", master.id, org_id, key_id))
        return DataKeyRow(key_id, org_id, master.id, wrapped, at_ms)

    def unwrap(self, row: DataKeyRow) -> bytes:
        """A data key in the clear, kept in memory; raises `Temporary` (503003) when no master key here opens it."""
        # Kept by id and never as "the current one": a key whose unit was rolled back is then never used again.
        key = self._keys.get(row.id)
        if key is not None:
            return key
        master = self._masters.get(row.master_id)
        if master is None:
            raise locked(f'The master key file "{self.file.path}" does not hold the key {row.master_id}.')
        try:
            key = sealing.unseal(master.key, row.wrapped, (_FORMAT, "data key", master.id, row.org_id, row.id))
        except Unsealable:
            raise locked(
                f"The data key {row.id} of the store was changed and does not open under {master.id}; restore the "
                "store from a backup."
            ) from None
        if len(self._keys) >= _KEPT:
            self._keys.clear()
        self._keys[row.id] = key
        return key


def key_of(sealed: str) -> str:
    """The id of the data key that sealed a text."""
    form, _, rest = sealed.partition(".")
    key_id, dot, _ = rest.partition(".")
    if form != _FORMAT or not dot:
        raise Permanent("A stored secret is not of a form that this version knows.", code=Code.SECRET_UNREADABLE)
    return key_id


def _unreadable(kind: str, record_id: str) -> Permanent:
    message = (
        f'The stored secret of the {kind} "{record_id}" cannot be opened: it was changed, sealed elsewhere, or given '
        "up. Enter it anew, or restore a backup of which you have the master key."
    )
    return Permanent(message, code=Code.SECRET_UNREADABLE)


def _names(rows: list[DataKeyRow]) -> str:
    return ", ".join(sorted({row.master_id for row in rows}))
