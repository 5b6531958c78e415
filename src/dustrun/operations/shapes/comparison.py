"""Response models of the comparison of two runs, which `core/run/compare/comparison.py` builds."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from dustrun.operations.declaration.answers import Answer
from dustrun.operations.shapes.effects import EffectName
from dustrun.operations.shapes.runs import RunListItem


class DifferenceTexts(Answer):
    """A difference in words."""

    what: str
    left: str
    right: str
    change: str | None


class RunDifference(Answer):
    """Something that differs between two runs."""

    path: str | None
    field: str
    kind: Literal["course", "money", "detail"]
    left: Any
    right: Any
    item: str | None = None
    asset: str | None = None
    counterparty: str | None = None
    address: str | None = None
    difference: str | None = None
    shown: DifferenceTexts
    message: str


class EstimatedGas(Answer):
    """Gas that two runs used."""

    left: int | None
    right: int | None


class EstimatedFee(Answer):
    """A fee of two runs."""

    left: str | None
    right: str | None


class Estimate(Answer):
    """Gas and fees of a transaction in both runs, which never agree exactly."""

    path: str
    item: str
    chain_id: int
    gas_used: EstimatedGas
    fee: EstimatedFee
    fee_usd: EstimatedFee


class ComparisonNote(Answer):
    """A part that was not compared, and why."""

    code: str
    path: str | None
    message: str


class ComparisonAnswer(Answer):
    """Two runs of a workflow compared by node and item."""

    left: RunListItem
    right: RunListItem
    verdict: Literal["same", "differs"]
    equal: bool
    differences: list[RunDifference]
    estimates: list[Estimate]
    notes: list[ComparisonNote]
    names: dict[str, EffectName] = Field(description="By address; those of wallets to keys with `wallet:read`.")
