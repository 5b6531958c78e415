"""What the nodes of one run are given: the roots of their expressions, and what an action sees."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from dustrun import clock
from dustrun.core.run.journal import Journal, frame_of
from dustrun.core.run.plan import Start
from dustrun.core.run.state import Mode
from dustrun.core.workflow.definition import ConnectorReference
from dustrun.core.workflow.program import Program
from dustrun.engine.node.context import Inside, NodeContext, Reach, idempotency_key
from dustrun.engine.node.node import Job
from dustrun.engine.node.node_tables import RunTables
from dustrun.engine.node.roots import NodeRoots
from dustrun.engine.run.observer import Observer
from dustrun.engine.run.recorder import Recorder
from dustrun.engine.run.run_context import EngineDeps, RunState
from dustrun.engine.spend.deps import SpendDeps
from dustrun.errors import Invalid
from dustrun.sdk.chain import WalletView
from dustrun.services.data.variables import Seen
from dustrun.services.runs.engine_port import RunFacts


class NodeInputs:
    """Makes them. `variables` are those that were read last."""

    def __init__(
        self,
        world: EngineDeps,
        facts: RunFacts,
        program: Program,
        journal: Journal,
        recorder: Recorder,
        course: RunState,
    ) -> None:
        self.variables: Mapping[str, Seen] = {}
        self._wallets: dict[ConnectorReference | None, WalletView] = {}
        self._world = world
        self._facts = facts
        self._program = program
        self._journal = journal
        self._recorder = recorder
        self._course = course
        self.observer = recorder.observer = Observer(facts, program, world.traces)

    def roots(self, path: str, now: int) -> NodeRoots:
        world = self._world
        return NodeRoots(
            self._facts, self._program, self._journal, frame_of(path), now, world.env, self.variables, world.links
        )

    def context(
        self, path: str, emit: Callable[[str, dict[str, Any]], None], wallet: WalletView | None = None
    ) -> NodeContext:
        world, facts, now = self._world, self._facts, self._course.now()
        reach = None if world.money is None else partial(self._reach, now, wallet)
        http = self.observer.http(world.http, path, self._journal.by_path[path].attempt)
        key = partial(idempotency_key, facts.org_id, facts.root_run_id, path)
        return NodeContext(http, world.scripts, facts.org_id, key, now, emit, reach, self._inside)

    def _reach(self, now: int, wallet: WalletView | None) -> Reach:
        reach = self.money.reach(self._facts, now)
        return reach if wallet is None else replace(reach, wallet=wallet)

    def _inside(self, context: NodeContext) -> Inside:
        tables = RunTables(self._world.tables, self._facts, context.idempotency_key, context.notes)
        return Inside(tables, self._world.notifier)

    @property
    def money(self) -> SpendDeps:
        if self._world.money is None:
            raise Invalid("This server has no chains.")
        return self._world.money

    async def money_context(self, job: Job) -> NodeContext:
        """The context of a node that has a wallet; raises `Invalid` or `NotFound` when it has none. A simulation, which
        signs nothing, goes on with a wallet as it first saw it."""
        name = job.node.node.connector
        wallet = self._wallets.get(name)
        if wallet is None:
            wallet = await self.money.wallet(self._facts, name)
        if self._facts.mode is Mode.SIMULATE:
            self._wallets[name] = wallet
        return self.context(job.start.path, self.emit_later(job.start), wallet)

    def emit_now(self, start: Start) -> Callable[[str, dict[str, Any]], None]:
        def emit(kind: str, data: dict[str, Any]) -> None:
            self._recorder.event(kind, {"nodeId": start.node_id, "path": start.path, **data}, clock.now_ms())

        return emit

    def emit_later(self, start: Start) -> Callable[[str, dict[str, Any]], None]:
        """For a node that runs beside the loop: what it says is written soon, not with its end."""
        emit_now = self.emit_now(start)

        def emit(kind: str, data: dict[str, Any]) -> None:
            emit_now(kind, data)
            self._course.wake.set()

        return emit
