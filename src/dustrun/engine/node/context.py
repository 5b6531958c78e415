"""`ctx`: everything that a running action may use."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import field, replace
from typing import Any, Protocol

from dustrun.core.money.allowances import Allowance
from dustrun.core.stream_events import LOG, NODE_PROGRESS
from dustrun.errors import Invalid
from dustrun.records import dataclass
from dustrun.sdk.action import Transmission
from dustrun.sdk.chain import Chain, Prices, WalletView
from dustrun.sdk.context import Connection, Http, HttpRequest, HttpResponse, ModelTokens, ModelTools, Script
from dustrun.sdk.notice import Notice, Notifier
from dustrun.sdk.programs import CommandLine, Commands, Program
from dustrun.sdk.tables import Tables

Emit = Callable[[str, dict[str, Any]], None]
MakeScript = Callable[..., Script]
"""Makes `ctx.script` of one organisation from `now_ms` and `seed`."""


class Scripts(Protocol):
    """Makes `ctx.script`."""

    def script(self, *, tenant: str, now_ms: int, seed: str) -> Script:
        """The script runner of one node; `seed` seeds its random numbers."""
        ...


@dataclass(slots=True)
class Notes:
    """An attempt's records beside its result. `assumed`: the result depends on assumed values. `transmission`: what
    has left the server; an action that fails may have sent before, since a 503 is an answer. `row_sources`: what shaped
    the rows of tables that it read."""

    assumed: bool = False
    facts: dict[str, Any] | None = None
    row_sources: dict[str, frozenset[str]] = field(default_factory=dict)
    transmission: Transmission = field(default_factory=Transmission)


@dataclass(frozen=True, slots=True)
class Inside:
    """The server's own services that a node may use."""

    tables: Tables
    notifier: Notifier
    commands: Commands
    model_tokens: ModelTokens


@dataclass(frozen=True, slots=True)
class Reach:
    """The chains, prices and wallet of one node, live or simulated."""

    chain: Callable[[int], Chain]
    prices: Prices
    wallet: WalletView | None = None
    granted: Callable[[int], Awaitable[list[Allowance]]] | None = None


class NodeContext:
    """The `ctx` of one attempt of one node. What few nodes use is made on first use."""

    __slots__ = (
        "_commands",
        "_connection",
        "_emit",
        "_find_reach",
        "_http",
        "_idempotency_key",
        "_inside",
        "_make_script",
        "_model_tools",
        "_notifier",
        "_now_ms",
        "_reach",
        "notes",
    )

    def __init__(
        self,
        http: Http,
        script: MakeScript,
        idempotency_key: Callable[[], str],
        now_ms: int,
        emit: Emit,
        reach: Callable[[], Reach] | None = None,
        inside: Callable[[NodeContext], Inside] | None = None,
    ) -> None:
        self._find_reach = reach
        self._reach: Reach | None = None
        self._connection: Connection | None = None
        self._inside = inside
        self._notifier: Notifier | None = None
        self._model_tools: ModelTools | None = None
        self._commands: Commands | None = None
        self.notes = Notes()
        self._http = http
        self._make_script = script
        self._idempotency_key = idempotency_key
        self._now_ms = now_ms
        self._emit = emit

    @property
    def http(self) -> Http:
        """Guarded HTTP client."""
        return _NotingHttp(self._http, self.notes.transmission)

    @property
    def script(self) -> Script:
        """Runs users' JavaScript in the sandbox."""
        return self._make_script(now_ms=self._now_ms, seed=self.idempotency_key)

    @property
    def connection(self) -> Connection:
        """The node's connector, opened."""
        if self._connection is None:
            raise Invalid('The node has no connector: give it one, like {"type": "http-bearer", "id": "conn_…"}.')
        return self._connection

    def connect(self, connection: Connection | None, http: Http, emit: Callable[[Emit], Emit]) -> None:
        """Sets the connector, and wraps events so that the connectors' secrets are masked, before the action runs."""
        self._connection, self._http, self._emit = connection, http, emit(self._emit)

    def replace(self, http: Http, notifier: Notifier, commands: Commands) -> None:
        """Sets what notes how a connector answers, or stops the action before it sends, before the action runs."""
        self._http, self._notifier, self._commands = http, notifier, commands

    def offer(self, tools: ModelTools) -> None:
        """Sets what a model may call, before the action runs."""
        self._model_tools = tools

    @property
    def model_tools(self) -> ModelTools:
        """Actions that a model may call."""
        if self._model_tools is None:
            raise Invalid("Tools of models can only be used in a run.")
        return self._model_tools

    @property
    def model_tokens(self) -> ModelTokens:
        """What the organisation may still ask models."""
        return self._offered.model_tokens

    @property
    def tables(self) -> Tables:
        """The organisation's managed tables."""
        return self._offered.tables

    @property
    def notify(self) -> Notifier:
        """Sends messages through messaging services."""
        return _NotingNotifier(self._notifier or self._offered.notifier, self.notes.transmission)

    @property
    def commands(self) -> Commands:
        """Programs that the operator has named."""
        return _NotingCommands(self._commands or self._offered.commands, self.notes.transmission)

    @property
    def _offered(self) -> Inside:
        if self._inside is None:
            raise Invalid("Tables, messages and programs can only be used in a run.")
        return self._inside(self)

    def chain(self, chain_id: int) -> Chain:
        """Read access to one chain."""
        return self._reached.chain(chain_id)

    @property
    def prices(self) -> Prices:
        """Token prices."""
        return self._reached.prices

    @property
    def wallet(self) -> WalletView:
        """The node's wallet."""
        if self._reached.wallet is None:
            raise Invalid('The node has no wallet: give it a connector {"type": "wallet", "id": "wal_…"}.')
        return self._reached.wallet

    async def granted(self, chain_id: int) -> list[Allowance]:
        """The allowances that the node's wallet may have given others on a chain."""
        if self._reached.granted is None:
            raise Invalid("Only a node with a wallet knows what that has allowed.")
        return await self._reached.granted(chain_id)

    @property
    def _reached(self) -> Reach:
        if self._reach is None:
            if self._find_reach is None:
                raise Invalid("This server has no chains.")
            self._reach = self._find_reach()
        return self._reach

    @property
    def idempotency_key(self) -> str:
        """Key for deduplication, stable for this node in all retries of this run."""
        return self._idempotency_key()

    @property
    def now_ms(self) -> int:
        """The node's start in milliseconds UTC, on the run's clock."""
        return self._now_ms

    def log(self, message: str, *, level: str = "info", data: Any = None) -> None:
        """Adds a `log` event."""
        entry: dict[str, Any] = {"level": level, "message": message}
        if data is not None:
            entry["data"] = data
        self._emit(LOG, entry)

    def tell(self, kind: str, data: dict[str, Any]) -> None:
        """Adds an event of the node; not for actions."""
        self._emit(kind, data)

    def progress(self, message: str, *, percent: int | None = None) -> None:
        """Adds a `node_progress` event."""
        entry: dict[str, Any] = {"message": message}
        if percent is not None:
            entry["percent"] = percent
        self._emit(NODE_PROGRESS, entry)


