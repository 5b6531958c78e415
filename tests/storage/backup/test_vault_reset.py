"""A lost master key: what is lost with it is told, and a server starts without it, on either store."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from dustrun.errors import Conflict, DustrunError
from dustrun.settings import Settings
from dustrun.storage.backup.restore import restore
from dustrun.storage.backup.vault_rotation import WHO, reset, rotate
from testkit.composition import Client, Composition, composed

BEARER: dict[str, Any] = {
    "type": "http-bearer",
    "name": "Orders",
    "data": {"token": "canary-token", "testUrl": "https://api.example.com/"},
    "allowedHosts": ["api.example.com"],
}
KEY = "11" * 32


def _settings(folder: Path, url: str) -> Settings:
    return Settings(data_dir=folder, database_url=url, master_key_file=folder / "secret" / "master.key")


def _waiting(connector_id: str) -> dict[str, Any]:
    """Waits, then asks with the connector."""
    connector = {"type": "http-bearer", "id": connector_id}
    ask = {"type": "http-request", "connector": connector, "payload": {"url": "https://api.example.com/"}}
    wait = {"type": "delay", "payload": {"delayMs": 5_000}, "children": ["ask"]}
    root = {"type": "manual", "children": ["wait"]}
    return {"nodes": {"root": root, "wait": wait, "ask": ask}, "triggerNodeIds": ["root"]}


async def _fill(server: Composition) -> dict[str, str]:
    owner = server.owner
    wallet = (await owner.post("/v1/wallets/import", {"name": "till", "privateKey": KEY, "isDefault": True})).data
    connector = (await owner.post("/v1/connectors", BEARER)).data
    flow = await owner.create_workflow(_waiting(connector["id"]))
    run_id = (await owner.post(f"/v1/workflows/{flow['id']}/run", {})).data["runId"]
    return {"wallet": wallet["id"], "address": wallet["address"], "connector": connector["id"], "run": run_id}


async def _end_of(owner: Client, run_id: str) -> dict[str, Any]:
    async with asyncio.timeout(60):
        while (run := (await owner.get(f"/v1/runs/{run_id}")).data)["finishedAt"] is None:
            await asyncio.sleep(0.05)
    found: dict[str, Any] = run
    return found


async def test_a_server_starts_without_what_is_lost_and_goes_on(store_url: str, tmp_path: Path) -> None:
    settings, backup = _settings(tmp_path, store_url), tmp_path / "before.backup"
    async with composed(tmp_path, database_url=store_url) as server:
        made = await _fill(server)
        with pytest.raises(Conflict):
            reset(settings, give_up=True, backup_to=backup)
    assert reset(settings, give_up=True, backup_to=backup).data_keys == ()
    lost_file = settings.master_key_file.rename(tmp_path / "lost.key")
    needed = lost_file.read_text().splitlines()[-1].split()[0]
    with pytest.raises(DustrunError, match=needed):
        async with composed(tmp_path, database_url=store_url):
            pass
    told = reset(settings, give_up=False, backup_to=backup)
    with pytest.raises(DustrunError, match=needed):
        async with composed(tmp_path, database_url=store_url):
            pass
    assert not backup.exists()
    given = reset(settings, give_up=True, backup_to=backup)
    assert given == told
    assert given.master_keys == (needed,)
    assert [entry[1:] for entry in given.wallets] == [(made["wallet"], "till", made["address"])]
    assert [entry[1:] for entry in given.connectors] == [(made["connector"], "Orders")]
    async with composed(tmp_path, database_url=store_url) as server:
        await _check_what_is_left(server, made)
    rotate(settings, master=False, forget_old=False)
    assert reset(settings, give_up=False, backup_to=backup).data_keys == ()
    await _check_the_backup(tmp_path, backup, lost_file, made)


async def _check_what_is_left(server: Composition, made: dict[str, str]) -> None:
    owner, path = server.owner, f"/v1/connectors/{made['connector']}"
    run = await _end_of(owner, made["run"])
    assert (run["status"], "cannot be decrypted" in str(run["executionState"])) == ("failure", True)
    wallet = (await owner.get(f"/v1/wallets/{made['wallet']}")).data
    assert (wallet["archivedAt"] is not None, wallet["isDefault"], wallet["canSign"]) == (True, False, False)
    assert (await owner.post(f"/v1/wallets/{made['wallet']}/export", {"password": "a long password"})).code == 500002
    # the key itself, from a copy of the owner's, is taken again
    again = (await owner.post("/v1/wallets/import", {"name": "again", "privateKey": KEY})).data
    assert again["address"] == made["address"]
    assert (await owner.get(path)).data["maskedData"] == {"token": "•••", "testUrl": "https://api.example.com/"}
    assert (await owner.post(f"{path}/test")).code == 500002
    assert (await owner.put(path, {"name": "x"})).code == 500002
    assert (await owner.put(path, {"data": {"token": "•••"}})).fields == ["data.token"]
    renewed = (await owner.put(path, {"data": {"token": "another-token"}})).data
    assert (renewed["version"], renewed["maskedData"]) == (2, {"token": "•••"})
    actions = {(item["action"], item["subject"]) for item in (await owner.get("/v1/audit")).data["items"]
               if item["keyId"] == WHO}  # fmt: skip
    assert actions == {("wallet.archive", made["wallet"]), ("connector.lose", made["connector"])}


async def _check_the_backup(tmp_path: Path, backup: Path, master_key: Path, made: dict[str, str]) -> None:
    """With the master key that turned up after all, nothing was lost."""
    folder = tmp_path / "restored"
    folder.mkdir(mode=0o700)
    (folder / "owner.key").write_text((tmp_path / "owner.key").read_text())
    url = f"sqlite:///{folder / 'dustrun.db'}"
    restore(url, folder, backup)
    async with composed(folder, database_url=url, master_key_file=master_key) as server:
        wallet = (await server.owner.get(f"/v1/wallets/{made['wallet']}")).data
        assert (wallet["archivedAt"], wallet["canSign"]) == (None, True)
        exported = await server.owner.post(f"/v1/wallets/{made['wallet']}/export", {"password": "a long password"})
        assert exported.status == 200
