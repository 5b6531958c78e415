"""Wallets and their policies over a real store of each dialect."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from dustrun import clock
from dustrun.errors import Conflict, Permanent
from dustrun.storage.db import ledger_tables as tables
from dustrun.wallets.signer import UnsignedTransaction
from testkit.composition import DEFINITION, Client, Composition, composed

KEY = "0x" + "11" * 32
ADDRESS = "0x19E7E376E7C213B7E7e7e46cc70A5dD086DAff2A"
WIDE: dict[str, Any] = {"chains": ["*"], "assets": ["*"], "recipients": ["*"]}


@pytest.fixture
async def server(store_url: str, tmp_path: Path) -> AsyncIterator[Composition]:
    async with composed(tmp_path, database_url=store_url) as found:
        yield found


@pytest.fixture
def owner(server: Composition) -> Client:
    return server.owner


async def make(caller: Client, name: str = "w", **fields: Any) -> dict[str, Any]:
    found: dict[str, Any] = (await caller.post("/v1/wallets", {"name": name, **fields})).data
    return found


async def test_the_first_wallet_that_signs_is_the_default(server: Composition, owner: Client) -> None:
    watched = await make(owner, kind="watch", address=ADDRESS)
    first, second = await make(owner, "first"), await make(owner, "second")
    assert [found["isDefault"] for found in (watched, first, second)] == [False, True, False]
    third = await make(owner, "third", isDefault=True)
    listed = (await owner.get("/v1/wallets")).data["items"]
    assert [item["id"] for item in listed] == [third["id"], second["id"], first["id"], watched["id"]]
    moved = await owner.put(f"/v1/wallets/{second['id']}/default")
    assert moved.data["isDefault"] is True
    view = await server.parts.money.wallets.find_view(second["organizationId"], None)
    assert view is not None
    assert (view.id, view.address) == (second["id"], second["address"])
    assert (await owner.put(f"/v1/wallets/{watched['id']}/default")).code == 409042


@pytest.mark.both_stores
async def test_what_is_imported_signs_as_that_key_also_after_a_restart(store_url: str, tmp_path: Path) -> None:
    async with composed(tmp_path, database_url=store_url) as server:
        made = (await server.owner.post("/v1/wallets/import", {"name": "w", "privateKey": KEY})).data
        assert made["address"] == ADDRESS
    async with composed(tmp_path, database_url=store_url) as server:
        row = await server.parts.money.wallets.find_signing(made["organizationId"], made["id"])
        assert row is not None
        signer = server.parts.money.wallets.signer_of(row)
        unsigned = UnsignedTransaction(1, 0, ADDRESS, 1, b"", 21_000, 10, 1)
        first = await signer.sign_transaction(unsigned)
        assert first == await signer.sign_transaction(unsigned)
        assert repr(row).count("sealed") == 0
        await server.execute(sa.update(tables.wallets).values(address="0x" + "00" * 20))
        wrong = await server.parts.money.wallets.find_signing(made["organizationId"], made["id"])
        assert wrong is not None
        server.parts.money.wallets._signers.forget(made["id"])
        with pytest.raises(Permanent, match="does not match its address"):
            await server.parts.money.wallets.signer_of(wrong).sign_transaction(unsigned)


@pytest.mark.both_stores
async def test_one_key_has_one_writer_in_the_whole_store(server: Composition, owner: Client) -> None:
    first = (await owner.post("/v1/wallets/import", {"name": "w", "privateKey": KEY})).data
    again = await owner.post("/v1/wallets/import", {"name": "x", "privateKey": KEY})
    assert (again.code, again.body["details"][0]["id"]) == (409040, first["id"])
    assert (await owner.post("/v1/wallets", {"name": "x", "kind": "watch", "address": ADDRESS})).code == 409040
    other = await server.other_owner()
    refused = await other.post("/v1/wallets/import", {"name": "x", "privateKey": KEY})
    assert (refused.code, first["id"] in str(refused.body), first["organizationId"] in str(refused.body)) == (
        409040,
        False,
        False,
    )
    await make(other, kind="watch", address=ADDRESS)  # to look is free
    with pytest.raises(Exception, match=r"(?i)unique"):
        await server.execute(sa.update(tables.wallets).values(held_address=ADDRESS))
    await make(owner, "default", isDefault=True)
    assert (await owner.delete(f"/v1/wallets/{first['id']}")).data["canSign"] is False
    assert (await other.get("/v1/wallets")).data["items"][0]["canSign"] is False
    taken = await other.post("/v1/wallets/import", {"name": "x", "privateKey": KEY})
    assert taken.code == 409040  # it watches the address itself
    assert (await owner.post("/v1/wallets/import", {"name": "y", "privateKey": KEY})).data["address"] == ADDRESS


async def test_archiving_says_what_stands_in_the_way(server: Composition, owner: Client) -> None:
    default, wallet = await make(owner, "default"), await make(owner, "spare")
    assert "default" in (await owner.delete(f"/v1/wallets/{default['id']}")).body["message"]
    definition = {
        "nodes": {
            "root": {"type": "manual", "children": ["say"]},
            "say": {"type": "log", "connector": {"type": "wallet", "id": wallet["id"]}, "payload": {"message": "x"}},
        },
        "triggerNodeIds": ["root"],
    }
    flow = await owner.create_workflow(definition)
    path = f"/v1/wallets/{wallet['id']}"
    named = await owner.delete(path)
    assert (named.code, named.body["details"][0]["id"]) == (409041, flow["id"])
    await owner.post("/v1/runs/sync", {"definition": DEFINITION})
    opened = {**_filler(tables.signatures, wallet), "id": "sig_1", "state": "planned", "run_pk": 1}
    await server.execute(sa.insert(tables.signatures).values(**opened))
    still = await owner.delete(f"{path}?force=true")
    assert (still.code, still.body["details"][0]["id"]) == (409041, "sig_1")
    await server.execute(sa.update(tables.signatures).values(state="signed"))
    gone = (await owner.delete(f"{path}?force=true")).data
    (problem,) = (await owner.post("/v1/workflows/validate", {"definition": definition})).data["errors"]
    assert (problem["code"], problem["field"]) == ("archived_wallet", "nodes.say.connector.id")
    assert (gone["canSign"], gone["archivedAt"] is None) == (False, False)
    assert (await owner.delete(path)).data == gone
    assert (await owner.get(path)).data == gone
    assert [item["id"] for item in (await owner.get("/v1/wallets")).data["items"]] == [default["id"]]
    assert len((await owner.get("/v1/wallets?archived=true")).data["items"]) == 2
    for change in (owner.send("PATCH", path, {"name": "x"}), owner.put(f"{path}/default")):
        assert (await change).code == 409042
    assert (await owner.put(f"{path}/policy", {"policy": {}})).code == 409042
    assert "keystore" in (await owner.post(f"{path}/export", {"password": "long enough"})).data
    row = await server.parts.money.wallets.find_signing(wallet["organizationId"], wallet["id"])
    assert row is None


async def test_a_wallet_that_is_not_there_is_told_before_the_run(owner: Client) -> None:
    connector = {"type": "wallet", "id": "treasury"}
    definition = {
        "nodes": {
            "root": {"type": "manual", "children": ["say"]},
            "say": {"type": "log", "connector": connector, "payload": {"message": "x"}},
        },
        "triggerNodeIds": ["root"],
    }
    found = (await owner.post("/v1/workflows/validate", {"definition": definition})).data
    assert [(problem["code"], problem["field"]) for problem in found["errors"]] == [
        ("unknown_wallet", "nodes.say.connector.id")
    ]
    flow = await owner.create_workflow(definition)
    assert (await owner.post(f"/v1/workflows/{flow['id']}/publish")).code == 400228


def _filler(table: sa.Table, wallet: dict[str, Any]) -> dict[str, Any]:
    """A row of the ledger that nothing reads but its wallet and state."""
    known = {"wallet_id": wallet["id"], "org_id": wallet["organizationId"]}
    found: dict[str, Any] = {}
    for column in table.columns:
        if column.name in known:
            found[column.name] = known[column.name]
        elif not column.nullable and not column.foreign_keys:
            found[column.name] = 0 if isinstance(column.type, sa.Integer) else "x"
    return found


# --- policies ---


async def test_a_new_wallet_denies_everything_and_says_so(owner: Client) -> None:
    wallet = await make(owner)
    assert f"PUT /v1/wallets/{wallet['id']}/policy" in wallet["hint"]
    found = (await owner.get(f"/v1/wallets/{wallet['id']}/policy")).data
    assert (found["version"], found["newestVersion"], found["pending"]) == (1, 1, None)
    assert not any(found["policy"][name] for name in ("chains", "assets", "recipients", "contracts", "methods"))


async def test_tightening_works_at_once_and_loosening_needs_more(server: Composition, owner: Client) -> None:
    wallet = await make(owner)
    path = f"/v1/wallets/{wallet['id']}/policy"
    writer = await server.client_with("wallet:read", "wallet:write")
    refused = await writer.put(path, {"policy": WIDE})
    assert (refused.code, sorted(refused.fields)) == (403001, ["policy.assets", "policy.chains", "policy.recipients"])
    assert (await owner.put(path, {"policy": WIDE, "expectedVersion": 2})).code == 409043
    assert (await owner.put(path, {"policy": WIDE, "expectedVersion": 1})).data["version"] == 2
    assert (await owner.put(path, {"policy": WIDE})).data["version"] == 2  # the same again makes no version
    tighter = WIDE | {"limits": [{"maxUsd": "5", "windowMs": 3_600_000}]}
    assert (await writer.put(path, {"policy": tighter})).data["version"] == 3
    assert (await writer.put(path, {"policy": WIDE})).fields == ["policy.limits"]
    later = clock.to_rfc3339(clock.now_ms() + 60_000)
    assert (await writer.put(path, {"policy": {}, "effectiveAt": later})).fields == ["effectiveAt"]
    assert (await writer.put(path, {"policy": {}})).data["version"] == 4
    history = (await owner.get(f"{path}/history")).data["items"]
    assert [(item["version"], item["isLooser"]) for item in history] == [(4, False), (3, False), (2, True), (1, False)]
    audit = (await owner.get("/v1/audit")).data["items"]
    assert [item["action"] for item in audit if item["subject"] == wallet["id"]][:3] == ["wallet.policy"] * 3


@pytest.mark.both_stores
async def test_a_loosening_waits_and_is_cancelled_by_the_next_version(store_url: str, tmp_path: Path) -> None:
    async with composed(tmp_path, database_url=store_url, policy_delay_s=3600) as server:
        wallet = await make(server.owner)
        path = f"/v1/wallets/{wallet['id']}/policy"
        waiting = (await server.owner.put(path, {"policy": WIDE})).data
        assert (waiting["version"], waiting["newestVersion"], waiting["pending"]["version"]) == (1, 2, 2)
        soon = clock.to_rfc3339(clock.now_ms() + 1000)
        second = (await server.owner.put(path, {"policy": WIDE, "effectiveAt": soon})).data
        assert second["pending"]["effectiveAt"] > clock.to_rfc3339(clock.now_ms() + 3_500_000)
        far = clock.to_rfc3339(clock.now_ms() + 400 * 86_400_000)
        assert (await server.owner.put(path, {"policy": WIDE, "effectiveAt": far})).fields == ["effectiveAt"]
        history = (await server.owner.get(f"{path}/history")).data["items"]
        assert [(i["isPending"], i["cancelledAt"] is not None) for i in history] == [
            (True, False),
            (False, True),
            (False, False),
        ]
        await server.execute(sa.update(tables.wallet_policies).values(effective_at=clock.now_ms()))
        in_force = (await server.owner.get(path)).data
        assert (in_force["version"], in_force["pending"]) == (3, None)  # the cancelled one never comes into force
        again = (await server.owner.put(path, {"policy": WIDE | {"allowDeploy": True}})).data
        assert again["pending"]["version"] == 4
        stopped = (await server.owner.put(path, {"policy": {}})).data
        assert (stopped["version"], stopped["pending"]) == (5, None)


async def test_spending_shows_each_window(owner: Client) -> None:
    wallet = await make(owner)
    limits = [
        {"maxUsd": "12.5", "windowMs": 3_600_000},
        {"maxCount": 3, "windowMs": 86_400_000},
        {"asset": "eip155:1/native", "maxUnits": "7", "windowMs": 3_600_000},
        {"maxUsd": "1"},
    ]
    await owner.put(f"/v1/wallets/{wallet['id']}/policy", {"policy": WIDE | {"limits": limits}})
    found = (await owner.get(f"/v1/wallets/{wallet['id']}/spending")).data
    assert [(item["measure"], item["max"], item["remaining"]) for item in found["items"]] == [
        ("usd", "12.5", "12.5"),
        ("count", "3", "3"),
        ("eip155:1/native", "7", "7"),
    ]


async def test_wallets_that_cannot_sign_have_no_signer(server: Composition, owner: Client) -> None:
    watched = await make(owner, kind="watch", address=ADDRESS)
    assert await server.parts.money.wallets.find_view(watched["organizationId"], watched["id"]) is None
    row = await server.parts.money.wallets.get(_principal(watched), watched["id"])
    with pytest.raises(Conflict, match="is watch-only"):
        server.parts.money.wallets.signer_of(row)


def _principal(wallet: dict[str, Any]) -> Any:
    from dustrun.services.access.principal import Principal

    return Principal("key_x", wallet["organizationId"], frozenset({"wallet:read"}))
