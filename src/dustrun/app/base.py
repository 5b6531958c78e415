"""The services that every domain needs: store, secrets, network, scripts, chains."""

from __future__ import annotations

import asyncio
import contextlib

import dustrun
from dustrun.app.log_export import LogExport
from dustrun.catalog import Catalog
from dustrun.catalog import load as load_catalog
from dustrun.chain.chains import Chains
from dustrun.chain.networks import load_networks
from dustrun.core.openapi.document import MOST_BYTES
from dustrun.engine.run.traces import Traces
from dustrun.outbound.client import OutboundClient
from dustrun.outbound.commands import NamedCommands
from dustrun.outbound.configured import ConfiguredAddresses
from dustrun.records import dataclass
from dustrun.sandbox import Sandbox, SandboxLimits
from dustrun.services.connectors.connections import Connections
from dustrun.services.runs.resume_links import ResumeLinks, secret_of, shared_secret_of
from dustrun.services.sharing.election import Leases
from dustrun.services.streaming.broadcaster import Broadcaster
from dustrun.services.wallets.signers import Signers
from dustrun.services.workflows.compiled import CompiledWorkflows
from dustrun.services.workflows.slices import Slices
from dustrun.services.workflows.spend_gate import SpendGate
from dustrun.settings import Settings
from dustrun.storage.db.database import Database
from dustrun.storage.db.writer import Writer
from dustrun.storage.secrets.vault import Vault


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """Services that are opened once per server and closed by the stack given to `open_base`."""

    settings: Settings
    database: Database
    writer: Writer
    leases: Leases | None
    """This process's part of a shared store; None: it has the store for itself."""
    vault: Vault
    signers: Signers
    chains: Chains
    http: OutboundClient
    price_http: OutboundClient
    hook_http: OutboundClient
    sign_in_http: OutboundClient | None
    """Reaches the identity provider also in a private network, unlike what workflows send."""
    document_http: OutboundClient
    sandbox: Sandbox
    hub: Broadcaster
    catalog: Catalog
    programs: CompiledWorkflows
    gate: SpendGate
    slices: Slices
    connections: Connections
    links: ResumeLinks
    traces: Traces | None

    @property
    def holder(self) -> str | None:
        """In a shared store: this process, as the holder of leases."""
        return None if self.leases is None else self.leases.holder


async def open_base(settings: Settings, database: Database, stack: contextlib.AsyncExitStack) -> Base:
    """Opens the base services; the stack closes them in reverse order."""
    chains, vault = make_chains(settings), Vault(settings.master_key_file)
    vault.unlock(database)
    catalog = load_catalog(settings.actions_dir)
    traces = _open_traces(settings, stack)
    http, price_http = await _open_client(settings, stack), await _open_client(settings, stack, settings.price_url)
    hook_http = await _open_client(settings, stack)
    issuer = settings.sign_in_issuer
    sign_in_http = None if issuer is None else await _open_client(settings, stack, issuer)
    document_http = await _open_client(settings, stack, max_bytes=MOST_BYTES)
    stack.push_async_callback(chains.close)
    signers, sandbox = Signers(database, vault, settings), Sandbox(SandboxLimits.of(settings))
    stack.push_async_callback(signers.close)
    stack.push_async_callback(sandbox.stop)
    writer = Writer(database)
    writer.start()
    stack.push_async_callback(writer.stop)
    commands = NamedCommands(settings.mcp_commands, settings.outbound_max_bytes)
    leases = Leases(writer, database.name) if settings.is_shared else None
    connections = Connections(database, writer, vault, catalog, http, commands, leases)
    stack.push_async_callback(connections.tokens.stop)
    secret = await shared_secret_of(settings.data_dir, writer) if settings.shared else secret_of(settings.data_dir)
    programs = CompiledWorkflows(database, catalog)
    gate = SpendGate(catalog.specs(), programs, database)
    return Base(
        settings=settings,
        database=database,
        writer=writer,
        leases=leases,
        vault=vault,
        signers=signers,
        chains=chains,
        http=http,
        price_http=price_http,
        hook_http=hook_http,
        sign_in_http=sign_in_http,
        document_http=document_http,
        sandbox=sandbox,
        hub=Broadcaster(),
        catalog=catalog,
        programs=programs,
        gate=gate,
        slices=Slices(database, gate, programs),
        connections=connections,
        links=ResumeLinks(secret, settings.base_url()),
        traces=traces,
    )


def make_chains(settings: Settings) -> Chains:
    """The chains of the settings, whose endpoints pass the guard; raises `NetworkFileError` for an unusable file."""
    networks = load_networks(settings.networks_dir, settings.chain_endpoints)
    urls = [url for network in networks.values() for url in network.endpoints]
    urls += settings.second_endpoints.values()
    return Chains(networks, settings, ConfiguredAddresses(settings.outbound_allow, urls))


async def _open_client(
    settings: Settings, stack: contextlib.AsyncExitStack, *urls: str | None, max_bytes: int | None = None
) -> OutboundClient:
    """`max_bytes`: of a body that it reads; default: as the settings say."""
    most = max_bytes or settings.outbound_max_bytes
    limits, named = (most, settings.max_parallel_per_host), [url for url in urls if url]
    client = OutboundClient(
        settings.outbound_allow, *limits, max_body_bytes=settings.outbound_max_body_bytes, named=named
    )
    await client.start()
    stack.push_async_callback(client.close)
    return client


def _open_traces(settings: Settings, stack: contextlib.AsyncExitStack) -> Traces | None:
    if settings.otlp_endpoint is None:
        return None
    traces = Traces(settings.otlp_endpoint, dustrun.__version__, propagate=settings.otlp_propagate)
    stack.push_async_callback(asyncio.to_thread, traces.stop)
    if settings.otlp_logs:
        lines = LogExport(settings.otlp_endpoint, dustrun.__version__)
        stack.push_async_callback(asyncio.to_thread, lines.stop)
    return traces
