"""Scales the input of a node that is about to spend in a dust test."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dustrun.core.values.amounts import format_units
from dustrun.core.values.exact_json import plain_digits
from dustrun.core.workflow.forecast import ForecastInput
from dustrun.core.workflow.program import Program
from dustrun.engine.node.context import NodeContext
from dustrun.engine.node.outcome import Job
from dustrun.engine.spend.live import Scaled
from dustrun.services.access.principal import Principal
from dustrun.services.preview.dust_plans import DustPlans
from dustrun.services.preview.dust_scaling import Duster, Entry, Scene
from dustrun.services.preview.spend_forecast import SpendForecast
from dustrun.services.runs.engine_port import RunFacts


class NodeDust:
    """Scales the inputs of nodes, and makes the dust plan of a run; the outbox enforces the run's caps when it
    signs."""

    def __init__(self, duster: Duster, plans: DustPlans) -> None:
        self._duster = duster
        self._plans = plans

    async def plan(self, facts: RunFacts, program: Program, payload: Mapping[str, Any]) -> dict[str, Any]:
        """The planned spending of the run, as `dust-plan` returns it."""
        forecast = SpendForecast(program, facts.workflow_id, facts.version)
        given = ForecastInput(payload, facts.prop_values)
        plan = await self._plans.plan_of(Principal(facts.triggered_by, facts.org_id, frozenset()), forecast, given)
        return plan.public()

    async def scale(self, job: Job, facts: RunFacts, context: NodeContext) -> Scaled:
        """The input with every declared amount scaled to dust; raises `Refused` or `Temporary`."""
        amount = job.node.node.dust_amount
        wallet, override = context.wallet, None if amount is None else int(amount)
        scene = Scene(context.chain, wallet.address, override, wallet_id=wallet.id)
        found = await self._duster.scale(job.action, job.input, scene)
        entries = tuple(entry.public() for entry in found.entries)
        for entry in found.entries:
            context.log(_line(entry), level="warning" if entry.warnings else "info", data={"dust": entry.public()})
        return Scaled(found.value, entries)


def _line(entry: Entry) -> str:
    """The log line of one scaled amount."""
    old, new = (format_units(units, entry.decimals) for units in (entry.dusted.original_units, entry.dusted.units))
    price = f" at {plain_digits(entry.price.usd)} USD by {entry.price.source}" if entry.price is not None else ""
    return f"Dust: {entry.field} {old} becomes {new} of {entry.asset.key}{price}"
