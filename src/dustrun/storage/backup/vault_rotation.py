"""Key rotation: every step is one transaction and leaves all secrets readable, so a crash at any point loses nothing.

Data keys: (1) each organisation gets a new one and the old ones only decrypt; (2) secrets are re-encrypted, a few
hundred at a time; (3) unused keys are deleted. Master key: (1) the new key is written to the file in front of the old
ones; (2) every data key is re-wrapped in one transaction; (3) the old keys are removed from the file if requested.
Started again after a crash, a rotation completes the remaining steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa

from dustrun import clock
from dustrun.core.values.exact_json import dumps_text
from dustrun.errors import DustrunError
from dustrun.records import dataclass
from dustrun.settings import Settings
from dustrun.storage.access import audit
from dustrun.storage.backup import copy_detection
from dustrun.storage.backup.backup import back_up
from dustrun.storage.db import migrate
from dustrun.storage.db.database import Database
from dustrun.storage.db.ledger_tables import signatures as signature_table
from dustrun.storage.db.ledger_tables import wallets as wallet_table
from dustrun.storage.db.lock import ProcessLock
from dustrun.storage.db.statement import Statement, Tx
from dustrun.storage.db.tables import connectors as connector_table
from dustrun.storage.money import wallets
from dustrun.storage.secrets import data_keys
from dustrun.storage.secrets.data_keys import DataKeyRow
from dustrun.storage.secrets.master_key import new_master_key
from dustrun.storage.secrets.sealing import SEALED, SealedColumn
from dustrun.storage.secrets.vault import Vault, key_of

_BATCH: Final = 200


@dataclass(frozen=True, slots=True)
class Rotation:
    """The result of a rotation: data keys created, secrets re-encrypted, and the new master key's id if there is
    one.
    """

    data_keys: int
    secrets: int
    master_id: str | None


def _nothing(_step: str) -> None:
    return None


def rotate(settings: Settings, *, master: bool, forget_old: bool) -> Rotation:
    """Rotates the data keys and, with `master`, first the master key; no server may use the store.

    Raises `Conflict` while a server does, `Permanent` if there is no store, and `Temporary` (503003) if the master key
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
    """Gives every organisation a new data key and re-encrypts its secrets; returns the number of secrets.

    The caller holds the store's lock. `on_step` is called after each committed step.
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
    """Re-wraps every data key with a new master key; returns its id.

    `forget_old` removes the old keys from the file; older backups can then no longer be read."""
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
    """Re-encrypts a column's next secrets; returns how many, and the last id, which is empty at the end."""
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
        if data_keys.find(tx, org_id, key_id) is None:  # abandoned by `vault reset`: no key decrypts it
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


# Abandons the secrets that no available master key decrypts, so that the server can start again.
#
# Secrets that can still be decrypted are not touched. The whole store is backed up first: if the master key is found
# later, restoring that backup with it brings everything back.


WHO: Final = "dustrun vault reset"
"""Used in the audit log in place of an API key id."""
_NO_DEFAULT = Statement(sa.update(wallet_table).where(wallet_table.c.id == sa.bindparam("of_id")).values(is_default=0))


@dataclass(frozen=True, slots=True)
class LostSecrets:
    """What cannot be decrypted: connectors and wallets as organisation, id and name; wallets also with address."""

    master_keys: tuple[str, ...]
    data_keys: tuple[str, ...]
    connectors: tuple[tuple[str, str, str], ...]
    wallets: tuple[tuple[str, str, str, str], ...]
    signatures: int


def reset(settings: Settings, *, give_up: bool, backup_to: Path) -> LostSecrets:
    """Returns what is lost; with `give_up`, also deletes its data keys and archives its wallets in one transaction.

    Raises `Conflict` while a server uses the store, and `Permanent` if there is no store.
    """
    copy_detection.need_store(settings.store_url())
    database = Database(settings.store_url(), synchronous=settings.sqlite_synchronous)
    lock = ProcessLock(database, settings.data_dir)
    try:
        lock.take()
        migrate.upgrade(database)
        vault = Vault(settings.master_key_file)
        vault.use(vault.file.read())
        lost = database.read_now(lambda tx: _find(tx, vault))
        if give_up and lost.data_keys:
            back_up(settings.store_url(), backup_to)
            _give_up(database, lost)
        return lost
    finally:
        lock.release()
        database.close()


def _find(tx: Tx, vault: Vault) -> LostSecrets:
    keys = [row for row in data_keys.list_all(tx) if not _opens(vault, row)]
    ids = {row.id for row in keys}
    return LostSecrets(
        tuple(sorted({row.master_id for row in keys})),
        tuple(sorted(ids)),
        tuple(_sealed_by(tx, ids, connector_table, "name")),
        tuple(_sealed_by(tx, ids, wallet_table, "name", "address")),
        len(_sealed_by(tx, ids, signature_table)),
    )


def _opens(vault: Vault, row: DataKeyRow) -> bool:
    try:
        vault.unwrap(row)
    except DustrunError:
        return False
    return True


def _sealed_by(tx: Tx, ids: set[str], table: sa.Table, *columns: str) -> list[Any]:
    """Organisation, id and the given columns of every row whose secret one of the keys encrypted."""
    query = sa.select(table.c.sealed, table.c.org_id, table.c.id, *(table.c[name] for name in columns))
    query = query.where(table.c.sealed.is_not(None)).order_by(table.c.id)
    return [tuple(row[1:]) for row in tx.all(Statement(query)) if key_of(str(row[0])) in ids]


def _give_up(database: Database, lost: LostSecrets) -> None:
    tx = database.begin()
    try:
        now = clock.now_ms()
        for org_id, wallet_id, name, address in lost.wallets:
            wallets.archive(tx, wallet_id, at_ms=now)
            tx.run(_NO_DEFAULT, of_id=wallet_id)
            _note(tx, org_id, now, "wallet.archive", wallet_id, name=name, address=address)
        for org_id, connector_id, name in lost.connectors:
            _note(tx, org_id, now, "connector.lose", connector_id, name=name)
        for key_id in lost.data_keys:
            data_keys.delete(tx, key_id)
    except BaseException:
        database.rollback()
        raise
    database.commit()


def _note(tx: Tx, org_id: str, at_ms: int, action: str, subject: str, **detail: str) -> None:
    detail["reason"] = "the master key is lost"
    audit.insert(tx, org_id=org_id, key_id=WHO, at_ms=at_ms, action=action, subject=subject, detail=dumps_text(detail))
