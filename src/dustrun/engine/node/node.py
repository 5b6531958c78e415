"""One attempt of one node: resolve its inputs, then carry it out. The only place that looks at the mode.

A mode changes how an effect is carried out and nothing else: in a simulation a `write` or `spend` is built,
validated and recorded, and its result is the pinned one or the action's example, marked *assumed*.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from dustrun import log
from dustrun.catalog import Catalog
from dustrun.core.expression import ExpressionError
from dustrun.core.run.plan import Start
from dustrun.core.run.state import Mode
from dustrun.core.text.masking import MASK
from dustrun.core.text.wording import explain
from dustrun.core.validate import field_path
from dustrun.core.workflow.program import ProgramNode
from dustrun.engine.node import control
from dustrun.engine.node.context import NodeContext
from dustrun.engine.node.outcome import Failed, Outcome, Settled, Unknown, of_error
from dustrun.engine.node.roots import NodeRoots
from dustrun.engine.node.store_effects import StoreEffect
from dustrun.errors import DustrunError
from dustrun.sdk import Action, Effect
from dustrun.settings import Settings
from dustrun.storage.runs.forks import Fork

_logger = log.get(__name__)
_OUTSIDE = frozenset({Effect.WRITE, Effect.SPEND})
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
        return self.effect in _OUTSIDE


def prepare(
    start: Start, node: ProgramNode, roots: NodeRoots, catalog: Catalog, settings: Settings, now: int
) -> tuple[Any, Job | StoreEffect | Outcome]:
    """The resolved payload, and either the job that is left to do or what the node came to without one."""
    try:
        resolved = node.payload.evaluate(roots) if node.spec.kind != "control" or not node.choices else {}
        if node.spec.kind == "control":
            payload = None if node.choices else node.spec.payload.model_validate(resolved)
            scene = control.Scene(start, node, payload, roots, now, settings, catalog)
            return resolved, control.carry_out(scene)
        return resolved, _prepare_action(start, node, roots, resolved, catalog)
    except ExpressionError as error:
        return None, _expression_failure(error)
    except ValidationError as error:
        return resolved, _input_failure(error)
    except DustrunError as error:
        return resolved, of_error(error)


def _expression_failure(error: ExpressionError) -> Failed:
    field = getattr(error, "field", None)
    details = [{"field": f"payload.{field}", "message": error.message}] if field else None
    return Failed("EXPRESSION", str(error), details=details)


def _input_failure(error: ValidationError) -> Failed:
    found = error.errors(include_url=False, include_input=False)
    details = [
        {"field": f"payload.{field_path(item['loc'])}", "message": explain(item["type"], item["msg"])} for item in found
    ]
    first = details[0]
    return Failed("INVALID_INPUT", f"The input is not valid: {first['field']}: {first['message']}", details=details)


def _prepare_action(
    start: Start, node: ProgramNode, roots: NodeRoots, resolved: Any, catalog: Catalog
) -> Job | Outcome:
    action = catalog.actions[node.node.type]
    value = action.input.model_validate(resolved)
    effect = action.effect_for(value)
    request = action.preview(value) if action.preview is not None and effect in _OUTSIDE else None
    job = Job(start, node, action, value, resolved, effect, roots.assumed, request)
    return _by_mode(job, roots.facts.mode) or job


def _by_mode(job: Job, mode: Mode) -> Outcome | None:
    """What the mode makes of an attempt; None when it is carried out as it is."""
    node = job.node.node
    if mode is Mode.SIMULATE and node.is_pinned:
        return Settled(node.pinned, facts=_facts(job, sent=False), note={"pinned": True})
    if job.effect is Effect.SPEND and not (mode is Mode.DUST and node.dust in ("skip", "refuse")):
        job.carrier = Carrier.SIMULATION if mode is Mode.SIMULATE else Carrier.OUTBOX
        job.is_dust = mode is Mode.DUST
        return None
    if mode is Mode.SIMULATE and job.is_outside and not job.action.inside:
        return Settled(job.action.example_output, assumed=True, facts=_facts(job, sent=False))
    if mode is Mode.DUST and job.is_outside and node.dust == "skip":
        result = node.pinned if node.is_pinned else job.action.example_output
        return Settled(result, assumed=not node.is_pinned, facts=_facts(job, sent=False), note={"dust": "skipped"})
    if mode is Mode.DUST and job.is_outside and node.dust == "refuse":
        return Failed("REFUSED", 'The node says dust: "refuse": it does not run in a dust test.')
    return None


def resumed(start: Start, node: ProgramNode, catalog: Catalog, spend: Mapping[str, Any], mode: Mode) -> Job:
    """The job of a node that spends and waited: with the input that it began with, whatever has changed since."""
    action = catalog.actions[node.node.type]
    value = action.input.model_validate(spend["input"])
    job = Job(start, node, action, value, spend["input"], Effect.SPEND, bool(spend.get("assumed")), None)
    _by_mode(job, mode)
    return job


def is_refused_in_dust(job: Job, mode: Mode) -> bool:
    """Whether a node whose connector moves money stays out of a dust test: a write, unless the node says otherwise."""
    return mode is Mode.DUST and job.effect is Effect.WRITE and job.node.node.dust is None


def shown_input(node: ProgramNode, catalog: Catalog, resolved: Any) -> Any:
    """The resolved payload as it may be kept: without the secret fields of its action."""
    action = catalog.actions.get(node.node.type)
    if action is None or not action.secret_fields or not isinstance(resolved, dict):
        return resolved
    return {name: MASK if name in action.secret_fields and value else value for name, value in resolved.items()}


def _facts(job: Job, *, sent: bool) -> dict[str, Any] | None:
    if not job.is_outside or job.action.inside:
        return None
    return {"request": job.request if job.request is not None else job.resolved, "sent": sent}


def run_pure(job: Job, context: NodeContext) -> Outcome:
    """Carries out a pure action that is a plain function."""
    try:
        return _settle(job, job.action.run(job.input, context), context)
    except DustrunError as error:
        return of_error(error)
    except Exception as error:
        return defect(job, error)


async def run(job: Job, context: NodeContext) -> Outcome:
    """Carries out an action; whoever started it watches its time."""
    try:
        value = job.action.run(job.input, context)
        return _settle(job, await value if job.action.is_async else value, context)
    except DustrunError as error:
        outcome = of_error(error)
        if isinstance(outcome, Failed | Unknown):
            outcome.facts = _facts(job, sent=isinstance(outcome, Unknown))
        return outcome
    except Exception as error:
        return defect(job, error)


def timed_out(job: Job, timeout_ms: int) -> Outcome:
    """What an attempt came to that was cut off after its time limit."""
    message = f"No answer within {timeout_ms} ms (timeoutMs of the node, setting default_timeout_ms)."
    if job.is_outside and job.carrier is not Carrier.SIMULATION:
        return Unknown(f"{message} It may have happened.", _facts(job, sent=True))
    return Failed("TIMEOUT", message, retryable=True, facts=job.simulated_facts)


def _settle(job: Job, value: Any, context: NodeContext) -> Settled:
    result = value.model_dump(by_alias=True) if isinstance(value, BaseModel) else value
    notes = context.notes
    return Settled(result, assumed=job.assumed or notes.assumed, facts=notes.facts or _facts(job, sent=True))


def defect(job: Job, error: Exception) -> Outcome:
    """What an attempt came to that a defect of ours, or of the action's author, cut off."""
    _logger.error("action failed unexpectedly", action=job.action.type, path=job.start.path, exc_info=error)
    message = f'The action "{job.action.type}" failed unexpectedly ({type(error).__name__}); see the server\'s log.'
    if job.is_outside and job.carrier is not Carrier.SIMULATION:
        return Unknown(f"{message} It may have happened.", _facts(job, sent=True))
    return Failed("INTERNAL", message, facts=job.simulated_facts)


def resolved_effect(action: Action, recorded_input: Mapping[str, Any] | None) -> Effect:
    """The effect of an attempt that an earlier life began; the strongest when its input is no longer known."""
    try:
        return action.effect_for(action.input.model_validate(recorded_input or {}))
    except ValidationError:
        return action.effect
