"""Abandons the secrets that no available master key decrypts, so that the server can start again.

Secrets that can still be decrypted are not touched. The whole store is backed up first: if the master key is found
later, restoring that backup with it brings everything back.
"""

from __future__ import annotations

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
from dustrun.storage.secrets.vault import Vault, key_of

WHO: Final = "dustrun vault reset"
"""Used in the audit log in place of an API key id."""
_NO_DEFAULT = Statement(sa.update(wallet_table).where(wallet_table.c.id == sa.bindparam("of_id")).values(is_default=0))


@dataclass(frozen=True, slots=True)
class Lost:
    """What cannot be decrypted: connectors and wallets as organisation, id and name; wallets also with address."""

    master_keys: tuple[str, ...]
    data_keys: tuple[str, ...]
    connectors: tuple[tuple[str, str, str], ...]
    wallets: tuple[tuple[str, str, str, str], ...]
    signatures: int


def reset(settings: Settings, *, give_up: bool, backup_to: Path) -> Lost:
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


def _find(tx: Tx, vault: Vault) -> Lost:
    keys = [row for row in data_keys.list_all(tx) if not _opens(vault, row)]
    ids = {row.id for row in keys}
    return Lost(
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


def _give_up(database: Database, lost: Lost) -> None:
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
