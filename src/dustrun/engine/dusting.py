"""Dust for a node that is about to spend: hands its input to whoever scales amounts."""

from __future__ import annotations

from dustrun.core.amounts import format_units
from dustrun.core.exact_json import plain_digits
from dustrun.engine.context import NodeContext
from dustrun.engine.node import Job
from dustrun.engine.spending import Scaled
from dustrun.services.dust import Duster, Entry, Scene
from dustrun.services.ports import RunFacts


class NodeDust:
    """Scales the inputs of nodes; the caps of the run are held by the ledger when it signs."""

    def __init__(self, duster: Duster) -> None:
        self._duster = duster

    async def scale(self, job: Job, facts: RunFacts, context: NodeContext) -> Scaled:
        """The input with every declared amount made dust; raises `Refused` or `Temporary`."""
        amount = job.node.node.dust_amount
        scene = Scene(context.chain, context.wallet.address, None if amount is None else int(amount))
        found = await self._duster.scale(job.action, job.input, scene)
        entries = tuple(entry.public() for entry in found.entries)
        for entry in found.entries:
            context.log(_line(entry), level="warning" if entry.warnings else "info", data={"dust": entry.public()})
        return Scaled(found.value, entries)


def _line(entry: Entry) -> str:
    """One amount for people: the plan of the node, before anything is signed."""
    old, new = (format_units(units, entry.decimals) for units in (entry.dusted.original_units, entry.dusted.units))
    price = f" at {plain_digits(entry.price.usd)} USD by {entry.price.source}" if entry.price is not None else ""
    return f"Dust: {entry.field} {old} becomes {new} of {entry.asset.key}{price}"
