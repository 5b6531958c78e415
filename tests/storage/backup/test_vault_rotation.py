"""Rotations of keys: every secret stays readable, also when the process is killed between any two steps."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa

from dustrun.errors import Conflict, Permanent, Temporary
from dustrun.settings import Settings
from dustrun.storage.backup.vault_rotation import rotate, rotate_data_keys, rotate_master_key
from dustrun.storage.data import connectors
from dustrun.storage.data.connectors import ConnectorRow
from dustrun.storage.db import migrate, tables
from dustrun.storage.db.database import Database
from dustrun.storage.db.lock import ProcessLock
from dustrun.storage.db.statement import Statement, Tx
from dustrun.storage.secrets import data_keys
from dustrun.storage.secrets.vault import Vault, key_of

COUNT = 210
ORGANIZATIONS = ("org_a", "org_b")
_ORGANIZATION = Statement(
    sa.insert(tables.organizations).values({name: sa.bindparam(name) for name in ("id", "name", "created_at")})
)


class Kept:
    """A store with secrets of two organisations, some of which have a token too."""

    def __init__(self, url: str, folder: Path) -> None:
        self.settings = Settings(
            data_dir=folder,
            database_url=url,
            master_key_file=folder / "secret" / "master.key",
            sqlite_synchronous="NORMAL",
        )
        database = Database(url, synchronous="NORMAL")
        migrate.upgrade(database)
        vault = Vault(self.settings.master_key_file)
        vault.use([vault.file.create()])
        tx = database.begin()
        for org_id in ORGANIZATIONS:
            tx.run(_ORGANIZATION, id=org_id, name=org_id, created_at=1)
        for number in range(COUNT):
            self._add(tx, vault, number)
        database.commit()
        database.close_writer()
        database.close()

    def _add(self, tx: Tx, vault: Vault, number: int) -> None:
        org_id, connector_id = ORGANIZATIONS[number % 2], f"conn_{number:04d}"
        token = vault.seal(tx, org_id, "connector-token", connector_id, b"token") if number % 3 == 0 else None
        connectors.insert(
            tx,
            ConnectorRow(
                id=connector_id,
                org_id=org_id,
                type="http-bearer",
                name="x",
                description=None,
                version=1,
                moves_money=0,
                allowed_hosts="[]",
                masked="{}",
                sealed=vault.seal(tx, org_id, "connector", connector_id, f"secret {number}".encode()),
                sealed_token=token,
                created_at=1,
                updated_at=1,
            ),
        )

    def read(self, master_key_file: Path | None = None) -> set[str]:
        """Opens everything as the next start of a server would; the ids of the data keys in use."""
        database = Database(self.settings.store_url())
        try:
            vault = Vault(master_key_file or self.settings.master_key_file)
            vault.unlock(database)
            return database.read_now(lambda tx: self._read(tx, vault))
        finally:
            database.close()

    def _read(self, tx: Tx, vault: Vault) -> set[str]:
        used = set()
        for number in range(COUNT):
            org_id, connector_id = ORGANIZATIONS[number % 2], f"conn_{number:04d}"
            row = connectors.find(tx, org_id, connector_id)
            assert row is not None
            assert vault.open(tx, org_id, "connector", connector_id, row.sealed) == f"secret {number}".encode()
            used.add(key_of(row.sealed))
            assert (row.sealed_token is not None) == (number % 3 == 0)
            if row.sealed_token is not None:
                assert vault.open(tx, org_id, "connector-token", connector_id, row.sealed_token) == b"token"
                used.add(key_of(row.sealed_token))
        return used

    def known(self) -> list[str]:
        """The ids of all data keys."""
        database = Database(self.settings.store_url())
        try:
            return [row.id for row in database.read_now(data_keys.list_all)]
        finally:
            database.close()


@pytest.fixture
def kept(store_url: str, tmp_path: Path) -> Kept:
    return Kept(store_url, tmp_path)


def test_data_keys_are_new_and_the_old_ones_gone(kept: Kept) -> None:
    before = kept.read()
    done = rotate(kept.settings, master=False, forget_old=False)
    after = kept.read()
    assert (done.data_keys, done.secrets, done.master_id) == (2, COUNT + COUNT // 3, None)
    assert after.isdisjoint(before)
    assert set(kept.known()) == after


def test_master_key_is_new_and_the_old_one_opens_backups(kept: Kept, tmp_path: Path) -> None:
    old = tmp_path / "old.key"
    old.write_bytes(kept.settings.master_key_file.read_bytes())
    old.chmod(0o600)
    done = rotate(kept.settings, master=True, forget_old=False)
    keys = Vault(kept.settings.master_key_file).file.read()
    assert [keys[0].id, keys[1]] == [done.master_id, Vault(old).file.read()[0]]
    kept.read()
    with pytest.raises(Temporary, match="does not belong to this store"):
        kept.read(old)


def test_old_master_key_is_forgotten_when_asked(kept: Kept) -> None:
    done = rotate(kept.settings, master=True, forget_old=True)
    assert [key.id for key in Vault(kept.settings.master_key_file).file.read()] == [done.master_id]
    kept.read()


def test_running_server_is_not_disturbed(kept: Kept) -> None:
    database = Database(kept.settings.store_url())
    lock = ProcessLock(database, kept.settings.data_dir)
    lock.take()
    try:
        with pytest.raises(Conflict):
            rotate(kept.settings, master=True, forget_old=True)
    finally:
        lock.release()
        database.close()
    kept.read()


class Killed(Exception):
    """Stands for the end of the process between two steps."""


def cut_short(kept: Kept, steps: int) -> bool:
    """Rotates everything, and ends after so many steps; whether it was cut short."""
    left = [steps]

    def count(_step: str) -> None:
        left[0] -= 1
        if not left[0]:
            raise Killed

    database = Database(kept.settings.store_url())
    try:
        vault = Vault(kept.settings.master_key_file)
        vault.unlock(database)
        rotate_master_key(database, vault, forget_old=True, on_step=count)
        rotate_data_keys(database, vault, on_step=count)
    except Killed:
        return True
    finally:
        database.close_writer()
        database.close()
    return False


def test_cut_short_after_any_step_everything_is_readable(kept: Kept) -> None:
    before = kept.read()
    steps = 1
    while cut_short(kept, steps):
        kept.read()
        steps += 1
    assert steps >= 8
    after = kept.read()
    assert after.isdisjoint(before)
    assert set(kept.known()) == after
    assert len(Vault(kept.settings.master_key_file).file.read()) == 1


KILL = """
import os, signal, sys
from pathlib import Path
from dustrun.storage.db.database import Database
from dustrun.storage.secrets.vault import Vault
from dustrun.storage.backup.vault_rotation import rotate_data_keys, rotate_master_key

