"""The verdict: each statement alone, then properties over random policies and requests."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from dustrun.core.evm.calls import read_selector
from dustrun.core.money.intent import Intent, Movement, SignRequest
from dustrun.core.money.policy import (
    Allow,
    Ask,
    Deny,
    PolicyRequest,
    VerdictFacts,
    WalletPolicy,
    Worth,
    count,
    is_looser,
    judge,
    needs,
    read_policy,
)
from dustrun.core.money.policy.counting import USD, USD_UNIT, asked
from dustrun.core.money.policy.document import Outflow, warnings_of, with_defaults
from dustrun.core.money.policy.judge import RUN, depends_on_prices, judge_fee
from dustrun.core.values.addresses import checksum
from dustrun.core.values.amounts import MAX_UINT256, Asset

BOB, EVE, ROUTER, TOKEN, ME = (checksum("0x" + digits * 20) for digits in ("b0", "e5", "70", "c3", "a1"))
COIN, USDC = Asset(1), Asset(1, TOKEN)
HOUR = 3_600_000
WORTHS = {COIN.key: Worth(Decimal(2500), 18), USDC.key: Worth(Decimal(1), 6)}
OPEN: dict[str, Any] = {
    "chains": ["*"],
    "assets": ["*"],
    "recipients": ["*"],
    "contracts": ["*"],
    "methods": ["*"],
}


def rules(**fields: Any) -> WalletPolicy:
    """A policy that allows everything but what `fields` say."""
    return WalletPolicy.model_validate({**OPEN, **fields})


def pay(units: int = 10**18, to: str = BOB) -> PolicyRequest:
    """Coins of chain 1."""
    return PolicyRequest("transaction", 1, to, units, b"", (Movement("send", COIN, units, to),), gas_limit=21_000)


def call_data(signature: str, *words: int | str) -> bytes:
    """Calldata of words."""
    numbers = (int(word, 16) if isinstance(word, str) else word for word in words)
    return bytes.fromhex(read_selector(signature)[2:]) + b"".join(number.to_bytes(32) for number in numbers)


def transfer(units: int = 10**6, to: str = BOB, *, declared: int | None = None) -> PolicyRequest:
    """A transfer of USDC."""
    data = call_data("transfer(address,uint256)", to, units)
    moved = Movement("send", USDC, units if declared is None else declared, to)
    return PolicyRequest("transaction", 1, TOKEN, 0, data, (moved,), "transfer(address,uint256)")


def approve(units: int, spender: str = ROUTER, *, of_swap: bool = False) -> PolicyRequest:
    """An approval of USDC."""
    data = call_data("approve(address,uint256)", spender, units)
    return PolicyRequest("transaction", 1, TOKEN, 0, data, (Movement("approve", USDC, units, spender, of_swap),))


def call(signature: str = "deposit(uint256)", to: str = ROUTER, **options: Any) -> PolicyRequest:
    """A call of a contract."""
    return PolicyRequest("transaction", 1, to, 0, call_data(signature, 5), (), signature, **options)


def permit(*, known: bool = True, units: int = 10**6, kind: Any = "typed-data", chain: int | None = 1) -> PolicyRequest:
    """A signature."""
    movements = (Movement("approve", USDC, units, ROUTER),) if known else ()
    return PolicyRequest.of_signature(SignRequest("sign", kind, chain, {}, movements, "about", is_decoded=known), ME)


def deciding(policy: WalletPolicy | None, request: PolicyRequest, **facts: Any) -> list[str]:
    """The statements that deny; raises when it is not denied."""
    verdict = judge(policy, request, VerdictFacts(0, facts.pop("worths", WORTHS), **facts))
    assert isinstance(verdict, Deny), verdict
    return [reason.statement for reason in verdict.reasons]


@pytest.mark.parametrize(
    ("limit", "spent", "told"),
    [
        ({"asset": COIN.key, "maxUnits": "99"}, 0, "100 base units of eip155:1/native is over 99 in one transaction."),
        (
            {"asset": COIN.key, "maxUnits": "500", "windowMs": 24 * HOUR},
            450,
            "100 base units of eip155:1/native on top of the 450 spent in the last 24 hours is over 500.",
        ),
        (
            {"maxUsd": "7", "windowMs": 7 * 24 * HOUR},
            7 * USD_UNIT,
            "0.00000000000025 USD on top of the 7 USD spent in the last 7 days is over 7 USD.",
        ),
        ({"maxCount": 2, "windowMs": HOUR}, 2, "The limit of 2 transactions in the last hour is reached."),
        ({"maxCount": 1, "windowMs": 90 * 60_000}, 1, "The limit of 1 transaction in the last 90 minutes is reached."),
    ],
)
def test_a_limit_says_what_is_over_it(limit: dict[str, Any], spent: int, told: str) -> None:
    policy = rules(limits=[limit])
    (need,) = needs(policy, pay(100)) or ((COIN.key, HOUR),)
    verdict = judge(policy, pay(100), VerdictFacts(0, WORTHS, {need: spent}))
    assert isinstance(verdict, Deny)
    assert [reason.message for reason in verdict.reasons] == [told]


def allows(policy: WalletPolicy, request: PolicyRequest, **facts: Any) -> bool:
    """Whether it is allowed."""
    return isinstance(judge(policy, request, VerdictFacts(0, facts.pop("worths", WORTHS), **facts)), Allow)


# --- each statement ---


def test_no_policy_and_an_empty_one_deny_everything() -> None:
    assert deciding(None, pay()) == ["default"]
    empty = WalletPolicy()
    assert deciding(empty, pay()) == ["chains", "assets", "recipients"]
    assert deciding(empty, transfer()) == ["chains", "assets", "recipients"]
    assert deciding(empty, approve(1)) == ["chains", "assets", "contracts"]
    assert deciding(empty, call()) == ["chains", "contracts", "methods"]
    assert deciding(empty, permit()) == ["chains", "assets", "contracts"]
    assert deciding(empty, permit(kind="message", known=False, chain=None)) == ["signatures.messages"]
    assert deciding(empty, PolicyRequest("transaction", 1, None, 0, b"\x60", ())) == ["chains", "allowDeploy"]


def test_a_verdict_names_what_allows_it() -> None:
    narrow = WalletPolicy(chains=(1,), assets=(COIN.key,), recipients=(BOB,))
    verdict = judge(narrow, pay(), VerdictFacts(0, WORTHS))
    assert isinstance(verdict, Allow)
    assert [reason.statement for reason in verdict.reasons] == ["chains", "assets", "recipients"]
    assert verdict.public()["outcome"] == "allow"


@pytest.mark.parametrize(
    ("fields", "request_", "statements"),
    [
        ({"chains": [8453]}, pay(), ["chains"]),
        ({"assets": [USDC.key, "eip155:8453/*"]}, pay(), ["assets"]),
        ({"recipients": [EVE, f"eip155:8453:{BOB}"]}, pay(), ["recipients"]),
        ({"recipients": [EVE]}, transfer(), ["recipients"]),
        ({"contracts": [EVE]}, call(), ["contracts"]),
        ({"contracts": [EVE]}, approve(5), ["contracts"]),
        ({"methods": ["withdraw(uint256)"]}, call(), ["methods"]),
        ({"methods": ["*"]}, replace(call(), method="withdraw(uint256)"), ["methods"]),
        ({}, replace(call(), data=b"\x01\x02"), ["methods"]),
        ({}, replace(call(), is_decoded=False), ["allowUnverifiedCalldata"]),
        ({}, approve(MAX_UINT256), ["allowUnlimitedApprovals"]),
        ({}, approve(2**160 - 1), ["allowUnlimitedApprovals"]),
        ({}, approve(2**96 - 1), ["allowUnlimitedApprovals"]),
        ({}, permit(units=MAX_UINT256), ["allowUnlimitedApprovals"]),
        ({}, permit(known=False), ["signatures.typedData"]),
        ({"signatures": {"typedData": "none"}}, permit(), ["signatures.typedData"]),
        ({"signatures": {"typedData": "any"}}, permit(known=False, chain=None), ["chains"]),
        ({}, permit(kind="message", known=False), ["signatures.messages"]),
        ({}, PolicyRequest("transaction", 1, None, 0, b"\x60\x80", ()), ["allowDeploy"]),
        ({"gas": [{"maxGas": 20_999}]}, pay(), ["gas[0]"]),
        ({"gas": [{"chainId": 8, "maxGas": 1}, {"maxFeePerGas": "9"}]}, replace(pay(), max_fee_units=10), ["gas[1]"]),
        ({"gas": [{"maxGasUsd": "0.5"}]}, replace(pay(), max_fee_units=10**11), ["gas[0]"]),
        ({"limits": [{"asset": COIN.key, "maxUnits": "99"}]}, pay(100), ["limits[0]"]),
        ({"limits": [{"maxUsd": "2499.99"}]}, pay(), ["limits[0]"]),
        ({"limits": [{"maxUsd": "1", "windowMs": HOUR}]}, pay(), ["limits[0]"]),  # what was spent is not known
        ({}, replace(pay(), value_units=10**18 + 1), ["default"]),
        ({}, transfer(1000, declared=999), ["default"]),
        ({}, replace(transfer(), movements=()), ["default"]),
        ({}, replace(call(), data=call_data("setApprovalForAll(address,bool)", EVE, 1), method=None),
         ["default", "methods"]),
        ({}, replace(call(), data=call_data("transferFrom(address,address,uint256)", BOB, EVE, 9), method=None),
         ["default"]),
    ],
)  # fmt: skip
def test_each_statement_denies_alone(fields: dict[str, Any], request_: PolicyRequest, statements: list[str]) -> None:
    assert deciding(rules(**fields), request_) == statements


@pytest.mark.parametrize(
    ("fields", "request_"),
    [
        ({"assets": ["eip155:1/*"], "recipients": [f"eip155:1:{BOB.lower()}"]}, pay()),
        ({"contracts": [], "methods": []}, transfer()),
        ({"contracts": [ROUTER], "methods": []}, approve(5)),
        ({"contracts": ["eip155:1:*"], "methods": ["deposit( uint )"]}, call()),
        ({"methods": ["0xB6B55F25"]}, call()),
        ({"methods": ["*"], "allowUnverifiedCalldata": True}, replace(call(), is_decoded=False, method=None)),
        ({"allowUnlimitedApprovals": True}, approve(MAX_UINT256)),
        ({}, approve(0)),
        ({"contracts": [ROUTER]}, permit()),
        ({"signatures": {"typedData": "any"}}, permit(known=False)),
        ({"signatures": {"messages": True}}, permit(kind="message", known=False, chain=None)),
        ({"allowDeploy": True}, PolicyRequest("transaction", 1, None, 0, b"\x60\x80", ())),
        ({"gas": [{"maxGasUsd": "0.525"}]}, replace(pay(), max_fee_units=10**10)),
        ({"limits": [{"maxUsd": "2500"}]}, pay()),
        # value that goes into the contract which is called needs no entry among the recipients
        ({"recipients": [], "contracts": [ROUTER]},
         PolicyRequest("transaction", 1, ROUTER, 7, call_data("deposit()"), (Movement("send", COIN, 7, ROUTER),))),
    ],
)  # fmt: skip
def test_each_statement_allows(fields: dict[str, Any], request_: PolicyRequest) -> None:
    assert allows(rules(**fields), request_)


def test_the_token_that_is_called_is_no_recipient_of_its_own_transfer() -> None:
    policy = rules(recipients=[BOB], contracts=[TOKEN])
    assert deciding(policy, transfer(to=TOKEN)) == ["recipients"]


def test_a_price_that_is_not_known_denies_unless_the_policy_says_otherwise() -> None:
    assert deciding(rules(), pay(), worths={}) == ["allowUnpricedAssets"]
    assert allows(rules(allowUnpricedAssets=True), pay(), worths={})
    assert deciding(rules(allowUnpricedAssets=True, gas=[{"maxGasUsd": "5"}]), pay(), worths={}) == ["gas[0]"]
    window = {"maxGasUsd": "5", "windowMs": HOUR}
    assert deciding(rules(allowUnpricedAssets=True, limits=[window]), pay(), worths={}) == ["limits[0]"]


def test_a_person_is_asked_above_the_threshold_and_never_overrules_a_denial() -> None:
    policy = rules(approvalAbove={"usd": "2499", "assets": {USDC.key: "999999"}})
    asking = judge(policy, pay(), VerdictFacts(0, WORTHS))
    assert isinstance(asking, Ask)
    assert [reason.statement for reason in asking.reasons] == ["approvalAbove.usd"]
    assert isinstance(judge(policy, transfer(), VerdictFacts(0, WORTHS)), Ask)
    assert isinstance(judge(policy, transfer(999_999), VerdictFacts(0, WORTHS)), Allow)
    assert isinstance(judge(policy, pay(), VerdictFacts(0, WORTHS, is_approved=True)), Allow)
    forbidden = policy.model_copy(update={"recipients": ()})
    assert isinstance(judge(forbidden, pay(), VerdictFacts(0, WORTHS, is_approved=True)), Deny)
    unpriced = policy.model_copy(update={"allow_unpriced_assets": True})
    assert isinstance(judge(unpriced, pay(), VerdictFacts(0, {})), Ask)


def test_a_fee_far_above_the_usual_one_asks() -> None:
    policy = rules(feeAboveUsual=10)
    usual = replace(pay(), gas_limit=21_000, usual_fee_units=21_000)
    assert allows(policy, replace(usual, max_fee_units=10))
    asking = judge(policy, replace(usual, max_fee_units=11), VerdictFacts(0, WORTHS))
    assert isinstance(asking, Ask)
    assert [reason.statement for reason in asking.reasons] == ["feeAboveUsual"]
    assert allows(policy, replace(usual, max_fee_units=11), is_approved=True)
    assert allows(rules(), replace(usual, max_fee_units=10**6))
    burnt = replace(usual, max_fee_units=11)
    assert [one.statement for one in judge_fee(policy, burnt, VerdictFacts(0, WORTHS))] == ["feeAboveUsual"]
    assert list(judge_fee(policy, burnt, VerdictFacts(0, WORTHS, is_approved=True))) == []


def test_a_fee_without_a_usual_one_asks_until_a_person_has_approved_one() -> None:
    policy = rules(feeAboveUsual=10)
    unknown = replace(pay(), gas_limit=1_000_000, max_fee_units=7)
    asking = judge(policy, unknown, VerdictFacts(0, WORTHS))
    assert isinstance(asking, Ask)
    assert "7 for a unit of gas" in asking.reasons[0].message
    assert [one.statement for one in judge_fee(policy, unknown, VerdictFacts(0, WORTHS))] == ["feeAboveUsual"]
    for price, is_allowed in ((7, True), (17, True), (18, False)):
        assert allows(policy, replace(unknown, max_fee_units=price), approved_gas_units=7) is is_allowed
    assert allows(policy, replace(unknown, gas_limit=0)), "its fee is not known yet, and judged later"
    assert allows(rules(), unknown)


def test_a_doubtful_price_asks_where_something_depends_on_it() -> None:
    doubts = {USDC.key: "Price sources disagree", COIN.key: "It leaps"}
    for fields, request_, statements in (
        ({"limits": [{"maxUsd": "100"}]}, transfer(), ["prices"]),
        ({"approvalAbove": {"usd": "100"}}, transfer(), ["prices"]),
        ({"approvalAbove": {"totals": [{"per": "run", "usd": "100"}]}}, transfer(), ["prices"]),
        ({"outflow": {"maxUsd": "100"}}, transfer(), ["prices"]),
        ({"limits": [{"asset": USDC.key, "maxUnits": "9999999"}]}, transfer(), []),
        ({"gas": [{"maxGasUsd": "100"}]}, transfer(), ["prices"]),
        ({"limits": [{"maxUsd": "100"}], "gas": [{"maxGasUsd": "100"}]}, transfer(), ["prices", "prices"]),
        ({}, transfer(), []),
    ):
        verdict = judge(rules(**fields), request_, VerdictFacts(0, WORTHS, {(USD, RUN): 0}, doubts=doubts))
        assert isinstance(verdict, Ask if statements else Allow), fields
        assert depends_on_prices(rules(**fields)) is bool(statements)
        assert [one.statement for one in verdict.reasons if one.statement == "prices"] == statements
        assert allows(rules(**fields), request_, spent={(USD, RUN): 0}, doubts=doubts, is_approved=True)


def test_a_new_policy_has_defaults_for_what_it_does_not_mention() -> None:
    made = with_defaults(WalletPolicy.model_validate({"chains": [1]}))
    assert (made.outflow, made.fee_above_usual) == (Outflow(), 10)
    assert warnings_of(made) == []
    told = WalletPolicy.model_validate({"chains": [1], "outflow": None, "sources": None, "feeAboveUsual": None})
    assert with_defaults(told) == told
    assert [("outflow" in one, "feeAboveUsual" in one) for one in warnings_of(told)] == [
        (True, False),
        (False, True),
        (False, False),
    ]
    assert with_defaults(WalletPolicy()) == WalletPolicy()
    stored = read_policy('{"schemaVersion": 1, "chains": [1], "methods": []}')
    assert (stored.outflow, stored.fee_above_usual) == (None, None), "read as before"


def test_the_approval_of_a_swap_is_held_against_limits_but_adds_nothing() -> None:
    policy = rules(limits=[{"asset": USDC.key, "maxUnits": "5"}], approvalAbove={"usd": "0"})
    assert deciding(policy, approve(6, of_swap=True)) == ["limits[0]"]
    swap_approval = approve(5, of_swap=True)
    assert isinstance(judge(policy, swap_approval, VerdictFacts(0, WORTHS)), Allow)  # the swap itself is asked about
    assert {name: units for name, units in count(swap_approval, WORTHS).units.items() if units} == {}
    assert asked(swap_approval, WORTHS).units[USDC.key] == 5
    assert count(approve(5), WORTHS).units[USDC.key] == 5


def test_a_new_recipient_waits_its_hours() -> None:
    policy = rules(newRecipientHours=3)
    assert deciding(policy, pay()) == ["newRecipientHours"]
    just = VerdictFacts(3 * HOUR + 7, WORTHS, first_seen={BOB.lower(): 7})
    assert isinstance(judge(policy, pay(), just), Allow)
    assert isinstance(judge(policy, pay(), replace(just, now_ms=3 * HOUR + 6)), Deny)


def test_amounts_count_whatever_capitals_the_address_has() -> None:
    lower = Asset(1, TOKEN.lower())
    request = replace(transfer(7), movements=(Movement("send", lower, 7, BOB),))
    assert deciding(rules(limits=[{"asset": USDC.key.lower(), "maxUnits": "6"}]), request) == ["limits[0]"]


def test_a_piece_declared_as_one_counts_as_the_number_in_its_calldata() -> None:
    data = call_data("transferFrom(address,address,uint256)", EVE, BOB, 700)
    request = PolicyRequest("transaction", 1, TOKEN, 0, data, (Movement("send", USDC, 1, BOB),))
    assert count(request, WORTHS).units[USDC.key] == 700  # it may be an ERC-20 that somebody calls an NFT
    assert allows(rules(), request)
    assert deciding(rules(limits=[{"asset": USDC.key, "maxUnits": "699"}]), request) == ["limits[0]"]
    assert deciding(rules(methods=["transfer(address,uint256)"]), request) == ["methods"]
    piece = call_data("safeTransferFrom(address,address,uint256)", EVE, BOB, 700)
    assert count(replace(request, data=piece), WORTHS).units[USDC.key] == 1


def test_of_intent_and_its_fee() -> None:
    intent = Intent("send", 1, BOB, 5, b"", (Movement("send", COIN, 5, BOB),), "about")
    request = PolicyRequest.of_intent(intent, ME, gas_limit=21_000, max_fee_units=3, data_fee_units=11)
    assert request.gas_units == 63_011
    counted = count(request, WORTHS)
    assert counted.units == {
        "count": 1,
        "usd": 12_500,
        "gasUsd": 63_011 * 2500,
        "gas:eip155:1": 63_011,
        COIN.key: 5,
    }


def test_a_network_without_a_known_coin_has_no_known_fee() -> None:
    assert count(pay(), {}).fee_unpriced


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"chains": [0]}, "chains"),
        ({"assets": ["ETH"]}, "assets"),
        ({"assets": [f"eip155:1/erc20:{TOKEN[:-1]}"]}, "assets"),
        ({"recipients": ["0xABcdEF0000000000000000000000000000000000"]}, "recipients"),
        ({"recipients": ["alice.eth"]}, "recipients"),
        ({"methods": ["transfer"]}, "methods"),
        ({"limits": [{"maxUsd": "1", "maxCount": 2, "windowMs": HOUR}]}, "limits"),
        ({"limits": [{"maxUnits": "1"}]}, "limits"),
        ({"limits": [{"asset": "eip155:1/*", "maxUnits": "1"}]}, "limits"),
        ({"limits": [{"maxCount": 1}]}, "limits"),
        ({"limits": [{"maxUsd": "1", "windowMs": HOUR - 1}]}, "limits"),
        ({"limits": [{"maxUsd": "1", "windowMs": 30 * 24 * HOUR + 1}]}, "limits"),
        ({"limits": [{"maxUsd": "1e3"}]}, "limits"),
        ({"limits": [{"maxUsd": "-1"}]}, "limits"),
        ({"approvalAbove": {"assets": {"*": "1"}}}, "approvalAbove"),
        ({"allowAll": True}, "allowAll"),
    ],
)
def test_a_document_that_says_nothing_sensible_is_refused(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(ValidationError) as refused:
        WalletPolicy.model_validate(fields)
    assert {error["loc"][0] for error in refused.value.errors()} == {named}


# --- looser or not ---


@pytest.mark.parametrize(
    ("old", "new", "looser"),
    [
        ({"chains": [1, 2]}, {"chains": [1]}, False),
        ({"chains": [1]}, {"chains": [1, 2]}, True),
        ({"chains": ["*"]}, {"chains": [1, 2]}, False),
        ({"assets": ["eip155:1/*"]}, {"assets": [COIN.key]}, False),
        ({"assets": [COIN.key]}, {"assets": ["eip155:1/*"]}, True),
        ({"assets": ["eip155:1/*"]}, {"assets": ["eip155:10/native"]}, True),
        ({"recipients": [BOB]}, {"recipients": [f"eip155:1:{BOB}"]}, False),
        ({"recipients": [f"eip155:1:{BOB}"]}, {"recipients": [BOB]}, True),
        ({"recipients": ["eip155:1:*"], "methods": []}, {"recipients": [f"eip155:1:{BOB}"], "methods": []}, False),
        # under a star, a named address may be an argument of any call
        ({"recipients": ["eip155:1:*"]}, {"recipients": [f"eip155:1:{BOB}"]}, True),
        ({"recipients": [BOB], "contracts": [EVE]}, {"recipients": [], "contracts": [EVE]}, False),
        ({"recipients": [BOB]}, {"recipients": ["eip155:1:*"]}, True),
        ({"methods": ["deposit(uint256)"]}, {"methods": ["0xb6b55f25"]}, False),
        ({"methods": ["deposit(uint256)"]}, {"methods": ["*"]}, True),
        ({"limits": [{"maxUsd": "5"}]}, {"limits": []}, True),
        ({"limits": [{"maxUsd": "5"}]}, {"limits": [{"maxUsd": "5.000"}]}, False),
        ({"limits": [{"maxUsd": "5"}]}, {"limits": [{"maxUsd": "5.01"}]}, True),
        ({"limits": [{"maxUsd": "5"}]}, {"limits": [{"maxUsd": "5", "windowMs": HOUR}]}, False),
        ({"limits": [{"maxUsd": "5", "windowMs": HOUR}]}, {"limits": [{"maxUsd": "5"}]}, True),
        ({"limits": [{"maxUsd": "5", "windowMs": HOUR}]}, {"limits": [{"maxUsd": "5", "windowMs": 2 * HOUR}]}, False),
        ({"limits": [{"maxUsd": "5", "windowMs": 2 * HOUR}]}, {"limits": [{"maxUsd": "4", "windowMs": HOUR}]}, True),
        ({"limits": [{"maxUsd": "5"}]}, {"limits": [{"asset": COIN.key, "maxUnits": "1"}]}, True),
        ({"gas": [{"maxGas": 5}]}, {"gas": [{"chainId": 1, "maxGas": 5}]}, True),
        ({"gas": [{"chainId": 1, "maxGas": 5}]}, {"gas": [{"maxGas": 4}]}, False),
        ({"gas": [{"maxGasUsd": "1", "maxGas": 9}]}, {"gas": [{"maxGasUsd": "1"}, {"maxGas": 9}]}, False),
        ({"approvalAbove": {"usd": "5"}}, {}, True),
        ({"approvalAbove": {"usd": "5"}}, {"approvalAbove": {"usd": "4"}}, False),
        ({"approvalAbove": {"assets": {COIN.key: "5"}}}, {"approvalAbove": {"usd": "0"}}, True),
        ({}, {"allowDeploy": True}, True),
        ({"allowUnlimitedApprovals": True}, {}, False),
        ({"feeAboveUsual": 5}, {}, True),
        ({"feeAboveUsual": 5}, {"feeAboveUsual": 6}, True),
        ({"feeAboveUsual": 5}, {"feeAboveUsual": 5}, False),
        ({}, {"feeAboveUsual": 5}, False),
        ({"newRecipientHours": 5}, {"newRecipientHours": 4}, True),
        ({"signatures": {"typedData": "any"}}, {"signatures": {"typedData": "none"}}, False),
        ({}, {"signatures": {"messages": True}}, True),
    ],
)
def test_looser(old: dict[str, Any], new: dict[str, Any], looser: bool) -> None:
    assert is_looser(rules(**old), rules(**new)) is looser


def test_what_allows_nothing_is_never_looser() -> None:
    assert not is_looser(rules(limits=[{"maxUsd": "1"}]), WalletPolicy())
    assert is_looser(None, rules())
    assert not is_looser(None, WalletPolicy())


# --- properties ---

chains = st.sampled_from([1, 10])
accounts = st.sampled_from(["*", BOB, EVE, f"eip155:1:{BOB}", "eip155:10:*"])
asset_patterns = st.sampled_from(["*", "eip155:1/*", COIN.key, USDC.key, "eip155:10/native"])
units = st.integers(0, 1000)
windows = st.sampled_from([HOUR, 24 * HOUR])


@st.composite
def limit(draw: st.DrawFn) -> dict[str, Any]:
    kind = draw(st.sampled_from(["units", "usd", "count", "gas"]))
    window = draw(windows)
    if kind == "units":
        found = {"asset": draw(st.sampled_from([COIN.key, USDC.key])), "maxUnits": str(draw(units))}
    elif kind == "count":
        return {"maxCount": draw(st.integers(0, 5)), "windowMs": window}
    else:
        found = {"maxUsd" if kind == "usd" else "maxGasUsd": str(Decimal(draw(units)) / 4)}
    return found if draw(st.booleans()) else {**found, "windowMs": window}


def _some(draw: st.DrawFn, one: st.SearchStrategy[Any]) -> list[Any]:
    return draw(st.lists(one, max_size=3))


@st.composite
def policies(draw: st.DrawFn) -> WalletPolicy:
    return WalletPolicy.model_validate(
        {
            "chains": _some(draw, st.sampled_from([1, 10, "*"])),
            "assets": _some(draw, asset_patterns),
            "recipients": _some(draw, accounts),
            "contracts": _some(draw, accounts),
            "methods": _some(draw, st.sampled_from(["*", "deposit(uint256)", "approve(address,uint256)"])),
            "limits": _some(draw, limit()),
            "gas": _some(draw, st.fixed_dictionaries({"maxGas": units}, optional={"chainId": chains})),
            "approvalAbove": draw(st.none() | st.fixed_dictionaries({"usd": units.map(str)})),
            "signatures": {
                "messages": draw(st.booleans()),
                "typedData": draw(st.sampled_from(["none", "known", "any"])),
            },
            "allowDeploy": draw(st.booleans()),
            "allowUnlimitedApprovals": draw(st.booleans()),
            "allowUnverifiedCalldata": draw(st.booleans()),
            "allowUnpricedAssets": draw(st.booleans()),
            "newRecipientHours": draw(st.integers(0, 2)),
        }
    )


@st.composite
def requests(draw: st.DrawFn) -> PolicyRequest:
    amount = draw(units | st.just(MAX_UINT256))
    who = draw(st.sampled_from([BOB, EVE]))
    made = draw(
        st.sampled_from(
            [
                pay(amount, who),
                transfer(amount, who),
                approve(amount, who, of_swap=draw(st.booleans())),
                call(to=who, is_decoded=draw(st.booleans())),
                permit(units=amount, known=draw(st.booleans())),
                permit(kind="message", known=False),
                PolicyRequest("transaction", 1, None, 0, b"\x60", ()),
            ]
        )
    )
    if made.kind == "transaction":
        made = replace(made, gas_limit=draw(units), max_fee_units=draw(units))
    return made


@st.composite
def worlds(draw: st.DrawFn) -> VerdictFacts:
    spent = {
        (measure, window): draw(units) * (USD_UNIT // 4 if "sd" in measure else 1)
        for measure in ("usd", "count", "gasUsd", COIN.key, USDC.key)
        for window in (HOUR, 24 * HOUR)
    }
    worth = st.builds(Worth, st.integers(1, 10**6).map(lambda eighths: Decimal(eighths) / 8), st.integers(0, 24))
    prices = draw(st.dictionaries(st.sampled_from([COIN.key, USDC.key]), worth))
    seen = draw(st.dictionaries(st.sampled_from([BOB.lower(), EVE.lower()]), st.integers(0, 3 * HOUR)))
    # what a longer window holds is never less
    for measure in ("usd", "count", "gasUsd", COIN.key, USDC.key):
        spent[measure, 24 * HOUR] = max(spent[measure, 24 * HOUR], spent[measure, HOUR])
    return VerdictFacts(3 * HOUR, prices, spent, seen)


_RANK = {Deny: 0, Ask: 1, Allow: 2}


@settings(max_examples=150, deadline=None)
@given(policies(), policies(), requests(), worlds())
def test_what_is_not_looser_never_allows_more(
    old: WalletPolicy, new: WalletPolicy, made: PolicyRequest, world: VerdictFacts
) -> None:
    if not is_looser(old, new):
        assert _RANK[type(judge(new, made, world))] <= _RANK[type(judge(old, made, world))]


@st.composite
def tightened(draw: st.DrawFn) -> tuple[WalletPolicy, WalletPolicy]:
    """A policy, and the same with something taken away or added that tightens."""
    old = draw(policies())
    lists = {name: draw(st.lists(st.sampled_from(found), unique=True)) if (found := getattr(old, name)) else ()
             for name in ("chains", "assets", "recipients", "contracts", "methods")}  # fmt: skip
    tighter: dict[str, Any] = {name: tuple(entries) for name, entries in lists.items()}
    more = tuple(WalletPolicy.model_validate({"limits": draw(st.lists(limit(), max_size=2))}).limits)
    tighter["limits"] = draw(st.permutations([*old.limits, *more]))
    tighter["gas"] = draw(st.permutations(old.gas))
    for flag in ("allow_deploy", "allow_unlimited_approvals", "allow_unverified_calldata", "allow_unpriced_assets"):
        tighter[flag] = getattr(old, flag) and draw(st.booleans())
    tighter["new_recipient_hours"] = old.new_recipient_hours + draw(st.integers(0, 1))
    return old, old.model_copy(update=tighter)


@settings(max_examples=120, deadline=None)
@given(tightened(), requests(), worlds())
def test_tightening_is_known_as_such_and_allows_no_more(
    both: tuple[WalletPolicy, WalletPolicy], made: PolicyRequest, world: VerdictFacts
) -> None:
    old, new = both
    assert not is_looser(old, new)
    assert _RANK[type(judge(new, made, world))] <= _RANK[type(judge(old, made, world))]


@settings(max_examples=100, deadline=None)
@given(policies(), requests(), worlds(), st.data())
def test_the_order_of_statements_changes_nothing(
    policy: WalletPolicy, made: PolicyRequest, world: VerdictFacts, data: st.DataObject
) -> None:
    names = ("chains", "assets", "recipients", "contracts", "methods", "limits", "gas")
    mixed = policy.model_copy(update={name: tuple(data.draw(st.permutations(getattr(policy, name)))) for name in names})
    before, after = judge(policy, made, world), judge(mixed, made, world)
    assert type(before) is type(after)
    assert not is_looser(policy, mixed)
    assert {reason.message for reason in before.reasons if "(" not in reason.message} == {
        reason.message for reason in after.reasons if "(" not in reason.message
    }


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 10**30), st.integers(1, 10**29), st.permutations(range(12)))
def test_equal_amounts_succeed_exactly_as_often_as_they_fit(most: int, amount: int, order: list[int]) -> None:
    policy = rules(limits=[{"asset": COIN.key, "maxUnits": str(most), "windowMs": HOUR}])
    spent = succeeded = 0
    for _ in order:
        if allows(policy, pay(amount), spent={(COIN.key, HOUR): spent}):
            spent += amount
            succeeded += 1
    assert succeeded == min(len(order), most // amount)


@settings(max_examples=120, deadline=None)
@given(
    st.integers(0, MAX_UINT256), st.integers(0, 24), st.decimals("1e-12", "1e6", places=12), st.integers(0, MAX_UINT256)
)
def test_dollars_are_exact_and_never_understated(first: int, decimals: int, usd: Decimal, second: int) -> None:
    worth = Worth(usd, decimals)
    exact = Fraction(usd) * first * 10**18 / 10**decimals
    assert exact <= worth.of(first) < exact + 1
    assert worth.of(first + second) <= worth.of(first) + worth.of(second)
    if second >= first:
        assert worth.of(second) >= worth.of(first)


def test_needs_are_the_windows_of_the_limits() -> None:
    policy = rules(
        limits=[{"maxUsd": "1"}, {"maxUsd": "1", "windowMs": HOUR}, {"maxCount": 1, "windowMs": HOUR}],
    )
    assert needs(policy, pay()) == [("count", HOUR), ("usd", HOUR)]
