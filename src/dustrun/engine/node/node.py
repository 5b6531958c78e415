"""One attempt of one node: resolve its inputs, then carry it out as the run's mode (`mode.py`) says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from dustrun import log
from dustrun.catalog import Catalog
from dustrun.core.expression import DEFAULT_LIMITS, TRIAL, EvaluationLimits, ExpressionError, OverTrial
from dustrun.core.run.journal import ROW_SOURCES
from dustrun.core.run.plan import Start
from dustrun.core.sources.kept import as_json
from dustrun.core.text.masking import MASK
from dustrun.core.text.wording import explain
from dustrun.core.validate import field_path
from dustrun.core.values.exact_json import MOST, is_large, weigh
from dustrun.core.workflow.definition import WALLET, ConnectorReference, choose
from dustrun.core.workflow.program import ProgramNode
from dustrun.engine.node import control
from dustrun.engine.node.context import NodeContext
from dustrun.engine.node.mode import RunMode
from dustrun.engine.node.outcome import (
    OUTSIDE,
    Carrier,
    Failed,
    Job,
    Outcome,
    Settled,
    Unknown,
    of_error,
    request_facts,
)
from dustrun.engine.node.rehearsal import BeforeSending
from dustrun.engine.node.roots import NodeRoots
from dustrun.engine.node.store_effects import StoreEffect
from dustrun.errors import DustrunError
from dustrun.records import dataclass
from dustrun.sdk import Action, Effect
from dustrun.sdk.threads import run_beside
from dustrun.settings import Settings

_logger = log.get(__name__)
_WALLET_LIMITS = EvaluationLimits(steps=10_000)  # beside the whole budget of the payload
_MOST_TESTED: Final = 200
"""Units of the tests of an `if` or `switch` that the event loop evaluates: each has the limits of an expression."""
_ASSUMED = "The input rests on an assumed result: pin the results of the nodes that it uses if a live run differs."


@dataclass(slots=True)
class Preparation:
    """What an attempt is prepared from. `limits`: of its expressions; in a trial, `prepare` raises `OverTrial` for what
    the event loop should not do at once. `weight`: of its payload, once that is known."""

    start: Start
    node: ProgramNode
    roots: NodeRoots
    mode: RunMode
    catalog: Catalog
    settings: Settings
    now: int
    limits: EvaluationLimits = DEFAULT_LIMITS
    weight: int = 0

    def check_size(self, value: Any, most: int = MOST) -> None:
        """Raises `OverTrial` for a large value in a trial."""
        if self.limits.is_trial and is_large(value, most):
            raise OverTrial

    def weigh(self, resolved: Any) -> None:
        """Notes the payload's weight in a trial, and raises `OverTrial` if it is large."""
        if self.limits.is_trial:
            known = self.node.payload.weight
            self.weight = weigh(resolved) if known is None else known
            if self.weight > MOST:
                raise OverTrial


def prepare(given: Preparation) -> tuple[Any, Job | StoreEffect | Outcome]:
    """The payload as it may be stored, and either a job still to run or the outcome of a node that needs none."""
    resolved, prepared = _prepare(given)
    return shown_input(given.node, given.catalog, given.roots.masked(resolved)), prepared


def _prepare(given: Preparation) -> tuple[Any, Job | StoreEffect | Outcome]:
    node, resolved = given.node, None
    try:
        if node.choices:
            given.check_size(node.node.payload, _MOST_TESTED)
            resolved = {}
        else:
            resolved = node.payload.evaluate(given.roots, given.limits)
            given.weigh(resolved)
        if node.spec.kind == "control":
            resolved = {**resolved, **node.repeat.source} if node.repeat is not None else resolved
            return resolved, _carry_out_control(given, resolved)
        return resolved, _prepare_action(given, resolved)
    except ExpressionError as error:
        return None, expression_failure(error)
    except ValidationError as error:
        return resolved, _input_failure(error)
    except DustrunError as error:
        return resolved, of_error(error)


def _carry_out_control(given: Preparation, resolved: Any) -> StoreEffect | Outcome:
    node, settings = given.node, given.settings
    payload = None if node.choices else node.spec.payload.model_validate(resolved)
    scene = control.Scene(
        given.start, node, payload, given.roots, given.mode, given.now, settings, given.catalog, given.limits
    )
    return control.carry_out(scene)


def expression_failure(error: ExpressionError) -> Failed:
    """The failure of a node whose expression cannot be evaluated."""
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


