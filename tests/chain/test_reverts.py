"""Why calls revert, on a real node that ran them."""

from __future__ import annotations

from typing import Any

import pytest

from dustrun.chain import reverts
from testkit.chain.anvil import ACCOUNTS, Anvil, NodeError
from testkit.chain.contracts import Witness, World

ALICE, BOB = ACCOUNTS[1], ACCOUNTS[2]


def data_of(anvil: Anvil, to: str, data: bytes) -> bytes:
    """What a call reverts with."""
    with pytest.raises(NodeError) as raised:
        anvil.rpc("eth_call", {"from": ALICE, "to": to, "data": f"0x{data.hex()}", "gas": "0x30000"}, "latest")
    return bytes.fromhex((raised.value.error.get("data") or "0x")[2:])


@pytest.mark.parametrize(
    ("function", "args", "kind", "text"),
    [
        ("requireString", (), "error", "no way"),
        ("panicAssert", (), "panic", "an assert failed (panic 0x01)"),
        ("panicOverflow", (), "panic", "an arithmetic overflow or underflow (panic 0x11)"),
        ("panicDivision", (0,), "panic", "a division by zero (panic 0x12)"),
        ("panicEnum", (9,), "panic", "a value outside of its enum (panic 0x21)"),
        ("panicPop", (), "panic", "pop of an empty array (panic 0x31)"),
        ("panicIndex", (), "panic", "an array index out of bounds (panic 0x32)"),
        ("custom", (), "custom", "Custom(code 7, why because)"),
        ("empty", (), "empty", "it gives no reason"),
        ("unknown", (), "unknown", "an error of an unknown ABI, 0xdeadbeef"),
        ("broken", (), "unknown", "an error of an unknown ABI, 0x08c379a0"),
    ],
)
def test_each_way_to_revert_is_told(
    function: str, args: tuple[Any, ...], kind: str, text: str, anvil: Anvil, witness: Witness, world: World
) -> None:
    abi = [entry for entry in witness.contract("zoo").abi if entry["type"] == "error"]
    reason = reverts.decode(data_of(anvil, world["zoo"], witness.data("zoo", function, *args)), abi)
    assert (reason["kind"], reason["text"]) == (kind, text)
    assert ("data" in reason) == (kind != "empty")


def test_nested_values_of_an_error_are_shown_by_name(anvil: Anvil, witness: Witness, world: World) -> None:
    abi = [entry for entry in witness.contract("zoo").abi if entry["type"] == "error"]
    reason = reverts.decode(data_of(anvil, world["zoo"], witness.data("zoo", "nested")), abi)
    points = [{"x": "-5", "who": world["zoo"]}]
    assert reason["args"] == {"points": points, "tag": "0x" + b"tag".ljust(32, b"\0").hex()}


def test_well_known_errors_need_no_abi(anvil: Anvil, witness: Witness, world: World) -> None:
    fresh = "0x00000000000000000000000000000000DeaDBeef"
    cases: dict[tuple[Any, ...], str] = {
        ("usdc", "transfer", fresh, 10**30): "ERC20InsufficientBalance",
        ("usdc", "transferFrom", BOB, ALICE, 1): "ERC20InsufficientAllowance",
        ("nft", "ownerOf", 999): "ERC721NonexistentToken",
        ("multi", "safeTransferFrom", ALICE, BOB, 1, 5, b""): "ERC1155InsufficientBalance",
    }
    for (name, function, *args), wanted in cases.items():
        reason = reverts.decode(data_of(anvil, world[name], witness.data(name, function, *args)))
        assert (reason["kind"], reason["name"]) == ("custom", wanted)


def test_terse_reasons_of_uniswap_are_told_in_words() -> None:
    data = bytes.fromhex("08c379a0") + (32).to_bytes(32) + (3).to_bytes(32) + b"STF".ljust(32, b"\0")
    reason = reverts.decode(data)
    assert (reason["reason"], reason["text"]) == ("STF", "STF (transferFrom failed: no balance or no allowance)")


def test_an_error_of_another_layout_is_passed_over() -> None:
    selector = reverts.decode(bytes.fromhex("fb8f41b2"))  # ERC20InsufficientAllowance without its arguments
    assert selector["kind"] == "unknown"


@pytest.mark.parametrize(
    ("message", "text"),
    [(None, "it gives no reason"), ("execution reverted", "it gives no reason"), ("out of gas", "out of gas")],
)
def test_without_data_the_node_may_say_more(message: str | None, text: str) -> None:
    assert reverts.decode(b"", (), message) == {"kind": "empty", "text": text}
