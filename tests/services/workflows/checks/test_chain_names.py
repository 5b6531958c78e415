"""Chains and tokens that are written out: what this server does not know is a problem before anything runs."""

from __future__ import annotations

from typing import Any

import pytest

from dustrun import catalog
from dustrun.chain.networks import load_networks
from dustrun.core.workflow.definition import Definition
from dustrun.services.workflows.checks.chain_names import find_problems

SHOP = "0x1111111111111111111111111111111111111111"
NETWORKS = load_networks(None, {})
SPECS = catalog.load().specs()


def problems(type_: str, **payload: Any) -> list[tuple[str, str, str]]:
    """(field, code, message) of the problems of a definition with one such node."""
    nodes = {"root": {"type": "manual", "children": ["one"]}, "one": {"type": type_, "payload": payload}}
    definition = Definition.model_validate({"nodes": nodes})
    found = list(find_problems(definition, SPECS, NETWORKS))
    assert all(one.node_id == "one" and one.severity == "error" for one in found)
    return [(one.field, one.code or "", one.message) for one in found]


@pytest.mark.parametrize("chain_id", [8454, "8454"])
def test_an_unknown_chain_is_told_with_those_that_are_known(chain_id: Any) -> None:
    ((field, code, message),) = problems("send-native", chainId=chain_id, recipient=SHOP, amount="1")
    assert (field, code) == ("nodes.one.payload.chainId", "unknown_chain")
    assert "8453 (Base)" in message


@pytest.mark.parametrize(
    ("token", "says"),
    [
        ("USDCC", 'Base (chain 8453) has no token "USDCC"; give its address. Did you mean "USDC"?'),
        ("nothing of this kind", "Known are ETH, "),
        (f"{SHOP}11", "has 42"),
    ],
)
def test_a_token_that_the_chain_does_not_have_is_told(token: str, says: str) -> None:
    ((field, code, message),) = problems("send-erc20-token", chainId=8453, token=token, recipient=SHOP, amount="1")
    assert (field, code) == ("nodes.one.payload.token", "unknown_token")
    assert says in message


def test_both_tokens_of_a_swap_are_looked_at() -> None:
    found = problems("swap-uniswap-v3", chainId=8453, tokenIn="EUTH", tokenOut="USDT9", amountIn="1")
    assert [field for field, _, _ in found] == ["nodes.one.payload.tokenIn", "nodes.one.payload.tokenOut"]


def test_the_tools_of_a_model_are_looked_at() -> None:
    ((field, code, _),) = problems("llm", prompt="x", tools=[{"type": "get-balance", "payload": {"chainId": 5555555}}])
    assert (field, code) == ("nodes.one.payload.tools[0].payload.chainId", "unknown_chain")


@pytest.mark.parametrize(
    "payload",
    [
        {"chainId": "{{$trigger.body.chain}}", "token": "USDZ"},
        {"chainId": 8453, "token": "{{$trigger.body.token}}"},
        {"chainId": 8453, "token": "usdc"},
        {"chainId": "8453", "token": "native"},
        {"chainId": 8453, "token": SHOP},
        {"chainId": 1.5, "token": "USDC"},
        {"chainId": True},
        {"chainId": 0},
        {"token": 7},
        {},
    ],
)
def test_what_is_known_or_computed_or_no_chain_at_all_is_left_to_others(payload: dict[str, Any]) -> None:
    assert problems("get-price", **payload) == []


def test_a_signature_may_be_for_any_chain() -> None:
    assert problems("sign-typed-data", chainId=5555555, typedData={}) == []
