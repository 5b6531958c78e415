"""The composition root: builds the server from its settings, starts every part, and stops them in reverse order."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from dustrun.api.mcp.toolbox import McpToolbox
from dustrun.api.server import Front, create_app, documented
from dustrun.app.api_parts import make_data, make_parts
from dustrun.app.base import Base, open_base
from dustrun.app.hooks import make_hooks
from dustrun.app.money import Money, make_money
from dustrun.app.sharing import Sharing, connect, join
from dustrun.app.triggers import make_triggers
from dustrun.engine.hosts.clustered import ClusteredEngine
from dustrun.engine.hosts.embedded import EmbeddedEngine
from dustrun.engine.run.run_context import EngineDeps
from dustrun.engine.spend.simulated_chains import SimulatedChains
from dustrun.errors import Conflict
from dustrun.operations.declaration.parts import DataParts, Gauges, Parts, ServerStatus
from dustrun.outbound.notifier import GuardedNotifier
from dustrun.records import dataclass
from dustrun.sandbox import Sandbox
from dustrun.services.access.api_keys import ensure_owner
from dustrun.services.connectors.read_hosts import ReadHosts
from dustrun.services.maintenance import Upkeep
from dustrun.services.outbox.events import EventPublisher
from dustrun.services.quotas import RunQuotas, RunSizes, TokenQuotas
from dustrun.services.runs.create import RunCreation, RunDeps
from dustrun.services.runs.engine_port import Engine, WakeRelay
from dustrun.services.runs.runs import Runs
from dustrun.services.runs.start import Starts
from dustrun.services.runs.start_request import WorkflowCache
from dustrun.services.runs.subworkflow import CalledRuns
from dustrun.services.sharing.election import Election
from dustrun.services.sharing.store_watch import StoreWatch
from dustrun.services.streaming.streams import Streams
from dustrun.services.workflows.compiled import CompiledWorkflows
from dustrun.settings import Settings
from dustrun.storage.access import organizations
from dustrun.storage.backup import copy_detection
from dustrun.storage.db import migrate
from dustrun.storage.db.database import Database
from dustrun.storage.db.lock import ProcessLock
from dustrun.storage.db.server_file import close_to_others
from dustrun.storage.db.writer import Writer
from dustrun.storage.sharing import processes
from dustrun.storage.sharing.notifications import Channel
from dustrun.trigger_host.host import TriggerHost

if TYPE_CHECKING:
    from dustrun.engine.temporal import Temporal


# Which engine advances runs: that of one process, of processes that claim runs, or of many machines.


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
    place = temporal.TemporalAddress(settings.temporal_address, settings.temporal_namespace, settings.temporal_queue)
    watch = StoreWatch(lambda: base.database.read(processes.clock_skew))
    return temporal.Temporal(place, base.database.name, watch)


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


@dataclass(slots=True)
class Server:
    """A composed server: the ASGI application and its background services. `begin_stop()` refuses new work."""

    app: Front
    settings: Settings
    owner_key_path: Path | None
    begin_stop: Callable[[], None]
    stop: Callable[[], Awaitable[None]]
    streams: Streams
    engine: EngineHost
    writer: Writer
    trigger_host: TriggerHost


@contextlib.asynccontextmanager
async def compose(
    settings: Settings,
    open_store: Callable[..., Database] = Database,
    open_channel: Callable[[Database], Channel] = Channel,
) -> AsyncIterator[Server]:
    """Opens the store, takes the lock, starts every part, and stops them in reverse order at the end. `open_store`,
    `open_channel`: for simulations, whose store fails on purpose, and whose servers may not hear each other."""
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    database = open_store(settings.store_url(), synchronous=settings.sqlite_synchronous, is_shared=settings.is_shared)
    lock = ProcessLock(database, settings.data_dir)
    try:
        lock.take()
        if database.is_sqlite and database.engine.url.database:
            close_to_others(Path(database.engine.url.database))
        migrate.upgrade(database)
        copy_detection.recognise(database)
        async with contextlib.AsyncExitStack() as stack:
            yield await _start(settings, database, stack, open_channel)
    finally:
        lock.release()
        database.close()


async def _start(
    settings: Settings,
    database: Database,
    stack: contextlib.AsyncExitStack,
    open_channel: Callable[[Database], Channel],
) -> Server:
    base = await open_base(settings, database, stack)
    owner_key_path = await ensure_owner(database, base.writer, settings.data_dir)
    if settings.is_shared:
        first = (await database.read(organizations.list_all))[0]
        await base.vault.bind(database, base.writer, first.id)
    sharing = await join(base, stack, open_channel)
    relay, run_deps = WakeRelay(), _run_deps(base)
    data, money = make_data(base), make_money(base, EventPublisher(base.hub, relay.wake))
    deps, temporal = _engine_deps(base, data, money, CalledRuns(run_deps)), make_temporal(base)
    engine = relay.engine = make_engine(deps, base.programs, sharing, temporal)
    gauges = partial(_gauges, engine, base.writer, base.sandbox, money.simulated_chains)
    status = ServerStatus(gauges, waits_for=lambda: None if temporal is None else temporal.trouble)
    if temporal is not None:
        temporal.watch()
        stack.push_async_callback(temporal.stop)
    runs = Runs(run_deps, base.writer, base.hub, engine)
    hosts = ReadHosts(database, base.catalog.specs(), settings.assistant_hosts)
    starts = Starts(run_deps, engine, base.vault, runs, hosts, RunQuotas(database, settings))
    triggers, hooks = make_triggers(base, money, starts), make_hooks(base)
    data.connectors.on_changed.append(triggers.connector_changed)
    data.tables.on_watched.append(triggers.polls.tables_changed)
    parts = make_parts(base, status, data, money, engine, runs, starts, triggers, hooks.parts)
    server = _server(parts, engine, owner_key_path, triggers.host)
    if sharing is not None:
        await connect(sharing, parts, money, triggers, hooks, stack)
    else:
        stack.push_async_callback(hooks.host.stop)
        await hooks.host.start()
        stack.push_async_callback(parts.access.sign_in_checks.stop)
        await parts.access.sign_in_checks.start()
    await _run(server, parts, money, make_watch(triggers.host, settings, sharing, temporal), stack)
    status.is_ready = True
    return server


def _server(parts: Parts, engine: EngineHost, owner_key_path: Path | None, host: TriggerHost) -> Server:
    def begin_stop() -> None:
        parts.status.is_ready = False
        parts.streams.stop()
        parts.data.turns.wake_all()
        parts.data.mcp_sessions.end_all()
        engine.refuse()

    async def stop() -> None:
        begin_stop()
        await engine.stop(parts.settings.shutdown_grace_s)

    app = create_app(parts)
    parts.status.documented = documented
    return Server(app, parts.settings, owner_key_path, begin_stop, stop, parts.streams, engine, parts.writer, host)


async def _run(server: Server, parts: Parts, money: Money, watch: Watch, stack: contextlib.AsyncExitStack) -> None:
    """Starts the background services. They stop in this order: turns, back-tests, triggers, engine, simulated
    chains, outbox, upkeep."""
    sizes = RunSizes(parts.database, parts.writer)
    upkeep = Upkeep(parts.writer, parts.settings, parts.access.usage, parts.streams, parts.access.retention, sizes)
    stack.push_async_callback(upkeep.stop)
    stack.push_async_callback(money.outbox.stop)
    stack.push_async_callback(money.simulated_chains.close)
    stack.push_async_callback(server.stop)
    stack.push_async_callback(watch.stop)
    stack.push_async_callback(parts.triggers.backtests.stop)
    stack.push_async_callback(parts.data.imports.close)
    stack.push_async_callback(parts.data.turns.stop)
    await parts.data.turns.start(McpToolbox(parts))
    await money.outbox.start()
    await server.engine.start()
    await watch.start()
    await parts.triggers.backtests.start()
    upkeep.start()


def _engine_deps(base: Base, data: DataParts, money: Money, called_runs: CalledRuns) -> EngineDeps:
    return EngineDeps(
        settings=base.settings,
        catalog=base.catalog,
        database=base.database,
        writer=base.writer,
        hub=base.hub,
        http=base.http,
        scripts=base.sandbox,
        env={name: os.environ[name] for name in base.settings.env_allow if name in os.environ},
        variables=data.variables,
        links=base.links,
        connections=base.connections,
        called_runs=called_runs,
        tables=data.tables,
        model_tokens=TokenQuotas(base.database, base.writer, base.settings),
        notifier=GuardedNotifier(base.settings.outbound_allow),
        vault=base.vault,
        spend=money.spend,
        traces=base.traces,
    )


def _run_deps(base: Base) -> RunDeps:
    creation = RunCreation(base.writer, base.hub, base.gate)
    is_traced = base.traces is not None
    return RunDeps(base.database, base.catalog, base.programs, WorkflowCache(base.database), creation, is_traced)


def _gauges(engine: EngineHost, writer: Writer, sandbox: Sandbox, simulated_chains: SimulatedChains) -> Gauges:
    """Current values of the gauges, with their help texts."""
    return {
        "dustrun_runs_running": ("Runs that are executing.", engine.advancing),
        "dustrun_runs_queued": ("Runs that are queued.", engine.queued),
        "dustrun_runs_waiting": ("Runs that wait until a time or for an answer.", engine.waiting),
        "dustrun_simulations_held": ("Simulations with chains in memory.", len(simulated_chains)),
        "dustrun_writer_queue": ("Units of work that wait for the next commit.", writer.backlog),
        "dustrun_sandbox_processes": ("Script processes.", len(sandbox.pids)),
    }
