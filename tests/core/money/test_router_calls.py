"""What swap routers take and whom they pay, by calldata that another library encoded."""

from __future__ import annotations

from typing import Any

import pytest
from eth_abi.abi import encode
from eth_utils.crypto import keccak

from core.money.test_inner_calls import multicall
from dustrun.core.money.intent import Movement
from dustrun.core.money.router_calls import RouterCall, router_movements
from dustrun.core.money.token_calls import Unread
from dustrun.core.values.addresses import checksum
from dustrun.core.values.amounts import Asset

ME, EVE, BOB, ROUTER, USDC, WETH, DAI = (checksum("0x" + d * 20) for d in ("a1", "e5", "b0", "70", "c3", "ee", "da"))
_ITSELF = f"0x{0:040x}"


def _data(name: str, types: str, *values: Any) -> bytes:
    split, depth, start = [], 0, 0
    for place, character in enumerate(f"{types},"):
        depth += {"(": 1, ")": -1}.get(character, 0)
        if character == "," and depth == 0:
            split.append(types[start:place])
            start = place + 1
    return bytes(keccak(text=f"{name}({types})")[:4]) + encode(split, values)


def moved(data: bytes, value: int = 0) -> list[tuple[str, int, str]]:
    found = router_movements(RouterCall(1, ME, ROUTER, value, data, WETH))
    assert all(one.kind == "send" for one in found)
    return [(one.asset.token or "native", one.amount_units, one.counterparty) for one in found]


def _exact_in(payee: str, *path: str, units: int = 7) -> bytes:
    return _data(
        "swapExactTokensForTokens", "uint256,uint256,address[],address,uint256", units, 1, list(path), payee, 99
    )


def _packed(*tokens: str) -> bytes:
    return (3000).to_bytes(3).join(bytes.fromhex(token[2:]) for token in tokens)


def _v3(name: str, payee: str, *path: str, first: int = 7, second: int = 1) -> bytes:
    return _data(name, "(bytes,address,uint256,uint256,uint256)", (_packed(*path), payee, 99, first, second))


def _single(name: str, payee: str, first: int, second: int) -> bytes:
    struct = (USDC, DAI, 500, payee, first, second, 0)
    return _data(name, "(address,address,uint24,address,uint256,uint256,uint160)", struct)


_UNWRAP = _data("unwrapWETH9", "uint256,address", 1, EVE)


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (_exact_in(ME, USDC, WETH), [(USDC, 7, ROUTER)]),
        (_exact_in(EVE, USDC, WETH), [(USDC, 7, EVE)]),
        (
            _data("swapTokensForExactETH", "uint256,uint256,address[],address,uint256", 1, 7, [USDC, WETH], EVE, 9),
            [(USDC, 7, EVE)],
        ),
        (
            _data("swapExactETHForTokens", "uint256,address[],address,uint256", 1, [WETH, USDC], EVE, 9),
            [("native", 0, EVE)],
        ),
        (_data("swapExactETHForTokens", "uint256,address[],address,uint256", 1, [WETH, USDC], ME, 9), []),
        (_v3("exactInput", ME, USDC, WETH, DAI), [(USDC, 7, ROUTER)]),
        (_v3("exactOutput", EVE, DAI, WETH, USDC, first=1, second=7), [(USDC, 7, EVE)]),
        (_single("exactInputSingle", EVE, 7, 1), [(USDC, 7, EVE)]),
        (_single("exactOutputSingle", ME, 1, 7), [(USDC, 7, ROUTER)]),
        (multicall(_v3("exactInput", _ITSELF, USDC, WETH), _UNWRAP), [(USDC, 7, EVE)]),
        (multicall(_v3("exactInput", ME, USDC, WETH), _v3("exactInput", BOB, USDC, DAI), _UNWRAP),
         [(USDC, 14, BOB), (USDC, 0, EVE)]),
        (_UNWRAP, [("native", 0, EVE)]),
        (_data("pull", "address,uint256", USDC, 7), [(USDC, 7, ROUTER)]),
        (_data("addLiquidity", "address,address,uint256,uint256,uint256,uint256,address,uint256",
               USDC, DAI, 7, 8, 0, 0, EVE, 9), [(USDC, 7, EVE), (DAI, 8, EVE)]),
        (_data("deposit", "uint256", 5), []),
        (b"", []),
    ],
)  # fmt: skip
def test_what_a_router_takes_and_for_whom(data: bytes, found: list[tuple[str, int, str]]) -> None:
    assert moved(data) == found


def test_wrapped_coin_that_the_value_pays_is_not_taken_from_the_wallet() -> None:
    swap = _v3("exactInput", ME, WETH, USDC)
    assert moved(swap, value=7) == []
    assert moved(swap, value=6) == [(WETH, 7, ROUTER)]
    assert moved(multicall(swap, swap), value=13) == [(WETH, 14, ROUTER)]
    assert moved(_exact_in(ME, USDC, WETH), value=10**9) == [(USDC, 7, ROUTER)]


def test_arguments_that_are_written_in_another_way_are_not_passed_over() -> None:
    """Routers of old compilers take an address with bits above it."""
    data = bytearray(_exact_in(EVE, USDC, WETH))
    data[4 + 3 * 32] = 1
    with pytest.raises(Unread):
        router_movements(RouterCall(1, ME, ROUTER, 0, bytes(data), WETH))


def test_a_movement_is_of_the_chain() -> None:
    call = RouterCall(8453, ME, ROUTER, 0, _exact_in(EVE, USDC, WETH), None)
    assert router_movements(call) == [Movement("send", Asset(8453, USDC), 7, EVE)]
