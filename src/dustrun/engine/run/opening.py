"""What commits together with a run's creation: the pure nodes that it begins with, often the whole run."""

from __future__ import annotations

import contextvars

from dustrun.core.run.journal import Journal
from dustrun.core.run.plan import Plan
from dustrun.engine.run.recorder import Recorder
from dustrun.engine.run.run_context import EngineDeps, RunContext
from dustrun.engine.run.runner import Runner, is_executed_by_creation
from dustrun.services.runs.engine_port import Engine, NewRun


def runner_of(deps: EngineDeps, engine: Engine, run: NewRun) -> Runner:
    """The runner of a run that is not on disk yet; what it records is added to the run's batch."""
    facts, program, batch = run.facts, run.program, run.batch
    journal = Journal.of(batch.added.values())
    plan = Plan(program.graph, facts.trigger_node_id)
    if len(journal.by_path) > 1:  # a retry keeps what succeeded
        plan.restore(journal.by_path.values())
    return Runner(RunContext(deps, engine, facts, program, journal, plan, Recorder(batch)))


def open_for_others(deps: EngineDeps, engine: Engine, run: NewRun) -> Runner | None:
    """Executes the pure nodes that a run begins with, which may be all of it, where others advance what follows. None
    if there is nothing to execute before somebody advances the run: it begins with other nodes, waits for its turn, or
    is a retry or called."""
    if run.max_open is not None or run.facts.root_run_id != run.facts.id:
        return None
    nodes = run.program.nodes
    children = nodes[run.facts.trigger_node_id].node.children
    if children and not any(is_executed_by_creation(nodes[child]) for child in children):
        return None
    runner = runner_of(deps, engine, run)
    open_run(runner, begins=False)
    return runner


def open_run(runner: Runner, *, begins: bool) -> None:
    """Executes what a run begins with. `begins`: this process carries out what follows, so that the start of the first
    nodes that change something outside is written too."""
    facts = runner.facts
    # A retry is answered with the run as it begins, and a called run's end is told by its own task.
    executes = facts.root_run_id == facts.id
    contextvars.Context().run(runner.open, executes=executes, begins=begins)  # not in the context of the request
