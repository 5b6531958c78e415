"""The audit log as a chain: concurrent writers, a backup into the other store, and every way to tamper with it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import orjson
import pytest
import sqlalchemy as sa

from dustrun.cli.doctor.checkups_store import audit_log
from dustrun.core.audit_export import verify
from dustrun.storage.access import audit as audit_chain
from dustrun.storage.access.audit import AuditCheck
from dustrun.storage.backup.backup import back_up
from dustrun.storage.backup.restore import restore
from dustrun.storage.db.database import Database
from dustrun.storage.db.tables import audit, audit_keys
from testkit.composition import Client, Composition, composed

_KEYS = 8
_CHANGED = "was changed, or an entry before it was removed or inserted"


async def _fill(server: Composition) -> None:
    """Changes of two organisations, made at the same time."""
    other = await server.other_owner()
    makers = [server.owner, other] * (_KEYS // 2)
    body = {"permissions": ["workflow:read"]}
    await asyncio.gather(
        *(maker.post("/v1/api-keys", {"name": f"k{n} é\x7f", **body}) for n, maker in enumerate(makers))
    )


def _verify(url: str) -> AuditCheck:
    database = Database(url)
    try:
        return database.read_now(audit_chain.verify)
    finally:
        database.close()


def _tampered(url: str, *statements: str) -> str | None:
    """What is found wrong after the statements, which are then undone."""
    database = Database(url)
    tx = database.begin()
    try:
        for statement in statements:
            tx.raw(statement)
        return audit_chain.verify(tx).problem
    finally:
        database.rollback()
        database.close()


@pytest.mark.both_stores
async def test_audit_log_is_a_chain_that_shows_every_change(tmp_path: Path, store_url: str) -> None:
    async with composed(tmp_path, database_url=store_url) as server:
        await _fill(server)
        rows = await server.rows(sa.select(audit.c.id, audit.c.hash).order_by(audit.c.id))
    assert len({row[1] for row in rows}) == len(rows) > _KEYS
    (first, _), (second, _), *_, (last, newest) = rows
    assert _verify(store_url) == AuditCheck(audit_chain.Head(len(rows), newest), 0, None)
    columns = "org_id, key_id, at, action, subject, detail, hash"
    end = f"its end does not match the recorded one: {len(rows) - 1} chained entries, recorded {len(rows)}"
    tampering = {
        f"UPDATE audit SET detail = '{{}}' WHERE id = {second}": f"entry {second} {_CHANGED}",
        f"UPDATE audit SET at = at + 1 WHERE id = {last}": f"entry {last} {_CHANGED}",
        f"DELETE FROM audit WHERE id = {first}": f"entry {second} {_CHANGED}",
        f"DELETE FROM audit WHERE id = {last}": end,
        f"UPDATE audit SET hash = '' WHERE id = {last}": f"entry {last} {_CHANGED}",
        "UPDATE audit SET hash = ''": f"{end.partition(':')[0]}: 0 chained entries, recorded {len(rows)}",
        "DELETE FROM store_facts WHERE name = 'audit_head'": f"{end.partition(':')[0]}: {len(rows)} chained entries,"
        " recorded 0",
        f"INSERT INTO audit ({columns}) SELECT {columns} FROM audit WHERE id = {last}": f"entry {last + 1} {_CHANGED}",
    }
    assert {statement: _tampered(store_url, statement) for statement in tampering} == tampering


@pytest.mark.both_stores
async def test_audit_chain_goes_on_after_a_restart_and_in_a_restored_store(tmp_path: Path, store_url: str) -> None:
    async with composed(tmp_path, database_url=store_url) as server:
        await _fill(server)
    before = _verify(store_url)
    back_up(store_url, tmp_path / "store.backup")
    async with composed(tmp_path, database_url=store_url) as server:
        await server.owner.post("/v1/api-keys", {"name": "later", "permissions": ["workflow:read"]})
    after = _verify(store_url)
    assert (after.head.rows, after.problem) == (before.head.rows + 1, None)
    (tmp_path / "restored").mkdir()
    restored = f"sqlite:///{tmp_path / 'restored' / 'dustrun.db'}"
    restore(restored, tmp_path / "restored", tmp_path / "store.backup")
    assert _verify(restored) == before
    async with composed(tmp_path, database_url=restored) as server:
        content, _ = await _exported(server.owner, 5)
        assert verify(content.encode().splitlines(keepends=True)).problems == []
        assert _verify(restored).head.rows > before.head.rows  # the chain goes on
    before = _verify(restored)
    database = Database(restored)
    found = audit_log(database)
    database.close()
    assert (found.state, found.says) == (
        "ok",
        f"{before.head.rows} chained entries, newest {before.head.hash[:16]}",
    )


async def _exported(maker: Client, limit: int) -> tuple[str, int]:
    """A whole export, in parts of so many entries, and how many parts."""
    content, parts = "", 0
    after: int | None = 0
    while after is not None:
        part = (await maker.get(f"/v1/audit/export?after={after}&limit={limit}")).data
        content, after, parts = content + part["content"], part.get("next"), parts + 1
    return content, parts


@pytest.mark.both_stores
async def test_export_shows_an_organisation_its_own_entries_and_proves_them(tmp_path: Path, store_url: str) -> None:
    async with composed(tmp_path, database_url=store_url) as server:
        await _fill(server)
        (key,) = (await server.owner.get("/v1/audit/keys")).data["items"]
        content, parts = await _exported(server.owner, 3)
        whole, _ = await _exported(server.owner, 1000)
        listed = (await server.owner.get("/v1/audit?limit=100")).data["items"]
        sealed = await server.rows(sa.select(audit_keys.c.sealed))
    assert parts > 2
    for text in (content, whole):
        found = verify(text.encode().splitlines(keepends=True), [key["publicKey"]])
        assert (found.problems, found.entries, found.hash) == ([], len(listed), _verify(store_url).head.hash)
    lines = [orjson.loads(line) for line in whole.splitlines()]
    assert [one["id"] for one in lines if one["kind"] == "entry"] == [one["id"] for one in reversed(listed)]
    assert len({one["organizationId"] for one in lines if one["kind"] in ("start", "entry")}) == 1
    assert any(one["kind"] == "others" for one in lines)
    ((only,),) = sealed
    assert only.startswith("v1.")


async def test_key_that_the_vault_lost_is_followed_by_a_new_one(tmp_path: Path, store_url: str) -> None:
    async with composed(tmp_path, database_url=store_url) as server:
        (old,) = (await server.owner.get("/v1/audit/keys")).data["items"]
        await server.execute(sa.update(audit_keys).values(sealed="v1.dk_gone.AAAA"))
        content, _ = await _exported(server.owner, 1000)
        new, kept = (await server.owner.get("/v1/audit/keys")).data["items"]
    assert kept == old
    assert verify(content.encode().splitlines(keepends=True), [new["publicKey"]]).problems == []
