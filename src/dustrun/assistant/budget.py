"""Budgets of a turn, and of all turns of a key in a day."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import field
from decimal import Decimal
from typing import Any

from dustrun.records import dataclass
from dustrun.sdk.llm.connection import usd
from dustrun.sdk.llm.messages import ModelAnswer
from dustrun.settings import Settings


class BudgetExceeded(Exception):
    """The turn may not go on; `code` says why."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass(slots=True)
class TurnBudget:
    """The use of a turn. `others`: what other turns of its key have cost or reserved today."""

    settings: Settings
    others: Decimal
    requests: int = 0
    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: Decimal = field(default=Decimal(0))
    reserved: Decimal = field(default=Decimal(0))
    repeated: dict[str, int] = field(default_factory=dict)

    @property
    def left(self) -> Decimal:
        """US dollars that may still be spent."""
        of_turn = Decimal(self.settings.assistant_turn_usd) - self.cost
        return min(of_turn, Decimal(self.settings.assistant_day_usd) - self.others - self.cost)

    def begin_request(self, number: int, others: Decimal, most: Decimal) -> None:
        """Counts the request of a number, which may cost `most`, beside what others of the key have cost or reserved;
        raises `BudgetExceeded` if there may be no other. In the transaction that stores it, maybe more than once."""
        if number > self.settings.assistant_requests:
            raise BudgetExceeded("TOOL_LOOP", f"The model was asked {number - 1} times without an end to it.")
        if self.input_tokens + self.output_tokens >= self.settings.assistant_tokens:
            raise BudgetExceeded("BUDGET", f"The turn has used its {self.settings.assistant_tokens} tokens.")
        self.others = others
        if self.left <= 0:
            raise BudgetExceeded("BUDGET", "The turn, or the key's day, has used its money.")
        self.requests, self.reserved = number, min(self.left, most)

    def settle(self, answer: ModelAnswer) -> None:
        """Counts what a request has used."""
        self.reserved = Decimal(0)
        self.input_tokens += answer.input_tokens
        self.output_tokens += answer.output_tokens
        self.cost += answer.cost

    def settle_cut(self, cost: Decimal) -> None:
        """Counts what a request that was cut off may have cost, within what was reserved for it."""
        self.cost += min(cost, self.reserved)
        self.reserved = Decimal(0)

    def begin_call(self, shown: str) -> None:
        """Counts a call, failed ones too; raises `BudgetExceeded` after too many, or too many equal ones."""
        self.calls += 1
        self.repeated[shown] = self.repeated.get(shown, 0) + 1
        if self.calls > self.settings.assistant_calls:
            raise BudgetExceeded("TOOL_LOOP", f"The model called tools {self.settings.assistant_calls} times.")
        if self.repeated[shown] > 3:
            raise BudgetExceeded("TOOL_LOOP", "The model made the same call again and again.")

    def restore(self, used: Mapping[str, Any], made: Iterable[str]) -> None:
        """Goes on from what a turn had used, as it was stored; `made`: the calls that it had made."""
        self.requests, self.calls = used["requests"], used["calls"]
        self.input_tokens, self.output_tokens = used["inputTokens"], used["outputTokens"]
        self.cost = Decimal(used["costUsd"])
        self.repeated = dict(Counter(made))

    def usage(self) -> dict[str, Any]:
        """The use, as it is stored and shown."""
        return {
            "requests": self.requests,
            "calls": self.calls,
            "inputTokens": self.input_tokens,
            "outputTokens": self.output_tokens,
            "costUsd": usd(self.cost),
        }
