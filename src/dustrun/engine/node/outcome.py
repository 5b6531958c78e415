"""The possible outcomes of one attempt of a node."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import field
from typing import Any, Final

from pydantic import BaseModel

from dustrun.core.money.policy import Deny, Reason
from dustrun.core.run.plan import Holds, Start
from dustrun.core.run.state import NodeStatus, RunStatus
from dustrun.core.values.exact_json import dumps_text, loads_own
from dustrun.core.workflow.definition import ConnectorReference
from dustrun.core.workflow.program import ProgramNode
from dustrun.errors import Bug, Code, DustrunError, Invalid, Permanent, Refused, Temporary, Uncertain
from dustrun.log import mask_links
from dustrun.records import dataclass
from dustrun.sdk import Action, Connection, Effect
from dustrun.storage.runs.forks import Fork


@dataclass(slots=True)
class Settled:
    """The attempt succeeded, or partly (`status`). `expired`: its wait timed out without an answer. `secrets`:
    signatures in the result, by their marks. `text`: the result as JSON, once it is encoded. `is_small`: the result was
    weighed, and is not large."""

    result: Any
    status: NodeStatus = NodeStatus.SUCCESS
    branch: str | None = None
    assumed: bool = False
    facts: dict[str, Any] | None = None
    note: dict[str, Any] | None = None
    stop: RunStatus | None = None
    expired: bool = False
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    text: str | None = field(default=None, repr=False)
    is_small: bool = False


@dataclass(slots=True)
class Failed:
    """The attempt failed, and whether it had an effect is known."""

    code: str
    message: str
    retryable: bool = False
    details: list[dict[str, Any]] | None = None
    after_ms: int | None = None
    facts: dict[str, Any] | None = None

    def public(self) -> dict[str, Any]:
        """The error as it is stored and shown."""
        shown: dict[str, Any] = {"code": self.code, "message": self.message, "retryable": self.retryable}
        if self.details:
            shown["details"] = self.details
        return shown


@dataclass(slots=True)
class Unknown:
    """The outcome is unknown: the effect may have happened."""

    message: str
    facts: dict[str, Any] | None = None


@dataclass(slots=True)
class Suspended:
    """The attempt waits until a time (milliseconds UTC) or for a signal (None), without a task. `answerable`: a signal
    may come earlier, or may be there already. `holds`: which ends of the run it delays."""

    until: int | None
    facts: dict[str, Any] | None = None
    answerable: bool = False
    asked: ApprovalQuestion | None = None
    holds: Holds = Holds.NOTHING
    note: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class ApprovalQuestion:
    """The question of an `approve` node to a person."""

    message: str
    approvers: tuple[str, ...]
    allows_starter: bool = False


@dataclass(slots=True)
class OpenedLoop:
    """A loop evaluated its items; `most_items`: of a `while`, which begins with one, how many there may be. `refused`:
    what was refused before the first item began, by path. `is_again`: a retry goes on with them."""

    items: list[Any]
    concurrency: int
    on_item_error: str
    assumed: bool = False
    most_items: int | None = None
    refused: dict[str, Any] = field(default_factory=dict)
    is_again: bool = False

    def facts(self) -> dict[str, Any]:
        """The facts of the open loop."""
        facts = {"items": self.items, "concurrency": self.concurrency, "onItemError": self.on_item_error}
        if self.most_items is not None:
            facts["mostItems"] = self.most_items
        if self.refused:
            facts["refused"] = self.refused
        return facts


@dataclass(slots=True)
class Interrupted:
    """A cancel interrupted the attempt; what it had begun may have happened."""

    message: str
    facts: dict[str, Any] | None = None


Outcome = Settled | Failed | Unknown | Suspended | OpenedLoop | Interrupted

_CODES: tuple[tuple[type[DustrunError], str], ...] = (
    (Invalid, "INVALID_INPUT"),
    (Refused, "REFUSED"),
    (Temporary, "TEMPORARY"),
    (Permanent, "PERMANENT"),
    (Bug, "FAILED"),
)


def of_error(error: DustrunError) -> Outcome:
    """An action's error as an outcome."""
    if isinstance(error, Uncertain):
        return Unknown(error.message)
    is_revert = error.code is Code.CALL_REVERTED  # depends on chain state, which may differ at the next attempt
    after_ms = int(error.retry_after_s * 1000) if error.retry_after_s is not None else None
    details = error.public_details() or None
    return Failed(
        "REVERTED" if is_revert else _code_of(error), error.message, error.retryable or is_revert, details, after_ms
    )