def _prepare_action(given: Preparation, resolved: Any) -> Job | Outcome:
    action = given.catalog.actions[given.node.node.type]
    value: Any = given.node.spec.payload.model_validate(resolved)  # the action's input; an import's knows its operation
    effect = action.effect_for(value)
    request = action.preview(value) if action.preview is not None and effect in OUTSIDE else None
    wallet = given.node.node.connector
    if wallet is not None and given.node.wallet is not None:
        limits = TRIAL if given.limits.is_trial else _WALLET_LIMITS
        wallet = choose(wallet, given.node.wallet.evaluate(given.roots, limits))
    assumed = given.roots.assumed or (effect in OUTSIDE and given.roots.is_in_assumed_loop)
    job = Job(given.start, given.node, action, value, resolved, effect, assumed, request, wallet)
    return given.mode.carry(job) or job


def resumed(start: Start, node: ProgramNode, catalog: Catalog, spend: Mapping[str, Any], mode: RunMode) -> Job:
    """The job of a spend that resumes after a wait, with the input and the wallet that it began with even if references
    or the default wallet changed since."""
    action = catalog.actions[node.node.type]
    value = action.input.model_validate(spend["input"])
    wallet = ConnectorReference(type=WALLET, id=spend["walletId"])
    job = Job(start, node, action, value, spend["input"], Effect.SPEND, bool(spend.get("assumed")), None, wallet)
    mode.carry(job)
    return job


def shown_input(node: ProgramNode, catalog: Catalog, resolved: Any) -> Any:
    """The resolved payload as it may be stored: the secret fields of its action masked."""
    kind = node.node.type
    # not `get`, which asks whether it is an import: of that, no field is secret
    action = catalog.actions[kind] if kind in catalog.actions else None  # noqa: SIM401
    if action is None or not action.secret_fields or not isinstance(resolved, dict):
        return resolved
    return {name: MASK if name in action.secret_fields and value else value for name, value in resolved.items()}


def run_pure(job: Job, context: NodeContext) -> Outcome:
    """Runs a pure action that is a plain function."""
    try:
        return _settle(job, job.action.run(job.input, context), context)
    except DustrunError as error:
        return of_error(error)
    except Exception as error:
        return defect(job, error)


async def run(job: Job, context: NodeContext) -> Outcome:
    """Runs an action, in a rehearsal up to where it would send; the caller keeps the time limit (`time_limits.py`)."""
    is_rehearsed = job.carrier is Carrier.REHEARSAL
    if is_rehearsed and not job.action.sends_by_context:
        return _unsent(job)
    try:
        value = job.action.run(job.input, context)
        value = await value if job.action.is_async else value
        if is_large(value):
            return await run_beside(_settle, job, value, context)
        settled = _settle(job, value, context)
        settled.is_small = True
        return settled
    except BeforeSending:
        return _unsent(job)
    except DustrunError as error:
        error.__traceback__ = (
            None  # its frames refer to the error: a reference cycle, which would keep the run in memory
        )
        outcome = of_error(error)
        if isinstance(outcome, Failed | Unknown):
            went = context.notes.transmission
            outcome.facts = request_facts(job, sent=went.sent or isinstance(outcome, Unknown), status=went.status)
        if isinstance(outcome, Failed) and is_rehearsed and job.assumed:
            outcome.message = f"{outcome.message} {_ASSUMED}"
        return outcome
    except Exception as error:
        return defect(job, error)


def _unsent(job: Job) -> Settled:
    """The outcome of a rehearsed write: the action's example stands for the answer that nobody gave."""
    return Settled(job.action.example_output, assumed=True, facts=request_facts(job, sent=False))


def _settle(job: Job, value: Any, context: NodeContext) -> Settled:
    result = value.model_dump(by_alias=True) if isinstance(value, BaseModel) else value
    notes = context.notes
    facts = notes.facts or request_facts(job, sent=job.may_have_happened, status=notes.transmission.status)
    if notes.row_sources:
        facts = {**(facts or {}), ROW_SOURCES: as_json(notes.row_sources)}
    return Settled(result, assumed=job.assumed or notes.assumed, facts=facts)


def defect(job: Job, error: Exception) -> Outcome:
    """The outcome of an attempt that raised an unexpected exception: a bug in Dustrun or in the action."""
    _logger.error("action failed unexpectedly", action=job.action.type, path=job.start.path, exc_info=error)
    message = f'The action "{job.action.type}" failed unexpectedly ({type(error).__name__}); see the server\'s log.'
    if job.may_have_happened:
        return Unknown(f"{message} It may have happened.", request_facts(job, sent=True))
    return Failed("INTERNAL", message, facts=job.simulated_facts)


def resolved_effect(action: Action, recorded_input: Mapping[str, Any] | None) -> Effect:
    """The effect of an attempt that began before a restart; the strongest when its input is no longer valid."""
    try:
        return action.effect_for(action.input.model_validate(recorded_input or {}))
    except ValidationError:
        return action.effect
