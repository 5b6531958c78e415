"""Dust for a node that is about to spend: hands its input to whoever scales amounts."""

from __future__ import annotations

from dustrun.engine.context import NodeContext
from dustrun.engine.node import Job
from dustrun.engine.spending import Scaled
from dustrun.services.dust import Duster, Scene
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
        return Scaled(found.value, tuple(entry.public() for entry in found.entries))
