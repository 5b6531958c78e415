"""An attempt of an action between its resolved inputs and its outcome."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic import BaseModel

from dustrun.core.run.plan import Start
from dustrun.core.workflow.program import ProgramNode
from dustrun.sdk import Action, Effect
from dustrun.storage.runs.forks import Fork

OUTSIDE: Final = frozenset({Effect.WRITE, Effect.SPEND})
ASSUMED_INPUT: Final = {"assumedInput": True}
"""Among the facts of a simulated spend whose inputs depend on an assumed value."""


class Carrier(enum.Enum):
    """Who carries an attempt out: the action itself, the outbox, or a simulated chain."""

    ACTION = "action"
    OUTBOX = "outbox"
    SIMULATION = "simulation"


@dataclass(slots=True)
class Job:
    """An attempt whose inputs are resolved and whose action has yet to run. `shown` are the transactions that it has
    made on a simulated chain so far, `forks` where those chains stand now."""

    start: Start
    node: ProgramNode
    action: Action
    input: BaseModel
    resolved: Any
    effect: Effect
    assumed: bool
    request: dict[str, Any] | None
    carrier: Carrier = Carrier.ACTION
    is_dust: bool = False
    forks: list[Fork] = field(default_factory=list)
    shown: list[dict[str, Any]] = field(default_factory=list)

    @property
    def simulated_facts(self) -> dict[str, Any] | None:
        """What it did on a simulated chain before it was cut off."""
        return {"transactions": self.shown} if self.shown else None

    @property
    def is_followed(self) -> bool:
        """Whether the outbox keeps what it does: nothing of it is lost by an interruption, and nothing is in doubt."""
        return self.carrier is Carrier.OUTBOX

    @property
    def is_outside(self) -> bool:
        """Whether it changes something outside, so that its start must be on disk first."""
        return self.effect in OUTSIDE


def request_facts(job: Job, *, sent: bool) -> dict[str, Any] | None:
    """The facts of a write: its request, and whether it was sent. None for what changes nothing outside."""
    if not job.is_outside or job.action.inside:
        return None
    return {"request": job.request if job.request is not None else job.resolved, "sent": sent}
