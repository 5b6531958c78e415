"""A backup taken while transactions are open, restored into either store: nothing is paid twice, also not when somebody
forgot to stop the old server."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from web3 import Web3

from dustrun.storage.backup.backup import back_up
from dustrun.storage.backup.restore import restore
from dustrun.storage.data import attention
from outbox import ALICE, ANYTHING, Outbox, address, open_outbox, transfer, write_network
from testkit.chain.anvil import CHAIN_ID, Anvil
from testkit.composition import Composition, composed

PAY = {"type": "send-native", "payload": {"chainId": CHAIN_ID, "recipient": address(1), "amount": "7"}}
SIGN = {"type": "sign-message", "payload": {"message": "an order"}}


async def _restore(outbox: Outbox, target: tuple[str, Path], tmp_path: Path) -> None:
    """Backs the running server up, and fills the other store with it."""
    url, folder = target
    file = tmp_path / "store.backup"
    await asyncio.to_thread(back_up, outbox.composition.parts.settings.store_url(), file)
    await asyncio.to_thread(restore, url, folder, file)
    shutil.copy(outbox.composition.parts.settings.data_dir / "owner.key", folder / "owner.key")


@asynccontextmanager
async def _served(
    outbox: Outbox, target: tuple[str, Path], tmp_path: Path, **settings: Any
) -> AsyncIterator[Composition]:
    """A server on the restored store, with the same chain and the same keys."""
    url, folder = target
    given = {
        "database_url": url,
        "networks_dir": write_network(folder),
        "chain_endpoints": {CHAIN_ID: (outbox.node.url,)},
        "master_key_file": outbox.composition.parts.settings.master_key_file,
        **settings,
    }
    async with composed(folder, **given) as composition:
        yield composition


def _web3(node: Anvil) -> Web3:
    return Web3(Web3.HTTPProvider(node.url))


async def _ended(server: Composition, run_id: str, node: Anvil) -> str:
    async with asyncio.timeout(60):
        while (run := (await server.owner.get(f"/v1/runs/{run_id}")).data)["finishedAt"] is None:
            node.mine()
            await asyncio.sleep(0.05)
    return str(run["status"])


async def _transactions(server: Composition) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await server.owner.get("/v1/transactions")).data["items"]
    return found


async def _until_held(server: Composition) -> dict[str, Any]:
    async with asyncio.timeout(60):
        while True:
            found = await _transactions(server)
            if found and found[0]["status"] == "planned" and found[0]["waitsBecause"]:
                return found[0]
            await asyncio.sleep(0.05)


def _asking(then: dict[str, Any]) -> dict[str, Any]:
    """A run that spends once a person lets it."""
    return {
        "root": {"type": "manual", "children": ["ask"]},
        "ask": {
            "type": "approve",
            "payload": {"message": "Pay?", "timeoutMs": 600_000, "allowStarter": True},
            "children": ["then"],
        },
        "then": then,
    }


async def _approve(server: Composition, run_id: str) -> None:
    async with asyncio.timeout(60):
        while True:
            for asked in (await server.owner.get("/v1/approvals")).data["items"]:
                if asked["runId"] == run_id and asked["status"] == "pending":
                    assert (await server.owner.post(f"/v1/approvals/{asked['id']}/approve", {})).status == 200
                    return
            await asyncio.sleep(0.05)


async def _start(server: Composition, nodes: dict[str, Any]) -> str:
    return str((await server.owner.post("/v1/runs", {"definition": {"nodes": nodes}})).data["runId"])


def _paid(node: Anvil, to: str) -> int:
    return int(_web3(node).eth.get_balance(Web3.to_checksum_address(to)))


def _used(node: Anvil) -> int:
    return int(_web3(node).eth.get_transaction_count(Web3.to_checksum_address(ALICE)))


_LATER_INTO_POSTGRESQL = pytest.mark.parametrize(
    "target", ["to sqlite", pytest.param("to postgresql", marks=pytest.mark.long)], indirect=True
)
"""What is restored does not depend on the store: for each change two tests fill a PostgreSQL."""


@pytest.mark.parametrize(
    ("target", "first"),
    [
        ("to sqlite", "old"),
        ("to postgresql", "restored"),
        pytest.param("to sqlite", "restored", marks=pytest.mark.long),
        pytest.param("to postgresql", "old", marks=pytest.mark.long),
    ],
    indirect=["target"],
)
async def test_a_run_of_the_backup_that_spends_later_waits_for_a_person(
    tmp_path: Path, node: Anvil, target: tuple[str, Path], first: str
) -> None:
    """The old server still runs: it pays, and the restored one asks before it does, whichever comes to it first."""
    async with open_outbox(tmp_path, node) as old:
        run = await _start(old.composition, _asking(PAY))
        await _restore(old, target, tmp_path)
        async with _served(old, target, tmp_path) as restored:
            if first == "old":
                await _approve(old.composition, run)
                assert await _ended(old.composition, run, node) == "success"
            await _approve(restored, run)
            held = await _until_held(restored)
            assert (await restored.parts.database.read(attention.count))["payment-held"] == 1
            (shown,) = (await restored.owner.get("/v1/overview?since=2020-01-01T00:00:00Z")).data["attention"]
            assert (shown["kind"], shown["id"], shown["message"]) == ("payment-held", run, held["waitsBecause"])
            assert "its run was open in the backup or copy" in held["waitsBecause"].lower()
            if first == "restored":
                await _approve(old.composition, run)
                assert await _ended(old.composition, run, node) == "success"
            assert (await _until_held(restored))["hash"] is None
            assert (_paid(node, address(1)), _used(node)) == (7, 1)
            await restored.owner.post(f"/v1/runs/{run}/cancel", {})
            assert await _ended(restored, run, node) == "cancelled"
            assert (_paid(node, address(1)), _used(node)) == (7, 1)


@_LATER_INTO_POSTGRESQL
async def test_what_begins_after_the_restore_does_not_release_what_was_open(
    tmp_path: Path, node: Anvil, target: tuple[str, Path]
) -> None:
    async with open_outbox(tmp_path, node) as old:
        run = await _start(old.composition, _asking(PAY))
        await _restore(old, target, tmp_path)
        async with _served(old, target, tmp_path) as restored:
            new = await _start(restored, {"root": {"type": "manual", "children": ["pay"]}, "pay": PAY})
            assert await _ended(restored, new, node) == "success"
            await _approve(restored, run)
            assert (await _until_held(restored))["runId"] == run
            body = {"walletId": old.wallet_id, "chainId": CHAIN_ID}
            assert (await restored.owner.post("/v1/transactions/release", body)).data["released"] == 1
            assert await _ended(restored, run, node) == "success"
        assert (_paid(node, address(1)), _used(node)) == (14, 2)


async def test_a_copy_started_beside_the_store_waits_for_a_person(tmp_path: Path, node: Anvil) -> None:
    """Nobody used `dustrun restore`: the file was copied while the old server goes on."""
    folder = tmp_path / "copied"
    folder.mkdir(mode=0o700)
    async with open_outbox(tmp_path, node) as old:
        run = await _start(old.composition, _asking(PAY))
        source = sqlite3.connect(old.composition.parts.settings.data_dir / "dustrun.db")
        copy = sqlite3.connect(folder / "dustrun.db")
        source.backup(copy)
        source.close()
        copy.close()
        shutil.copy(old.composition.parts.settings.data_dir / "owner.key", folder / "owner.key")
        target = f"sqlite:///{folder / 'dustrun.db'}", folder
        async with _served(old, target, tmp_path) as copied:
            await _approve(copied, run)
            await _until_held(copied)
            await _approve(old.composition, run)
            assert await _ended(old.composition, run, node) == "success"
            assert (await _until_held(copied))["hash"] is None
        assert (_paid(node, address(1)), _used(node)) == (7, 1)


@_LATER_INTO_POSTGRESQL
async def test_a_signature_of_a_run_of_the_backup_is_made_by_a_retry_only(
    tmp_path: Path, node: Anvil, target: tuple[str, Path]
) -> None:
    async with open_outbox(tmp_path, node) as old:
        run = await _start(old.composition, _asking(SIGN))
        await _restore(old, target, tmp_path)
        async with _served(old, target, tmp_path) as restored:
            await _approve(restored, run)
            assert await _ended(restored, run, node) == "failure"
            assert [one["status"] for one in (await restored.owner.get("/v1/signatures")).data["items"]] == ["refused"]
            again = (await restored.owner.post(f"/v1/runs/{run}/retry", {})).data["runId"]
            assert await _ended(restored, again, node) == "success"


@pytest.mark.parametrize(
    ("target", "state"),
    [
        ("to sqlite", "not broadcast"),
        ("to postgresql", "in the pool"),
        ("to sqlite", "mined"),
        pytest.param("to postgresql", "not broadcast", marks=pytest.mark.long),
        pytest.param("to sqlite", "in the pool", marks=pytest.mark.long),
        pytest.param("to postgresql", "mined", marks=pytest.mark.long),
    ],
    indirect=["target"],
)
async def test_what_was_signed_in_the_backup_is_paid_once_and_stays_reserved(
    tmp_path: Path, node: Anvil, target: tuple[str, Path], state: str
) -> None:
    """Both servers follow it, and both send its bytes, which are the same."""
    limit = {"asset": f"eip155:{CHAIN_ID}/native", "maxUnits": "12", "windowMs": 3_600_000}
    async with open_outbox(tmp_path, node) as old:
        path = f"/v1/wallets/{old.wallet_id}/policy"
        await old.composition.owner.put(path, {"policy": {**ANYTHING, "limits": [limit]}})
        await old.pay("pay", transfer(address(1), 7))
        await _restore(old, target, tmp_path)
        if state == "not broadcast":
            await old.outbox.stop()
            node.rpc("anvil_dropAllTransactions")
        elif state == "mined":
            node.mine()
        async with _served(old, target, tmp_path) as restored:
            async with asyncio.timeout(60):
                while (await _transactions(restored))[0]["status"] != "final":
                    node.mine()
                    await asyncio.sleep(0.05)
            assert (_paid(node, address(1)), _used(node)) == (7, 1)
            more = {"root": {"type": "manual", "children": ["pay"]}, "pay": PAY}
            assert await _ended(restored, await _start(restored, more), node) == "failure"
            assert [one["status"] for one in await _transactions(restored)] == ["refused", "final"]
        if state != "not broadcast":
            await old.settled("pay")
        assert (_paid(node, address(1)), _used(node)) == (7, 1)


@_LATER_INTO_POSTGRESQL
async def test_a_cancel_after_the_backup_is_not_outbid(tmp_path: Path, node: Anvil, target: tuple[str, Path]) -> None:
    """The restored server knows the payment and not its cancel, which waits in the pool."""
    async with open_outbox(tmp_path, node) as old:
        status = await old.pay("pay", transfer(address(1), 7))
        await _restore(old, target, tmp_path)
        name = status.transactions[0]["id"]
        assert (await old.composition.owner.post(f"/v1/transactions/{name}/cancel", {})).status == 200
        await old.outbox.stop()
        async with _served(old, target, tmp_path, transaction_stuck_s=0.2) as restored:
            async with asyncio.timeout(60):
                while "its bid is not raised" not in ((await _transactions(restored))[0]["waitsBecause"] or ""):
                    await asyncio.sleep(0.05)
            async with asyncio.timeout(60):
                while (await _transactions(restored))[0]["status"] != "displaced":
                    node.mine()
                    await asyncio.sleep(0.05)
        assert (_paid(node, address(1)), _used(node)) == (0, 1)
