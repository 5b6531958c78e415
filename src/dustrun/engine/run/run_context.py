"""What all runs share, and what the parts of one run share."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dustrun import clock
from dustrun.catalog import Catalog
from dustrun.core.run.state import Mode
from dustrun.engine.node.context import Scripts
from dustrun.engine.node.store_effects import Subworkflows
from dustrun.engine.run.traces import Traces
from dustrun.engine.spend.deps import SpendDeps
from dustrun.sdk.context import Http
from dustrun.sdk.notice import Notifier
from dustrun.services.connectors.connections import Connections
from dustrun.services.data.managed_tables import Tables
from dustrun.services.data.variables import Variables
from dustrun.services.runs.resume_links import ResumeLinks
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
    http: Http
    scripts: Scripts
    env: Mapping[str, str]
    variables: Variables
    links: ResumeLinks
    connections: Connections
    calls: Subworkflows
    tables: Tables
    notifier: Notifier
    vault: Vault
    money: SpendDeps | None = None
    traces: Traces | None = None


@dataclass(slots=True)
class RunState:
    """How one run goes, as its parts see it."""

    mode: Mode
    is_cancelling: bool = False
    is_stopping: bool = False
    """The server stops: nothing new begins."""
    is_poked: bool = True
    """Answers for waiting nodes may lie ready."""
    is_assumed: bool = False
    """Something that matters hangs on an assumed value."""
    simulated_now: int = 0
    error: dict[str, Any] | None = None
    wake: asyncio.Event = field(default_factory=asyncio.Event)

    def now(self) -> int:
        """The run's clock in milliseconds: in a simulation, waits have moved it on."""
        if self.mode is Mode.SIMULATE:
            return max(clock.now_ms(), self.simulated_now)
        return clock.now_ms()


class Superseded(Exception):
    """Someone newer advances this run; nothing that is left here counts."""
