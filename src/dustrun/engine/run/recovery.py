"""Loads a run from the tables: takes the next fence, restores journal and plan."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from dustrun.core.run.as_of import AsOf
from dustrun.core.run.journal import Journal
from dustrun.core.run.plan import Plan
from dustrun.core.run.state import RunStatus
from dustrun.core.text.masking import Redaction
from dustrun.core.values.exact_json import loads, loads_own
from dustrun.core.workflow.program import Program
from dustrun.engine.run.recorder import Recorder
from dustrun.engine.run.run_context import EngineDeps, RunContext
from dustrun.engine.run.runner import Runner
from dustrun.services.runs.create import caller_of, stored_facts
from dustrun.services.runs.engine_port import Engine, RunFacts
from dustrun.services.runs.start import Unsealing
from dustrun.services.workflows.compiled import CompiledWorkflow, CompiledWorkflows
from dustrun.storage.db.statement import Row, Tx
from dustrun.storage.runs import claims as claim_rows
from dustrun.storage.runs import journal as journal_rows
from dustrun.storage.runs import runs as run_rows
from dustrun.storage.runs.journal import Batch
from dustrun.storage.runs.runs import RunRow

_QUICK_CHARS: Final = 32_768


def facts_of(row: RunRow, fence: int, unsealing: Unsealing) -> RunFacts:
    """The facts of a stored run."""
    facts = stored_facts(row, loads(unsealing.text(row.prop_values)))
    facts.fence, facts.cancel_requested_at = fence, row.cancel_requested_at
    facts.caller = caller_of(row)
    facts.trace = loads(row.trace) if row.trace is not None else None
    facts.secrets = unsealing.secrets
    facts.as_of = AsOf.of(loads_own(row.as_of)) if row.as_of is not None else None
    return facts


async def compiled_of(row: RunRow, programs: CompiledWorkflows) -> CompiledWorkflow:
    """The version that a run executes, or its own definition when it was started inline."""
    if row.workflow_id is None or row.version is None:
        return await programs.compile_text(row.org_id, row.definition or "{}")
    compiled = await programs.find(row.workflow_id, row.version)
    assert compiled is not None, "a run's version is never deleted"
    return compiled


class LoadedRun(NamedTuple):
    """A run as it was read with its newest fence."""

    row: RunRow
    facts: RunFacts
    journal: Journal


async def take_up(
    deps: EngineDeps, engine: Engine, programs: CompiledWorkflows, run_pk: int, take: Callable[[Tx], int | None]
) -> Runner | None:
    """A runner that resumes the run; None when it has ended, or another process has it. `take` gives the run its next
    fence, and changes no other row.

    A run that nobody has advanced yet is read in the transaction that takes it up, together with all others that are
    taken up at that moment: to read each by itself would cost a server that only advances half of its time."""

    def unit(tx: Tx) -> tuple[int, LoadedRun | None] | None:
        fence = take(tx)
        if fence is None:
            return None
        row = run_rows.get(tx, run_pk)
        return fence, _load(tx, deps, row, fence) if _is_quick(row) else None

    taken = await deps.writer.write(unit, repeatable=True, is_separate=True)
    if taken is None:
        return None
    fence, loaded = taken
    if loaded is None:
        loaded = await deps.database.read(lambda tx: _load(tx, deps, run_rows.get(tx, run_pk), fence))
    return await begin(deps, engine, programs, loaded)


def load_new(tx: Tx, deps: EngineDeps, run_pks: Sequence[int], holder: str) -> dict[int, LoadedRun]:
    """Those of some runs of a process that nobody has advanced yet, if they are small: a server that only advances need
    not take up each by itself then."""
    return {
        row.pk: _load(tx, deps, row, row.fence, stored)
        for row, stored in claim_rows.list_new(tx, run_pks, holder, _QUICK_CHARS)
    }


async def begin(deps: EngineDeps, engine: Engine, programs: CompiledWorkflows, loaded: LoadedRun) -> Runner:
    """A runner that resumes a loaded run."""
    program = (await compiled_of(loaded.row, programs)).runnable()
    return _runner_of(deps, engine, program, loaded)


def _is_quick(row: RunRow) -> bool:
    """Whether all that a run has is read within a millisecond: it has only begun, with a small payload. A retry has the
    results that it kept."""
    is_new = row.nodes_executed == 0 and row.source_run_id is None
    return is_new and len(row.payload) + len(row.prop_values) <= _QUICK_CHARS


def _load(tx: Tx, deps: EngineDeps, row: RunRow, fence: int, stored: Sequence[Row] | None = None) -> LoadedRun:
    """`stored`: the rows of its executions, if they have been read."""
    unsealing = Unsealing(tx, deps.vault, row.org_id)
    facts = facts_of(row, fence, unsealing)
    reading = journal_rows.reading_of(tx, row.pk, unsealing.text)
    if stored is None:
        return LoadedRun(row, facts, Journal.of(journal_rows.list_executions(tx, row.pk, reading)))
    return LoadedRun(row, facts, Journal.of(journal_rows.executions_of(stored, reading)))


def _runner_of(deps: EngineDeps, engine: Engine, program: Program, loaded: LoadedRun) -> Runner:
    row, facts, journal = loaded
    plan = Plan(program.graph, facts.trigger_node_id)
    interrupted = plan.restore(journal.by_path.values())
    recorder = Recorder(Batch(redaction=Redaction(facts.secrets)))
    runner = Runner(RunContext(deps, engine, facts, program, journal, plan, recorder))
    runner.last_seq = row.last_seq
    if row.status == RunStatus.WAITING.value:
        recorder.run_status(RunStatus.RUNNING)
        runner.note_resumed()
    for execution in interrupted:
        runner.attempts.begin_again(execution)
    return runner
