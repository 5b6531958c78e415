"""Loads a run from the tables: takes the next fence, restores journal and plan."""

from __future__ import annotations

from dustrun.core.run.as_of import AsOf
from dustrun.core.run.journal import Journal
from dustrun.core.run.plan import Plan
from dustrun.core.run.state import RunStatus
from dustrun.core.values.exact_json import loads, loads_own
from dustrun.engine.run.recorder import Recorder
from dustrun.engine.run.run_context import EngineDeps, RunContext
from dustrun.engine.run.runner import Runner
from dustrun.services.runs.engine_port import Engine, RunFacts
from dustrun.services.runs.start_rows import caller_of, stored_facts
from dustrun.services.runs.unsealing import Unsealing
from dustrun.services.workflows.compiled import Compiled, CompiledWorkflows
from dustrun.storage.db.statement import Tx
from dustrun.storage.runs import claims as claim_rows
from dustrun.storage.runs import journal as journal_rows
from dustrun.storage.runs import runs as run_rows
from dustrun.storage.runs.runs import RunRow


def facts_of(row: RunRow, fence: int, unsealing: Unsealing) -> RunFacts:
    """The facts of a stored run."""
    facts = stored_facts(row, loads(unsealing.text(row.prop_values)))
    facts.fence, facts.cancel_requested_at = fence, row.cancel_requested_at
    facts.caller = caller_of(row)
    facts.trace = loads(row.trace) if row.trace is not None else None
    facts.secrets = unsealing.secrets
    facts.as_of = AsOf.of(loads_own(row.as_of)) if row.as_of is not None else None
    return facts


async def compiled_of(row: RunRow, programs: CompiledWorkflows) -> Compiled:
    """The version that a run executes, or its own definition when it was started inline."""
    if row.workflow_id is None or row.version is None:
        return await programs.compile_text(row.definition or "{}")
    compiled = await programs.find(row.workflow_id, row.version)
    assert compiled is not None, "a run's version is never deleted"
    return compiled


async def take_up(
    deps: EngineDeps, engine: Engine, programs: CompiledWorkflows, run_pk: int, holder: str | None = None
) -> Runner | None:
    """A runner that resumes the run; None when it has ended, or `holder`, the process of a shared store, has lost it to
    another one."""

    def take(tx: Tx) -> int | None:
        return run_rows.take_up(tx, run_pk) if holder is None else claim_rows.take_up(tx, run_pk, holder)

    fence = await deps.writer.write(take)
    return await restore(deps, engine, programs, run_pk, fence) if fence is not None else None


async def restore(deps: EngineDeps, engine: Engine, programs: CompiledWorkflows, run_pk: int, fence: int) -> Runner:
    """A runner that resumes a run that was taken up under this fence."""

    def load(tx: Tx) -> tuple[RunRow, RunFacts, Journal]:
        row = run_rows.get(tx, run_pk)
        unsealing = Unsealing(tx, deps.vault, row.org_id)
        facts = facts_of(row, fence, unsealing)
        return row, facts, Journal.of(journal_rows.list_executions(tx, run_pk, unsealing.text))

    row, facts, journal = await deps.database.read(load)
    program = (await compiled_of(row, programs)).runnable()
    plan = Plan(program.graph, facts.trigger_node_id)
    interrupted = plan.restore(journal.by_path.values())
    recorder = Recorder()
    recorder.run_status(RunStatus.RUNNING)
    runner = Runner(RunContext(deps, engine, facts, program, journal, plan, recorder))
    runner.last_seq = row.last_seq
    if row.status == RunStatus.WAITING.value:
        runner.note_resumed()
    for execution in interrupted:
        runner.attempts.begin_again(execution)
    return runner
