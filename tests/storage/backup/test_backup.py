"""Backups taken under load are one instant of the store, and go into either store."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import shutil
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dustrun import clock
from dustrun.errors import Conflict, DustrunError, Permanent
from dustrun.services.quotas import RunSizes
from dustrun.storage.backup.archive import Archive
from dustrun.storage.backup.backup import back_up
from dustrun.storage.backup.restore import restore
from dustrun.storage.db import migrate, store_facts
from dustrun.storage.db.database import Database
from dustrun.storage.db.lock import ProcessLock
from dustrun.storage.db.statement import Statement
from dustrun.storage.db.tables import api_keys, events, metadata, run_counts, runs, workflows
from dustrun.storage.secrets.master_key import MasterKeyFile
from testkit.composition import Composition, composed
from testkit.recount import recount

DELAYED = {
    "nodes": {
        "root": {"type": "manual", "children": ["hold"]},
        "hold": {"type": "delay", "payload": {"delayMs": 1000}, "children": ["say"]},
        "say": {"type": "log", "payload": {"message": "after"}},
    },
    "triggerNodeIds": ["root"],
}


async def _load(server: Composition, workflow_id: str, until: asyncio.Event) -> int:
    """Starts runs until it is told to stop."""
    started = 0
    while not until.is_set():
        await server.owner.post(f"/v1/workflows/{workflow_id}/run", {})
        started += 1
    return started


def _all(database: Database, statement: Any) -> list[tuple[Any, ...]]:
    return database.read_now(lambda tx: tx.all(Statement(statement)))


def _check_whole(database: Database) -> None:
    """Every run has all its events and no more, and the counts are those of the runs."""
    numbers = dict(_all(database, sa.select(runs.c.pk, runs.c.last_seq)))
    found = _all(
        database,
        sa.select(events.c.run_pk, sa.func.count(), sa.func.min(events.c.seq), sa.func.max(events.c.seq)).group_by(
            events.c.run_pk
        ),
    )
    assert {pk: (count, 1, count) for pk, count in numbers.items()} == {pk: tuple(rest) for pk, *rest in found}
    ended = sa.select(runs.c.workflow_id, runs.c.status, sa.func.count()).where(runs.c.finished_at.is_not(None))
    counted = sa.select(run_counts.c.workflow_id, run_counts.c.status, run_counts.c.total)
    by_status = _all(database, ended.group_by(runs.c.workflow_id, runs.c.status))
    assert sorted(by_status) == sorted(_all(database, counted))
    if database.is_sqlite:
        assert _all(database, sa.text("SELECT * FROM pragma_foreign_key_check")) == []


@pytest.mark.parametrize(
    ("store_url", "target"),
    [
        ("sqlite", "to postgresql"),
        ("postgresql", "to sqlite"),
        pytest.param("sqlite", "to sqlite", marks=pytest.mark.long),
        pytest.param("postgresql", "to postgresql", marks=pytest.mark.long),
    ],
    indirect=True,
)
async def test_a_backup_under_load_is_restored_whole_and_goes_on(
    tmp_path: Path, store_url: str, target: tuple[str, Path]
) -> None:
    file, (url, folder) = tmp_path / "store.backup", target
    async with composed(tmp_path, database_url=store_url) as server:
        delayed = await server.owner.create_workflow(DELAYED)
        waiting = (await server.owner.post(f"/v1/workflows/{delayed['id']}/run", {})).data["runId"]
        busy, stop = await server.owner.create_workflow(), asyncio.Event()
        loads = [asyncio.create_task(_load(server, busy["id"], stop)) for _ in range(4)]
        await asyncio.sleep(0.3)
        await RunSizes(server.parts.database, server.parts.writer).measure()
        manifest = await asyncio.to_thread(back_up, server.parts.settings.store_url(), file)
        stop.set()
        assert sum(await asyncio.gather(*loads)) > 4
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert restore(url, folder, file) == manifest
    database = Database(url)
    _check_whole(database)
    assert {entry.name for entry in manifest.tables} == set(metadata.tables)
    marked = database.read_now(lambda tx: store_facts.find(tx, store_facts.RESTORED_AT))
    assert marked is not None
    assert int(marked) <= clock.now_ms()
    taken = database.read_now(lambda tx: store_facts.find(tx, store_facts.RESTORED_FROM))
    assert taken == str(manifest.taken_at)
    database.close()
    shutil.copy(tmp_path / "owner.key", folder / "owner.key")
    async with composed(folder, database_url=url) as restored:
        async with asyncio.timeout(60):
            while (await restored.owner.get(f"/v1/runs/{waiting}")).data["status"] != "success":
                await asyncio.sleep(0.02)
        fresh = (await restored.owner.post(f"/v1/workflows/{busy['id']}/run", {})).data["runId"]
        async with asyncio.timeout(60):
            while (await restored.owner.get(f"/v1/runs/{fresh}")).data["status"] != "success":
                await asyncio.sleep(0.02)
        second = Database(url)
        async with asyncio.timeout(60):
            while await restored.rows(sa.select(runs.c.pk).where(runs.c.finished_at.is_(None))):
                await asyncio.sleep(0.02)
        _check_whole(second)
        second.close()
        await RunSizes(restored.parts.database, restored.parts.writer).measure()
        kept, counted = await recount(restored)
        assert kept == counted


async def _take(folder: Path, store_url: str) -> Path:
    file = folder / "store.backup"
    async with composed(folder, database_url=store_url) as server:
        await server.owner.create_workflow()
        await asyncio.to_thread(back_up, server.parts.settings.store_url(), file)
    return file


@pytest.fixture
async def taken(tmp_path: Path, store_url: str) -> Path:
    """A backup of a small store of either dialect, which is still there."""
    return await _take(tmp_path, store_url)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backup of a small store, for what happens to files alone."""
    folder = tmp_path_factory.mktemp("small")
    return asyncio.run(_take(folder, f"sqlite:///{folder / 'dustrun.db'}"))


