"""What `"*"` covers: nothing in which a stranger may gain, whatever the call is named and however deep it is nested."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from eth_abi.abi import encode
from hypothesis import given, settings
from hypothesis import strategies as st

from core.money.policy.test_judge import BOB, EVE, ME, ROUTER, TOKEN, WORTHS, allows, deciding, rules
from core.money.policy.test_methods import request
from core.money.test_inner_calls import batching, multicall
from dustrun.core.evm.abi_signatures import parse_function
from dustrun.core.evm.selectors import read_selector
from dustrun.core.money.policy import Allow, Facts, Request, WalletPolicy, judge
from dustrun.core.money.policy.outflow import Ceilings, Raised, Taken, judge_outflow
from dustrun.core.money.policy.scope import find_unproven

NAMED: dict[str, Any] = {"recipients": [BOB], "contracts": [ROUTER], "assets": ["*", f"eip155:1/erc20:{TOKEN}"]}
STAR = rules(**NAMED)
OF_EVE, HASH = "0x" + "00" * 12 + EVE[2:], "0x" + "ab" * 32
PACKED = "0x" + EVE[2:]
TRUSTING = rules(**NAMED, allowUnverifiedCalldata=True)

GIVE_AWAY = [
    ("disperseEther(address[],uint256[])", [[EVE], [5]]),
    ("disperseToken(address,address[],uint256[])", [TOKEN, [EVE], [5]]),
    ("depositForBurn(uint256,uint32,bytes32,address)", [5, 3, OF_EVE, TOKEN]),
    ("sendFrom(address,uint16,bytes,uint256,address,address,bytes)", [ME, 1, PACKED, 5, ME, ME, "0x"]),
    ("send(uint32,bytes32,uint256)", [30101, OF_EVE, 5]),
    ("call(address,bytes)", [EVE, "0x"]),
    ("setAdmin(address)", [EVE]),
    ("setAdmin(bytes32)", [OF_EVE]),
    ("changeKeeper(bytes32)", [PACKED + "00" * 12]),
    ("setTrustedRemote(uint16,bytes)", [1, PACKED + ROUTER[2:]]),
    ("nominate(string)", [EVE]),
    ("pour(uint256)", [int(EVE, 16)]),
    ("mix((address,(bytes32,address[])[])[])", [[[ME, [[OF_EVE[:2] + "00" * 32, [ME, EVE]]]]]]),
    ("lots(uint8,(uint256,bytes)[2])", [1, [[5, "0x"], [6, OF_EVE]]]),
    ("handOver(bytes20)", [PACKED]),
    ("stakeFor(address,uint256)", [EVE, 5]),
]


@pytest.mark.parametrize(("signature", "values"), GIVE_AWAY, ids=lambda one: one if isinstance(one, str) else "")
def test_nothing_is_covered_in_which_a_stranger_may_gain(signature: str, values: list[Any]) -> None:
    data = parse_function(signature).encode(*values)
    for policy in (STAR, TRUSTING):
        assert "methods" in deciding(policy, request(data, signature))
        assert "methods" in deciding(policy, request(multicall(data), "multicall(bytes[])"))
        assert "methods" in deciding(policy, request(multicall(multicall(data)), "multicall(bytes[])"))
        in_others = batching("aggregate((address,bytes)[])", (ROUTER, data))
        assert "methods" in deciding(policy, request(in_others, "aggregate((address,bytes)[])"))
    assert allows(rules(**NAMED | {"methods": [signature]}), request(data, signature)), "by name"


HARMLESS = [
    ("stakeFor(address,uint256)", [ME, 5]),
    ("stakeFor(address,uint256)", [BOB, 5]),
    ("join(address,uint256,bool)", [TOKEN, 2**100, True]),
    ("claim(uint256[],(address,int256)[])", [[1, 2, 3], [[ME, -5]]]),
    ("exitAll(uint256)", [2**256 - 1]),
    ("vest(uint128,bytes)", [2**128 - 1, "0x"]),
    ("ping()", []),
    ("setFlag(bytes4,bytes32)", ["0xdeadbeef", "0x" + "00" * 32]),
]


@pytest.mark.parametrize(("signature", "values"), HARMLESS, ids=lambda one: one if isinstance(one, str) else "")
def test_what_names_only_listed_parties_is_covered(signature: str, values: list[Any]) -> None:
    data = parse_function(signature).encode(*values)
    assert allows(STAR, request(data, signature))
    nested = request(multicall(data), "multicall(bytes[])")
    assert deciding(STAR, nested) == ["allowUnverifiedCalldata"], "like a direct call that nobody can decode"
    assert deciding(STAR, replace(request(data), is_decoded=False)) == ["allowUnverifiedCalldata"]
    assert allows(TRUSTING, nested)
    assert allows(rules(**NAMED | {"methods": ["*", signature]}), nested), "the policy itself decodes it"


def test_a_call_that_nobody_decodes_is_read_word_by_word() -> None:
    data = bytes.fromhex(read_selector("stakeFor(address,uint256)")[2:]) + encode(["address", "uint256"], [EVE, 5])
    assert "methods" in deciding(STAR, request(data, None))


def test_a_hash_is_covered_if_nothing_leaves() -> None:
    data = parse_function("prove(bytes32,uint256)").encode(HASH, 7)
    asked = request(data, "prove(bytes32,uint256)")
    assert isinstance(judge(STAR, asked, Facts(0, WORTHS)), Allow)
    (reason,) = find_unproven(STAR, asked)
    bounds = Ceilings(None, None, (reason,))
    assert bounds, "so it is simulated, whatever the policy says about outflow"
    assert judge_outflow(bounds, Taken(), (), WORTHS) == ()
    assert judge_outflow(bounds, Taken({"eip155:1/native": 1}), (), WORTHS) == (reason,)
    assert judge_outflow(bounds, Taken({}, (Raised(TOKEN, BOB, 0, 1),)), (), WORTHS) == (reason,)
    assert find_unproven(rules(methods=["prove(bytes32,uint256)"]), asked) == ()
    hidden = parse_function("prove(bytes,uint256)").encode(HASH, 7)
    assert deciding(STAR, request(hidden, "prove(bytes,uint256)")) == ["methods"], "bytes may contain anything"


def test_a_star_names_nobody_and_names_count_on_their_chain() -> None:
    data = parse_function("stakeFor(address,uint256)").encode(BOB, 5)
    asked = request(data, "stakeFor(address,uint256)")
    assert deciding(rules(), asked) == ["methods"]
    assert deciding(rules(recipients=[f"eip155:10:{BOB}", "*"]), asked) == ["methods"]
    assert allows(rules(recipients=[f"eip155:1:{BOB}"]), asked)


def test_a_router_called_by_another_contract_pays_only_recipients() -> None:
    types = "(address,address,uint24,address,uint256,uint256,uint160)"
    selector = bytes.fromhex(read_selector(f"exactInputSingle({types})")[2:])
    for payee, fine in ((ME, True), (BOB, True), (EVE, False)):
        swap = selector + encode([types], [(EVE, TOKEN, 500, payee, 9, 7, 2**159 + 1)])
        data = batching("aggregate((address,bytes)[])", (ROUTER, swap))
        assert allows(STAR, request(data, "aggregate((address,bytes)[])")) is fine


# --- any types ---

_LEAVES = {"address": EVE, "bytes32": OF_EVE, "bytes": PACKED, "uint256": int(EVE, 16), "string": EVE}
_OTHERS = {"address": ME, "bytes32": "0x" + "00" * 32, "bytes": "0x", "uint256": 5, "string": ""}


@st.composite
def calls(draw: st.DrawFn) -> tuple[str, list[Any]]:
    """A signature of random types with exactly one stranger somewhere in its arguments."""
    kinds = draw(st.lists(st.sampled_from(sorted(_LEAVES)), min_size=1, max_size=4))
    place = draw(st.integers(0, len(kinds) - 1))
    args = [(kind, (_LEAVES if at == place else _OTHERS)[kind]) for at, kind in enumerate(kinds)]
    for _ in range(draw(st.integers(0, 3))):
        if draw(st.booleans()):
            args = [(f"({','.join(kind for kind, _ in args)})", [value for _, value in args])]
        else:
            args = [(f"{kind}[]", [value]) for kind, value in args]
    return f"f{draw(st.integers(0, 99))}({','.join(kind for kind, _ in args)})", [value for _, value in args]


@settings(max_examples=150, deadline=None)
@given(calls(), st.integers(0, 3))
def test_a_stranger_is_found_in_any_types_at_any_depth(made: tuple[str, list[Any]], depth: int) -> None:
    signature, values = made
    data = parse_function(signature).encode(*values)
    for _ in range(depth):
        data = multicall(data)
    for policy in (STAR, TRUSTING):
        asked = request(data, None if depth else signature)
        assert passes(policy, asked) is False


def passes(policy: WalletPolicy, asked: Request) -> bool:
    """Whether it would be signed although it takes nothing now."""
    if not isinstance(judge(policy, asked, Facts(0, WORTHS)), Allow):
        return False
    return not judge_outflow(Ceilings(None, None, find_unproven(policy, asked)), Taken(), (), WORTHS)
