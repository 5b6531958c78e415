"""Collects the differences found by a comparison of two runs, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any, Literal

from dustrun.core.run.journal import Execution
from dustrun.core.values.amounts import format_units
from dustrun.records import dataclass

Json = dict[str, Any]
Kind = Literal["course", "money", "detail"]
"""Category of a difference: what ran and how it ended, amounts, or anything else."""
_LABELS = {"simulate": "the simulation", "dust": "the dust test", "live": "the live run"}


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two runs: the newest attempt of each path, its report, its transactions' facts in the report's order,
    its own ids, its start payload, and the paths of its triggers, delays, and nodes that somebody answers.
    """

    executions: Mapping[str, Execution]
    report: Mapping[str, Any]
    facts: Sequence[Mapping[str, Any]]
    mode: str
    version: int | None
    ids: frozenset[str] = frozenset()
    payload: Any = None
    triggers: frozenset[str] = frozenset()
    delays: frozenset[str] = frozenset()
    answers: frozenset[str] = frozenset()


@dataclass(slots=True)
class Findings:
    """Differences, estimates and notes. `labels` name the two runs; `assets` are the known facts of every asset."""

    labels: tuple[str, str]
    assets: Mapping[str, Json]
    differences: list[Json] = field(default_factory=list)
    estimates: list[Json] = field(default_factory=list)
    notes: list[Json] = field(default_factory=list)

    @classmethod
    def of(cls, left: Side, right: Side) -> Findings:
        """Empty findings for two runs."""
        labels = (_LABELS[left.mode], _LABELS[right.mode])
        if left.mode == right.mode:
            labels = ("the first run", "the second run")
        return cls(labels, {**left.report["assets"], **right.report["assets"]})

    def differ(
        self,
        path: str | None,
        field: str,
        what: str,
        sides: tuple[Any, Any],
        *,
        kind: Kind = "detail",
        texts: tuple[str, str] | None = None,
        change: str | None = None,
        **more: Any,
    ) -> None:
        """Adds a difference of `what`; `texts` are both sides in words, `change` the difference between them."""
        left, right = texts or (short_text(sides[0]), short_text(sides[1]))
        between = f" ({change})" if change else ""
        message = f"{what}: {left} in {self.labels[0]}, {right} in {self.labels[1]}{between}."
        found = {"path": path, "field": field, "kind": kind, "left": sides[0], "right": sides[1], **more}
        shown = {"what": what, "left": left, "right": right, "change": change}
        self.differences.append({**found, "shown": shown, "message": message[0].upper() + message[1:]})

    def differ_amount(self, path: str, field: str, what: str, was: int, now: int, asset: str, **more: Any) -> None:
        """Adds a difference of two amounts of an asset."""
        texts, change = self._tell(was, now, asset)
        sides = (str(was), str(now))
        self.differ(path, field, what, sides, kind="money", texts=texts, change=change, asset=asset, **more)

    def tell_amounts(self, what: str, was: int, now: int, asset: str) -> str:
        """Two amounts in a sentence."""
        texts, change = self._tell(was, now, asset)
        return f"{what}: {texts[0]} in {self.labels[0]}, {texts[1]} in {self.labels[1]} ({change})."

    def _tell(self, was: int, now: int, asset: str) -> tuple[tuple[str, str], str]:
        known = self.assets.get(asset, {})
        change = tell_amount(now - was, asset, known)
        texts = (tell_amount(was, asset, known), tell_amount(now, asset, known))
        return texts, f"+{change}" if now > was else change

    def note(self, code: str, message: str, path: str | None = None) -> None:
        """Adds a note that is not a difference."""
        self.notes.append({"code": code, "path": path, "message": message})


def short_text(value: Any) -> str:
    """A value, shortened for a sentence."""
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 80 else f"{text[:79]}…"


def tell_amount(units: int, asset: str, known: Mapping[str, Any]) -> str:
    """An amount with its symbol; in base units when the decimals are unknown."""
    symbol, decimals = known.get("symbol") or asset, known.get("decimals")
    number = f"{units} base units of" if decimals is None else format_units(units, decimals)
    return f"{number} {symbol}"