def _rewritten(file: Path, change: Callable[[str, bytes], bytes | None]) -> Path:
    """A copy of a backup with changed members (None: without it), whose checksums as a ZIP are right."""
    other = file.with_name("changed.backup")
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(other, "w") as new:
        for name in old.namelist():
            changed = change(name, old.read(name))
            if changed is not None:
                new.writestr(name, changed)
    return other


def _manifest(**changes: Any) -> Callable[[str, bytes], bytes]:
    def change(name: str, content: bytes) -> bytes:
        return json.dumps(json.loads(content) | changes).encode() if name == "manifest.json" else content

    return change


def _cut(file: Path) -> Path:
    other = file.with_name("cut.backup")
    other.write_bytes(file.read_bytes()[:-200])
    return other


def _flipped(file: Path) -> Path:
    content = bytearray(file.read_bytes())
    with zipfile.ZipFile(file) as archive:
        member = archive.getinfo("tables/workflow_versions.jsonl")
    content[member.header_offset + 120] ^= 0xFF
    other = file.with_name("flipped.backup")
    other.write_bytes(content)
    return other


def _loses_a_row(name: str, content: bytes) -> bytes:
    return content.split(b"\n", 1)[1] if name == "tables/workflows.jsonl" else content


def _described(**of_workflows: Any) -> Callable[[str, bytes], bytes]:
    """Changes what the manifest says of one table."""

    def change(name: str, content: bytes) -> bytes:
        if name != "manifest.json":
            return content
        found = json.loads(content)
        entry = next(entry for entry in found["tables"] if entry["name"] == "workflows")
        entry.update(of_workflows)
        return json.dumps(found).encode()

    return change


def _with_rows(*rows: Any) -> Callable[[str, bytes], bytes]:
    """Puts other rows into the first table that has just two columns, and says so in the manifest."""
    content = b"".join(json.dumps(row).encode() + b"\n" for row in rows)

    def change(name: str, old: bytes) -> bytes:
        if name == "tables/store_facts.jsonl":
            return content
        if name != "manifest.json":
            return old
        found = json.loads(old)
        entry = next(entry for entry in found["tables"] if entry["name"] == "store_facts")
        entry |= {"rows": len(rows), "sha256": hashlib.sha256(content).hexdigest()}
        return json.dumps(found).encode()

    return change


def _first_columns(folder: Path) -> dict[str, list[str]]:
    """The columns of each table of the first schema."""
    database = Database(f"sqlite:///{folder / 'first.db'}")
    migrate.upgrade(database, "0001")
    found = sa.inspect(database.engine)
    columns = {name: [one["name"] for one in found.get_columns(name)] for name in found.get_table_names()}
    database.close()
    return columns


def _of_first_schema(first: dict[str, list[str]], manifest: dict[str, Any]) -> Callable[[str, bytes], bytes | None]:
    """As the first schema had it: without the tables and columns that came later."""
    there = {entry["name"]: entry["columns"] for entry in manifest["tables"]}
    hashes: dict[str, str] = {}

    def change(name: str, old: bytes) -> bytes | None:
        if name == "manifest.json":
            found = json.loads(old)
            found["tables"] = [entry for entry in found["tables"] if entry["name"] in first]
            for entry in found["tables"]:
                entry["columns"] = [column for column in entry["columns"] if column in first[entry["name"]]]
                entry["sha256"] = hashes[entry["name"]]
            return json.dumps(found | {"schema": "0001"}).encode()
        table = name.removeprefix("tables/").removesuffix(".jsonl")
        if table not in there:
            return old
        if table not in first:
            return None
        kept = [place for place, column in enumerate(there[table]) if column in first[table]]
        rows = [json.loads(line) for line in old.splitlines()]
        content = b"".join(json.dumps([row[place] for place in kept]).encode() + b"\n" for row in rows)
        hashes[table] = hashlib.sha256(content).hexdigest()
        return content

    return change