def _code_of(error: DustrunError) -> str:
    """The kind of an error that callers act on; else its own code, such as `TABLE_UNKNOWN`."""
    own = error.code.name
    if own.startswith(("DUST_", "LLM_", "MODEL_", "SIM_", "REHEARSAL_", "VERSION_NOT_", "MCP_")):
        return own
    return next((code for kind, code in _CODES if isinstance(error, kind)), own)


def encoded(outcome: Outcome, most_bytes: int) -> Outcome:
    """A settled outcome with its result as JSON, resume links masked; the failure of one that cannot be kept."""
    if not isinstance(outcome, Settled):
        return outcome
    try:
        plain = outcome.text if outcome.text is not None else dumps_text(outcome.result)
    except (TypeError, ValueError, RecursionError) as error:
        message = f"The result cannot be kept as JSON: {error}."
        return Failed("INTERNAL", message, facts=outcome.facts)
    text = mask_links(plain)
    size = len(text) if text.isascii() else len(text.encode())
    if size > most_bytes:
        message = f"The result has {size} bytes, at most {most_bytes} are kept (setting max_result_bytes)."
        return Failed("LIMIT", message, facts=outcome.facts)
    outcome.text = text
    if text is not plain:
        outcome.result = loads_own(text)
    return outcome


def as_dust(error: DustrunError) -> DustrunError:
    """The error of an action that ran with dust amounts: one too small for the venue becomes `DUST_BELOW_MINIMUM`."""
    if error.code is not Code.AMOUNT_BELOW_MINIMUM:
        return error
    return Refused(error.message, code=Code.DUST_BELOW_MINIMUM, details=error.details)


# An attempt of an action between its resolved inputs and its outcome.


OUTSIDE: Final = frozenset({Effect.WRITE, Effect.SPEND})
ASSUMED_INPUT: Final = {"assumedInput": True}
"""Part of the facts of a rehearsed spend whose inputs depend on an assumed value."""


@dataclass(frozen=True, slots=True)
class LoopRefusal:
    """The transaction of a spend that was refused before the first item of its loop began, and why."""

    item: str
    verdict: Deny

    def stored(self) -> dict[str, Any]:
        """As JSON."""
        return {"item": self.item, "reasons": [[one.statement, one.message] for one in self.verdict.reasons]}

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> LoopRefusal:
        """As it was stored."""
        return cls(stored["item"], Deny(tuple(Reason(*reason) for reason in stored["reasons"])))


class Carrier(enum.Enum):
    """The carrier of an attempt: the action itself, the action up to where it would send, the outbox, or a simulated
    chain."""

    ACTION = "action"
    REHEARSAL = "rehearsal"
    OUTBOX = "outbox"
    SIMULATION = "simulation"


@dataclass(slots=True)
class Job:
    """An attempt whose inputs are resolved and whose action has not run yet. `wallet`: what names its wallet, None for
    the default one. `has_begun`: it began before a restart, and may have changed something. `shown`: the transactions
    it has made on simulated chains so far; `forks`: the state of those chains. `refusal`: its loop has been judged
    whole, and this is refused."""

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
    refusal: LoopRefusal | None = None

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


def request_facts(job: Job, *, sent: bool, status: int | None = None) -> dict[str, Any] | None:
    """The facts of a write: its request, whether it was sent, and the HTTP `status` of its answer. None for what
    changes nothing outside."""
    if not job.is_outside or job.action.inside:
        return None
    facts = {"request": job.request if job.request is not None else job.resolved, "sent": sent}
    return facts if status is None else {**facts, "answered": status}
