"""Standing allowances: how each kind is read, found in events, and told from calls that only look like a revocation."""

from __future__ import annotations

import pytest

from dustrun.core.money.allowances import Allowance, AllowanceState, is_revocation, of_entries, of_transaction
from dustrun.core.money.intent import Log
from dustrun.core.money.permits import PERMIT2
from dustrun.core.money.policy import Allow, Deny, PolicyRequest, VerdictFacts, WalletPolicy, judge
from dustrun.core.money.policy.scope import REVOCATION_GAS, find_unproven
from dustrun.core.values.addresses import checksum, keccak256
from dustrun.core.values.amounts import MAX_UINT256

OWNER, TOKEN, SPENDER = (checksum(f"0x{number:040x}") for number in (0xA11CE00000, 0x70CE400000, 0x5BE4DE4000))
OF = {kind: Allowance(1, kind, TOKEN, SPENDER) for kind in ("erc20", "collection", "permit2")}


def word(number: int) -> bytes:
    return number.to_bytes(32)


def test_what_the_chain_says_of_each_kind() -> None:
    assert OF["erc20"].read(word(7), 0) == AllowanceState(7)
    assert OF["collection"].read(word(1), 0) == AllowanceState(MAX_UINT256)
    assert OF["permit2"].read(word(7) + word(100) + word(0), 99) == AllowanceState(7, 100)
    assert OF["permit2"].read(word(7) + word(100) + word(0), 100) == AllowanceState(0, 100)
    assert [one.read(b"", 0) for one in OF.values()] == [None, None, None]


@pytest.mark.parametrize("kind", list(OF))
def test_the_revocation_of_each_kind_is_one_and_no_more(kind: str) -> None:
    intent = OF[kind].revocation("one")
    assert is_revocation(intent.to, 0, intent.data)
    assert intent.movements[0].amount_units == 0
    more = intent.data[:-1] + b"\1" if kind != "permit2" else intent.data[:99] + b"\1" + intent.data[100:]
    assert not is_revocation(intent.to, 0, more)
    assert not is_revocation(intent.to, 1, intent.data)
    assert not is_revocation(intent.to, 0, intent.data + bytes(32))
    assert not is_revocation(None, 0, intent.data)
    elsewhere = is_revocation(OWNER, 0, intent.data)
    assert elsewhere is (kind != "permit2")


@pytest.mark.parametrize("kind", list(OF))
def test_every_policy_allows_a_revocation_that_a_simulation_proves_and_bounds_its_gas(kind: str) -> None:
    intent, policy = OF[kind].revocation("one"), WalletPolicy()
    request = PolicyRequest.of_intent(intent, OWNER, gas_limit=REVOCATION_GAS, max_fee_units=1)
    assert isinstance(judge(policy, request, VerdictFacts(0)), Allow)
    assert [reason.statement for reason in find_unproven(policy, request)] == ["revocation"]
    greedy = PolicyRequest.of_intent(intent, OWNER, gas_limit=REVOCATION_GAS + 1, max_fee_units=1)
    assert isinstance(judge(policy, greedy, VerdictFacts(0)), Deny)
    named = WalletPolicy.model_validate({"gas": [{"maxGas": 50_000}]})
    assert isinstance(judge(named, request, VerdictFacts(0)), Deny)


def test_allowances_are_found_in_entries_and_in_events() -> None:
    asset = f"eip155:1/erc20:{TOKEN}"
    entries = [
        (1, asset, SPENDER, TOKEN),
        (1, asset, SPENDER, PERMIT2),
        (1, f"eip155:1/erc721:{TOKEN}", SPENDER, TOKEN),
    ]
    assert sorted(of_entries(entries)) == sorted(OF.values())
    topics = tuple(word(int(one, 16)) for one in (OWNER, TOKEN, SPENDER))
    given = Log(PERMIT2, (keccak256(b"Approval(address,address,address,uint160,uint48)"), *topics), word(5) * 2, 0)
    others = Log(TOKEN, (keccak256(b"Approval(address,address,uint256)"), topics[1], topics[2]), word(5), 1)
    assert list(of_transaction(OWNER, 1, (), None, (given, others))) == [OF["permit2"]]
    movement = {"kind": "approve", "asset": asset, "counterparty": SPENDER.lower()}
    assert list(of_transaction(OWNER, 1, [movement], TOKEN, ())) == [OF["erc20"]]
