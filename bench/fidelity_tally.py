"""What the proof of fidelity has found so far; kept in a file between its parts."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Json = dict[str, Any]


@dataclass
class Tally:
    """What was found so far."""

    workflows: int = 0
    calling: int = 0
    called: int = 0
    deepest: int = 0
    steps: int = 0
    failing: int = 0
    transactions: int = 0
    equal_gas: int = 0
    events: int = 0
    decoded: int = 0
    balances: int = 0
    allowances: int = 0
    simulate_s: float = 0.0
    live_s: float = 0.0
    kinds: Counter[str] = field(default_factory=Counter)
    carried_out: Counter[str] = field(default_factory=Counter)
    sent: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    shapes: Counter[str] = field(default_factory=Counter)
    documented: Counter[str] = field(default_factory=Counter)
    policed: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Takes in what another worker found."""
        deepest = max(self.deepest, other.deepest)
        for name in self.__dataclass_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.deepest = deepest

    def public(self) -> Json:
        """As JSON."""
        return {
            "workflows": self.workflows,
            "callingOthers": self.calling,
            "runsCalled": self.called,
            "deepestCall": self.deepest,
            "shapes": dict(sorted(self.shapes.items())),
            "documentedDifferences": dict(sorted(self.documented.items())),
            "underPolicies": dict(sorted(self.policed.items())),
            "runsByStatus": dict(sorted(self.statuses.items())),
            "spendingSteps": self.steps,
            "failingSteps": self.failing,
            "transactions": self.transactions,
            "equalGas": f"{self.equal_gas} of {self.transactions}",
            "eventsCompared": self.events,
            "eventsComparedDecoded": self.decoded,
            "balancesCompared": self.balances,
            "allowancesCompared": self.allowances,
            "secondsSimulating": round(self.simulate_s, 1),
            "secondsLive": round(self.live_s, 1),
            "stepsByKind": dict(sorted(self.kinds.items())),
            "transactionsByKind": dict(sorted(self.sent.items())),
            "succeededByKind": dict(sorted(self.carried_out.items())),
            "failures": self.failures[:20],
        }

    def save(self, path: Path) -> None:
        """Keeps it, so that a proof that was stopped goes on later."""
        path.write_text(json.dumps({name: getattr(self, name) for name in self.__dataclass_fields__}))

    @classmethod
    def load(cls, path: Path) -> Tally:
        """One that was kept."""
        kept = cls(**json.loads(path.read_text()))
        for name in ("kinds", "carried_out", "statuses", "shapes", "documented", "policed", "sent"):
            setattr(kept, name, Counter(getattr(kept, name)))
        return kept
