"""Troubles with chains, wallets and the outbox, really made, and what the doctor says of them."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dustrun.cli.doctor import checkups_money
from dustrun.cli.doctor.finding import Finding
from dustrun.cli.http.client import Client
from dustrun.settings import Settings
from dustrun.storage.db.database import Database
from served import Served, served
from testkit.chain.anvil import Anvil

NODE = "0x" + "00" * 19 + "aa"


@pytest.fixture(scope="module")
def node() -> Iterator[Anvil]:
    with Anvil() as found:
        yield found


@pytest.fixture(scope="module")
def server(node: Anvil, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Serves the local chain by two endpoints, and by mistake the node of it as Ethereum too."""
    endpoints = {str(node.chain_id): [node.url, "http://127.0.0.1:9/secret"], "1": [f"{node.url}/?key=secret"]}
    folder = tmp_path_factory.mktemp("money")
    with served(folder / "data", chain_endpoints=json.dumps(endpoints), log_level="error") as found:
        yield found


def _settings(server: Served, **changes: Any) -> Settings:
    return Settings(data_dir=server.data_dir, chain_endpoints={31337: ["http://127.0.0.1:9"]}, **changes)


def _local(server: Served, **changes: Any) -> dict[str, list[Finding]]:
    settings = _settings(server, **changes)
    database = Database(settings.store_url())
    try:
        return _by_name(checkups_money.local(settings, database))
    finally:
        database.close()


def _by_name(findings: list[Finding]) -> dict[str, list[Finding]]:
    found: dict[str, list[Finding]] = {}
    for finding in findings:
        found.setdefault(finding.name, []).append(finding)
    return found


def _client(server: Served) -> Client:
    return Client(server.url, server.key, timeout_s=60)


def _published(client: Client, name: str, wallet_id: str, chain_id: int) -> str:
    payload = {"chainId": chain_id, "recipient": NODE, "amount": "5"}
    pay = {"type": "send-native", "connector": {"type": "wallet", "id": wallet_id}, "payload": payload}
    definition = {"nodes": {"root": {"type": "manual", "children": ["pay"]}, "pay": pay}, "triggerNodeIds": ["root"]}
    made = client.post("/v1/workflows", {"name": name, "description": "", "definition": definition})
    client.post(f"/v1/workflows/{made['id']}/publish", {})
    return str(made["id"])


def test_all_that_is_wrong_with_chains_and_wallets_is_told(server: Served, node: Anvil) -> None:
    client = _client(server)
    well = {name: found[0].state for name, found in _local(server).items()}
    assert well == {"chains": "ok", "wallets": "ok", "outbox": "ok"}
    client.post("/v1/wallets", {"name": "default"})
    wallet = client.post("/v1/wallets", {"name": "till"})
    poor = _published(client, "Poor", wallet["id"], node.chain_id)
    elsewhere = _published(client, "Elsewhere", "{{$inputs.wallet}}", 8453)  # only its runs will know which wallet
    found = _local(server)
    (chain,) = found["chains"]
    assert (chain.state, f'"Elsewhere" ({elsewhere}) needs chain 8453 (Base)' in chain.says) == ("bad", True)
    assert '{"8453": ["https://…"]}' in (chain.mend or "")
    (policy,) = found["wallets"]
    assert (policy.state, '"till", whose policy is empty' in policy.says) == ("warning", True)
    assert (_local(server, networks_dir=Path("/none/at/all"))["chains"][0].state) == "bad"
    told = _by_name(checkups_money.remote(client))
    assert (told["chain 1"][0].state, "31337" in told["chain 1"][0].says) == ("bad", True)
    assert (told["chain 31337"][0].state, "127.0.0.1:9" in told["chain 31337"][0].says) == ("warning", True)
    shortage = f'"Poor" would run out: {wallet["address"]} has 0 ETH on chain 31337'
    assert [(one.state, one.says) for one in told["funds"] if "Poor" in one.says] == [("warning", shortage)]
    assert "secret" not in str(told)
    client.put(f"/v1/wallets/{wallet['id']}/policy", {"policy": {"chains": ["*"], "assets": ["*"]}})
    node.set_balance(wallet["address"], 10**18)
    client.post(f"/v1/workflows/{elsewhere}/pause", {})
    assert {name: found[0].state for name, found in _local(server).items()} == well
    assert [one.state for one in _by_name(checkups_money.remote(client))["funds"]] == ["ok"]
    client.call("DELETE", f"/v1/wallets/{wallet['id']}?force=true")
    (gone,) = _local(server)["wallets"]
    assert (
        gone.state,
        f'"Poor" ({poor}) spends from "{wallet["id"]}", which does not exist or is archived' in gone.says,
    ) == (
        "bad",
        True,
    )


def test_a_key_that_may_not_look_is_told(server: Served) -> None:
    made = _client(server).post("/v1/api-keys", {"name": "k", "permissions": ["run:read"]})
    (finding,) = checkups_money.remote(Client(server.url, made["key"], timeout_s=60))
    assert (finding.state, '"wallet:read"' in finding.says) == ("warning", True)


@pytest.mark.parametrize(
    ("state", "expected"),
    [("sent", "warning"), ("signed", "warning"), ("planned", "warning"), ("final", "ok"), ("displaced", "bad")],
)
def test_a_transaction_that_comes_to_no_end_is_found(server: Served, state: str, expected: str) -> None:
    org_id = _client(server).get("/v1/organizations")["items"][0]["id"]
    wallet = _client(server).post("/v1/wallets", {"name": state})
    row = {
        "id": f"tx_{state}", "org_id": org_id, "key": state, "purpose": "intent", "item": "", "generation": 1,
        "mode": "live", "wallet_id": wallet["id"], "chain_id": 31337, "sender": wallet["address"], "intent": "{}",
        "state": state, "confirmations": 1, "planned_at": 1, "signed_at": None if state == "planned" else 1,
        "updated_at": 1,
    }  # fmt: skip
    connection = sqlite3.connect(server.data_dir / "dustrun.db", timeout=10)
    with connection:
        names = ", ".join(row)
        marks = ", ".join("?" * len(row))
        connection.execute(f"INSERT INTO transactions ({names}) VALUES ({marks})", list(row.values()))
    try:
        (found,) = _local(server)["outbox"]
        assert (found.state, f"tx_{state}" in (found.mend or "")) == (expected, expected != "ok")
    finally:
        with connection:
            connection.execute("DELETE FROM transactions")
        connection.close()
