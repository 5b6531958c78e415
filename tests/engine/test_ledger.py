"""The ledger for accounting against a real chain: its lines add up to what the balances really changed by."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from dustrun.services.access.principal import Principal
from dustrun.services.wallets.ledger import COLUMNS
from dustrun.storage.db.ledger_tables import ledger_due, ledger_entries
from dustrun.storage.money import ledger as ledger_rows
from dustrun.storage.money.ledger import EntryRow, LedgerFilters
from engine.conftest import Bench
from engine.test_chain_actions import CASES, Shop
from outbox import ALICE, ANYTHING, Outbox, address, open_outbox
from testkit.chain.anvil import ACCOUNTS, CHAIN_ID, KEYS
from testkit.chain.contracts import ETHER, World

CAROL = ACCOUNTS[3]
NATIVE = f"eip155:{CHAIN_ID}/native"
TOKENS = ("usdc", "weth", "fee", "rebasing", "race")
Json = dict[str, Any]


class Books(Shop):
    """A server on a chain with every contract, whose wallet Alice pays, and Carol's wallet is paid."""

    def __init__(self, outbox: Outbox, witness: Any, carol: str) -> None:
        super().__init__(Bench(outbox.composition), witness)
        self.outbox, self.node, self.api = outbox, outbox.node, outbox.composition.owner
        self.wallets = {ALICE: outbox.wallet_id, CAROL: carol}

    def asset(self, name: str) -> str:
        return NATIVE if name == "native" else f"eip155:{CHAIN_ID}/erc20:{self.witness.addresses[name]}"

    def balances(self) -> dict[tuple[str, str], int]:
        """What both wallets have, by web3.py."""
        own = {(who, NATIVE): self.witness.native(who) for who in self.wallets}
        return own | {(who, self.asset(n)): self.witness.balance(n, who) for n in TOKENS for who in self.wallets}

    async def entries(self, **query: Any) -> list[Json]:
        """All entries, as JSON lines, once nothing is due."""
        async with asyncio.timeout(60):
            while await self.outbox.composition.rows(sa.select(ledger_due.c.transaction_id)):
                await asyncio.sleep(0.02)
        reply = await self.api.http.get("/v1/ledger", params={"format": "jsonl", **query})
        assert reply.status_code == 200, reply.text
        return [json.loads(line) for line in reply.text.splitlines()]

    async def sums(self) -> dict[tuple[str, str], int]:
        found: dict[tuple[str, str], int] = {}
        for one in await self.entries():
            if one["kind"] != "allowance":
                pair = (one["address"], one["asset"])
                found[pair] = found.get(pair, 0) + int(one["amount"])
        return found

    async def check(self, before: dict[tuple[str, str], int]) -> None:
        """The lines add up to what the chain says."""
        now, sums = self.balances(), await self.sums()
        assert {pair: now[pair] - before[pair] for pair in now} == {pair: sums.get(pair, 0) for pair in now}


@pytest.fixture
async def books(tmp_path: Path, world: World) -> AsyncIterator[Books]:
    with world.node() as node:
        left_out = {"chain_id", "block_time_ms", "confirmations", "endpoints"}
        network = world.network(node.url).model_dump(mode="json", by_alias=True, exclude=left_out)
        witness = world.witness(node)
        witness.send("nft", "mint", ALICE, 7)
        witness.send("race", "approve", CAROL, 3, sender=ALICE)
        async with open_outbox(tmp_path, node, network={**network, "confirmations": 1}) as outbox:
            api = outbox.composition.owner
            policy = {**ANYTHING, "allowUnpricedAssets": True, "allowDeploy": True}
            assert (await api.put(f"/v1/wallets/{outbox.wallet_id}/policy", {"policy": policy})).status == 200
            carol = (await api.post("/v1/wallets/import", {"name": "carol", "privateKey": KEYS[3]})).data["id"]
            yield Books(outbox, witness, carol)


async def test_the_lines_of_every_action_add_up_to_the_balances(books: Books) -> None:
    before = books.balances()
    for _, kind, payload in CASES:
        await books.result(kind, payload)
    await books.result("send-native", {"recipient": CAROL, "amount": str(ETHER)}, dustTest=True)
    await books.check(before)
    entries = await books.entries()
    assert {one["basis"] for one in entries if one["kind"] in ("send", "receive")} <= {"balance", "block", "event"}
    assert not [one for one in entries if one["basis"] == "event" and "/erc721:" not in one["asset"]
                and one["kind"] != "allowance"]  # fmt: skip
    nft = [one for one in entries if "/erc721:" in one["asset"]]
    assert [(one["walletId"], one["amount"]) for one in nft] == [
        (books.wallets[ALICE], "-1"),
        (books.wallets[CAROL], "1"),
    ]
    paid = next(one for one in entries if one["kind"] == "send")
    assert paid["amountFormatted"] == "-0.000000000000000005"
    assert (paid["priceUsd"], paid["priceSource"], paid["symbol"]) == ("2500.00000000", "feed", "ETH")
    assert paid["valueUsd"] == "-0.0000000000000125"
    assert paid["startedBy"] == books.outbox.key_id
    dust = [one for one in entries if one["mode"] == "dust" and one["kind"] == "send"]
    assert [-5 * 10**12 < int(one["amount"]) <= -4 * 10**12 for one in dust] == [True]


