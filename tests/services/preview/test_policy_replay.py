"""What a policy would have said: the same code in the same order, with limits added up anew."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

from dustrun.core.money.intent import Movement
from dustrun.core.money.policy import Deny, PolicyRequest, Reason, Worth
from dustrun.core.money.policy.document import WalletPolicy
from dustrun.core.values.amounts import Asset
from dustrun.services.preview.policy_replay import PastSpend, outcome_of, replay

COIN, PAYEE = Asset(1), "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
DAY_MS = 86_400_000


def spend(name: str, at: int, dollars: int, **more: Any) -> PastSpend:
    """A settled payment of whole dollars; a coin costs one."""
    moved = (Movement("send", COIN, dollars * 10**18, PAYEE),)
    request = PolicyRequest("transaction", 1, PAYEE, dollars * 10**18, b"", moved)
    worths = {COIN.key: Worth(Decimal(1), 18)}
    return PastSpend(**{"decided": "allow", "ended_ms": at, **more, "id": name, "at_ms": at, "request": request,
                        "worths": worths})  # fmt: skip


def said(policy: dict[str, Any], *spends: PastSpend) -> dict[str, str]:
    document = WalletPolicy.model_validate({"chains": [1], "assets": ["*"], "recipients": ["*"], **policy})
    return {one.id: outcome_of(verdict) for one, verdict in replay(document, spends, {})}


def test_what_is_refused_does_not_count_and_what_is_settled_leaves_the_window() -> None:
    limit = {"limits": [{"maxUsd": "10", "windowMs": DAY_MS}]}
    found = said(limit, spend("a", 0, 6), spend("b", 1, 5), spend("c", 2, 4), spend("d", DAY_MS, 6))
    assert found == {"a": "allow", "b": "deny", "c": "allow", "d": "allow"}
    still_open = said(limit, spend("a", 0, 6, ended_ms=None), spend("d", 5 * DAY_MS, 6))
    assert still_open == {"a": "allow", "d": "deny"}
    released = said(limit, spend("a", 0, 6, ended_ms=9, is_released=True), spend("b", 5, 6), spend("c", 9, 6))
    assert released == {"a": "allow", "b": "deny", "c": "allow"}


def test_what_a_person_refused_does_not_count_and_what_would_pass_now_does() -> None:
    limit = {"limits": [{"maxUsd": "10", "windowMs": DAY_MS}], "approvalAbove": {"usd": "7"}}
    refused = spend("a", 0, 8, decided="ask", is_made=False)
    assert said(limit, refused, spend("b", 1, 6)) == {"a": "ask", "b": "allow"}
    denied = spend("a", 0, 6, decided="deny", reasons=(Reason("limits[0]", "over"),), is_made=False)
    assert said(limit, denied, spend("b", 1, 6)) == {"a": "allow", "b": "deny"}


def test_what_only_the_moment_decides_stays_as_it_was() -> None:
    open_policy = {"outflow": None, "sources": None}
    by_outflow = spend("a", 0, 1, decided="deny", reasons=(Reason("outflow", "too much"),), is_made=False)
    assert said(open_policy, by_outflow) == {"a": "allow"}
    assert said({"outflow": {}}, by_outflow) == {"a": "deny"}
    doubtful = spend("a", 0, 1, decided="ask", reasons=(Reason("prices", "one source"),))
    assert said(open_policy, doubtful) == {"a": "ask"}


def test_totals_of_a_run_and_of_a_node_are_added_up_by_their_names() -> None:
    totals = {"approvalAbove": {"totals": [{"per": "run", "usd": "10"}, {"per": "batch", "usd": "7"}]}}
    of = {-1: "run:1", -2: "batch:1"}
    found = said(totals, spend("a", 0, 6, scopes=of), spend("b", 1, 3, scopes={**of, -2: "batch:2"}),
                 spend("c", 2, 2, scopes=of), spend("d", 3, 6, scopes={-1: "run:2", -2: "batch:3"}))  # fmt: skip
    assert found == {"a": "allow", "b": "allow", "c": "ask", "d": "allow"}


def test_fees_count_as_reserved_until_the_end_and_then_as_paid() -> None:
    document = WalletPolicy.model_validate(
        {"chains": [1], "assets": ["*"], "recipients": ["*"], "limits": [{"maxGasUsd": "10", "windowMs": DAY_MS}]}
    )
    first = spend("a", 0, 1, ended_ms=100, paid={"gas:eip155:1": 10**18, "gasUsd": 10**18})
    costly = replace(first.request, gas_limit=6, max_fee_units=10**18)
    spends = [replace(first, request=costly)]
    spends += [replace(spend(name, at, 1), request=costly) for name, at in (("b", 50), ("c", 150))]
    verdicts = [verdict for _, verdict in replay(document, spends, {})]
    assert [outcome_of(one) for one in verdicts] == ["allow", "deny", "allow"]
    assert isinstance(verdicts[1], Deny)
    assert verdicts[1].reasons[0].statement == "limits[0]"
