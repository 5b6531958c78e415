"""What may shape the money fields of a spend."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from dustrun.core.money.policy.document import WalletPolicy, warnings_of, with_defaults
from dustrun.core.money.policy.sources_rule import (
    SourcesRule,
    VouchedContracts,
    contracts_of,
    default_sources,
    is_looser,
    judge_sources,
)

OWN = frozenset({"definition:wf@1#pay.amount", "starter", "variable:wf/n", "table:t", "connector:c"})


def judged(field: str, *sources: str) -> list[str]:
    shaped = {field: frozenset(sources) | OWN}
    return [otherwise for otherwise, _ in judge_sources(default_sources(), shaped)]


@pytest.mark.parametrize(
    "source",
    [
        "model:c",
        "mcp:c",
        "http:a.example.com",
        "trigger:webhook.to",
        "trigger:evm-log.x",
        "trigger:manual.x",
        "system:x",
    ],
)
@pytest.mark.parametrize("field", ["recipient", "amount", "asset", "calldata", "limits"])
def test_a_new_policy_asks_about_what_other_systems_say(field: str, source: str) -> None:
    assert judged(field, source) == ["ask"]


@pytest.mark.parametrize(
    ("source", "fields"),
    [
        ("price:1", ["amount", "limits"]),
        ("trigger:cronjob.at", ["amount", "limits"]),
        ("chain:1", ["amount", "asset", "calldata", "limits"]),
        ("clock", ["amount", "asset", "calldata", "limits"]),
        ("contract:1/0x70997970C51812dc3A010C7d01b50e0d17dc79C8", []),
    ],
)
def test_a_new_policy_takes_amounts_from_schedules_chains_and_prices(source: str, fields: list[str]) -> None:
    every = ["amount", "asset", "calldata", "limits", "recipient"]
    assert [field for field in every if not judged(field, source)] == fields


def test_a_policy_names_systems_one_by_one() -> None:
    token = "contract:1/0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
    rule = {"amount": SourcesRule(allow=("http:api.example.com", token), otherwise="deny")}
    shaped = {"amount": frozenset({"http:api.example.com", token.lower()}), "recipient": frozenset({"model:c"})}
    assert list(judge_sources(rule, shaped)) == []  # type: ignore[arg-type]
    (found,) = judge_sources(rule, {"amount": frozenset({"http:api.example.com:444"})})  # type: ignore[arg-type]
    assert (found[0], found[1].statement, "http:api.example.com:444" in found[1].message) == (
        "deny",
        "sources.amount",
        True,
    )


def test_rules_that_allow_or_ask_more_are_looser() -> None:
    strict = {"amount": SourcesRule(allow=("definition",), otherwise="deny")}
    for fresh in (
        None,
        {},
        {"amount": SourcesRule(allow=("definition", "http:x"), otherwise="deny")},
        {"amount": SourcesRule(allow=("definition",))},
    ):
        assert is_looser(strict, fresh)  # type: ignore[arg-type]
    assert not is_looser(strict, {**strict, "recipient": SourcesRule()})  # type: ignore[arg-type, dict-item]
    assert not is_looser(None, strict)  # type: ignore[arg-type]


def test_old_policies_have_no_rule_and_a_warning_and_new_ones_have_the_default() -> None:
    old = WalletPolicy.model_validate({"chains": ["*"]})
    assert (old.sources, any("sources" in text for text in warnings_of(old))) == (None, True)
    assert with_defaults(old).sources == default_sources()
    given = WalletPolicy.model_validate({"chains": ["*"], "sources": None})
    assert with_defaults(given).sources is None
    with pytest.raises(ValidationError, match="definition, variable"):
        WalletPolicy.model_validate({"sources": {"amount": {"allow": ["http"]}}})


def test_the_answer_of_a_contract_that_the_policy_names_may_shape_an_amount() -> None:
    router = "0x7a250d5630B4cF539739dF2C5dAcb4c659F2488D"
    shaped = {"amount": frozenset({f"contract:1/{router}"})}
    rules = default_sources()
    asked = [("ask", "sources.amount")]
    for contracts, expected in [
        ((router,), []),
        ((f"eip155:1:{router}",), []),
        ((f"eip155:10:{router}",), asked),
        (("*",), asked),
        ((), asked),
    ]:
        found = judge_sources(rules, shaped, contracts)
        assert [(otherwise, reason.statement) for otherwise, reason in found] == expected, contracts


def test_a_listed_contract_counts_like_its_chain_and_a_moved_token_only_for_what_it_is() -> None:
    token = "0x7a250d5630B4cF539739dF2C5dAcb4c659F2488D"
    own = contracts_of([f"eip155:1/erc20:{token}", "eip155:1/*", "eip155:1/native", "*"])
    rules, every = default_sources(), ("recipient", "wallet", "chain", "asset", "calldata", "amount", "limits")
    for vouched, free in [
        (VouchedContracts(listed=own), {"asset", "calldata", "amount", "limits"}),
        (VouchedContracts(moved=own), {"asset", "amount", "limits"}),
        (VouchedContracts(listed=contracts_of([f"eip155:10/erc20:{token}"])), set()),
    ]:
        shaped = {field: frozenset({f"contract:1/{token}"}) for field in every}
        asked = {reason.statement for _, reason in judge_sources(rules, shaped, (), vouched)}
        assert {field for field in every if f"sources.{field}" not in asked} == free
    strict = {"amount": SourcesRule(allow=("definition",))}
    shaped = {"amount": frozenset({f"contract:1/{token}"})}
    denials = list(judge_sources(strict, shaped, (), VouchedContracts(own, own)))  # type: ignore[arg-type]
    assert len(denials) == 1, "who excludes the chain excludes it"
