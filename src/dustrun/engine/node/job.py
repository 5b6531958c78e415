"""An attempt of an action between its resolved inputs and its outcome."""

from __future__ import annotations

import enum
from dataclasses import field
from typing import Any, Final

from pydantic import BaseModel

from dustrun.core.run.plan import Start
from dustrun.core.workflow.definition import ConnectorReference
from dustrun.core.workflow.program import ProgramNode
from dustrun.records import dataclass
from dustrun.sdk import Action, Connection, Effect
from dustrun.storage.runs.forks import Fork

OUTSIDE: Final = frozenset({Effect.WRITE, Effect.SPEND})
ASSUMED_INPUT: Final = {"assumedInput": True}
"""Part of the facts of a rehearsed spend whose inputs depend on an assumed value."""


class Carrier(enum.Enum):
    """What carries an attempt out: the action itself, the action up to where it would send, the outbox, or a simulated
    chain."""

    ACTION = "action"
    REHEARSAL = "rehearsal"
    OUTBOX = "outbox"
    SIMULATION = "simulation"


@dataclass(slots=True)
class Job:
    """An attempt whose inputs are resolved and whose action has not run yet. `wallet`: what names its wallet, None for
    the default one. `has_begun`: it began before a restart, and may have changed something. `shown`: the transactions
    it has made on simulated chains so far; `forks`: the state of those chains."""

    start: Start
    node: ProgramNode
    action: Action
    input: BaseModel
    resolved: Any
    effect: Effect
    assumed: bool
    request: dict[str, Any] | None
    wallet: ConnectorReference | None
    carrier: Carrier = Carrier.ACTION
    is_dust: bool = False
    has_begun: bool = False
    forks: list[Fork] = field(default_factory=list)
    shown: list[dict[str, Any]] = field(default_factory=list)

    def narrow(self, connection: Connection) -> None:
        """Makes a write a read if its connector says so; a simulation then carries it out."""
        effect_by = self.action.effect_by
        if effect_by is not None and self.effect is Effect.WRITE and effect_by(self.input, connection) is Effect.READ:
            self.effect, self.carrier, self.request = Effect.READ, Carrier.ACTION, None

    @property
    def simulated_facts(self) -> dict[str, Any] | None:
        """The facts of an attempt that was cut off: what it did on simulated chains before."""
        return {"transactions": self.shown} if self.shown else None

    @property
    def is_followed(self) -> bool:
        """Whether the outbox stores every step, so that an interruption loses nothing and leaves no unknown outcome."""
        return self.carrier is Carrier.OUTBOX

    @property
    def is_outside(self) -> bool:
        """Whether it changes something outside, so that its start must be on disk first."""
        return self.effect in OUTSIDE

    @property
    def is_stored(self) -> bool:
        """Whether it writes into the server's own store: its outcome can be known, and so is waited for."""
        return self.action.inside and self.effect is Effect.WRITE

    @property
    def may_have_happened(self) -> bool:
        """Whether an attempt that is cut off may have changed something outside."""
        return self.is_outside and self.carrier in (Carrier.ACTION, Carrier.OUTBOX)


def request_facts(job: Job, *, sent: bool) -> dict[str, Any] | None:
    """The facts of a write: its request, and whether it was sent. None for what changes nothing outside."""
    if not job.is_outside or job.action.inside:
        return None
    return {"request": job.request if job.request is not None else job.resolved, "sent": sent}
