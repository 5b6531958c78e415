"""Calls within calls, held against the encoder of another library: what a policy judges of them, and refuses."""

from __future__ import annotations

from typing import Any

import pytest
from eth_abi.abi import encode
from eth_utils.crypto import keccak

from core.money.policy.test_judge import BOB, COIN, EVE, ROUTER, TOKEN, USDC, WORTHS, call_data, deciding, rules
from dustrun.core.money.intent import Movement
from dustrun.core.money.policy import Allow, PolicyRequest, VerdictFacts, count, judge
from dustrun.core.money.token_calls import MAX_CALLS, InnerCall, Unread, implied_movements, inner_calls

_LISTS = {
    "multicall(bytes[])": "bytes[]",
    "aggregate((address,bytes)[])": "(address,bytes)[]",
    "aggregate3((address,bool,bytes)[])": "(address,bool,bytes)[]",
    "aggregate3Value((address,bool,uint256,bytes)[])": "(address,bool,uint256,bytes)[]",
}
TRANSFER = call_data("transfer(address,uint256)", EVE, 7)
TAKE = call_data("transferFrom(address,address,uint256)", BOB, EVE, 7)
DEPOSIT = call_data("deposit(uint256)", 5)


def batching(signature: str, *calls: Any) -> bytes:
    """Calldata that carries out a list of calls."""
    return bytes(keccak(text=signature)[:4]) + encode([_LISTS[signature]], [list(calls)])


def multicall(*calls: bytes) -> bytes:
    return batching("multicall(bytes[])", *calls)


def request(data: bytes, *movements: Movement, to: str = ROUTER, value: int = 0) -> PolicyRequest:
    return PolicyRequest("transaction", 1, to, value, data, movements)


def sent(units: int, to: str = EVE) -> Movement:
    return Movement("send", USDC, units, to)


@pytest.mark.parametrize(
    ("data", "inner"),
    [
        (multicall(TRANSFER, DEPOSIT), [(ROUTER, 0, TRANSFER), (ROUTER, 0, DEPOSIT)]),
        (
            bytes(keccak(text="multicall(uint256,bytes[])")[:4]) + encode(["uint256", "bytes[]"], [9, [TRANSFER]]),
            [(ROUTER, 0, TRANSFER)],
        ),
        (
            bytes(keccak(text="batch(bytes[],bool)")[:4]) + encode(["bytes[]", "bool"], [[TRANSFER], True]),
            [(ROUTER, 0, TRANSFER)],
        ),
        (batching("aggregate((address,bytes)[])", (TOKEN, TAKE)), [(TOKEN, 0, TAKE)]),
        (batching("aggregate3((address,bool,bytes)[])", (TOKEN, True, TAKE)), [(TOKEN, 0, TAKE)]),
        (
            batching("aggregate3Value((address,bool,uint256,bytes)[])", (EVE, True, 3, b""), (TOKEN, True, 0, TAKE)),
            [(EVE, 3, b""), (TOKEN, 0, TAKE)],
        ),
        (multicall(multicall(TRANSFER)), [(ROUTER, 0, multicall(TRANSFER)), (ROUTER, 0, TRANSFER)]),
        (TRANSFER, []),
        (b"", []),
    ],
)
def test_calls_within_a_call_are_read(data: bytes, inner: list[tuple[str, int, bytes]]) -> None:
    assert inner_calls(ROUTER, data) == [InnerCall(*one) for one in inner]


def _nested(depth: int) -> bytes:
    data = DEPOSIT
    for _ in range(depth):
        data = multicall(data)
    return data


@pytest.mark.parametrize(
    "data",
    [
        multicall(TRANSFER)[:-32],
        multicall()[:4],
        _nested(6),
        multicall(*[b""] * (MAX_CALLS + 1)),
        multicall(*[bytes(40_000)] * 7),
    ],
    ids=["cut off", "no arguments", "too deep", "too many", "too long"],
)
def test_calls_that_cannot_be_read_are_denied(data: bytes) -> None:
    with pytest.raises(Unread):
        inner_calls(ROUTER, data)
    assert "methods" in deciding(rules(), request(data))


def test_what_goes_the_same_way_is_one_movement() -> None:
    data = batching("aggregate((address,bytes)[])", (TOKEN, TAKE), (TOKEN, TRANSFER), (TOKEN, DEPOSIT))
    assert implied_movements(1, ROUTER, data) == [sent(14)]


@pytest.mark.parametrize(
    "data",
    [
        batching("aggregate3((address,bool,bytes)[])", (TOKEN, False, TAKE)),
        multicall(batching("aggregate((address,bytes)[])", (TOKEN, TAKE))),
    ],
)
def test_what_a_call_within_moves_must_be_declared_and_counts(data: bytes) -> None:
    assert deciding(rules(), request(data)) == ["default"]
    assert deciding(rules(), request(data, sent(6))) == ["default"]
    whole = request(data, sent(7))
    assert isinstance(judge(rules(), whole, VerdictFacts(0, WORTHS)), Allow)
    assert deciding(rules(recipients=[BOB]), whole) == ["recipients"]
    assert deciding(rules(limits=[{"asset": USDC.key, "maxUnits": "6"}]), whole) == ["limits[0]"]
    assert count(request(data, sent(1)), WORTHS).units[USDC.key] == 7


def test_a_token_that_calls_itself_moves_what_its_calls_move() -> None:
    assert deciding(rules(), request(multicall(TRANSFER), to=TOKEN)) == ["default"]


def test_a_call_within_needs_its_contract_and_method() -> None:
    data = batching("aggregate((address,bytes)[])", (BOB, DEPOSIT))
    outer = "aggregate((address,bytes)[])"
    assert deciding(rules(methods=[outer], contracts=[ROUTER]), request(data)) == ["contracts", "methods"]
    narrow = rules(methods=[outer, "deposit(uint256)"], contracts=[ROUTER, BOB])
    assert isinstance(judge(narrow, request(data), VerdictFacts(0, WORTHS)), Allow)
    assert deciding(rules(), request(multicall(b"\x01"))) == ["methods"]


def test_native_coin_that_a_call_within_pays_goes_to_recipients_only() -> None:
    data = batching("aggregate3Value((address,bool,uint256,bytes)[])", (EVE, False, 3, b""))
    paying = request(data, Movement("send", COIN, 3, ROUTER), value=3)
    assert deciding(rules(recipients=[BOB]), paying) == ["recipients"]
    assert isinstance(judge(rules(recipients=[EVE]), paying, VerdictFacts(0, WORTHS)), Allow)
