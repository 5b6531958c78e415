"""The way back in for whoever has the machine: a new key that administers an organisation, made without a server."""

from __future__ import annotations

from pathlib import Path

from dustrun import ids
from dustrun.errors import Conflict, Invalid, Permanent
from dustrun.records import dataclass
from dustrun.services.access import audit
from dustrun.services.access.api_keys import is_good, make_key, principal_of, read_secret, write_secret
from dustrun.settings import Settings
from dustrun.storage.access import keys as key_rows
from dustrun.storage.access import organizations
from dustrun.storage.access.keys import KeyRow
from dustrun.storage.access.organizations import OrganizationRow
from dustrun.storage.backup import copy_detection
from dustrun.storage.db import migrate
from dustrun.storage.db.database import Database
from dustrun.storage.db.lock import ProcessLock
from dustrun.storage.db.statement import Tx


@dataclass(frozen=True, slots=True)
class RescuedOrganization:
    """An organisation, and its new key, whose secret is in a file."""

    organization: OrganizationRow
    key_id: str


def rescue(settings: Settings, *, organization_id: str | None, file: Path) -> RescuedOrganization:
    """Makes a key with `admin`, no limits and no expiry, of nobody, and writes it into a file that only its owner can
    read; of the first organisation it has `operator` too. Nothing is taken from others. No server may use the store.

    The file is written before the row: after a crash in between, the same key is stored the next time. Raises
    `Conflict` while a server runs or if the file has a key that is stored, `Invalid` without an organisation."""
    copy_detection.need_store(settings.store_url())
    database = Database(settings.store_url(), synchronous=settings.sqlite_synchronous)
    lock = ProcessLock(database, settings.data_dir)
    try:
        lock.take()
        migrate.upgrade(database)
        organization, is_first = _choose(database.read_now(organizations.list_all), organization_id)
        permissions = ["admin", "operator"] if is_first else ["admin"]
        secret = _secret_of(database, file)
        row = make_key(organization.id, "rescue", permissions, secret=secret).row
        _store(database, row)
        return RescuedOrganization(organization, row.id)
    finally:
        lock.release()
        database.close()


def _choose(every: list[OrganizationRow], wanted: str | None) -> tuple[OrganizationRow, bool]:
    if not every:
        raise Permanent("There is no organisation yet: the first start of a server makes one, with its owner's key.")
    first = min(every, key=lambda one: (one.created_at, one.id))
    chosen = first if wanted is None and len(every) == 1 else next((one for one in every if one.id == wanted), None)
    if chosen is None:
        there = ", ".join(f'{one.id} ("{one.name}")' for one in every)
        raise Invalid(f"Say which organisation (--organization); there are {there}.")
    return chosen, chosen.id == first.id


def _secret_of(database: Database, file: Path) -> str:
    if not file.exists():
        return write_secret(file, ids.new_secret("sk"))
    secret = read_secret(file)
    if secret is None:
        raise Conflict(f'There is a file "{file}" that is no key. Name another one.')
    found = database.read_now(lambda tx: key_rows.find_by_hash(tx, ids.secret_hash(secret)))
    if found is not None:
        state = "is good: use it" if is_good(found) else "has ended: remove the file, or name another one"
        raise Conflict(f'The file "{file}" has the key {found.id}, which {state}.')
    return secret


def _store(database: Database, row: KeyRow) -> None:
    tx: Tx = database.begin()
    try:
        key_rows.insert(tx, row)
        audit.record(tx, principal_of(row), "key.rescue", row.id)
    except BaseException:
        database.rollback()
        raise
    database.commit()
