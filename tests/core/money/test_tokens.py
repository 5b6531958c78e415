from __future__ import annotations

import pytest

from dustrun.core.evm.network import NativeAsset, Network, Token
from dustrun.core.money.tokens import find_known, read_asset_text

USDC = "0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48"
OTHER = "0x6B175474E89094C44Da98b954EedeAC495271d0F"
NETWORK = Network(
    chain_id=137,
    name="Polygon",
    short_name="polygon",
    native=NativeAsset(symbol="POL", name="Polygon"),
    block_time_ms=2000,
    confirmations=1,
    tokens=(
        Token(address=USDC, symbol="USDC", decimals=6),
        Token(address=OTHER, symbol="DAI", decimals=18),
        Token(address="0x" + "11" * 20, symbol="DAI", decimals=18),
    ),
)


@pytest.mark.parametrize(
    ("text", "token"),
    [
        ("native", None),
        ("Native", None),
        ("POL", None),
        ("usdc", USDC),
        (" USDC ", USDC),
        (USDC.lower(), USDC),
        (OTHER, OTHER),
    ],
)
def test_a_text_means_one_asset(text: str, token: str | None) -> None:
    assert read_asset_text(NETWORK, text) == token


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("DAI", "matches 2 tokens of Polygon; give the token's address"),
        ("USDCC", 'Did you mean "USDC"'),
        ("ETH", r"Polygon \(chain 137\) has no token"),
        (USDC[:-1], "this one has 39"),
        (USDC.replace("A", "a", 1), "EIP-55"),
        ("0x" + "0" * 40, 'write "native" for the native coin'),
    ],
)
def test_a_text_that_means_none_says_what_to_do(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_asset_text(NETWORK, text)


def test_a_known_token_is_found_by_any_capitals() -> None:
    found = find_known(NETWORK, USDC.lower())
    assert found is not None
    assert found.symbol == "USDC"
    assert find_known(NETWORK, "0x" + "22" * 20) is None
