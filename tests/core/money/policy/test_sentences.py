"""Policies as sentences, in both directions."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest

from core.money.policy.test_judge import BOB, EVE, ROUTER, TOKEN
from dustrun.core.money.policy import WalletPolicy
from dustrun.core.money.policy.document import with_defaults
from dustrun.core.money.policy.sentences import Names, read_sentences, statements_of, tell
from dustrun.core.money.policy.sources_rule import default_sources
from testkit.policy_pairs import changed
from testkit.policy_pairs import policy as random_policy

DAY = 86_400_000
NAMES = Names(
    {"ethereum": 1, "base": 8453},
    {"usdc": (f"eip155:1/erc20:{TOKEN}",), "eth": ("eip155:1/native",)},
    {"uniswap": (ROUTER,)},
)
TREASURY = f"""
swap up to $500 a day on Uniswap
may pay {BOB}, {EVE} and {TOKEN} up to $2,000 a month, ask above $100.
"""


def read(text: str) -> dict[str, Any]:
    found = read_sentences(text, NAMES)
    assert found.problems == ()
    assert found.policy is not None
    return found.policy.model_dump(mode="json", by_alias=True, exclude_defaults=True)


def test_the_policy_of_a_treasury_is_two_sentences() -> None:
    found = read(TREASURY)
    assert found.pop("sources").keys() == default_sources().keys()
    assert found == {
        "chains": ["*"],
        "assets": ["*"],
        "recipients": [BOB, EVE, TOKEN],
        "contracts": [ROUTER],
        "methods": ["*"],
        "limits": [
            {"maxUsd": "500", "windowMs": DAY, "of": {"contracts": [ROUTER]}},
            {"maxUsd": "2000", "windowMs": 30 * DAY, "of": {"recipients": [BOB, EVE, TOKEN]}},
        ],
        "outflow": {},
        "feeAboveUsual": 10,
        "approvalAbove": {"usd": "100"},
    }
    again = read_sentences(TREASURY, NAMES).policy
    assert again is not None
    assert tell(again, NAMES).sentences == (
        "on every chain",
        "use uniswap up to $500 a day",
        f"pay {BOB}, {EVE} and {TOKEN} together up to $2,000 a month",
        "ask above $100",
    )
    assert tell(again, NAMES).rest == {}


@pytest.mark.parametrize(
    ("line", "fields"),
    [
        ("on Ethereum and chain 10", {"chains": [1, 10]}),
        (f"It may pay {BOB}", {"recipients": [BOB], "assets": ["*"]}),
        ("pay anyone at most $5 per day", {"recipients": ["*"], "limits": [{"maxUsd": "5", "windowMs": DAY}]}),
        (f"pay {BOB} each up to $5 a week", {"limits": [
            {"maxUsd": "5", "windowMs": 7 * DAY, "of": {"recipients": [BOB]}, "per": "recipient"}]}),
        ("spend up to 1,000.50 dollars in 6 hours", {"limits": [{"maxUsd": "1000.50", "windowMs": DAY // 4}]}),
        ("spend up to $5 in one run", {"limits": [{"maxUsd": "5", "per": "run"}]}),
        ("spend up to $5 at once", {"limits": [{"maxUsd": "5"}]}),
        ("spend up to $5 a day for each recipient", {"limits": [{"maxUsd": "5", "windowMs": DAY, "per": "recipient"}]}),
        ("sign up to 20 times a day", {"limits": [{"maxCount": 20, "windowMs": DAY}]}),
        ("pay fees up to $2", {"gas": [{"maxGasUsd": "2"}]}),
        ("pay fees up to $2 a day", {"limits": [{"maxGasUsd": "2", "windowMs": DAY}]}),
        (f"call deposit(uint256) and stake(uint256,address) on {ROUTER} up to $9 a day", {
            "contracts": [ROUTER], "methods": ["deposit(uint256)", "stake(uint256,address)"]}),
        ("move USDC and ETH", {"assets": [f"eip155:1/erc20:{TOKEN}", "eip155:1/native"]}),
        ("ask for fees above 3 times the usual", {"feeAboveUsual": 3}),
        ("ask above $50 a day, ask above $9 in one run", {"approvalAbove": {"totals": [
            {"usd": "50", "per": "window", "windowMs": DAY}, {"usd": "9", "per": "run"}]}}),
        ("wait 24 hours before a new recipient is paid", {"newRecipientHours": 24}),
    ],
)  # fmt: skip
def test_each_sentence_says_one_thing_and_is_told_again(line: str, fields: dict[str, Any]) -> None:
    found = read(line)
    assert {name: found[name] for name in fields} == fields
    policy = WalletPolicy.model_validate(found)
    told = tell(policy, NAMES)
    assert told.rest == {}
    assert read_sentences("\n".join(told.sentences), NAMES).policy == policy


HERE, THERE = f"eip155:1:{ROUTER}", f"eip155:8453:{ROUTER}"
EVERYWHERE = replace(NAMES, contracts={"uniswap": (HERE, THERE), "aave": (THERE,)})


@pytest.mark.parametrize(
    "text",
    [
        "On Ethereum, swap up to $500 a day on Uniswap.",
        "swap up to $500 a day on Uniswap on Ethereum",
        "swap up to $500 a day on uniswap\non ethereum",
        "on ethereum: it may swap on Uniswap up to $500 a day\non Ethereum",
        f"on Ethereum\nuse {HERE} up to $500 a day",
    ],
)
def test_a_name_stands_for_what_is_on_the_chains_of_the_policy(text: str) -> None:
    policy = read_sentences(text, EVERYWHERE).policy
    assert policy is not None
    assert (policy.chains, policy.contracts) == ((1,), (HERE,))
    assert tell(policy, EVERYWHERE).sentences == ("on ethereum", "use uniswap up to $500 a day")


def test_chains_of_one_sentence_are_those_of_the_whole_policy_or_refused() -> None:
    found = read_sentences(f"on Ethereum, use {HERE}\nOn Base, pay {BOB}\non Mars", EVERYWHERE)
    assert [(one.line, one.message.split(":")[0]) for one in found.problems] == [
        (1, "chains hold for the whole policy, and another line names others"),
        (2, "chains hold for the whole policy, and another line names others"),
        (3, '"Mars" is no known chain'),
    ]
    (problem,) = read_sentences("on ethereum\nuse aave", EVERYWHERE).problems
    assert problem.message == '"aave" is not known on these chains: write its address'


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("donate 5 to Bob", '"donate" is not known'),
        ("pay Bob up to $5", '"Bob" is no address'),
        (f"pay {BOB} monthly", f'"{BOB} monthly" is no address'),
        ("swap on Sushi", '"Sushi" is no known contract: write its address, or one of uniswap'),
        ("on Mars", '"Mars" is no known chain: write its id, or one of base, ethereum'),
        ("move DOGE", '"DOGE" is no known asset'),
        ("spend a lot", '"a lot" is not understood'),
        (f"pay {BOB[:-1]}", "is no address"),
        ("pay", "something is missing"),
        ("call everything on Uniswap", "write its signature"),
        ("sign up to 20 times", "sign up to 20 times a day"),
        (f"pay {BOB} up to $5 a fortnight", "a fortnight"),
    ],
)
def test_a_word_that_is_not_known_is_said_and_kept(line: str, says: str) -> None:
    found = read_sentences(f"on Base\n{line}", NAMES)
    assert found.policy is None
    ((number, text, message),) = [(one.line, one.text, one.message) for one in found.problems]
    assert (number, text) == (2, line)
    assert says in message


def test_two_thresholds_ask_above_the_lower_one_and_no_sentence_allows_nothing() -> None:
    assert read("ask above $1,000\nask above $99")["approvalAbove"] == {"usd": "99"}
    assert read("") == {}


def test_any_policy_is_told_with_what_sentences_cannot_say() -> None:
    """What is told and the rest together are the policy again."""
    rng = random.Random(5)
    for _ in range(150):
        policy = with_defaults(WalletPolicy.model_validate(random_policy(rng)))
        told = tell(policy, NAMES)
        again = read_sentences("\n".join(told.sentences), NAMES, told.rest)
        assert again.problems == (), told.sentences
        assert again.policy is not None
        assert _ordered(again.policy) == _ordered(policy)


def test_no_difference_of_two_policies_goes_unsaid() -> None:
    """Whatever one statement changes can be read in the sentences or the remarks."""
    rng = random.Random(6)
    for _ in range(150):
        old = random_policy(rng) | {"chains": [1]}
        new = changed(rng, old) | {"chains": [1]}
        if rng.random() < 0.5:
            name = rng.choice(sorted(_OTHERS))
            new[name] = rng.choice(_OTHERS[name])
        before, after = (WalletPolicy.model_validate(one) for one in (old, new))
        said = [sorted({*told.sentences, *told.remarks}) for told in (tell(before, NAMES), tell(after, NAMES))]
        assert (said[0] == said[1]) == (_ordered(before) == _ordered(after)), (old, new)


_OTHERS: dict[str, list[Any]] = {
    "approval": [{"quorum": 2}, {"approvers": ["key_1"]}, {"expiresMs": 3_600_000}],
    "sources": [{}, {"amount": {"allow": ["price"], "otherwise": "deny"}}, {"recipient": {"allow": ["definition"]}}],
    "approvalAbove": [
        {"usd": "5", "totals": [{"per": "run", "usd": "9"}]},
        {"totals": [{"per": "window", "windowMs": DAY, "asset": "eip155:1/native", "units": "7"}]},
        {"totals": [{"per": "batch", "usd": "9"}]},
    ],
}


def test_what_sentences_cannot_say_is_kept_when_they_change() -> None:
    limit = {"asset": f"eip155:1/erc20:{TOKEN}", "maxUnits": "1500000", "windowMs": DAY, "per": "workflow"}
    above = {"usd": "5", "totals": [{"per": "batch", "usd": "9"}]}
    policy = WalletPolicy.model_validate(
        {"chains": [1], "recipients": [BOB], "assets": ["*"], "limits": [limit], "approvalAbove": above}
    )
    names = replace(NAMES, units={f"eip155:1/erc20:{TOKEN}".lower(): ("USDC", 6)})
    told = tell(policy, names)
    moves = f"It moves at most 1.5 USDC (eip155:1/erc20:{TOKEN}) in any 24 hours for each workflow."
    above_batch = "Above $9 in all of one node a person must approve the exact transactions."
    assert (told.remarks[0], above_batch in told.remarks) == (moves, True)
    again = read_sentences(f"on Ethereum\npay {EVE}\nask above $2", names, told.rest).policy
    assert again is not None
    assert again.model_copy(update={"fee_above_usual": None}) == policy.model_copy(
        update={
            "recipients": (EVE,),
            "approval_above": policy.approval_above and policy.approval_above.model_copy(update={"usd": "2"}),
        }
    )


def test_a_limit_that_names_whom_the_policy_does_not_allow_is_no_sentence() -> None:
    """The sentence would allow it."""
    limit = {"maxUsd": "5", "of": {"recipients": [EVE]}}
    policy = WalletPolicy.model_validate({"chains": [1], "recipients": [BOB], "assets": ["*"], "limits": [limit]})
    told = tell(policy, NAMES)
    assert not any(EVE in sentence for sentence in told.sentences)
    assert f"It moves at most $5 per transaction, counted only for recipients {EVE}." in told.remarks


def _ordered(policy: WalletPolicy) -> dict[str, Any]:
    document = policy.model_dump(mode="json", by_alias=True)
    return {name: sorted(map(repr, one)) if isinstance(one, list) else one for name, one in document.items()}


def test_a_statement_of_a_verdict_is_found_in_the_sentence_that_says_it() -> None:
    policy = read_sentences(f"{TREASURY}\nask above $1,000 in one run\npay fees up to $3", NAMES).policy
    assert policy is not None
    policy = with_defaults(policy)
    told = tell(policy, NAMES)
    found = statements_of(policy, NAMES, told)
    assert set(found.values()) <= {*told.sentences, *told.remarks}
    for index, _ in enumerate(policy.limits):
        assert found[f"limits[{index}]"].endswith(("up to $500 a day", "up to $2,000 a month"))
    assert found["approvalAbove.usd"] == "ask above $100"
    assert found["approvalAbove.totals[0]"] == "ask above $1,000 in one run"
    assert found["gas[0]"] == "pay fees up to $3"
    assert found["recipients"].startswith(f"pay {BOB}")
    assert found["chains"] == "on every chain"
    assert "allowDeploy" not in found  # no sentence allows it


def test_every_limit_and_question_of_any_policy_is_said_by_a_sentence() -> None:
    rng = random.Random(7)
    for _ in range(100):
        policy = WalletPolicy.model_validate(random_policy(rng))
        above = policy.approval_above
        found = statements_of(policy, NAMES, tell(policy, NAMES))
        named = {f"limits[{index}]" for index, _ in enumerate(policy.limits)}
        named |= {f"gas[{index}]" for index, _ in enumerate(policy.gas)}
        if above is not None:
            named |= {f"approvalAbove.totals[{index}]" for index, _ in enumerate(above.totals)}
            named |= {f"approvalAbove.assets.{key}" for key in above.assets}
        assert named <= found.keys()
