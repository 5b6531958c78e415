"""`ctx`: everything that a running action may use."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from dustrun.core.money.allowances import Allowance
from dustrun.errors import Invalid
from dustrun.records import dataclass
from dustrun.sdk.chain import Chain, Prices, WalletView
from dustrun.sdk.context import Connection, Http, ModelTools, Script
from dustrun.sdk.notice import Notifier
from dustrun.sdk.programs.commands import Commands
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
    """What an attempt records beside its result. `assumed`: the result depends on assumed values."""

    assumed: bool = False
    facts: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Inside:
    """The server's own services that a node may use."""

    tables: Tables
    notifier: Notifier
    commands: Commands


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
        return self._http

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

    def rehearse(self, http: Http, notifier: Notifier, commands: Commands) -> None:
        """Sets what stops the action before it sends, before the action runs."""
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
    def tables(self) -> Tables:
        """The organisation's managed tables."""
        return self._offered.tables

    @property
    def notify(self) -> Notifier:
        """Sends messages through messaging services."""
        return self._notifier or self._offered.notifier

    @property
    def commands(self) -> Commands:
        """Programs that the operator has named."""
        return self._commands or self._offered.commands

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
        """What the node's wallet may have allowed others to take on a chain."""
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
        self._emit("log", entry)

    def tell(self, kind: str, data: dict[str, Any]) -> None:
        """Adds an event of the node; not for actions."""
        self._emit(kind, data)

    def progress(self, message: str, *, percent: int | None = None) -> None:
        """Adds a `node_progress` event."""
        entry: dict[str, Any] = {"message": message}
        if percent is not None:
            entry["percent"] = percent
        self._emit("node_progress", entry)


def idempotency_key(org_id: str, root_run_id: str, path: str) -> str:
    """A key by which an outside system can deduplicate: the same for every attempt, restart and retry run."""
    digest = hashlib.sha256(f"{org_id}\n{root_run_id}\n{path}".encode()).hexdigest()
    return f"dustrun-{digest[:40]}"
