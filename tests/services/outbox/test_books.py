"""When the ledger gets its entries and loses them: after a final receipt, after a restart, when a block is lost."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from dustrun.storage.db.ledger_tables import ledger_due, ledger_entries, transactions
from outbox import ANYTHING, NATIVE, Outbox, address, open_outbox, transfer
from testkit.chain.anvil import CHAIN_ID, Anvil

Rows = list[tuple[Any, ...]]


async def entries(outbox: Outbox, count: int) -> Rows:
    """Kind, amount, basis and price of all entries, once there are so many and nothing is due."""
    t = ledger_entries.c
    async with asyncio.timeout(60):
        while True:
            found = await outbox.composition.rows(sa.select(t.kind, t.units, t.basis, t.price).order_by(t.number))
            due = await outbox.composition.rows(sa.select(ledger_due))
            if len(found) == count and not due:
                return list(found)
            await asyncio.sleep(0.02)


async def final(outbox: Outbox) -> None:
    outbox.node.set_automine(True)
    await outbox.pay("pay", transfer(address(1), 5))
    await outbox.settled("pay")


async def test_a_block_that_is_taken_back_takes_its_entries_along(tmp_path: Path, node: Anvil, store_url: str) -> None:
    async with open_outbox(tmp_path, node, store_url, network={"confirmations": 1}) as outbox:
        snapshot = node.snapshot()
        await final(outbox)
        assert [row[:3] for row in await entries(outbox, 2)][1] == ("send", "-5", "balance")
        before = (await outbox.composition.rows(sa.select(ledger_entries.c.hash)))[0]
        node.set_automine(False)
        node.revert(snapshot)
        node.mine(5)
        await entries(outbox, 0)
        node.set_automine(True)
        node.mine()
        await outbox.settled("pay")
        assert [row[:3] for row in await entries(outbox, 2)][1] == ("send", "-5", "balance")
        assert (await outbox.composition.rows(sa.select(ledger_entries.c.hash)))[0] == before


async def test_all_who_approved_are_named(tmp_path: Path, node: Anvil, store_url: str) -> None:
    async with open_outbox(tmp_path, node, store_url, network={"confirmations": 1}) as outbox:
        api = outbox.composition.owner
        policy = {**ANYTHING, "approvalAbove": {"assets": {NATIVE.key: "1"}}, "approval": {"quorum": 2}}
        assert (await api.put(f"/v1/wallets/{outbox.wallet_id}/policy", {"policy": policy})).status == 200
        node.set_automine(True)
        assert (await outbox.pay("pay", transfer(address(1), 5))).waits_for == "approval"
        items = (await api.get("/v1/approvals?status=pending")).data["items"]
        (asked,) = [one["id"] for one in items if one["path"] == "pay"]
        (spend,) = (await api.get(f"/v1/approvals/{asked}/spends")).data["items"]
        (moved,) = spend["movements"]
        assert (moved["amountFormatted"], moved["symbol"], moved["usd"]) == (
            "0.000000000000000005",
            "ETH",
            "0.00000000000001",
        )
        assert (moved["counterparty"], spend["walletId"]) == (address(1), outbox.wallet_id)
        assert spend["reasons"]
        assert int(spend["fee"]["amount"]) > 0
        approvers = []
        for _ in range(2):
            key = await outbox.composition.client_with("approval:decide")
            approvers.append((await key.get("/v1/me")).data["keyId"])
            assert (await key.post(f"/v1/approvals/{asked}/approve")).status == 200
        await outbox.outbox.advance(outbox.request("pay"))
        await outbox.settled("pay")
        await entries(outbox, 2)
        for line in (await api.get("/v1/ledger")).data["items"]:
            assert (line["approvedBy"], line["approvers"]) == (approvers[1], approvers)
        head, *lines = [*csv.reader(io.StringIO((await api.http.get("/v1/ledger?format=csv")).text))]
        assert [head[-1], *(json.loads(line[-1]) for line in lines)] == ["approvers", approvers, approvers]
        await outbox.composition.execute(sa.update(ledger_entries).values(approvers=sa.null()))  # as before
        assert (await api.get("/v1/ledger")).data["items"][0]["approvers"] == [approvers[1]]


async def test_what_was_final_before_there_was_a_ledger_is_entered_by_its_receipt(tmp_path: Path, node: Anvil) -> None:
    """As the migration leaves it: due since ever, and of a block whose balances no endpoint keeps any more."""
    async with open_outbox(tmp_path, node, network={"confirmations": 1}) as outbox:
        await final(outbox)
        await entries(outbox, 2)
        t, execute = transactions.c, outbox.composition.execute
        await execute(sa.delete(ledger_entries))
        ((id, known),) = await outbox.composition.rows(sa.select(t.id, t.block_hash))
        gone = "0x" + "ab" * 32
        old = {"block_hash": gone, "receipt": sa.func.replace(t.receipt, known, gone), "finished_at": 1}
        await execute(sa.update(transactions).values(old))
        await execute(sa.insert(ledger_due).values(transaction_id=id, chain_id=CHAIN_ID, since=0))
        await outbox.reborn().trackers.of(CHAIN_ID).books.write_some()
        found = await entries(outbox, 2)
        assert [row[0:3:2] for row in found] == [("fee", "receipt"), ("send", "event")]
        assert found[1][1] == "-5"


async def test_a_payee_is_known_by_what_was_really_paid(tmp_path: Path, node: Anvil, store_url: str) -> None:
    """Not by what a token says that anybody can make."""
    async with open_outbox(tmp_path, node, store_url, network={"confirmations": 1}) as outbox:
        api = outbox.composition.owner
        path = f"/v1/ledger/payees/{address(1)}"
        new = (await api.get(path)).data
        assert (new["count"], new["lastAt"], new["lastUsd"]) == (0, None, None)
        await final(outbox)
        await entries(outbox, 2)
        found = (await api.get(path)).data
        assert (found["count"], found["lastAmount"], found["lastSymbol"]) == (1, "0.000000000000000005", "ETH")
        since = "/v1/overview?since=2020-01-01T00:00:00Z"
        moved = (await api.get(since)).data["moved"]
        assert (moved["payments"], moved["unpriced"], moved["isPartial"]) == (1, 0, False)
        assert moved["usd"] == found["lastUsd"]
        assert float(moved["feesUsd"]) > 0
        assert (await api.get("/v1/overview?since=2999-01-01T00:00:00Z")).data["moved"]["payments"] == 0
        (wallet,) = (await api.get("/v1/wallets")).data["items"]
        own = {"counterparty": wallet["address"]}
        await outbox.composition.execute(sa.update(ledger_entries).where(ledger_entries.c.kind == "send").values(own))
        assert (await api.get(since)).data["moved"]["payments"] == 0
        fake = {"asset": f"eip155:{CHAIN_ID}/erc20:{address(9)}", "counterparty": address(1)}
        await outbox.composition.execute(sa.update(ledger_entries).where(ledger_entries.c.kind == "send").values(fake))
        assert (await api.get(path)).data["count"] == 0
        assert (await api.get(f"{path}?asset={fake['asset']}")).data["count"] == 1
