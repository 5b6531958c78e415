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
from dustrun.core.evm.calls import read_selector
from dustrun.core.money.policy import Allow, PolicyRequest, VerdictFacts, WalletPolicy, judge
from dustrun.core.money.policy.outflow import Ceilings, TakenAmounts, judge_outflow
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


DIRTY = "0x" + "01" * 12 + EVE[2:]
UNALIGNED = [f"{52:064x}", f"{0:064x}", f"{1 << 96:064x}", EVE[2:] + "01" * 12]  # an address[] between words
# a tuple (bytes, address) at 39, whose address lies across a border, and packed bytes: both look like two numbers
ACROSS = [f"{39:064x}", f"{0:064x}", "00" * 19 + EVE[2:28], EVE[28:] + "00" * 25]
PACKED_ACROSS = [f"{32:064x}", f"{64:064x}", "00" * 19 + EVE[2:28], EVE[28:] + "00" * 25]


@pytest.mark.parametrize(
    "words",
    [[HASH[2:], f"{7:064x}"], [DIRTY[2:]], [EVE[2:] + "01" * 12], UNALIGNED, ACROSS, PACKED_ACROSS],
    ids=["a hash", "upper bits", "lower bits", "between words", "across a border", "packed"],
)
def test_no_word_that_may_hide_an_address_is_covered(words: list[str]) -> None:
    signature = f"prove({','.join(['bytes32'] * len(words))})"
    data = bytes.fromhex(read_selector(signature)[2:] + "".join(words))
    for policy in (STAR, TRUSTING):
        for asked in (request(data, signature), request(multicall(data), "multicall(bytes[])")):
            assert not passes(policy, asked), "though nothing leaves: authority may"
    assert passes(rules(methods=[signature]), request(data, signature)), "by name"


@pytest.mark.parametrize("number", [0, 5, 10**18, 2**72 - 1, 2**96 - 1, -1, -5, 2**40, 2**160 - 1])
def test_numbers_beside_short_bytes_and_parties_are_covered(number: int) -> None:
    """Amounts, deadlines and whole widths: in front of an address, of texts of a few letters, of each other."""
    word = f"{number % 2**256:064x}"
    for after in (ME[2:].rjust(64, "0"), BOB[2:].ljust(64, "0"), word, "deadbeef".ljust(64, "0")):
        data = bytes.fromhex(read_selector("vest(uint256,bytes32)")[2:] + word + after)
        is_long = number == 2**96 - 1 and after.startswith("dead")  # 16 bytes in a row, of an address maybe
        assert allows(STAR, request(data, "vest(uint256,bytes32)")) is not is_long
    text = parse_function("note(string)").encode("twelve bytes")
    assert allows(STAR, request(text, "note(string)"))


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


def passes(policy: WalletPolicy, asked: PolicyRequest) -> bool:
    """Whether it would be signed although it takes nothing now."""
    if not isinstance(judge(policy, asked, VerdictFacts(0, WORTHS)), Allow):
        return False
    return not judge_outflow(Ceilings(None, None, find_unproven(policy, asked)), TakenAmounts(), (), WORTHS)
