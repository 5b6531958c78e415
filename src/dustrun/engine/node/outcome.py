"""The possible outcomes of one attempt of a node."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any

from dustrun.core.run.plan import Holds
from dustrun.core.run.state import NodeStatus, RunStatus
from dustrun.core.values.exact_json import dumps_text, loads_own
from dustrun.errors import Bug, Code, DustrunError, Invalid, Permanent, Refused, Temporary, Uncertain
from dustrun.log import mask_links
from dustrun.records import dataclass


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
    asked: Question | None = None
    holds: Holds = Holds.NOTHING
    note: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Question:
    """What an `approve` node asks a person."""

    message: str
    approvers: tuple[str, ...]
    allows_starter: bool = False


@dataclass(slots=True)
class Opened:
    """A loop evaluated its items; `most_items`: of a `while`, which begins with one, how many there may be."""

    items: list[Any]
    concurrency: int
    on_item_error: str
    assumed: bool = False
    most_items: int | None = None


@dataclass(slots=True)
class Interrupted:
    """A cancel interrupted the attempt; what it had begun may have happened."""

    message: str
    facts: dict[str, Any] | None = None


Outcome = Settled | Failed | Unknown | Suspended | Opened | Interrupted

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
