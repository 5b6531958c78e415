"""Creates the rows of a new run, within its workflow's limit of unfinished runs. Needs no engine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dustrun import clock, log
from dustrun.core.expression import ExpressionError, parse_template
from dustrun.core.run.state import Mode
from dustrun.core.text.redaction import Redaction
from dustrun.core.values.weight import is_large
from dustrun.errors import Code, Conflict, Invalid, Problem
from dustrun.services.access import idempotency
from dustrun.services.runs import start_request, start_rows
from dustrun.services.runs.engine_port import Created, NewRun, RunFacts
from dustrun.services.runs.start_request import Concurrency, Judged, Prepared
from dustrun.services.streaming.broadcaster import Broadcaster
from dustrun.services.workflows.spend_gate import SpendGate
from dustrun.storage.db.statement import Tx
from dustrun.storage.db.writer import Writer
from dustrun.storage.runs import runs as rows
from dustrun.storage.runs.journal import Batch


class NotStarted(Exception):
    """The run's admission decided against it; `result` is what it made of it."""

    def __init__(self, result: Any) -> None:
        super().__init__()
        self.result = result


class RunCreation:
    """Turns prepared runs into `NewRun`s, which write themselves when an engine takes them."""

    def __init__(self, writer: Writer, hub: Broadcaster, gate: SpendGate) -> None:
        self._writer = writer
        self._hub = hub
        self.gate = gate
        """Decides whether a run may begin."""

    def new_run(self, prepared: Prepared, concurrency: Concurrency | None, *, is_call: bool = False) -> NewRun:
        """A run ready for `Engine.submit`; `is_call`: a node starts it, so the current request's Idempotency-Key is
        not its own. Raises `Invalid` when the concurrency key cannot be computed."""
        facts = prepared.facts
        prepared.batch.redaction = Redaction(facts.secrets)  # whichever engine writes it, and whatever it adds before
        limit = concurrency if facts.mode is not Mode.SIMULATE else None
        if limit is not None:
            facts.concurrency_key = _concurrency_key(limit, prepared)
        is_separate = limit is None and prepared.is_separate
        if not is_call:
            log.bind(run_id=facts.id)  # the caller's request is the one that started this run

        async def write(batch: Batch, created: Callable[[Created], None]) -> Created:
            admission = prepared.admission

            def unit(tx: Tx) -> Created | Judged:
                held = admission.before(tx) if admission is not None else None
                if held is not None:
                    return held
                run_pk, events = start_rows.create(tx, prepared, batch)
                cancelled = _make_room(tx, limit, facts, run_pk) if limit is not None else None
                is_retry = prepared.source_run_id is not None
                written = start_rows.read_back(tx, run_pk, prepared.program) if is_retry else None
                made = Created(facts.id, run_pk, events, cancelled, written)
                return admission.after(tx, made) if admission is not None else made

            def after(done: Created | Judged) -> None:
                made = _created_in(done)
                if made is not None:
                    facts.pk = made.pk
                    self._hub.publish(facts, made.events, facts.trigger_source)
                    created(made)

            is_short = batch.is_short() and not is_large(facts.prop_values)  # the payload is in the trigger's result
            options: dict[str, Any] = {"repeatable": is_short, "is_separate": is_short and is_separate}
            options["may_wait"] = prepared.admission is not None  # what a trigger starts
            if is_call:
                done = await self._writer.write(unit, after, **options)
            else:
                done = await idempotency.write(self._writer, unit, after, creates=("runId", facts.id), **options)
            made = _created_in(done)
            if made is None:
                raise NotStarted(done)
            return made

        return NewRun(facts, prepared.program, prepared.batch, limit.max if limit is not None else None, write)


def _created_in(done: Created | Judged) -> Created | None:
    return done if isinstance(done, Created) else done.created


def _concurrency_key(concurrency: Concurrency, prepared: Prepared) -> str:
    if concurrency.key is None:
        return ""
    roots = start_request.KeyRoots(prepared.payload, prepared.facts.prop_values)
    try:
        return str(parse_template(concurrency.key).evaluate(roots))
    except ExpressionError as error:
        raise Invalid(
            "The workflow's concurrency key cannot be computed from this payload.",
            code=Code.PAYLOAD_INVALID,
            details=[Problem("payload", error.message)],
        ) from None


def _make_room(tx: Tx, limit: Concurrency, facts: RunFacts, run_pk: int) -> int | None:
    """Applies the workflow's limit to the run just inserted: None when it fits or may queue, else the oldest run, now
    asked to cancel. Raises `Conflict` when the workflow says to skip."""
    if limit.on_limit == "queue":
        return None
    assert facts.workflow_id is not None
    assert facts.concurrency_key is not None
    others = [pk for pk in rows.list_open_of(tx, facts.workflow_id, facts.concurrency_key) if pk != run_pk]
    if len(others) < limit.max:
        return None
    if limit.on_limit == "skip":
        message = f"The workflow already has {len(others)} unfinished runs; its limit is {limit.max}."
        raise Conflict(message, code=Code.STATE_CONFLICT)
    rows.request_cancel(tx, others[0], clock.now_ms())
    return others[0]
