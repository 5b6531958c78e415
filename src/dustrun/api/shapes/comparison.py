"""Response models of the comparison of two runs, which `core/run/compare/comparison.py` builds."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from dustrun.api.shapes.effects import EffectName
from dustrun.api.shapes.runs import RunListItem
from dustrun.core.values.fields import Fields


class DifferenceTexts(Fields):
    """A difference in words."""

    what: str
    left: str
    right: str
    change: str | None


class RunDifference(Fields):
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


class EstimatedGas(Fields):
    """Gas that two runs used."""

    left: int | None
    right: int | None


class EstimatedFee(Fields):
    """A fee of two runs."""

    left: str | None
    right: str | None


class Estimate(Fields):
    """Gas and fees of a transaction in both runs, which never agree exactly."""

    path: str
    item: str
    chain_id: int
    gas_used: EstimatedGas
    fee: EstimatedFee
    fee_usd: EstimatedFee


class ComparisonNote(Fields):
    """What was not compared, and why."""

    code: str
    path: str | None
    message: str


class ComparisonAnswer(Fields):
    """Two runs of a workflow compared by node and item."""

    left: RunListItem
    right: RunListItem
    verdict: Literal["same", "differs"]
    equal: bool
    differences: list[RunDifference]
    estimates: list[Estimate]
    notes: list[ComparisonNote]
    names: dict[str, EffectName] = Field(description="By address.")
