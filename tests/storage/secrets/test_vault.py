"""The vault over a real store: what was sealed opens in its place and nowhere else, under the right key file only."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from dustrun.errors import Bug, Code, Permanent, Temporary
from dustrun.storage.db import migrate, tables
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Statement, Tx
from dustrun.storage.db.writer import Writer
from dustrun.storage.secrets import data_keys, sealing
from dustrun.storage.secrets.master_key import MasterKeyFile, new_master_key
from dustrun.storage.secrets.sealing import SEALED
from dustrun.storage.secrets.vault import Vault

_ORGANIZATION = Statement(
    sa.insert(tables.organizations).values({name: sa.bindparam(name) for name in ("id", "name", "created_at")})
)


class Store:
    """A migrated store with two organisations and a vault."""

    def __init__(self, url: str, folder: Path) -> None:
        self.database = Database(url, synchronous="NORMAL")
        migrate.upgrade(self.database)
        self.path = folder / "secret" / "master.key"
        self.writer = Writer(self.database)
        self.vault = Vault(self.path)

    def again(self) -> Vault:
        """The vault of the next life of the server."""
        vault = Vault(self.path)
        vault.unlock(self.database)
        return vault

    async def seal(self, record_id: str, secret: bytes, org_id: str = "org_a", kind: str = "connector") -> str:
        await self.vault.prepare()
        return await self.writer.write(lambda tx: self.vault.seal(tx, org_id, kind, record_id, secret))


@pytest.fixture
async def store(store_url: str, tmp_path: Path) -> AsyncIterator[Store]:
    store = Store(store_url, tmp_path)
    store.writer.start()

    def add(tx: Tx) -> None:
        for name in ("org_a", "org_b"):
            tx.run(_ORGANIZATION, id=name, name=name, created_at=1)

    await store.writer.write(add)
    yield store
    await store.writer.stop()
    store.database.close()


async def test_secret_opens_in_this_life_and_the_next(store: Store) -> None:
    sealed = await store.seal("conn_1", b"hush")
    assert b"hush" not in sealed.encode()
    for vault in (store.vault, store.again()):
        assert await vault.read(store.database, "org_a", "connector", "conn_1", sealed) == b"hush"


async def test_equal_secrets_are_sealed_differently(store: Store) -> None:
    assert await store.seal("conn_1", b"hush") != await store.seal("conn_1", b"hush")


@pytest.mark.parametrize(
    "place", [("org_b", "connector", "conn_1"), ("org_a", "wallet", "conn_1"), ("org_a", "connector", "conn_2")]
)
async def test_moved_elsewhere_does_not_open(store: Store, place: tuple[str, str, str]) -> None:
    sealed = await store.seal("conn_1", b"hush")
    for vault in (store.vault, store.again()):
        with pytest.raises(Permanent) as refused:
            await vault.read(store.database, *place, sealed)
        assert refused.value.code is Code.SECRET_UNREADABLE


async def test_each_organisation_has_a_key_of_its_own(store: Store) -> None:
    await store.seal("conn_1", b"hush")
    await store.seal("conn_1", b"hush", "org_b")
    rows = await store.database.read(data_keys.list_all)
    assert {row.org_id for row in rows} == {"org_a", "org_b"}
    assert len({store.vault.unwrap(row) for row in rows}) == 2


async def test_data_key_of_a_unit_that_failed_is_never_used(store: Store) -> None:
    await store.vault.prepare()

    def unit(tx: Tx) -> None:
        store.vault.seal(tx, "org_a", "connector", "conn_1", b"hush")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        await store.writer.write(unit)
    assert await store.database.read(data_keys.list_all) == []
    sealed = await store.seal("conn_1", b"hush")
    assert await store.again().read(store.database, "org_a", "connector", "conn_1", sealed) == b"hush"


async def test_sealing_before_prepare_is_a_defect(store: Store) -> None:
    with pytest.raises(Bug):
        await store.writer.write(lambda tx: store.vault.seal(tx, "org_a", "connector", "conn_1", b"hush"))


async def test_key_file_is_made_at_first_need_for_its_owner_alone(store: Store) -> None:
    store.again()
    assert not store.path.exists()
    await store.seal("conn_1", b"hush")
    assert store.path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in store.path.parent.iterdir()] == ["master.key"]


def _missing(path: Path) -> None:
    path.unlink()


def _foreign(path: Path) -> None:
    MasterKeyFile(path).replace([new_master_key()])


def _open_to_others(path: Path) -> None:
    path.chmod(0o640)


def _damaged(path: Path) -> None:
    text = path.read_text()
    path.write_text(text[:-6] + ("AAAA" if text[-6:-2] != "AAAA" else "BBBB") + text[-2:])


def _empty(path: Path) -> None:
    path.write_text("# nothing\n")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_missing, ["is missing", "Put back the file", "DUSTRUN_MASTER_KEY_FILE"]),
        (_foreign, ["does not belong to this store", "mk_"]),
        (_open_to_others, ["0640", "chmod 600"]),
        (_damaged, ["is damaged"]),
        (_empty, ["contains no key"]),
    ],
)
async def test_start_is_refused_with_the_file_and_the_remedy(
    store: Store, spoil: Callable[[Path], None], words: list[str]
) -> None:
    await store.seal("conn_1", b"hush")
    spoil(store.path)
    with pytest.raises(Temporary) as refused:
        store.again()
    assert refused.value.code is Code.VAULT_LOCKED
    assert all(word in refused.value.message for word in [str(store.path), *words])


async def test_changed_data_key_is_refused_at_the_start(store: Store) -> None:
    await store.seal("conn_1", b"hush")
    row = (await store.database.read(data_keys.list_all))[0]
    other = sealing.seal(sealing.new_key(), sealing.new_key(), ())
    await store.writer.write(lambda tx: data_keys.rewrap(tx, row.id, master_id=row.master_id, wrapped=other))
    with pytest.raises(Temporary, match="restore the store"):
        store.again()


async def test_key_file_in_a_folder_that_cannot_be_made(store: Store, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Temporary, match="cannot be created"):
        MasterKeyFile(tmp_path / "file" / "master.key").create()
    with pytest.raises(Temporary) as refused:
        await Vault(tmp_path / "file" / "master.key").prepare()
    assert refused.value.code is Code.VAULT_LOCKED
    assert str(tmp_path) not in refused.value.message


async def test_existing_key_file_is_never_written_over(tmp_path: Path) -> None:
    file = MasterKeyFile(tmp_path / "master.key")
    first = file.create()
    assert file.create() == first
    assert file.read() == [first]


def test_key_is_not_shown() -> None:
    key = new_master_key()
    assert repr(key) == f"MasterKey({key.id})"


def test_every_sealed_column_is_listed() -> None:
    named = {
        (table.name, column.name)
        for table in tables.metadata.sorted_tables
        for column in table.c
        if column.name.startswith("sealed")
    }
    assert {(listed.table.name, listed.name) for listed in SEALED} == named
    assert all({"org_id", "id"} <= set(listed.table.c.keys()) for listed in SEALED)


KEY = bytes(range(32))
PLACE = st.tuples(st.text(max_size=8), st.text(max_size=8), st.text(max_size=8))


@given(st.binary(max_size=300), PLACE)
def test_what_is_sealed_opens(secret: bytes, place: tuple[str, ...]) -> None:
    assert sealing.unseal(KEY, sealing.seal(KEY, secret, place), place) == secret


@given(st.binary(max_size=60), PLACE, st.integers(0, 10_000), st.sampled_from("AQgwBCDxyz019-_=+/ é") | st.characters())
@settings(max_examples=300)
def test_any_change_is_noticed(secret: bytes, place: tuple[str, ...], at: int, letter: str) -> None:
    sealed = sealing.seal(KEY, secret, place)
    at %= len(sealed)
    if letter == sealed[at]:
        return
    changed = sealed[:at] + letter + sealed[at + 1 :]
    with pytest.raises(sealing.Unsealable):
        sealing.unseal(KEY, changed, place)


@given(st.binary(max_size=60), PLACE, PLACE)
def test_no_other_place_opens_it(secret: bytes, place: tuple[str, ...], other: tuple[str, ...]) -> None:
    if place != other:
        with pytest.raises(sealing.Unsealable):
            sealing.unseal(KEY, sealing.seal(KEY, secret, place), other)


@given(st.binary(max_size=60))
def test_wrong_key_does_not_open(secret: bytes) -> None:
    with pytest.raises(sealing.Unsealable):
        sealing.unseal(os.urandom(32), sealing.seal(KEY, secret, ("a",)), ("a",))


@given(st.text(max_size=60))
def test_garbage_is_refused(text: str) -> None:
    with pytest.raises(sealing.Unsealable):
        sealing.unseal(KEY, text, ("a",))


async def test_a_bound_store_keeps_servers_with_another_key_out_before_it_holds_a_secret(
    store: Store, tmp_path: Path
) -> None:
    await store.vault.bind(store.database, store.writer, "org_a")
    key = store.path.read_text()
    rows = await store.database.read(data_keys.list_all)
    assert [row.org_id for row in rows] == ["org_a"]
    await store.again().bind(store.database, store.writer, "org_a")
    assert await store.database.read(data_keys.list_all) == rows
    assert store.path.read_text() == key
    with pytest.raises(Temporary, match="is missing") as refused:
        Vault(tmp_path / "elsewhere" / "master.key").unlock(store.database)
    assert refused.value.code is Code.VAULT_LOCKED
    _foreign(store.path)
    with pytest.raises(Temporary, match="does not belong to this store"):
        store.again()


async def test_of_two_first_starts_with_different_keys_one_is_refused(store: Store, tmp_path: Path) -> None:
    late = Vault(tmp_path / "elsewhere" / "master.key")
    late.use([late.file.create()])  # it found no data key, and read its own file, before the other one bound the store
    await store.vault.bind(store.database, store.writer, "org_a")
    with pytest.raises(Temporary, match=r"does not hold the key mk_.*, which the store needs"):
        await store.writer.write(lambda tx: late._bind(tx, "org_a"))
