"""What calldata moves, held against the encoder of another library."""

from __future__ import annotations

from typing import Any

import pytest
from eth_abi.abi import encode
from eth_utils.crypto import keccak

from dustrun.core.money.intent import Movement
from dustrun.core.money.token_calls import implied_movement
from dustrun.core.values.amounts import MAX_UINT256, Asset

TOKEN, ME = "0x5FbDB2315678afecb367f032d93F642f64180aa3", "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
EVE = "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC"


def _data(signature: str, *arguments: Any) -> bytes:
    types = signature[signature.index("(") + 1 : -1].split(",")
    return bytes(keccak(text=signature)[:4]) + encode(types, arguments)


@pytest.mark.parametrize(
    ("data", "kind", "units"),
    [
        (_data("transfer(address,uint256)", EVE, 7), "send", 7),
        (_data("transferAndCall(address,uint256,bytes)", EVE, 7, b"x"), "send", 7),
        (_data("transferAndCall(address,uint256)", EVE, 7), "send", 7),
        (_data("send(address,uint256,bytes)", EVE, 7, b""), "send", 7),
        (_data("transferFrom(address,address,uint256)", ME, EVE, 7), "send", 7),
        (_data("transferFromAndCall(address,address,uint256)", ME, EVE, 7), "send", 7),
        (_data("transferFromAndCall(address,address,uint256,bytes)", ME, EVE, 7, b""), "send", 7),
        (_data("safeTransferFrom(address,address,uint256)", ME, EVE, 7), "send", 1),
        (_data("safeTransferFrom(address,address,uint256,bytes)", ME, EVE, 7, b""), "send", 1),
        (_data("safeTransferFrom(address,address,uint256,uint256,bytes)", ME, EVE, 3, 7, b""), "send", 7),
        (
            _data("safeBatchTransferFrom(address,address,uint256[],uint256[],bytes)", ME, EVE, [1, 2], [3, 4], b"z"),
            "send",
            7,
        ),
        (_data("approve(address,uint256)", EVE, 7), "approve", 7),
        (_data("increaseAllowance(address,uint256)", EVE, 7), "approve", 7),
        (_data("increaseApproval(address,uint256)", EVE, 7), "approve", 7),
        (_data("approveAndCall(address,uint256,bytes)", EVE, 7, b""), "approve", 7),
        (_data("approveAndCall(address,uint256)", EVE, 7), "approve", 7),
        (_data("push(address,uint256)", EVE, 7), "send", 7),
        (_data("move(address,address,uint256)", ME, EVE, 7), "send", 7),
        (_data("transfer(address,uint256,uint256)", EVE, 3, 7), "send", 7),
        (_data("approve(address,uint256,uint256)", EVE, 3, 7), "approve", 7),
        (_data("approve(address,address,uint160,uint48)", TOKEN, EVE, 7, 99), "approve", 7),
        (_data("transferFrom(address,address,uint160,address)", ME, EVE, 7, TOKEN), "send", 7),
        (_data("authorizeOperator(address)", EVE), "approve", MAX_UINT256),
        (_data("setOperator(address,bool)", EVE, True), "approve", MAX_UINT256),
        (_data("setApprovalForAll(address,bool)", EVE, True), "approve", MAX_UINT256),
        (_data("setApprovalForAll(address,bool)", EVE, False), "approve", 0),
    ],
)
def test_well_known_calls_move_what_their_calldata_says(data: bytes, kind: Any, units: int) -> None:
    assert implied_movement(1, TOKEN.lower(), data) == Movement(kind, Asset(1, TOKEN), units, EVE)


@pytest.mark.parametrize("units", [[2**256 - 1, 2**256 - 1], [], [1] * 50])
def test_a_batch_counts_together_and_never_overflows(units: list[int]) -> None:
    data = _data("safeBatchTransferFrom(address,address,uint256[],uint256[],bytes)", ME, EVE, units, units, b"")
    found = implied_movement(1, TOKEN, data)
    assert found is not None
    assert found.amount_units == min(sum(units), MAX_UINT256)


@pytest.mark.parametrize("word", [1, 33, 32 * 40, 2**255])
def test_a_batch_that_cannot_be_read_counts_as_all_there_can_be(word: int) -> None:
    data = _data("safeBatchTransferFrom(address,address,uint256[],uint256[],bytes)", ME, EVE, [1], [2], b"")
    broken = data[: 4 + 96] + word.to_bytes(32) + data[4 + 128 :]
    found = implied_movement(1, TOKEN, broken)
    assert found is not None
    assert found.amount_units == MAX_UINT256


def test_calldata_that_ends_early_is_read_as_the_evm_reads_it() -> None:
    """WETH9, of an old compiler, takes it: what is missing are zeros."""
    data = _data("transfer(address,uint256)", EVE, 0x1234_5600)
    assert implied_movement(1, TOKEN, data[:-1]) == Movement("send", Asset(1, TOKEN), 0x1234_5600, EVE)


@pytest.mark.parametrize("data", [b"", b"\xa9", _data("f(uint256)", 1)])
def test_other_calldata_says_nothing(data: bytes) -> None:
    assert implied_movement(1, TOKEN, data) is None
