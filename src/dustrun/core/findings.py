"""What a comparison of two runs has found so far, and how it says so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dustrun.core.amounts import format_units
from dustrun.core.journal import Execution

Json = dict[str, Any]
_LABELS = {"simulate": "the simulation", "dust": "the dust test", "live": "the live run"}


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two runs: the newest attempt of each path, its report, its transactions' facts in the report's order,
    ids that only this run has, what it was started with, and the nodes that start it."""

    executions: Mapping[str, Execution]
    report: Mapping[str, Any]
    facts: Sequence[Mapping[str, Any]]
    mode: str
    version: int | None
    ids: frozenset[str] = frozenset()
    payload: Any = None
    triggers: frozenset[str] = frozenset()


@dataclass(slots=True)
class Findings:
    """What differs, what is only an estimate, and what should be known beside. `labels` are what the runs are called;
    `assets` is what is known of every asset."""

    labels: tuple[str, str]
    assets: Mapping[str, Json]
    differences: list[Json] = field(default_factory=list)
    estimates: list[Json] = field(default_factory=list)
    notes: list[Json] = field(default_factory=list)

    @classmethod
    def of(cls, left: Side, right: Side) -> Findings:
        """None yet."""
        labels = (_LABELS[left.mode], _LABELS[right.mode])
        if left.mode == right.mode:
            labels = ("the first run", "the second run")
        return cls(labels, {**left.report["assets"], **right.report["assets"]})

    def differ(self, path: str | None, field: str, sides: tuple[Any, Any], message: str, **more: Any) -> None:
        """Notes a difference; `message` is a sentence without the path."""
        found = {"path": path, "field": field, "left": sides[0], "right": sides[1], **more}
        self.differences.append({**found, "message": message})

    def note(self, code: str, message: str, path: str | None = None) -> None:
        """Notes what is no difference and should be known."""
        self.notes.append({"code": code, "path": path, "message": message})

    def both(self, what: str, before: Any, after: Any) -> str:
        """Two values for people."""
        return f"{what} {brief(before)} in {self.labels[0]}, {brief(after)} in {self.labels[1]}."

    def amounts(self, what: str, was: int, now: int, asset: str) -> str:
        """Two amounts and what lies between them, for people."""
        known = self.assets.get(asset, {})
        told = [tell_amount(units, asset, known) for units in (was, now)]
        more = tell_amount(now - was, asset, known)
        sign = "+" if now > was else ""
        return f"{what} {told[0]} in {self.labels[0]}, {told[1]} in {self.labels[1]} ({sign}{more})."


def brief(value: Any) -> str:
    """A value as a sentence takes it."""
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 80 else f"{text[:79]}…"


def tell_amount(units: int, asset: str, known: Mapping[str, Any]) -> str:
    """An amount with its symbol; in base units where nobody knows the decimals."""
    symbol, decimals = known.get("symbol") or asset, known.get("decimals")
    number = f"{units} base units of" if decimals is None else format_units(units, decimals)
    return f"{number} {symbol}"