url, key, steps = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])

def count(step):
    global steps
    steps -= 1
    if not steps:
        os.kill(os.getpid(), signal.SIGKILL)

database = Database(url)
vault = Vault(key)
vault.unlock(database)
rotate_master_key(database, vault, forget_old=True, on_step=count)
rotate_data_keys(database, vault, on_step=count)
"""


@pytest.mark.parametrize("steps", [2, pytest.param(5, marks=pytest.mark.long)])
def test_killed_process_leaves_everything_readable(kept: Kept, steps: int) -> None:
    arguments = [kept.settings.store_url(), str(kept.settings.master_key_file), str(steps)]
    done = subprocess.run([sys.executable, "-c", KILL, *arguments], env=dict(os.environ), check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL
    kept.read()
    rotate(kept.settings, master=True, forget_old=True)
    kept.read()


def test_changed_secret_stops_the_rotation_and_nothing_is_lost(kept: Kept) -> None:
    database = Database(kept.settings.store_url())
    tx = database.begin()
    row = connectors.find(tx, "org_a", "conn_0000")
    assert row is not None
    moved = Statement(
        sa.update(tables.connectors).where(tables.connectors.c.id == "conn_0002").values(sealed=row.sealed)
    )
    tx.run(moved)
    database.commit()
    database.close_writer()
    database.close()
    with pytest.raises(Permanent, match="conn_0002"):
        rotate(kept.settings, master=False, forget_old=False)
    assert len(kept.known()) == 4
