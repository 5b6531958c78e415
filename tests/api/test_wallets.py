"""Wallets at the door: bad input by field, keys that reach some wallets only, balances of a real node."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account
from eth_keyfile.keyfile import create_keyfile_json

from dustrun.wallets.secp256k1 import CURVE_ORDER
from testkit.chain.anvil import ACCOUNTS, CHAIN_ID, KEYS, Anvil
from testkit.chain.contracts import World
from testkit.composition import Client, Composition, composed

JUNK = "test test test test test test test test test test test junk"


@pytest.fixture(scope="module")
def node() -> Iterator[Anvil]:
    with Anvil() as found:
        yield found


@pytest.fixture
async def chained(tmp_path: Path, node: Anvil, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Composition]:
    """A server with a real chain, a signer elsewhere and a key in its environment."""
    monkeypatch.setenv("WALLET_KEY", KEYS[3])
    monkeypatch.setenv("NO_KEY", "nonsense")
    settings: dict[str, Any] = {
        "chain_endpoints": {str(CHAIN_ID): [node.url]},
        "remote_signers": f"vault={node.url},org_{'0' * 26}/foreign={node.url},away=http://127.0.0.1:1",
        "env_signers": "WALLET_KEY,NO_KEY",
    }
    async with composed(tmp_path, **settings) as found:
        yield found


def _keystore(**parameters: Any) -> dict[str, Any]:
    found = dict(create_keyfile_json(b"\x07" * 32, b"pw-true", 3, "scrypt", 2))
    found["crypto"]["kdfparams"].update(parameters)
    return found


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"privateKey": "0x" + "ab" * 31}, "privateKey"),
        ({"privateKey": "0x" + "00" * 32}, "privateKey"),
        ({"privateKey": f"{CURVE_ORDER:x}"}, "privateKey"),
        ({"privateKey": "zz" * 32}, "privateKey"),
        ({"mnemonic": JUNK.replace("junk", "jnuk")}, "mnemonic"),
        ({"mnemonic": JUNK.replace("junk", "test")}, "mnemonic"),
        ({"mnemonic": JUNK, "path": "m/44h"}, "path"),
        ({"keystore": _keystore(), "password": "pw-false"}, "password"),
        ({"keystore": _keystore(n=2**22), "password": "pw-true"}, "keystore.crypto.kdfparams"),
        ({"keystore": {}, "password": "pw-true"}, "keystore.version"),
        ({"keystore": _keystore()}, "body"),
        ({}, "body"),
        ({"privateKey": "ab" * 32, "mnemonic": JUNK}, "body"),
        ({"privateKey": "ab" * 32, "path": "m/1"}, "body"),
        ({"privateKey": "ab" * 32, "name": ""}, "name"),
        ({"privateKey": ["ab" * 32]}, "privateKey"),
    ],
)
async def test_what_cannot_be_imported_names_its_field_and_repeats_nothing(
    owner: Client, body: dict[str, Any], field: str
) -> None:
    refused = await owner.post("/v1/wallets/import", {"name": "w", **body})
    assert (refused.code, refused.fields) == (400001, [field])
    text = json.dumps(refused.body)
    for secret in (*JUNK.split()[-1:], "jnuk", "ab" * 31, "pw-false", "pw-true"):
        assert secret not in text


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"kind": "watch"}, "body"),
        ({"kind": "local", "address": ACCOUNTS[0]}, "body"),
        ({"kind": "local", "signer": "vault"}, "body"),
        ({"kind": "remote"}, "body"),
        ({"kind": "watch", "address": "0x" + "ab" * 32}, "address"),
        ({"kind": "watch", "address": ACCOUNTS[0].replace("F", "f", 1)}, "address"),
        ({"kind": "watch", "address": ACCOUNTS[0][:-1]}, "address"),
        ({"kind": "watch", "address": ACCOUNTS[0], "isDefault": True}, "isDefault"),
        ({"kind": "paper"}, "kind"),
        ({"kind": "remote", "signer": "elsewhere"}, "signer"),
        ({"kind": "env", "signer": "HOME"}, "signer"),
    ],
)
async def test_what_cannot_be_made_names_its_field(owner: Client, body: dict[str, Any], field: str) -> None:
    refused = await owner.post("/v1/wallets", {"name": "w", **body})
    assert (refused.code, refused.fields) == (400001, [field])
    assert "ab" * 32 not in json.dumps(refused.body)


async def test_a_keystore_and_a_mnemonic_become_wallets(owner: Client) -> None:
    opened = await owner.post("/v1/wallets/import", {"name": "k", "keystore": _keystore(), "password": "pw-true"})
    assert opened.data["address"] == Account.from_key(b"\x07" * 32).address
    derived = await owner.post("/v1/wallets/import", {"name": "m", "mnemonic": JUNK, "path": "m/44'/60'/0'/0/1"})
    assert derived.data["address"] == ACCOUNTS[1]


async def test_an_import_is_repeated_by_its_key_and_not_by_another_body(owner: Client) -> None:
    body: dict[str, Any] = {"name": "w", "privateKey": KEYS[0]}
    once = {"Idempotency-Key": "once"}
    first = await owner.post("/v1/wallets/import", body, headers=once)
    assert (await owner.post("/v1/wallets/import", body, headers=once)).body == first.body
    other = await owner.post("/v1/wallets/import", {**body, "privateKey": KEYS[1]}, headers=once)
    assert other.code == 409007
    exported = {"Idempotency-Key": "out"}
    path = f"/v1/wallets/{first.data['id']}/export"
    assert "keystore" in (await owner.post(path, {"password": "long enough"}, headers=exported)).data
    assert (await owner.post(path, {"password": "long enough"}, headers=exported)).code == 409008


async def test_a_key_limited_to_a_wallet_sees_no_other(server: Composition, owner: Client) -> None:
    mine = (await owner.post("/v1/wallets", {"name": "mine"})).data["id"]
    theirs = (await owner.post("/v1/wallets", {"name": "theirs"})).data["id"]
    permissions = ["wallet:read", "wallet:write", "wallet:admin"]
    made = await owner.post("/v1/api-keys", {"name": "k", "permissions": permissions, "walletIds": [theirs]})
    limited = server.client(made.data["key"])
    assert [item["id"] for item in (await limited.get("/v1/wallets")).data["items"]] == [theirs]
    assert (await limited.get(f"/v1/wallets/{theirs}")).data["id"] == theirs
    assert (await limited.send("PATCH", f"/v1/wallets/{theirs}", {"name": "renamed"})).data["name"] == "renamed"
    unknown = (await limited.get("/v1/wallets/wal_nothing")).body
    calls: list[tuple[str, str, Any]] = [
        ("GET", "", None),
        ("PATCH", "", {"name": "x"}),
        ("DELETE", "", None),
        ("POST", "/export", {"password": "long enough"}),
        ("GET", "/policy", None),
        ("PUT", "/policy", {"policy": {}}),
        ("GET", "/policy/history", None),
        ("GET", "/balances", None),
        ("GET", "/spending", None),
    ]
    for method, path, body in calls:
        refused = await limited.send(method, f"/v1/wallets/{mine}{path}", body)
        told = (refused.code, refused.body["message"].replace(mine, "wal_nothing"))
        assert told == (404040, unknown["message"]), (method, path)
    for forbidden in (
        limited.post("/v1/wallets", {"name": "new"}),
        limited.post("/v1/wallets/import", {"name": "new", "privateKey": KEYS[0]}),
        limited.put(f"/v1/wallets/{theirs}/default"),
    ):
        assert (await forbidden).code == 403001


async def test_another_organisation_sees_nothing(server: Composition, owner: Client) -> None:
    wallet = (await owner.post("/v1/wallets", {"name": "w"})).data["id"]
    other = await server.other_owner()
    assert (await other.get("/v1/wallets")).data["items"] == []
    for path in ("", "/policy", "/policy/history", "/balances", "/spending"):
        assert (await other.get(f"/v1/wallets/{wallet}{path}")).code == 404040
    assert (await other.delete(f"/v1/wallets/{wallet}")).code == 404040


async def test_balances_of_a_real_node_and_what_does_not_answer(chained: Composition, node: Anvil) -> None:
    owner = chained.owner
    wallet = (await owner.post("/v1/wallets/import", {"name": "w", "privateKey": KEYS[1]})).data["id"]
    node.set_balance(ACCOUNTS[1], 1_500_000_000_000_000_000)
    found = (await owner.get(f"/v1/wallets/{wallet}/balances")).data
    assert (found["isComplete"], [chain["chainId"] for chain in found["chains"]]) == (True, [CHAIN_ID])
    native = found["chains"][0]["balances"][0]
    assert (native["amount"], native["amountFormatted"], native["token"]) == ("1500000000000000000", "1.5", None)
    assert (await owner.get(f"/v1/wallets/{wallet}/balances?chainIds={CHAIN_ID}")).data["chains"] == found["chains"]
    for query, code in (("x", 400002), ("", 400002), ("-1", 400002), ("999999", 400050), ("1", 400051)):
        assert (await owner.get(f"/v1/wallets/{wallet}/balances?chainIds={query}")).code == code


async def test_tokens_are_counted_and_one_that_does_not_answer_is_named(
    tmp_path: Path, world: World, anvil: Anvil
) -> None:
    networks = tmp_path / "networks"
    networks.mkdir()
    tokens = [
        {"address": world["usdc"], "symbol": "USDC", "decimals": 6},
        {"address": ACCOUNTS[3], "symbol": "GONE", "decimals": 18},  # no contract is there
    ]
    described = {"chainId": CHAIN_ID, "endpoints": [anvil.url], "tokens": tokens}
    (networks / "mine.json").write_text(json.dumps(described))
    async with composed(tmp_path, networks_dir=networks) as server:
        made = await server.owner.post("/v1/wallets/import", {"name": "w", "privateKey": KEYS[0]})
        found = (await server.owner.get(f"/v1/wallets/{made.data['id']}/balances")).data
    held = world.witness(anvil).balance("usdc", ACCOUNTS[0])
    assert held > 0
    native, usdc = found["chains"][0]["balances"]
    assert (native["symbol"], usdc["amount"], usdc["asset"]) == (
        "ETH",
        str(held),
        f"eip155:{CHAIN_ID}/erc20:{world['usdc']}",
    )
    assert (found["isComplete"], [failure["token"] for failure in found["chains"][0]["failures"]]) == (
        False,
        [ACCOUNTS[3]],
    )


async def test_a_dead_chain_is_named_and_not_hidden(tmp_path: Path) -> None:
    dead = {"chain_endpoints": {str(CHAIN_ID): ["http://127.0.0.1:1"]}}
    async with composed(tmp_path, **dead) as server:
        wallet = (await server.owner.post("/v1/wallets", {"name": "w"})).data["id"]
        found = (await server.owner.get(f"/v1/wallets/{wallet}/balances")).data
        assert found["isComplete"] is False
        assert [(failure["token"], failure["code"]) for failure in found["chains"][0]["failures"]] == [(None, 503050)]


async def test_wallets_whose_key_is_elsewhere(chained: Composition) -> None:
    owner = chained.owner
    several = await owner.post("/v1/wallets", {"name": "r", "kind": "remote", "signer": "vault"})
    assert (several.fields, ACCOUNTS[0] in str(several.body)) == (["address"], True)
    body = {"name": "r", "kind": "remote", "signer": "vault", "address": ACCOUNTS[0].lower()}
    remote = (await owner.post("/v1/wallets", body)).data
    assert (remote["address"], remote["signer"], remote["canSign"]) == (ACCOUNTS[0], "vault", True)
    env = (await owner.post("/v1/wallets", {"name": "e", "kind": "env", "signer": "WALLET_KEY"})).data
    assert env["address"] == ACCOUNTS[3]
    for signer, code in (("foreign", 400001), ("away", 503001)):
        refused = await owner.post("/v1/wallets", {"name": "x", "kind": "remote", "signer": signer})
        assert (refused.code, "127.0.0.1" in str(refused.body)) == (code, False)
    broken = await owner.post("/v1/wallets", {"name": "x", "kind": "env", "signer": "NO_KEY"})
    assert (broken.code, "nonsense" in str(broken.body)) == (502001, False)
    for wallet in (remote, env):
        assert (await owner.post(f"/v1/wallets/{wallet['id']}/export", {"password": "long enough"})).code == 409042
        row = await chained.parts.money.wallets.find_signing(wallet["organizationId"], wallet["id"])
        assert row is not None
        assert len(await chained.parts.money.wallets.signer_of(row).sign_message(b"x")) == 65
    writer = await chained.client_with("wallet:write")
    assert (await writer.post("/v1/wallets", {**body, "name": "y"})).code == 403001