async def _sent(books: Books, count: int) -> list[Json]:
    """The open transactions, once so many are."""
    async with asyncio.timeout(60):
        while True:
            found: list[Json] = (await books.api.get("/v1/transactions?status=sent&limit=100")).data["items"]
            if len(found) >= count:
                return found
            await asyncio.sleep(0.02)


def _pay(amount: int, to: str = CAROL) -> Json:
    return {"type": "send-native", "payload": {"chainId": CHAIN_ID, "recipient": to, "amount": str(amount)}}


async def test_one_block_with_reverts_replacements_cancels_and_a_swap_adds_up(books: Books) -> None:
    await books.result(
        "approve-erc20", {"token": "usdc", "spender": books.witness.addresses["v2_router"], "amount": str(10**9)}
    )
    before, node = books.balances(), books.node
    sums = await books.sums()
    refuses = address(9)
    node.set_automine(False)
    runs = [await books.bench.start({"pay": _pay(amount)}) for amount in (11, 13)]
    runs.append(await books.bench.start({"pay": _pay(17, refuses)}))
    swap = {"tokenIn": books.witness.addresses["usdc"], "tokenOut": "native", "amountIn": str(25 * 10**6)}
    runs.append(
        await books.bench.start({"swap": {"type": "swap-uniswap-v2", "payload": {"chainId": CHAIN_ID, **swap}}})
    )
    by_value = {one["value"]: one for one in await _sent(books, 4)}
    await books.api.post(f"/v1/transactions/{by_value['11']['id']}/speed-up", {})
    await books.api.post(f"/v1/transactions/{by_value['13']['id']}/cancel", {})
    node.rpc("anvil_setCode", refuses, "0x5f5ffd")  # reverts, after the estimate
    node.mine()
    node.set_automine(True)
    for run in runs:
        await books.bench.ended(run)
    now, later = books.balances(), await books.sums()
    assert {pair: now[pair] - before[pair] for pair in now} == {
        pair: later.get(pair, 0) - sums.get(pair, 0) for pair in now
    }
    entries = await books.entries(kind="fee")
    assert {(one["outcome"], one["attempt"], one["attempts"]) for one in entries} >= {
        ("final", "replace", 2),
        ("cancelled", "cancel", 2),
        ("reverted", "send", 1),
        ("final", "send", 1),
    }
    assert len({one["blockNumber"] for one in entries[1:]}) == 1


async def test_a_stranger_in_the_block_is_not_counted_as_ours(books: Books) -> None:
    node = books.node
    node.set_automine(False)
    run = await books.bench.start({"pay": _pay(11)})
    await _sent(books, 1)
    node.rpc("eth_sendTransaction", {"from": ACCOUNTS[0], "to": ALICE, "value": hex(1000)})
    node.mine()
    node.set_automine(True)
    await books.bench.ended(run)
    entries = await books.entries(walletId=books.wallets[ALICE])
    assert [(one["kind"], one["basis"]) for one in entries] == [("fee", "receipt"), ("send", "event")]
    assert entries[1]["amount"] == "-11"


async def test_a_long_export_comes_in_pieces_and_its_texts_are_no_formulas(books: Books) -> None:
    await books.result("send-native", {"recipient": CAROL, "amount": "5"})
    await books.entries()
    composition, table = books.outbox.composition, ledger_entries
    (row,) = await composition.rows(sa.select(table).where(table.c.kind == "send"))
    columns = dict(zip(table.c.keys(), row, strict=True))
    more = [EntryRow(**{**columns, "number": 100 + n, "path": '=HYPERLINK("x")'}) for n in range(600)]
    every = [EntryRow(**columns), *more]
    await composition.parts.writer.write(lambda tx: ledger_rows.write(tx, columns["transaction_id"], every))
    principal = Principal("key_1", books.outbox.org_id, frozenset())
    ledger = composition.parts.money.ledger
    pieces = [piece async for piece in ledger.export(principal, LedgerFilters(kind="send"), "csv")]
    assert len(pieces) == 4
    lines = list(csv.DictReader(io.StringIO(b"".join(pieces).decode())))
    assert len({line["id"] for line in lines}) == len(lines) == 601
    assert {line["path"] for line in lines} == {"it", '\'=HYPERLINK("x")'}
    assert {line["amount"] for line in lines} == {"-5"}


async def test_an_export_follows_accept_filters_and_permissions(books: Books) -> None:
    await books.result("send-native", {"recipient": CAROL, "amount": "5"})
    await books.entries()
    named = await books.api.http.get("/v1/ledger", headers={"Accept": "text/csv"})
    assert named.headers["content-type"] == "text/csv; charset=utf-8"
    lines = list(csv.DictReader(io.StringIO(named.text)))
    assert tuple(lines[0]) == COLUMNS
    assert [line["amount"] for line in lines if line["kind"] == "send"] == ["-5"]
    page = (await books.api.get(f"/v1/ledger?walletId={books.wallets[CAROL]}")).data
    assert [one["kind"] for one in page["items"]] == ["receive"]
    assert (await books.api.get(f"/v1/ledger?to={lines[0]['time']}")).data["items"] == []
    refused = await books.api.get("/v1/ledger?from=2026-02-01T00:00:00Z&to=2026-01-01T00:00:00Z")
    assert refused.fields == ["to"]
    limited = await books.outbox.composition.client_with("wallet:read")
    assert (await limited.get("/v1/ledger")).status == 403
