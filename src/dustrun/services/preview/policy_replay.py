"""What a policy would have said about spends that were made or refused: judged again in order, by the same code, with
what counts toward its limits added up anew. Pure.

What depends on the moment itself is not judged again, but carried over as it was decided then: what shaped a spend,
what a transaction really took, doubts about prices.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import field
from typing import Final, Literal

from dustrun.core.money.policy import (
    Allow,
    Ask,
    Deny,
    PolicyRequest,
    Reason,
    Verdict,
    VerdictFacts,
    WalletPolicy,
    Worth,
)
from dustrun.core.money.policy.counting import is_gas
from dustrun.core.money.policy.judge import judge, needs
from dustrun.core.money.policy.scope import find_unproven
from dustrun.core.money.policy.scopes import WHOLE_RUN_MS, count_under
from dustrun.records import dataclass

Outcome = Literal["allow", "ask", "deny"]
_ENDLESS_MS: Final = 2**63
_JUDGED: Final = frozenset(
    {
        *("chains", "assets", "recipients", "contracts", "methods", "limits", "gas", "approvalAbove", "signatures"),
        *("newRecipientHours", "revocation", "allowDeploy", "allowUnlimitedApprovals", "allowUnverifiedCalldata"),
        *("allowUnpricedAssets", "default"),
    }
)
"""The statements that are judged again; others are carried over."""
_MAY_END: Final = {"sources": "sources", "outflow": "outflow", "feeAboveUsual": "fee_above_usual"}
"""What is carried over only to a policy that states it, too."""


@dataclass(frozen=True, slots=True)
class PastSpend:
    """A spend on which a policy has decided. `is_made`: it reserved, so it was signed or waits for that. `ended_ms`:
    when what it reserved was settled, or released, as `is_released` says; `paid`: the network fees that it really paid,
    by measure. `scopes`: under which names its run and its node add up what they spend (`RUN`, `BATCH`)."""

    id: str
    at_ms: int
    request: PolicyRequest
    worths: Mapping[str, Worth]
    decided: Outcome
    reasons: tuple[Reason, ...] = ()
    is_made: bool = True
    ended_ms: int | None = None
    is_released: bool = False
    paid: Mapping[str, int] = field(default_factory=dict)
    scopes: Mapping[int, str] = field(default_factory=dict)
    order: int = 0


def windows_of(policy: WalletPolicy) -> list[int]:
    """The lengths of the windows in which a policy adds up, ascending."""
    totals = () if policy.approval_above is None else policy.approval_above.totals
    spans = [*(limit.window_ms for limit in policy.limits), *(total.window_ms for total in totals)]
    return sorted({span for span in spans if span is not None})


class Spending:
    """What counts in each window at a moment; moments never go back."""

    def __init__(self, policy: WalletPolicy) -> None:
        self._windows = [*windows_of(policy), WHOLE_RUN_MS]
        self._ends: dict[tuple[str, int], list[tuple[int, int]]] = defaultdict(list)
        self._sums: dict[tuple[str, int], int] = defaultdict(int)

    def spent(self, measure: str, window_ms: int, now_ms: int) -> int:
        """Units that count in the window that ends now."""
        key = (measure, window_ms)
        ends = self._ends[key]
        while ends and ends[0][0] <= now_ms:
            self._sums[key] -= heapq.heappop(ends)[1]
        return self._sums[key]

    def add(self, units: Mapping[str, int], spend: PastSpend) -> None:
        """Counts a spend from now on: while it is open, and one window from when it was settled."""
        ended = _ENDLESS_MS if spend.ended_ms is None else spend.ended_ms
        for measure, most in units.items():
            if is_gas(measure) and spend.ended_ms is not None:
                paid = spend.paid.get(measure, most)
                self._count(measure, paid, ended, is_released=False)
                self._count(measure, most - paid, ended, is_released=True)
            else:
                self._count(measure, most, ended, is_released=spend.is_released)

    def _count(self, measure: str, units: int, ended: int, *, is_released: bool) -> None:
        for window_ms in self._windows if units else ():
            heapq.heappush(self._ends[measure, window_ms], (ended if is_released else ended + window_ms, units))
            self._sums[measure, window_ms] += units


def replay(
    policy: WalletPolicy, spends: Iterable[PastSpend], first_seen: Mapping[str, int]
) -> Iterator[tuple[PastSpend, Verdict]]:
    """Each spend, oldest first, and what the policy would have said. What it allows or asks about counts toward its
    limits, unless it never was made because a person or the chain said no."""
    spending, judged = Spending(policy), policy.model_copy(update={"fee_above_usual": None, "sources": None})
    for spend in sorted(spends, key=lambda one: (one.at_ms, one.order, one.id)):
        spent = {
            (measure, span): spending.spent(*_place(spend, measure, span), spend.at_ms)
            for measure, span in needs(judged, spend.request)
        }
        facts = VerdictFacts(spend.at_ms, spend.worths, spent, first_seen)
        verdict = _with_carried(policy, spend, judge(judged, spend.request, facts))
        if not isinstance(verdict, Deny) and (spend.is_made or spend.decided == "deny"):
            units = dict(count_under(judged, spend.request, spend.worths).units)
            runs = {
                _place(spend, measure, span)[0]: units[measure]
                for measure, span in needs(judged, spend.request)
                if span <= 0 and units.get(measure)
            }
            spending.add(units | runs, spend)
        yield spend, verdict


def _place(spend: PastSpend, measure: str, span: int) -> tuple[str, int]:
    return (measure, span) if span > 0 else (f"{span} {spend.scopes.get(span, spend.id)} {measure}", WHOLE_RUN_MS)


def _with_carried(policy: WalletPolicy, spend: PastSpend, verdict: Verdict) -> Verdict:
    if spend.decided == "allow":
        return verdict
    carried = tuple(reason for reason in spend.reasons if _is_carried(policy, spend, reason.statement))
    if not carried:
        return verdict
    if spend.decided == "deny":
        return Deny((*(verdict.reasons if isinstance(verdict, Deny) else ()), *carried))
    if isinstance(verdict, Deny):
        return verdict
    return Ask((*(verdict.reasons if isinstance(verdict, Ask) else ()), *carried))


def _is_carried(policy: WalletPolicy, spend: PastSpend, statement: str) -> bool:
    name = statement.partition(".")[0].partition("[")[0]
    if name in _MAY_END:
        return getattr(policy, _MAY_END[name]) is not None
    if name == "revocation":
        return bool(find_unproven(policy, spend.request))
    return name not in _JUDGED


def not_judged(policy: WalletPolicy) -> list[str]:
    """The statements of a policy that only the moment itself can decide."""
    return [name for name, field_name in _MAY_END.items() if getattr(policy, field_name) is not None]


def outcome_of(verdict: Verdict) -> Outcome:
    """In a word."""
    return "allow" if isinstance(verdict, Allow) else "ask" if isinstance(verdict, Ask) else "deny"
