"""A store that holds everything goes from SQLite to PostgreSQL and back, and is the same row by row."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import requests
import sqlalchemy as sa

from contract.asking import OPERATIONS, PERMISSION_OF, asking
from dustrun.storage.backup.backup import back_up
from dustrun.storage.backup.restore import restore
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Statement
from dustrun.storage.db.tables import metadata
from dustrun.storage.runs.large_values import LARGE
from dustrun.storage.secrets.master_key import MasterKeyFile
from served import served
from testkit import processes
from testkit.fuzz_world import World, definition
from testkit.postgres import Cluster
from testkit.server_process import ServerProcess

_MARKS = {"store_facts"}
"""What a restore writes itself."""
_WORKED_OFF = {"ledger_due"}
"""A queue that is empty once what is in it was done, a moment later."""
_OF_SHARED_STORES = {"leases", "processes"}  # this server has its store for itself


def _do_everything(world: World, base: str) -> None:
    """Every operation that makes or changes something, once; then what no operation makes by itself."""
    for name, (method, path) in OPERATIONS.items():
        if method in ("GET", "DELETE") or PERMISSION_OF[name] == "public":
            continue
        asked = asking(world, name)
        headers = {"Authorization": f"Bearer {world.key}", "Idempotency-Key": name} | asked.headers
        answer = requests.request(
            method, base + path.format(**asked.path_parameters), json=asked.body, headers=headers, timeout=30
        )
        assert answer.status_code == 200, (name, answer.text)
    world.call("POST", f"/v1/templates/{world.template()}/use", {})
    world.call("GET", "/v1/audit/keys")  # the first look makes one
    _provision(world, base)
    conversation = world.conversation()
    workflow = world.draft(world.spending())
    body = {"simulate": True, "chatMessageId": world.message(conversation)}
    world.part(str(body["chatMessageId"]))
    run_id = str(world.call("POST", f"/v1/workflows/{workflow}/run", body)["runId"])
    assert world.call("GET", f"/v1/runs/{world.wait(run_id, 'success', 'failure')}")["status"] == "success"
    large = {"simulate": True, "payload": {"note": "x" * LARGE}}
    world.call("POST", f"/v1/workflows/{world.counting()}/run", large)
    held = definition({"type": "delay", "payload": {"delayMs": 3_600_000}, "children": ["w"]})
    held["nodes"]["w"] = {"type": "wait", "payload": {"timeoutMs": 600_000}}
    held_id = world.call("POST", "/v1/workflows", {"name": "held", "description": "", "definition": held})["id"]
    early = world.run(workflow_id=held_id)
    world.call("POST", f"/v1/runs/{early}/nodes/w/resume", {"data": {"ok": True}})
    world.signature()
    world.seen_on_chain()
    assert requests.post(f"{base}/v1/session", json={"key": world.key}, timeout=30).status_code == 200
    told, cookie = world.answer_of_provider()
    finish = f"{base}/v1/session/provider/finish"
    assert requests.post(finish, json=told, headers={"Cookie": cookie}, timeout=30).status_code == 200
    world.answer_of_provider()
    table = {
        "name": "kept",
        "columns": [{"name": "id", "type": "text"}, {"name": "n", "type": "integer", "unique": True}],
    }
    table_id = world.call("POST", "/v1/tables", table)["id"]
    watch = {"nodes": {"root": {"type": "table-row", "payload": {"table": table_id}}}, "triggerNodeIds": ["root"]}
    watching = world.call("POST", "/v1/workflows", {"name": "watching", "description": "", "definition": watch})["id"]
    world.call("POST", f"/v1/workflows/{watching}/publish", {})
    write: Any = {
        "type": "write-table",
        "payload": {"table": table_id, "rows": [{"id": "{{$now}}", "n": 1}], "mode": "insert"},
    }
    world.finished(world.draft(write))
    world.hook()
    world.call("POST", f"/v1/workflows/{world.live()}/pause")
    followed = world.run(workflow_id=held_id)
    while not world.call("GET", f"/v1/hook-deliveries?runId={followed}")["items"]:
        time.sleep(0.05)
    while not world.call("GET", "/v1/ledger")["items"]:  # written a moment after a transaction is final
        time.sleep(0.05)


def _provision(world: World, base: str) -> None:
    """A directory makes a user and a group."""
    asked = {"name": "directory", "permissions": ["people:provision"]}
    headers = {"Authorization": f"Bearer {world.call('POST', '/v1/api-keys', asked)['key']}"}
    user = requests.post(f"{base}/scim/v2/Users", json={"userName": "d@example.com"}, headers=headers, timeout=30)
    group: Any = {"displayName": "readers", "members": [{"value": user.json()["id"]}]}
    made = requests.post(f"{base}/scim/v2/Groups", json=group, headers=headers, timeout=30)
    assert made.status_code == 201, made.text


def _rows(url: str) -> dict[str, list[str]]:
    """Every row of every table."""
    database = Database(url)
    found = {name: _rows_of(database, table) for name, table in metadata.tables.items() if name not in _MARKS}
    database.close()
    return found


def _rows_of(database: Database, table: sa.Table) -> list[str]:
    rows = database.read_now(lambda tx: tx.all(Statement(sa.select(table))))
    return sorted(repr([bytes(v) if isinstance(v, memoryview) else v for v in row]) for row in rows)


@pytest.fixture(scope="module")
def whole(chain_server: ServerProcess, world_of_server: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backup that is taken while the server works."""
    _do_everything(world_of_server, chain_server.base)
    file = tmp_path_factory.mktemp("whole") / "whole.backup"
    key = chain_server.data_dir / "master.key"
    with contextlib.closing(sqlite3.connect(chain_server.database_path)) as store, store:
        for _ in range(300):  # runs are measured every few seconds
            if store.execute("SELECT 1 FROM run_sizes").fetchone():
                break
            time.sleep(0.1)
        # the prices of this world are fixed ones, which nobody doubts and so nobody remembers
        store.execute("INSERT INTO known_prices (asset, usd, at) VALUES ('eip155:1/native', '2000', 1)")
        # and no model is asked by a node
        store.execute("INSERT INTO model_tokens (org_id, hour, tokens) SELECT id, 1, 7 FROM organizations LIMIT 1")
        store.execute("INSERT INTO approved_values (wallet_id, subject, value, at) VALUES ('wal_1', 'gas:1', '7', 1)")
    manifest = back_up(f"sqlite:///{chain_server.database_path}", file, master_key_file=key)
    empty = {entry.name for entry in manifest.tables if not entry.rows}
    assert empty - {*_MARKS, *_WORKED_OFF} == _OF_SHARED_STORES
    return file


