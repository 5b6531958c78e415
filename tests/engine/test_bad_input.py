"""What cannot be right is refused with its field before a nonce is taken, action by action; nothing is signed."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from dustrun.core.values.addresses import ZERO_ADDRESS, checksum
from dustrun.storage.db.ledger_tables import reservations, signatures, transaction_attempts, transactions
from engine.conftest import Bench, Definition
from outbox import ALICE, ANYTHING, Outbox, address, open_outbox
from testkit.chain.anvil import ACCOUNTS, CHAIN_ID
from testkit.chain.contracts import World
from testkit.chain.rpc_proxy import Answer, Call, proxy

SHOP = address(1)
DOWN, ELSEWHERE, LIAR = 4_201, 4_202, 4_203
UNKNOWN = 987_654_321
TOO_MUCH = 10**30
OVERFLOW = str(2**256)
WRONG_CASE = ACCOUNTS[2].replace("C", "c", 1)


def _tokens(world: World) -> dict[str, str]:
    return {name: checksum(world.addresses[name]) for name in ("usdc", "weth", "nft", "zoo", "v2_router")}


def _permit(at: dict[str, str], **changes: Any) -> dict[str, Any]:
    names = {"owner": "address", "spender": "address", "value": "uint256", "nonce": "uint256", "deadline": "uint256"}
    message = {"owner": ACCOUNTS[1], "spender": SHOP, "value": "1", "nonce": 0, "deadline": 2**40, **changes}
    return {
        "types": {"Permit": [{"name": name, "type": type_} for name, type_ in names.items()]},
        "primaryType": "Permit",
        "domain": {"name": "USD Coin", "version": "1", "chainId": CHAIN_ID, "verifyingContract": at["usdc"]},
        "message": message,
    }


def _good(at: dict[str, str]) -> dict[str, dict[str, Any]]:
    """A payload of each action that is right but for what a case changes."""
    return {
        "send-native": {"chainId": CHAIN_ID, "recipient": SHOP, "amount": "1"},
        "send-erc20-token": {"chainId": CHAIN_ID, "token": at["usdc"], "recipient": SHOP, "amount": "1"},
        "approve-erc20": {"chainId": CHAIN_ID, "token": at["usdc"], "spender": at["v2_router"], "amount": "1"},
        "batch-transfer": {"chainId": CHAIN_ID, "token": at["usdc"], "rows": [{"recipient": SHOP, "amount": "1"}]},
        "send-erc721": {"chainId": CHAIN_ID, "contract": at["nft"], "recipient": SHOP, "tokenId": "1"},
        "wrap-native": {"chainId": CHAIN_ID, "amount": "1"},
        "unwrap-native": {"chainId": CHAIN_ID, "amount": "1"},
        "write-contract": {"chainId": CHAIN_ID, "contract": at["weth"], "function": "deposit() payable", "value": "1"},
        "deploy-contract": {"chainId": CHAIN_ID, "bytecode": "0x6000600055"},
        "swap-uniswap-v2": {"chainId": CHAIN_ID, "tokenIn": "native", "tokenOut": at["usdc"], "amountIn": "1000000"},
        "swap-uniswap-v3": {"chainId": CHAIN_ID, "tokenIn": "native", "tokenOut": at["usdc"], "amountIn": "1000000"},
        "sign-message": {"message": "hello"},
        "sign-typed-data": {"typedData": _permit(at)},
    }


Case = tuple[str, dict[str, Any], str, str | None, str]
INVALID = "INVALID_INPUT"


def _cases(at: dict[str, str]) -> list[Case]:
    """Action, what is changed, code, field of the payload, and what the message must say."""
    party, amount = "is the zero address", "must be "
    found: list[Case] = []
    for name, field in (
        ("send-native", "recipient"),
        ("send-erc20-token", "recipient"),
        ("approve-erc20", "spender"),
        ("send-erc721", "recipient"),
        ("write-contract", "contract"),
    ):
        found += [
            (name, {field: WRONG_CASE}, INVALID, field, "checksum"),
            (name, {field: SHOP[:-1]}, INVALID, field, "address"),
            (name, {field: ZERO_ADDRESS}, INVALID, field, party),
        ]
    for name, field in (
        ("send-native", "amount"),
        ("send-erc20-token", "amount"),
        ("wrap-native", "amount"),
        ("unwrap-native", "amount"),
        ("swap-uniswap-v2", "amountIn"),
        ("swap-uniswap-v3", "amountIn"),
    ):
        found += [(name, {field: bad}, INVALID, field, amount) for bad in ("0", "-1", "1.5", OVERFLOW, "1e18")]
        found += [(name, {field: str(TOO_MUCH)}, INVALID, field, "has" if field == "amount" else "moves the price")]
    found += [("approve-erc20", {"amount": bad}, INVALID, "amount", amount) for bad in ("-1", OVERFLOW, "0x10")]
    found += [("write-contract", {"value": bad}, INVALID, "value", amount) for bad in ("-1", OVERFLOW)]
    found += [("deploy-contract", {"value": bad}, INVALID, "value", amount) for bad in ("-1", OVERFLOW)]
    rows = [{"recipient": SHOP, "amount": "1"}]
    found += [
        (
            "batch-transfer",
            {"rows": [*rows, {"recipient": ZERO_ADDRESS, "amount": "1"}]},
            INVALID,
            "rows[1].recipient",
            party,
        ),
        (
            "batch-transfer",
            {"rows": [{"recipient": WRONG_CASE, "amount": "1"}]},
            INVALID,
            "rows[0].recipient",
            "checksum",
        ),
        ("batch-transfer", {"rows": [*rows, {"recipient": SHOP, "amount": "0"}]}, INVALID, "rows[1].amount", amount),
        ("batch-transfer", {"rows": [{"recipient": SHOP, "amount": str(TOO_MUCH)}]}, INVALID, None, "has"),
        (
            "batch-transfer",
            {"rows": [*rows, {"recipient": at["weth"], "amount": "1"}]},
            INVALID,
            "rows[1].recipient",
            "token",
        ),
        ("send-native", {"recipient": at["usdc"]}, INVALID, "recipient", "a token contract;"),
        ("send-erc20-token", {"recipient": at["usdc"]}, INVALID, "recipient", "itself"),
        ("send-erc20-token", {"recipient": at["weth"]}, INVALID, "recipient", "a token contract;"),
        ("approve-erc20", {"spender": at["usdc"]}, INVALID, "spender", "own contract"),
        ("send-erc20-token", {"decimals": 18}, INVALID, "decimals", "has 6 decimals, not 18"),
        ("approve-erc20", {"decimals": 18}, INVALID, "decimals", "has 6 decimals, not 18"),
        ("batch-transfer", {"decimals": 18}, INVALID, "decimals", "has 6 decimals, not 18"),
        ("send-erc20-token", {"token": SHOP}, INVALID, "token", "no contract"),
        ("approve-erc20", {"token": SHOP}, INVALID, "token", "no contract"),
        ("batch-transfer", {"token": SHOP}, INVALID, "token", "no contract"),
        ("swap-uniswap-v2", {"tokenOut": SHOP}, INVALID, "tokenOut", "no contract"),
        ("send-erc721", {"contract": SHOP}, INVALID, "contract", "no contract"),
        ("write-contract", {"contract": SHOP}, INVALID, "contract", "no contract"),
        ("send-erc20-token", {"token": at["zoo"]}, INVALID, "token", "not an ERC-20"),
        ("send-erc20-token", {"token": "NOPE"}, INVALID, "token", "NOPE"),
        ("send-erc721", {"tokenId": OVERFLOW}, INVALID, "tokenId", amount),
        ("write-contract", {"value": str(TOO_MUCH)}, INVALID, "value", "has"),
        ("deploy-contract", {"value": str(TOO_MUCH)}, INVALID, "value", "has"),
        (
            "write-contract",
            {"function": "deposit(uint256) payable", "args": ["x"]},
            INVALID,
            "args[0]",
            "must be an integer",
        ),
        ("write-contract", {"function": "deposit(uint256) payable"}, INVALID, "args", "1"),
        ("write-contract", {"function": "deposit(uint8) payable", "args": ["256"]}, INVALID, "args[0]", "out of range"),
        ("write-contract", {"function": "deposit(", "args": []}, INVALID, "function", "parentheses"),
        ("write-contract", {"function": None, "data": "0x123"}, INVALID, "data", "hexadecimal"),
        ("write-contract", {"function": "nope() nonpayable"}, INVALID, "value", "payable"),
        ("deploy-contract", {"bytecode": "0x12z"}, INVALID, "bytecode", "hexadecimal"),
        ("sign-message", {"message": ""}, INVALID, "message", "at least 1"),
        ("sign-message", {"message": "zz", "encoding": "hex"}, INVALID, None, "0x"),
        ("sign-typed-data", {"typedData": _permit(at, owner=SHOP)}, INVALID, "typedData.message", "must be signed by"),
        ("sign-typed-data", {"typedData": _permit(at, value=OVERFLOW)}, INVALID, "typedData.message.value", "256"),
        ("sign-typed-data", {"typedData": _permit(at, spender="0x1")}, INVALID, "typedData.message.spender", "address"),
        ("sign-typed-data", {"typedData": _permit(at), "chainId": 1}, INVALID, "typedData.domain.chainId", "chain"),
    ]
    for name in _good(at):
        if name.startswith("sign-"):
            continue
        found += [
            (name, {"chainId": UNKNOWN}, INVALID, "chainId", str(UNKNOWN)),
            (name, {"chainId": 0}, INVALID, "chainId", "1"),
        ]
    return found


def _chain_cases(at: dict[str, str]) -> list[Case]:
    names = [name for name in _good(at) if not name.startswith(("sign-", "wrap", "unwrap", "swap"))]
    down: list[Case] = [(name, {"chainId": DOWN}, "TEMPORARY", None, "chain") for name in names]
    liar: list[Case] = [
        (name, {"chainId": LIAR}, "TEMPORARY", None, "in the future") for name in names if name != "send-erc721"
    ]
    return (
        down
        + liar
        + [
            (name, {"chainId": ELSEWHERE}, "CHAIN_MISMATCH", None, str(ELSEWHERE))
            for name in ("send-native", "write-contract", "deploy-contract")
        ]
    )


def _ahead(call: Call, answer: Answer) -> Answer:
    """An endpoint of another chain that makes its blocks up: they lie an hour ahead."""
    if call["method"] == "eth_chainId":
        return {**answer, "result": hex(LIAR)}
    block = answer.get("result")
    if call["method"].startswith("eth_getBlockBy") and isinstance(block, dict):
        later = {"timestamp": hex(int(time.time()) + 3600), "number": hex(int(block["number"], 16) + 10_000)}
        return {**answer, "result": {**block, **later}}
    return answer


@pytest.fixture
async def operations(tmp_path: Path, world: World) -> AsyncIterator[tuple[Outbox, dict[str, str]]]:
    with world.node() as node:
        network = json.loads(world.network(node.url).model_dump_json(by_alias=True, exclude_none=True))
        network.pop("urls", None)
        folder = tmp_path / "networks"
        folder.mkdir()
        for chain_id in (DOWN, ELSEWHERE, LIAR):
            other = {
                **network,
                "chainId": chain_id,
                "shortName": f"chain-{chain_id}",
                "tokens": [],
                "feeds": [],
                "isLocal": False,
            }
            (folder / f"{chain_id}.json").write_text(json.dumps(other))
        endpoints = {
            CHAIN_ID: (node.url,),
            DOWN: ("http://127.0.0.1:1",),
            ELSEWHERE: (node.url,),
        }
        async with proxy(node.url, twist=_ahead) as liar:
            endpoints[LIAR] = (liar.url,)
            async with open_outbox(tmp_path, node, network=network, chain_endpoints=endpoints) as outbox:
                yield outbox, _tokens(world)


async def _came_to(bench: Bench, action: str, payload: dict[str, Any]) -> dict[str, Any]:
    """The error of a node that gets all its input from the trigger, so that no validation sees it before the run."""
    one: Definition = {"type": action, "payload": {name: f"{{{{$inputs.{name}}}}}" for name in payload}}
    run = await bench.run({"it": one}, payload=payload)
    error: dict[str, Any] | None = run["executionState"]["it"]["error"]
    return error or {"code": "none", "message": f"it is {run['status']}"}


async def test_each_is_refused_with_its_field_and_nothing_is_signed(operations: tuple[Outbox, dict[str, str]]) -> None:
    outbox, at = operations
    bench, good, before = Bench(outbox.composition), _good(at), outbox.nonce()
    wrong = []
    for action, change, code, field, says in (*_cases(at), *_chain_cases(at)):
        given = {**good[action], **change}
        payload = {name: value for name, value in given.items() if value is not None}
        error = await _came_to(bench, action, payload)
        fields = [detail["field"] for detail in error.get("details", [])]
        named = field is None or any(name in (f"payload.{field}", field) for name in fields)
        if error["code"] != code or not named or says.lower() not in error["message"].lower():
            wrong.append((action, change, error["code"], fields, error["message"][:150]))
    assert wrong == []
    for table in (transaction_attempts, signatures, reservations):
        assert list(await outbox.composition.rows(sa.select(table))) == []
    taken = sa.select(transactions.c.state).where(transactions.c.nonce.is_not(None))
    assert list(await outbox.composition.rows(taken)) == []
    assert outbox.nonce() == before


async def test_what_the_chain_or_the_policy_does_not_bear_takes_no_nonce(
    operations: tuple[Outbox, dict[str, str]],
) -> None:
    outbox, at = operations
    bench, good, before = Bench(outbox.composition), _good(at), outbox.nonce()
    path = f"/v1/wallets/{outbox.wallet_id}/policy"
    strict = {**ANYTHING, "allowUnverifiedCalldata": False}
    assert (await bench.api.put(path, {"policy": strict})).status == 200
    blind = {"chainId": CHAIN_ID, "contract": at["weth"], "data": "0xdeadbeef"}
    all_of_it = str(outbox.balance(ALICE))
    cases = [
        ("write-contract", blind, "REFUSED", "allowUnverifiedCalldata"),
        ("write-contract", {**good["write-contract"], "gasLimit": 21_000}, "GAS_LIMIT", "its limit is 21000"),
        ("send-native", {**good["send-native"], "amount": all_of_it}, "INSUFFICIENT_FUNDS", "gas"),
        ("write-contract", {**good["write-contract"], "function": "transfer(address,uint256)"}, INVALID, "args"),
    ]
    for action, payload, code, says in cases:
        error = await _came_to(bench, action, payload)
        assert (error["code"], says in json.dumps(error)) == (code, True), error
    assert list(await outbox.composition.rows(sa.select(transaction_attempts))) == []
    states = await outbox.composition.rows(sa.select(transactions.c.state, transactions.c.nonce))
    assert set(states) == {("refused", None)}
    assert outbox.nonce() == before
