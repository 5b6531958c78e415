"""New keys for old: each step is a transaction of its own and leaves every secret readable, wherever a crash falls.

Data keys: (1) every organisation gets a new one, the old ones only open; (2) secrets are sealed anew, some hundred at
a time; (3) keys that nothing needs any longer are deleted. Master key: (1) the file gets the new key before the old
ones; (2) every data key is wrapped anew, in one transaction; (3) the old keys leave the file, if that was asked for.
Begun again after a crash, either takes up whatever is left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from dustrun.settings import Settings
from dustrun.storage.backup import copy_detection
from dustrun.storage.db import migrate
from dustrun.storage.db.database import Database
from dustrun.storage.db.lock import ProcessLock
from dustrun.storage.db.statement import Statement, Tx
from dustrun.storage.secrets import data_keys
from dustrun.storage.secrets.master_key import new_master_key
from dustrun.storage.secrets.sealed_columns import SEALED, SealedColumn
from dustrun.storage.secrets.vault import Vault, key_of

_BATCH: Final = 200


@dataclass(frozen=True, slots=True)
class Rotation:
    """What a rotation did: data keys made, secrets sealed anew, and the new master key's id, None without one."""

    data_keys: int
    secrets: int
    master_id: str | None


def _nothing(_step: str) -> None:
    return None


def rotate(settings: Settings, *, master: bool, forget_old: bool) -> Rotation:
    """New data keys, and with `master` a new master key before them, for a store that no server uses.

    Raises `Conflict` while one does, `Permanent` when there is none, and `Temporary` (503003) when the master key
    cannot be used.
    """
    copy_detection.need_store(settings.store_url())
    database = Database(settings.store_url(), synchronous=settings.sqlite_synchronous)
    lock = ProcessLock(database, settings.data_dir)
    try:
        lock.take()
        migrate.upgrade(database)
        vault = Vault(settings.master_key_file)
        vault.unlock(database)
        master_id = rotate_master_key(database, vault, forget_old=forget_old) if master else None
        secrets = rotate_data_keys(database, vault)
        return Rotation(len(database.read_now(data_keys.list_all)), secrets, master_id)
    finally:
        lock.release()
        database.close()


def rotate_data_keys(database: Database, vault: Vault, on_step: Callable[[str], None] = _nothing) -> int:
    """Gives every organisation a new data key and seals its secrets under it; returns how many secrets there were.

    The caller holds the store alone. `on_step` is told of each step that is on disk.
    """
    with _transaction(database) as tx:
        for org_id in sorted({row.org_id for row in data_keys.list_all(tx)}):
            vault.add_key(tx, org_id)
    on_step("added")
    secrets = 0
    for column in SEALED:
        after = ""
        while True:
            with _transaction(database) as tx:
                found, after = _reseal_some(tx, vault, column, after)
            if not after:
                break
            secrets += found
            on_step("resealed")
    with _transaction(database) as tx:
        _delete_unused(tx)
    on_step("deleted")
    return secrets


def rotate_master_key(
    database: Database, vault: Vault, *, forget_old: bool, on_step: Callable[[str], None] = _nothing
) -> str:
    """Wraps every data key with a new master key; returns its id. `forget_old` takes the old keys out of the file, and
    with them the means to read backups that were made before."""
    fresh = new_master_key()
    vault.file.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    vault.file.replace([fresh, *vault.file.read()])
    vault.use(vault.file.read())
    on_step("written")
    with _transaction(database) as tx:
        for row in data_keys.list_all(tx):
            again = vault.wrap(row.id, row.org_id, vault.unwrap(row), row.created_at)
            data_keys.rewrap(tx, row.id, master_id=again.master_id, wrapped=again.wrapped)
    on_step("rewrapped")
    if forget_old:
        vault.file.replace([fresh])
        vault.use([fresh])
        on_step("forgotten")
    return fresh.id


@contextmanager
def _transaction(database: Database) -> Iterator[Tx]:
    tx = database.begin()
    try:
        yield tx
    except BaseException:
        database.rollback()
        raise
    database.commit()


def _reseal_some(tx: Tx, vault: Vault, column: SealedColumn, after: str) -> tuple[int, str]:
    """The next secrets of a column; how many were sealed anew, and the last id, empty when there are no more."""
    table, sealed = column.table, column.column
    ids = table.c.id
    query = sa.select(table.c.org_id, ids, sealed).where(ids > after, sealed.is_not(None)).order_by(ids).limit(_BATCH)
    rows = tx.all(Statement(query))
    change = Statement(
        sa.update(table).where(ids == sa.bindparam("of_id")).values({column.name: sa.bindparam("fresh")})
    )
    count = 0
    for org_id, record_id, old in rows:
        current = data_keys.find_current(tx, org_id)
        key_id = key_of(old)
        if current is not None and key_id == current.id:
            continue
        if data_keys.find(tx, org_id, key_id) is None:  # given up by `vault reset`: nothing opens it
            continue
        plain = vault.open(tx, org_id, column.kind, record_id, old)
        tx.run(change, of_id=record_id, fresh=vault.seal(tx, org_id, column.kind, record_id, plain))
        count += 1
    return count, str(rows[-1][1]) if rows else ""


def _delete_unused(tx: Tx) -> None:
    used: set[Any] = set()
    for column in SEALED:
        query = sa.select(column.column).where(column.column.is_not(None))
        used |= {key_of(str(found[0])) for found in tx.all(Statement(query))}
    for row in data_keys.list_all(tx):
        if row.retired_at is not None and row.id not in used:
            data_keys.delete(tx, row.id)
