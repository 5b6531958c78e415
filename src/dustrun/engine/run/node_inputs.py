"""Makes the inputs of one run's nodes: the roots of their expressions, and the `ctx` of their actions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from dustrun import clock
from dustrun.core.run.journal import frame_of
from dustrun.core.run.plan import Start
from dustrun.core.workflow.definition import ConnectorReference
from dustrun.engine.node.context import Inside, NodeContext, Reach, idempotency_key
from dustrun.engine.node.outcome import Job
from dustrun.engine.node.roots import NodeRoots, RunTables, ServerRoots
from dustrun.engine.run.observer import Observer
from dustrun.engine.run.run_context import RunContext
from dustrun.engine.spend.deps import SpendDeps
from dustrun.errors import Invalid
from dustrun.sdk.chain import WalletView
from dustrun.services.data.managed_tables import WritingNode
from dustrun.services.data.variables import VariableView


class NodeInputs:
    """Makes roots and contexts. `variables` were read before the node began."""

    def __init__(self, run: RunContext) -> None:
        self.variables: Mapping[str, VariableView] = {}
        self._wallets: dict[ConnectorReference | None, WalletView] = {}
        self._run = run
        self._server = ServerRoots(run.deps.env, run.deps.links)
        self.observer = run.recorder.observer = Observer(run.facts, run.mode, run.program, run.deps.traces)

    def roots(self, path: str, now: int) -> NodeRoots:
        run = self._run
        return NodeRoots(run.facts, run.program, run.journal, frame_of(path), now, self.variables, self._server)

    def context(
        self,
        path: str,
        emit: Callable[[str, dict[str, Any]], None],
        wallet: WalletView | None = None,
        begun_at: int | None = None,
    ) -> NodeContext:
        """The `ctx` of a node. `begun_at`: its time, if its attempt begins at this moment."""
        deps, facts = self._run.deps, self._run.facts
        now = self._run.state.now() if begun_at is None else begun_at
        reach = None if deps.spend is None else partial(self._reach, now, wallet)
        http = self.observer.http(deps.http, path, self._run.journal.by_path[path].attempt)
        key = partial(idempotency_key, facts.org_id, facts.root_run_id, path)
        script = partial(deps.scripts.script, tenant=facts.org_id)
        return NodeContext(http, script, key, now, emit, reach, partial(self._inside, path))

    def _reach(self, now: int, wallet: WalletView | None) -> Reach:
        reach = self.spend.reach(self._run.facts, self._run.mode, now)
        if wallet is None:
            return reach
        granted = partial(self.spend.granted, self._run.facts, self._run.mode, wallet)
        return replace(reach, wallet=wallet, granted=granted)

    def _inside(self, path: str, context: NodeContext) -> Inside:
        node = WritingNode(path, context.idempotency_key)
        tables = RunTables(self._run.deps.tables, self._run.facts, node, context.notes)
        tokens = self._run.deps.model_tokens.of(self._run.facts.org_id)
        return Inside(tables, self._run.deps.notifier, self._run.deps.connections.commands, tokens)

    @property
    def spend(self) -> SpendDeps:
        if self._run.deps.spend is None:
            raise Invalid("This server has no chains.")
        return self._run.deps.spend

    async def wallet_context(self, job: Job) -> NodeContext:
        """The context of a node with a wallet; raises `Invalid` or `NotFound` when it has none. A simulation keeps
        using a wallet as it first read it; a spend keeps the wallet of what it already stored."""
        name = job.wallet
        if job.is_followed and (name is None or job.node.wallet is not None):
            name = await self.spend.live.find_wallet(job, self._run.facts) or name
        wallet = self._wallets.get(name)
        if wallet is None:
            wallet = await self._spending_wallet(job, name)
        if self._run.mode.has_simulated_chains:
            self._wallets[name] = wallet
        return self.context(job.start.path, self.emit_later(job.start), wallet)

    async def _spending_wallet(self, job: Job, name: ConnectorReference | None) -> WalletView:
        """A wallet that can sign. Archived meanwhile, one that has spent still ends its node: it signs nothing new."""
        try:
            return await self.spend.wallet(self._run.facts, name)
        except Invalid:
            kept = await self.spend.live.find_wallet(job, self._run.facts) if job.is_followed else None
            found = await self.spend.wallets.find_view_of_any(self._run.facts.org_id, kept.id) if kept else None
            if found is None:
                raise
            return found

    def emit_now(self, start: Start) -> Callable[[str, dict[str, Any]], None]:
        def emit(kind: str, data: dict[str, Any]) -> None:
            self._run.recorder.event(kind, {"nodeId": start.node_id, "path": start.path, **data}, clock.now_ms())

        return emit

    def emit_later(self, start: Start) -> Callable[[str, dict[str, Any]], None]:
        """For a node with a task of its own: its events are committed soon, not only with its end."""
        emit_now = self.emit_now(start)

        def emit(kind: str, data: dict[str, Any]) -> None:
            emit_now(kind, data)
            self._run.state.wake.set()

        return emit
