"""Context that all runs share, and that the parts of one run share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import field
from typing import Any

from dustrun import clock
from dustrun.catalog import Catalog
from dustrun.core.run.journal import Journal, decides, has_responded
from dustrun.core.run.plan import Plan
from dustrun.core.text.masking import Redaction
from dustrun.core.workflow.program import Program
from dustrun.engine.node.context import Scripts
from dustrun.engine.node.mode import RunMode, mode_of
from dustrun.engine.run.recorder import Recorder
from dustrun.engine.run.traces import Traces
from dustrun.engine.spend.deps import SpendDeps
from dustrun.records import dataclass
from dustrun.sdk.context import CheckingHttp
from dustrun.sdk.notice import CheckingNotifier
from dustrun.services.connectors.connections import Connections
from dustrun.services.data.managed_tables import Tables
from dustrun.services.data.variables import Variables
from dustrun.services.quotas import TokenQuotas
from dustrun.services.runs.engine_port import Engine, RunFacts
from dustrun.services.runs.resume_links import ResumeLinks
from dustrun.services.runs.subworkflow import CalledRuns
from dustrun.services.streaming.broadcaster import Broadcaster
from dustrun.settings import Settings
from dustrun.storage.db.database import Database
from dustrun.storage.db.writer import Writer
from dustrun.storage.secrets.vault import Vault


@dataclass(frozen=True, slots=True)
class EngineDeps:
    """The parts that every run shares."""

    settings: Settings
    catalog: Catalog
    database: Database
    writer: Writer
    hub: Broadcaster
    http: CheckingHttp
    scripts: Scripts
    env: Mapping[str, str]
    variables: Variables
    links: ResumeLinks
    connections: Connections
    called_runs: CalledRuns
    tables: Tables
    model_tokens: TokenQuotas
    notifier: CheckingNotifier
    vault: Vault
    spend: SpendDeps | None = None
    """None: the server has no chains."""

    traces: Traces | None = None


@dataclass(slots=True)
class RunState:
    """Mutable state of one active run. Times are milliseconds UTC."""

    mode: RunMode
    is_cancelling: bool = False
    is_stopping: bool = False
    """The server is stopping: nothing new begins."""
    is_poked: bool = True
    """Signals for waiting nodes may be in the tables."""
    is_assumed: bool = False
    """A branch, a called run or a spend depends on an assumed value."""
    has_responded: bool = False
    """A `respond` node has answered the request that started the run."""
    simulated_now: int = 0
    begun_at: int = 0
    """When the newest attempt of a simulation began."""

    error: dict[str, Any] | None = None
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    now: Callable[[], int] = clock.now_ms
    """The run's clock: in a simulation, waits advance it."""

    def __post_init__(self) -> None:
        if self.mode.has_simulated_clock:
            self.now = lambda: self.mode.now(self.simulated_now)

    def next_begin(self) -> int:
        """When an attempt that begins now does. On a simulated clock, which stands still after a wait, no two attempts
        begin at one time: the report orders them by it.
        """
        return max(self.now(), self.begun_at + 1) if self.mode.has_simulated_clock else self.now()

    def began(self, at: int) -> None:
        """An attempt begins."""
        if self.mode.has_simulated_clock:
            self.begun_at, self.simulated_now = at, max(self.simulated_now, at)


@dataclass(slots=True)
class RunContext:
    """The context that the parts of one active run share."""

    deps: EngineDeps
    engine: Engine
    facts: RunFacts
    program: Program
    journal: Journal
    plan: Plan
    recorder: Recorder
    redaction: Redaction = field(init=False)
    state: RunState = field(init=False)
    mode: RunMode = field(init=False)
    """How the run's mode carries out effects."""

    def __post_init__(self) -> None:
        self.redaction = self.recorder.batch.redaction
        self.state = _state_of(self.facts, self.journal)
        self.mode = self.state.mode


def _state_of(facts: RunFacts, journal: Journal) -> RunState:
    is_assumed, answered, simulated_now, begun_at = False, False, 0, 0
    for one in journal.by_path.values():  # one loop: a new run has only its trigger
        if one.facts and "clock" in one.facts:
            simulated_now = max(simulated_now, one.facts["clock"])
        begun_at = max(begun_at, one.started_at or 0)
        is_assumed = is_assumed or decides(one)
        answered = answered or has_responded(one)
    return RunState(
        mode_of(facts.mode, None if facts.as_of is None else facts.started_at - facts.as_of.at_ms),
        is_cancelling=facts.cancel_requested_at is not None,
        is_assumed=is_assumed,
        has_responded=answered,
        simulated_now=simulated_now,
        begun_at=max(simulated_now, begun_at),
    )


class Superseded(Exception):
    """Another process advances this run under a newer fence; nothing recorded here counts any more."""
