"""Looser or not, by what passes: pairs of policies with spends between them."""

from __future__ import annotations

import random
from typing import Any

import pytest

from core.money.policy.test_judge import BOB, EVE, ROUTER, TOKEN, USDC, rules
from dustrun.core.money.policy import is_looser
from dustrun.core.money.policy.compare import what_is_looser
from dustrun.core.money.policy.sources_rule import default_sources
from testkit.policy_pairs import check_pair

SMALL = {"method": "transfer(address to, uint256 amount)", "where": "amount < 10"}
CAREFUL = {"method": "approve(address spender, uint256 amount)", "where": "amount < 10"}
MINE = {"method": "give(address to, uint256 amount)", "where": "to == wallet"}


@pytest.mark.parametrize(
    ("old", "new", "looser"),
    [
        ([SMALL], [], True),
        ([CAREFUL], [], True),
        ([SMALL], [CAREFUL], True),
        ([SMALL, CAREFUL], [SMALL], True),
        ([SMALL], ["transfer(address,uint256)"], True),
        ([SMALL], [SMALL, "transfer(address,uint256)"], True),
        ([SMALL], [SMALL, MINE], True),
        (["*", MINE], ["*"], True),  # the star may cover what the condition forbids
        ([], [SMALL], True),  # with coins the call is no plain transfer, and then needs the entry
        (["transfer(address,uint256)"], [SMALL], False),
        ([SMALL, MINE], [SMALL], False),
        ([MINE], [], False),  # a contract's method needs an entry
        (["*"], ["*", MINE], True),
        (["*"], ["*", "withdraw(uint256)"], False),
        (["*"], [], False),
        (["give(address,uint256)"], [MINE], False),
    ],
)
def test_a_condition_that_is_gone_loosens(old: list[Any], new: list[Any], looser: bool) -> None:
    assert is_looser(rules(methods=old), rules(methods=new)) is looser


def test_under_a_star_every_named_address_counts() -> None:
    old = rules(recipients=[BOB], contracts=[ROUTER], assets=[USDC.key, "*"])
    assert not is_looser(old, old)
    assert is_looser(old, old.model_copy(update={"assets": (f"eip155:1/erc20:{EVE}",)}))
    assert not is_looser(old, old.model_copy(update={"methods": (), "assets": (f"eip155:1/erc20:{EVE}",)}))


def test_what_is_not_looser_lets_nothing_more_through() -> None:
    rng = random.Random(28)
    found = [check_pair(rng) for _ in range(500)]
    assert [fault for _, fault in found if fault is not None] == []
    looser = sum(is_one for is_one, _ in found)
    assert 100 < looser < 400


@pytest.mark.parametrize(
    ("old", "new", "looser"),
    [
        ({"contracts": ["*"]}, {"contracts": ["*", EVE]}, ["contracts"]),
        ({"contracts": ["*"]}, {"contracts": [EVE]}, ["contracts"]),
        ({"contracts": ["*"]}, {"contracts": [f"eip155:1:{EVE}"]}, ["contracts"]),
        ({"contracts": [EVE]}, {"contracts": [f"eip155:1:{EVE}"]}, []),
        ({"contracts": ["*", f"eip155:10:{EVE}"]}, {"contracts": [f"eip155:1:{EVE}"]}, ["contracts"]),
        ({"contracts": ["*"]}, {"contracts": ["eip155:1:*"]}, []),
        ({"assets": ["eip155:1/*"]}, {"assets": ["eip155:1/*", USDC.key]}, ["assets"]),
        ({"assets": ["*", USDC.key]}, {"assets": [USDC.key]}, []),
        ({"assets": ["*"], "contracts": ["*", TOKEN]}, {"assets": [USDC.key], "contracts": ["*", TOKEN]}, []),
        ({"assets": ["*"]}, {"assets": ["eip155:1/native"]}, []),
    ],
)
def test_a_name_that_vouches_for_answers_loosens(old: dict[str, Any], new: dict[str, Any], looser: list[str]) -> None:
    before, after = (rules(methods=[], sources=default_sources(), **one) for one in (old, new))
    assert what_is_looser(before, after) == looser
    anything = {money: {"allow": ["contract:*"]} for money in default_sources()}
    for rule in (None, anything):
        assert what_is_looser(*(rules(methods=[], sources=rule, **one) for one in (old, new))) == []
