"""Which engine advances runs: that of one process, of processes that claim runs, or of many machines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from dustrun.app.base import Base
from dustrun.app.sharing import Sharing
from dustrun.engine.hosts.clustered import ClusteredEngine
from dustrun.engine.hosts.embedded import EmbeddedEngine
from dustrun.engine.run.run_context import EngineDeps
from dustrun.errors import Conflict
from dustrun.services.runs.engine_port import Engine
from dustrun.services.sharing.election import Election
from dustrun.services.workflows.compiled import CompiledWorkflows
from dustrun.settings import Settings
from dustrun.trigger_host.host import TriggerHost

if TYPE_CHECKING:
    from dustrun.engine.temporal import Temporal


class EngineHost(Engine, Protocol):
    """An engine, as the process that runs it sees it."""

    @property
    def queued(self) -> int:
        """The number of queued runs."""
        ...

    @property
    def advancing(self) -> int:
        """The number of runs that advance here now."""
        ...

    @property
    def waiting(self) -> int:
        """The number of unfinished runs that wait in this process."""
        ...

    async def start(self) -> None:
        """Begins; unfinished runs go on."""
        ...

    def refuse(self) -> None:
        """Refuses new runs of callers: the server is about to stop."""
        ...

    async def stop(self, grace_s: float) -> None:
        """Starts no new nodes; running ones get `grace_s` seconds."""
        ...


class Watch(Protocol):
    """Watches for triggers, or stands by to."""

    async def start(self) -> None:
        """Begins."""
        ...

    async def stop(self) -> None:
        """Ends: no event is taken after this."""
        ...


class _Nothing:
    """Of a process that never watches for triggers."""

    async def start(self) -> None:
        """Does nothing."""

    async def stop(self) -> None:
        """Does nothing."""


def make_temporal(base: Base) -> Temporal | None:
    """Temporal, as the settings name it; None without. Raises `Conflict` when its package is missing."""
    settings = base.settings
    if settings.temporal_address is None:
        return None
    try:
        from dustrun.engine import temporal  # optional dependency
    except ImportError as error:
        message = f"The setting temporal_address needs a package that is missing ({error.name})."
        raise Conflict(f'{message} Install it: pip install "dustrun[cluster]"') from None
    place = temporal.Place(settings.temporal_address, settings.temporal_namespace, settings.temporal_queue)
    return temporal.Temporal(place, base.database.name)


def make_watch(host: TriggerHost, settings: Settings, sharing: Sharing | None, temporal: Temporal | None) -> Watch:
    """Who decides whether this process watches for triggers: nobody else, a lease, or Temporal."""
    if sharing is None:
        return host
    if "triggers" not in settings.roles:
        return _Nothing()
    if temporal is None:
        return Election(sharing.leases, "triggers", host.start, host.stop)
    return temporal.election(host.start, host.stop)


def make_engine(
    deps: EngineDeps, programs: CompiledWorkflows, sharing: Sharing | None, temporal: Temporal | None
) -> EngineHost:
    """The engine that the settings ask for; not started yet."""
    if sharing is None:
        return EmbeddedEngine(deps, programs)
    if temporal is None:
        return EmbeddedEngine(deps, programs, sharing.claims)
    share = sharing.claims.share
    return ClusteredEngine(deps, programs, temporal, sharing.bus, share, advances="engine" in deps.settings.roles)