def _bomb(file: Path, member: str, mib: int) -> Path:
    """A member that is small in the file, and some MiB without end of line when it is read."""
    other = file.with_name("bomb.backup")
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(other, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            if name != member:
                new.writestr(name, old.read(name))
        with new.open(member, "w", force_zip64=True) as out:
            for _ in range(mib):
                out.write(b" " * 2**20)
    return other


BAD: dict[str, tuple[Callable[[Path], Path], str]] = {
    "newer schema": (lambda file: _rewritten(file, _manifest(schema="9999")), "newer than"),
    "newer format": (lambda file: _rewritten(file, _manifest(formatVersion=99)), "has format 99"),
    "another program": (lambda file: _rewritten(file, _manifest(format="other")), "by another program"),
    "no manifest": (lambda file: _rewritten(file, lambda n, c: b"[]" if n == "manifest.json" else c), "manifest"),
    "lost row": (lambda file: _rewritten(file, _loses_a_row), 'table "workflows" was modified'),
    "cut off": (_cut, "it is incomplete"),
    "flipped bits": (_flipped, "cannot be restored"),
    "no schema of ours": (lambda file: _rewritten(file, _manifest(schema="0000")), "no version of Dustrun has"),
    "schema of another kind": (lambda file: _rewritten(file, _manifest(schema=None)), "manifest was modified"),
    "no time": (lambda file: _rewritten(file, _manifest(taken_at=10**18)), "manifest was modified"),
    "a table by another name": (
        lambda file: _rewritten(file, _described(name='runs"; DROP TABLE runs; --', columns=[])),
        "damaged",
    ),
    "a column by another name": (lambda file: _rewritten(file, _described(columns=["x"] * 99)), "columns"),
    "more rows than said": (lambda file: _rewritten(file, _described(rows=0)), "was modified"),
    "a row too short": (lambda file: _rewritten(file, _with_rows(["a"])), "has the wrong columns"),
    "a row of other things": (lambda file: _rewritten(file, _with_rows(["a", [1.5]])), "has the wrong columns"),
    "bytes that are none": (lambda file: _rewritten(file, _with_rows(["a", {"hex": "xy"}])), "is damaged"),
    "a bomb of a manifest": (lambda file: _bomb(file, "manifest.json", 2), "manifest was modified"),
    "a bomb of a row": (lambda file: _bomb(file, "tables/runs.jsonl", 80), 'table "runs" is damaged'),
    "not there": (lambda file: file.with_name("none"), "There is no file"),
    "no archive": (lambda file: Path(__file__), "it is not a Dustrun backup"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_file_changes_nothing(small: Path, tmp_path: Path, kind: str) -> None:
    make, says = BAD[kind]
    url = f"sqlite:///{tmp_path / 'other.db'}"
    with pytest.raises(DustrunError, match=says):
        restore(url, tmp_path, make(small))
    assert not (tmp_path / "other.db").exists()


@pytest.mark.parametrize(
    "rows", [(["a", "1"], ["a", "2"]), (["a", None],), ([10**30, "1"],)], ids=["twice", "null", "a number too large"]
)
async def test_rows_that_do_not_fit_are_refused_whole(
    taken: Path, store_url: str, tmp_path: Path, rows: tuple[Any, ...]
) -> None:
    bad = _rewritten(taken, _with_rows(*rows))
    database = Database(store_url)
    before = _all(database, sa.select(workflows))
    assert before
    with pytest.raises(Permanent, match=r'rows of table "store_facts" cannot be inserted|has the wrong columns'):
        restore(store_url, tmp_path, bad, replace=True)
    assert _all(database, sa.select(workflows)) == before
    database.close()


def test_a_backup_of_an_older_schema_is_brought_up_to_date(small: Path, target: tuple[str, Path]) -> None:
    url, folder = target
    with zipfile.ZipFile(small) as file:
        manifest = json.loads(file.read("manifest.json"))
    change = _of_first_schema(_first_columns(small.parent), manifest)
    restore(url, folder, _rewritten(small, change))
    database = Database(url)
    assert migrate.revision_of(database) == migrate.head()
    assert _all(database, sa.select(api_keys.c.name, api_keys.c.created_by)) == [("owner", None)]
    _check_whole(database)
    database.close()


def _without_mac(file: Path) -> Path:
    other = file.with_name("plain.backup")
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(other, "w") as new:
        for name in old.namelist():
            if name != "manifest.mac":
                new.writestr(name, old.read(name))
    return other


async def test_a_backup_is_refused_without_the_mac_of_the_master_key(tmp_path: Path, store_url: str) -> None:
    async with composed(tmp_path, database_url=store_url) as server:
        await server.owner.create_workflow()
    key, other_key = tmp_path / "secret" / "master.key", tmp_path / "other.key"
    MasterKeyFile(other_key).create()
    file = tmp_path / "store.backup"
    manifest = back_up(store_url, file, master_key_file=key)
    (made,) = MasterKeyFile(key).read()
    url = f"sqlite:///{tmp_path / 'other.db'}"
    refused = {
        _without_mac(file): (key, "it has no MAC by the master key: an older version of Dustrun made it"),
        _rewritten(file, _with_rows(["a", "1"])): (key, "the MAC by the master key does not match"),
        file: (other_key, f'its MAC is by the master key "{made.id}", but "{other_key}" has mk_'),
    }
    for bad, (with_key, says) in refused.items():
        with pytest.raises(Permanent, match=re.escape(says)):
            restore(url, tmp_path, bad, master_key_file=with_key)
    for content in (b"[]", b"{", b'{"key": 1, "hmacSha256": "x"}', b'{"key": "k", "hmacSha256": "\xc3\xa9"}'):
        changed = _rewritten(file, lambda name, old, new=content: new if name == "manifest.mac" else old)  # type: ignore[misc]
        with pytest.raises(Permanent, match="its MAC is damaged"):
            restore(url, tmp_path, changed, master_key_file=key)
    assert not (tmp_path / "other.db").exists()
    assert restore(url, tmp_path, file, master_key_file=key) == manifest
    assert restore(url, tmp_path, _without_mac(file), replace=True) == manifest


def test_a_file_says_how_much_it_unpacks_to(small: Path) -> None:
    """The directory of the ZIP says how large a member is, and more than that is never read of it."""
    content = small.read_bytes()
    at = content.rindex(b"tables/store_facts.jsonl") - 46  # its entry in the directory
    huge = content[: at + 24] + (2**32 - 2).to_bytes(4, "little") + content[at + 28 :]
    other = small.with_name("huge.backup")
    other.write_bytes(huge)
    archive = Archive(other)
    assert archive.unpacked_bytes > 4 * 10**9
    archive.close()


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_whatever_is_changed_in_a_file_is_told_and_nothing_else_happens(small: Path, data: st.DataObject) -> None:
    content = bytearray(small.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1) | st.integers(max(0, len(content) - 1500), len(content) - 1))
        content[at] = data.draw(st.integers(0, 255))
    other = small.with_name("any.backup")
    other.write_bytes(content)
    try:
        archive = Archive(other)
    except Permanent:
        return
    try:
        archive.check()
    except Permanent:
        return
    finally:
        archive.close()


async def test_a_store_that_holds_something_is_kept_unless_told(taken: Path, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'other.db'}"
    restore(url, tmp_path, taken)
    with pytest.raises(Conflict, match="--replace"):
        restore(url, tmp_path, taken)
    restore(url, tmp_path, taken, replace=True)
    database = Database(url)
    _check_whole(database)
    database.close()


async def test_a_store_that_a_server_uses_is_left_alone(taken: Path, store_url: str, tmp_path: Path) -> None:
    database = Database(store_url)
    lock = ProcessLock(database, tmp_path)
    lock.take()
    with pytest.raises(Conflict, match="Another server"):
        restore(store_url, tmp_path, taken, replace=True)
    lock.release()
    database.close()


async def test_what_cannot_be_backed_up_is_told(taken: Path, tmp_path: Path, store_url: str) -> None:
    with pytest.raises(Conflict, match="--replace"):
        back_up(store_url, taken)
    with pytest.raises(Permanent, match="There is no store"):
        back_up(f"sqlite:///{tmp_path / 'none.db'}", tmp_path / "x")
    with pytest.raises(Permanent, match="does not exist"):
        back_up(store_url, tmp_path / "none" / "x")
    database = Database(store_url)
    with database.engine.connect() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    database.close()
    with pytest.raises(Permanent, match=f'"9999", but this version of Dustrun needs "{migrate.head()}"'):
        back_up(store_url, tmp_path / "x")
    assert not list(tmp_path.glob("x*"))