def test_there_and_back_again(whole: Path, cluster: Cluster, tmp_path: Path) -> None:
    first, last, there = f"sqlite:///{tmp_path / 'first.db'}", f"sqlite:///{tmp_path / 'last.db'}", cluster.empty()
    restore(first, tmp_path, whole)
    restore(there, tmp_path, whole)
    back_up(there, tmp_path / "again.backup")
    restore(last, tmp_path, tmp_path / "again.backup")
    expected = _rows(first)
    for url in (there, last):
        found = _rows(url)
        for name, rows in expected.items():
            assert found[name] == rows, name
    cluster.drop(there)


def _restored_by_command(
    whole: Path, folder: Path, url: str, master_key: Path, *more: str
) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "DUSTRUN_MASTER_KEY_FILE": str(master_key)}
    words = ["restore", str(whole), "--data-dir", str(folder), "--database-url", url, *more]
    command = [*processes.DUSTRUN, *words]
    return processes.run(command, env=environment)


_LISTS = ("workflows", "wallets", "transactions", "connectors", "tables", "signatures", "runs", "api-keys", "audit")


def _told(base: str, key: str) -> dict[str, Any]:
    """What a server tells of everything that it has."""
    headers = {"Authorization": f"Bearer {key}"}
    found = {noun: requests.get(f"{base}/v1/{noun}?limit=100", headers=headers, timeout=30).json() for noun in _LISTS}
    for wallet in found["wallets"]["data"]["items"]:
        path = f"/v1/wallets/{wallet['id']}/policy"
        found[path] = requests.get(base + path, headers=headers, timeout=30).json()
    for one in found["api-keys"]["data"]["items"]:
        del one["lastUsedAt"]  # this question is a use, and noted once a minute
    return {name: answer["data"] for name, answer in found.items()}


def test_with_the_wrong_master_key_no_server_starts_and_with_the_right_one_all_is_there(
    whole: Path, chain_server: ServerProcess, cluster: Cluster, tmp_path: Path
) -> None:
    right, wrong, url = chain_server.data_dir / "master.key", tmp_path / "wrong.key", cluster.empty()
    MasterKeyFile(wrong).create()
    needed = right.read_text().splitlines()[-1].split()[0]
    folder = tmp_path / "restored"
    folder.mkdir(mode=0o700)
    refused = _restored_by_command(whole, folder, url, wrong)
    assert (refused.returncode != 0, f'its MAC is by the master key "{needed}"' in refused.stderr) == (True, True)
    done = _restored_by_command(whole, folder, url, wrong, "--unverified")
    assert (done.returncode, "No server can start on this store yet" in done.stderr, needed in done.stderr) == (
        0,
        True,
        True,
    )
    with pytest.raises(AssertionError, match=needed), served(folder, database_url=url, master_key_file=str(wrong)):
        pass
    with served(folder, database_url=url, master_key_file=str(right)) as server:
        told = _told(server.url, chain_server.owner_key)
    assert len(told["wallets"]["items"]) > 3
    expected = _expected(whole, tmp_path, right, chain_server.owner_key)
    assert told == expected
    cluster.drop(url)


def _expected(whole: Path, tmp_path: Path, master_key: Path, owner_key: str) -> dict[str, Any]:
    """The same out of SQLite."""
    folder = tmp_path / "sqlite"
    folder.mkdir(mode=0o700)
    restore(f"sqlite:///{folder / 'dustrun.db'}", folder, whole)
    with served(folder, master_key_file=str(master_key)) as server:
        return _told(server.url, owner_key)
