"""The composition root: settings → parts → server. The only file that knows all parts."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import uvicorn
import uvloop

import dustrun
from dustrun import catalog as catalogs
from dustrun import log
from dustrun.api.http import HttpProtocol
from dustrun.api.parts import Gauges, make_parts
from dustrun.api.server import create_app
from dustrun.chain.chains import Chains
from dustrun.chain.simulate import SimChain
from dustrun.core.money.dust import DustRules
from dustrun.engine.hosts.embedded import EmbeddedEngine
from dustrun.engine.node.store_effects import Subworkflows
from dustrun.engine.run.run_context import EngineDeps
from dustrun.engine.run.traces import Traces
from dustrun.engine.spend.deps import SpendDeps
from dustrun.engine.spend.dust import NodeDust
from dustrun.engine.spend.live import LiveSpend
from dustrun.engine.spend.simulated_chains import SimulatedChains
from dustrun.errors import Conflict
from dustrun.outbound.client import OutboundClient
from dustrun.outbound.notifier import GuardedNotifier
from dustrun.sandbox import Limits, Sandbox
from dustrun.services.access.api_keys import ensure_owner
from dustrun.services.connectors.connections import Connections
from dustrun.services.connectors.connectors import Connectors
from dustrun.services.data.managed_tables import Tables
from dustrun.services.data.variables import Variables
from dustrun.services.maintenance.upkeep import Upkeep
from dustrun.services.outbox.deps import OutboxDeps as LedgerParts
from dustrun.services.outbox.events import EventPublisher
from dustrun.services.outbox.operations import Operations
from dustrun.services.outbox.outbox import Transactions
from dustrun.services.outbox.simulated_policy import SimulatedPolicy
from dustrun.services.preview.dust_plans import DustPlans
from dustrun.services.preview.dust_scaling import Duster
from dustrun.services.preview.fund_needs import Funds
from dustrun.services.preview.rehearsal_guard import RehearsalGuard
from dustrun.services.preview.spend_forecast import SpendForecasts
from dustrun.services.preview.spend_reports import SpendReports
from dustrun.services.prices import PriceBook
from dustrun.services.runs.approvals import Approvals
from dustrun.services.runs.reports import RunReports
from dustrun.services.runs.resume import Resumes
from dustrun.services.runs.resume_links import ResumeLinks, secret_of
from dustrun.services.runs.runs import Runs
from dustrun.services.runs.start import Starts
from dustrun.services.runs.subworkflow import CalledRuns
from dustrun.services.runs.workflow_cache import WorkflowCache
from dustrun.services.streaming.broadcaster import Broadcaster
from dustrun.services.streaming.streams import Streams
from dustrun.services.wallets.budget import Budget
from dustrun.services.wallets.funds import WalletFunds
from dustrun.services.wallets.policies import WalletPolicies
from dustrun.services.wallets.signers import Signers
from dustrun.services.wallets.wallets import Wallets
from dustrun.services.workflows.compiled import CompiledWorkflows
from dustrun.settings import Settings
from dustrun.storage.backup import copy_detection
from dustrun.storage.db import migrate
from dustrun.storage.db.database import Database
from dustrun.storage.db.lock import ProcessLock
from dustrun.storage.db.writer import Writer
from dustrun.storage.secrets.process_hardening import shield_process
from dustrun.storage.secrets.vault import Vault


@dataclass(slots=True)
class Server:
    """A composed server: the ASGI application and what must run beside it. `begin_stop` refuses what is new."""

    app: Any
    settings: Settings
    owner_key_path: Path | None
    begin_stop: Callable[[], None]
    stop: Callable[[], Any]
    streams: Streams
    engine: EmbeddedEngine
    writer: Writer


@contextlib.asynccontextmanager
async def compose(settings: Settings) -> AsyncIterator[Server]:
    """Opens the store, takes the lock, starts every part, and stops them in order at the end."""
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    database = Database(settings.store_url(), synchronous=settings.sqlite_synchronous)
    lock = ProcessLock(database, settings.data_dir)
    lock.take()
    try:
        migrate.upgrade(database)
        copy_detection.recognise(database)
        async with _parts(settings, database) as server:
            yield server
    finally:
        lock.release()
        database.close()


@contextlib.asynccontextmanager
async def _parts(settings: Settings, database: Database) -> AsyncIterator[Server]:
    chains = Chains.of(settings)
    vault = Vault(settings.master_key_file)
    vault.unlock(database)
    writer = Writer(database)
    writer.start()
    hub = Broadcaster()
    catalog = catalogs.load(settings.actions_dir)
    programs = CompiledWorkflows(database, catalog)
    http = OutboundClient(settings.outbound_allow, settings.outbound_max_bytes, settings.max_parallel_per_host)
    await http.start()
    sandbox = Sandbox(Limits.of(settings))
    env = {name: os.environ[name] for name in settings.env_allow if name in os.environ}
    links = ResumeLinks(secret_of(settings.data_dir), settings.base_url())
    variables, calls = Variables(database, writer), Subworkflows()
    connections = Connections(database, writer, vault, catalog, http)
    signers = Signers(database, vault, settings)
    prices = PriceBook.of(settings, chains.get, http)
    publisher = EventPublisher(hub, calls.wake)
    rules = DustRules(Decimal(settings.dust_usd))
    accounts, duster = Budget(prices, rules), Duster(prices, rules)
    ledger = Transactions(LedgerParts(settings, database, writer, vault, chains, signers, accounts, publisher))
    traces = _traces(settings)
    tables, notifier = Tables(database, writer, settings), GuardedNotifier(settings.outbound_allow)
    wallets = Wallets(database, writer, signers)
    outlooks = SpendForecasts(database, programs, catalog, wallets)
    dust_plans = DustPlans(outlooks, duster, prices, chains.get)
    dust, reports = NodeDust(duster, dust_plans), SpendReports(database, chains.get, prices, settings)
    live_spend = LiveSpend(ledger, RehearsalGuard(database), dust, reports, settings)
    simulated_chains = SimulatedChains(
        database,
        lambda chain_id, state: SimChain(
            chains.get(chain_id),
            strategy=settings.simulation_strategy,
            fork_binary=settings.fork_binary,
            state=state,
        ),
        prices,
        SimulatedPolicy(database, accounts),
        reports,
        settings,
    )
    spend = SpendDeps(chains.get, prices, wallets, live_spend, simulated_chains)
    shared = (settings, catalog, database, writer, hub, http, sandbox, env, variables, links, connections, calls)
    deps = EngineDeps(*shared, tables, notifier, vault, traces=traces, spend=spend)
    engine = EmbeddedEngine(deps, programs)
    owner_key_path = await ensure_owner(database, writer, settings.data_dir)
    streams = Streams(database, writer, hub, settings)
    workflow_cache = WorkflowCache(database)
    runs = Runs(database, writer, hub, catalog, programs, engine, workflow_cache)
    starts = Starts(database, writer, hub, catalog, programs, engine, vault, workflow_cache, runs)
    starts.is_traced = traces is not None
    calls.connect(CalledRuns(database, catalog, programs, workflow_cache, starts).start, engine)
    is_ready = [False]
    parts = make_parts(settings, database, writer, catalog, runs=runs, streams=streams, ready=lambda: is_ready[0])
    parts.starts = starts
    parts.run_reports = RunReports(database, runs, chains)
    parts.vault = vault
    parts.chains = chains
    parts.wallets = wallets
    parts.wallet_policies = WalletPolicies(database, writer, settings.policy_delay_s * 1000)
    parts.wallet_funds = WalletFunds(database, chains)
    parts.dust_plans = dust_plans
    parts.funds = Funds(outlooks, prices, chains.get)
    parts.connectors = Connectors(database, writer, catalog, vault, connections)
    parts.variables = variables
    parts.tables = tables
    parts.approvals = Approvals(database, writer, engine)
    parts.resumes = Resumes(database, writer, runs, links, engine)
    parts.transactions = Operations(ledger)
    await ledger.start()
    await engine.start()
    upkeep = Upkeep(writer, settings, parts.usage, streams, parts.retention)
    upkeep.start()
    parts.gauges = lambda: _gauges(engine, writer, sandbox, simulated_chains)
    is_ready[0] = True

    def begin_stop() -> None:
        is_ready[0] = False
        streams.stop()
        engine.refuse()

    async def stop() -> None:
        begin_stop()
        await engine.stop(settings.shutdown_grace_s)

    try:
        yield Server(create_app(parts), settings, owner_key_path, begin_stop, stop, streams, engine, writer)
    finally:
        await stop()
        await simulated_chains.close()
        await ledger.stop()
        await upkeep.stop()
        await connections.tokens.stop()
        await writer.stop()
        await sandbox.stop()
        await signers.close()
        await chains.close()
        await http.close()
        if traces is not None:
            await asyncio.to_thread(traces.stop)


def _traces(settings: Settings) -> Traces | None:
    if settings.otlp_endpoint is None:
        return None
    return Traces(settings.otlp_endpoint, dustrun.__version__, propagate=settings.otlp_propagate)


def _gauges(engine: EmbeddedEngine, writer: Writer, sandbox: Sandbox, simulated_chains: SimulatedChains) -> Gauges:
    """How much the server holds at this moment."""
    return {
        "dustrun_runs_running": ("Runs that advance now.", engine.advancing),
        "dustrun_runs_queued": ("Runs that wait for their turn.", engine.queued),
        "dustrun_runs_waiting": ("Runs that wait for a time or an answer.", engine.waiting),
        "dustrun_simulations_held": ("Simulations whose chains are in memory.", len(simulated_chains)),
        "dustrun_writer_queue": ("Units of work that wait for the next commit.", writer.backlog),
        "dustrun_sandbox_processes": ("Processes of scripts.", len(sandbox.pids)),
    }


def serve(settings: Settings, ready: Callable[[str, Path | None], None] | None = None) -> None:
    """Serves until SIGINT or SIGTERM; `ready(address, path of the first start's owner key)` is told when it answers."""
    log.set_up(as_json=settings.log_format == "json", level=settings.log_level)
    shield_process()
    with contextlib.suppress(KeyboardInterrupt), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(settings, ready))


async def _serve(settings: Settings, ready: Callable[[str, Path | None], None] | None) -> None:
    listener = _listen(settings)
    if settings.port == 0:
        settings = settings.model_copy(update={"port": listener.getsockname()[1]})
    async with compose(settings) as server:
        config = uvicorn.Config(
            server.app,
            http=HttpProtocol,
            ws="none",
            lifespan="off",
            access_log=False,
            log_config=None,
            timeout_graceful_shutdown=int(settings.shutdown_grace_s) + 1,
            server_header=False,
            proxy_headers=False,
        )
        web = _Web(config, server)
        host, port = listener.getsockname()[:2]
        _spare_the_collector()
        web.on_ready = lambda: ready(f"http://{host}:{port}", server.owner_key_path) if ready else None
        server.writer.on_taken = web.give_way
        await web.serve(sockets=[listener])
    if web.has_given_way:
        raise Conflict(
            "Another server has taken this store over while this one could not reach it; this one has ended."
        )


def _spare_the_collector() -> None:
    """What start-up made lives as long as the process: the cycle collector need not walk it, neither now nor later.
    Measured: a tenth of the run call's processor time, a seventh of the start's."""
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    gc.enable()


def _listen(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((settings.host, settings.port))
    listener.set_inheritable(False)
    return listener


class _Web(uvicorn.Server):
    """uvicorn, told to drop streams first when it stops: an open one would block its graceful shutdown.

    When it has stopped it would send itself the signal once more, which ends the process at once: before running nodes
    have had their grace, so that an ordinary restart would leave their effects uncertain."""

    def __init__(self, config: uvicorn.Config, server: Server) -> None:
        super().__init__(config)
        self._server = server
        self.on_ready: Callable[[], None] = lambda: None
        self.has_given_way = False

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Starts to listen, then says so."""
        await super().startup(sockets)
        self.on_ready()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Heeds signals while it serves, and keeps none for later."""
        with super().capture_signals():
            yield
            self._captured_signals.clear()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stops; a connection whose reader takes nothing would hold that up until the grace is over."""
        for connection in list(self.server_state.connections):
            flow, transport = getattr(connection, "flow", None), getattr(connection, "transport", None)
            if flow is not None and flow.write_paused and transport is not None:
                transport.abort()
        await super().shutdown(sockets)

    def give_way(self) -> None:
        """Ends, since another server works on the store: what this one has in memory is old."""
        self.has_given_way = True
        self._server.begin_stop()
        self.should_exit = True

    def handle_exit(self, sig: int, frame: Any) -> None:
        """A signal to stop: streams end and runs are refused first, so that callers turn to the next server."""
        self._server.begin_stop()
        super().handle_exit(sig, frame)
