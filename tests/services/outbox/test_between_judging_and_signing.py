"""What changes after a spend is judged and before it is written: the unit that writes it holds it against that."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from dustrun.core.values.exact_json import dumps_text
from dustrun.storage.db.tables import runs
from outbox import ANYTHING, Outbox, address, open_outbox, transfer
from testkit.chain.anvil import CHAIN_ID, Anvil

NATIVE = f"eip155:{CHAIN_ID}/native"
FLOW = {
    "root": {"type": "manual", "children": ["wait"]},
    "wait": {"type": "wait", "payload": {"timeoutMs": 3_600_000}, "children": ["read"]},
    "read": {"type": "read-table", "payload": {"table": "t"}, "children": ["pay"]},
    "pay": {
        "type": "send-native",
        "payload": {"chainId": CHAIN_ID, "recipient": address(1), "amount": "{{read.result.first.n}}"},
    },
}


class Meanwhile:
    """Writes into the store once, when transactions are signed and not yet written."""

    def __init__(self, folder: Path) -> None:
        self._store = folder / "dustrun.db"
        self.statements: list[tuple[str, tuple[object, ...]]] = []

    def __call__(self, step: str) -> None:
        if step == "signed" and self.statements:
            with sqlite3.connect(self._store, timeout=30) as store:
                for sql, values in self.statements:
                    store.execute(sql, values)
            store.close()
            self.statements.clear()


@pytest.fixture
async def outbox(tmp_path: Path, node: Anvil) -> AsyncIterator[Outbox]:
    async with open_outbox(tmp_path, node) as outbox:
        yield outbox


async def test_a_policy_that_changes_meanwhile_is_held_against_the_spend(outbox: Outbox, tmp_path: Path) -> None:
    """Also what it says of the outflow, which was simulated under the former one."""
    path = f"/v1/wallets/{outbox.wallet_id}/policy"
    assert (await outbox.composition.owner.put(path, {"policy": {**ANYTHING, "outflow": {}}})).status == 200
    meanwhile = Meanwhile(tmp_path)
    outbox.reborn(meanwhile)
    changed = dumps_text({**ANYTHING, "outflow": {"assets": {NATIVE: "4"}}})
    meanwhile.statements.append(
        (
            "INSERT INTO wallet_policies SELECT wallet_id, version + 1, ?, is_looser, effective_at, cancelled_at,"
            " created_by, created_at FROM wallet_policies WHERE wallet_id = ? ORDER BY version DESC LIMIT 1",
            (changed, outbox.wallet_id),
        )
    )
    denied = await outbox.pay("pay", transfer(address(1), 5))
    assert meanwhile.statements == []
    assert denied.failure is not None
    assert denied.failure.code == "OUTFLOW_EXCEEDED"
    assert (await outbox.pay("less", transfer(address(1), 4))).status == "open"


async def test_a_row_that_is_written_meanwhile_is_held_against_the_spend(outbox: Outbox, tmp_path: Path) -> None:
    """By a key that may not spend; what it writes into another table bars nothing."""
    owner = outbox.composition.owner
    columns = [{"name": "id", "type": "text"}, {"name": "n", "type": "text"}]
    ids = {}
    for name in ("t", "other"):
        made = await owner.post("/v1/tables", {"name": name, "primaryKey": "id", "columns": columns})
        assert made.status == 200
        ids[name] = made.data["id"]
    flow = await owner.create_workflow({"nodes": FLOW})
    started = (await owner.post(f"/v1/workflows/{flow['id']}/run", {})).data["runId"]
    ((run_pk,),) = await outbox.composition.rows(sa.select(runs.c.pk).where(runs.c.id == started))
    place = {"run_id": started, "root_run_id": started, "run_pk": run_pk, "workflow_id": flow["id"]}
    writer = await outbox.composition.client_with("table:write")
    key = (await writer.get("/v1/me")).data["keyId"]
    meanwhile = Meanwhile(tmp_path)
    outbox.reborn(meanwhile)
    columns_of = "(org_id, kind, object, key_id, wallets, writes, changed_at)"
    writes = f"INSERT INTO hands {columns_of} VALUES (?, 'table', ?, ?, NULL, 1, 1)"
    meanwhile.statements.append((writes, (outbox.org_id, ids["other"], key)))
    assert (await outbox.pay("pay", transfer(address(1), 5), **place)).status == "open"
    assert meanwhile.statements == []
    meanwhile.statements.append((writes, (outbox.org_id, ids["t"], key)))
    denied = await outbox.pay("each[1].pay", transfer(address(1), 5), **place)
    assert denied.failure is not None
    assert (denied.failure.code, 'the table "t"' in denied.failure.message) == ("REFUSED", True)
    assert meanwhile.statements == []