def idempotency_key(org_id: str, root_run_id: str, path: str) -> str:
    """A key by which an outside system can deduplicate: the same for every attempt, restart and retry run."""
    digest = hashlib.sha256(f"{org_id}\n{root_run_id}\n{path}".encode()).hexdigest()
    return f"dustrun-{digest[:40]}"


class _NotingHttp:
    """`ctx.http`, noting what it sends unless that only reads; so do the other two."""

    __slots__ = ("_http", "_transmission")

    def __init__(self, http: Http, transmission: Transmission) -> None:
        self._http = http
        self._transmission = transmission

    async def request(self, request: HttpRequest) -> HttpResponse:
        """Sends one request."""
        noted = request if request.only_reads else replace(request, transmission=self._transmission)
        return await self._http.request(noted)


class _NotingNotifier:
    """`ctx.notify`."""

    __slots__ = ("_notifier", "_transmission")

    def __init__(self, notifier: Notifier, transmission: Transmission) -> None:
        self._notifier = notifier
        self._transmission = transmission

    async def send(self, address: str, notice: Notice) -> str:
        """Sends one message."""
        return await self._notifier.send(address, replace(notice, transmission=self._transmission))


class _NotingCommands:
    """`ctx.commands`."""

    __slots__ = ("_commands", "_transmission")

    def __init__(self, commands: Commands, transmission: Transmission) -> None:
        self._commands = commands
        self._transmission = transmission

    def check(self, line: CommandLine) -> None:
        """Raises `Refused` unless the operator has named the command."""
        self._commands.check(line)

    @asynccontextmanager
    async def start(self, line: CommandLine) -> AsyncIterator[Program]:
        """Starts a program."""
        async with self._commands.start(line) as program:
            yield _NotingProgram(program, self._transmission)


class _NotingProgram:
    def __init__(self, program: Program, transmission: Transmission) -> None:
        self._program = program
        self._transmission = transmission

    async def send(self, line: bytes, *, only_reads: bool) -> None:
        await self._program.send(line, only_reads=only_reads)
        self._transmission.sent = self._transmission.sent or not only_reads

    async def receive(self) -> bytes | None:
        return await self._program.receive()
