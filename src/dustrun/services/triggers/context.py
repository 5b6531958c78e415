"""Context of a trigger that is checked or polled."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import replace

from dustrun import clock
from dustrun.chain.chains import Chains
from dustrun.core.text.masking import Mask
from dustrun.core.workflow.definition import ConnectorReference
from dustrun.errors import Invalid, Temporary, Uncertain
from dustrun.sdk.chain import Prices
from dustrun.sdk.context import Connection, HttpRequest, HttpResponse, Incoming, NoConnection, Socket, StreamingHttp
from dustrun.sdk.tables import WatchedTables
from dustrun.sdk.trigger import Credential, Facts, WatchedChain
from dustrun.services.access.principal import Principal
from dustrun.services.connectors.connections import Connections, OpenConnector
from dustrun.services.connectors.masked_http import MaskedHttp
from dustrun.services.triggers.facts import OwnFacts
from dustrun.services.triggers.table_changes import TableChanges
from dustrun.storage.db.database import Database

_UNAUTHORIZED = 401


class LiveContext:
    """The `TriggerContext` of the server."""

    def __init__(
        self,
        http: StreamingHttp,
        chains: Chains,
        prices: Prices,
        min_interval_ms: int,
        tables: WatchedTables,
        facts: Facts,
        opened: OpenConnector | None = None,
    ) -> None:
        self._http = http
        self._chains = chains
        self._prices = prices
        self._min_interval_ms = min_interval_ms
        self._tables = tables
        self._facts = facts
        self._opened = opened
        self._gave_token = False

    def with_connector(self, opened: OpenConnector) -> LiveContext:
        """The same context with a connector, whose credential requests carry if it adds one to them."""
        http = ConnectedHttp(self._http, opened) if opened.type.attaches else self._http
        return self._made(http, self._tables, self._facts, opened)

    def seeing(self, tables: WatchedTables, facts: Facts) -> LiveContext:
        """The same context for one organisation, whose tables and facts these are."""
        return self._made(self._http, tables, facts, self._opened)

    def _made(
        self, http: StreamingHttp, tables: WatchedTables, facts: Facts, opened: OpenConnector | None
    ) -> LiveContext:
        return LiveContext(http, self._chains, self._prices, self._min_interval_ms, tables, facts, opened)

    @property
    def now_ms(self) -> int:
        """The current time."""
        return clock.now_ms()

    @property
    def http(self) -> StreamingHttp:
        """The guarded HTTP client; its `check` says what it would refuse."""
        return self._http

    @property
    def credential(self) -> Credential | None:
        """The identity that `http` authenticates with."""
        row = None if self._opened is None else self._opened.row
        return None if row is None else Credential(row.id, row.version)

    @property
    def connection(self) -> Connection | None:
        """The connector, for a trigger that reads its data itself."""
        is_read = self._opened is not None and not self._opened.type.attaches
        return self._opened.connection if self._opened is not None and is_read else None

    async def bearer(self, host: str, port: int, *, encrypts: bool, not_this: str | None = None) -> str | None:
        """The access token of an OAuth 2 connector, for a server of another protocol than HTTP."""
        if self._opened is None:
            return None
        name = f"[{host}]" if ":" in host else host
        token = await self._opened.bearer(f"{'https' if encrypts else 'http'}://{name}:{port}", not_this)
        self._gave_token = token is not None
        return token

    async def connected(self, error: NoConnection | None) -> None:
        """A trigger that reads the connector's data itself, or its token, has connected with it, or why it could
        not."""
        if self._opened is not None and (self._gave_token or not self._opened.type.attaches):
            await self._opened.connected(error)

    @property
    def prices(self) -> Prices:
        """Token prices in US dollars."""
        return self._prices

    @property
    def tables(self) -> WatchedTables:
        """The managed tables of the organisation."""
        return self._tables

    @property
    def facts(self) -> Facts:
        """The events of the organisation."""
        return self._facts

    @property
    def min_interval_ms(self) -> int:
        """The shortest time between two fires or polls that the operator allows."""
        return self._min_interval_ms

    def chain(self, chain_id: int) -> WatchedChain:
        """Read access to one chain; raises `Invalid` for one that the server does not know or serve."""
        return self._chains.get(chain_id)


class Contexts:
    """The contexts of looks: with a connector, its newest secret is read for each."""

    def __init__(self, plain: LiveContext, connections: Connections, database: Database) -> None:
        self._plain = plain
        self._connections = connections
        self._database = database

    def plain(
        self,
        org_id: str,
        own: Collection[str] | None = None,
        by: Principal | None = None,
        workflow_id: str | None = None,
    ) -> LiveContext:
        """A context without credential; `own` are the workflows of a limited key. `by` is the key in whose name a
        trigger of `workflow_id` looks at what happens in the organisation."""
        facts = OwnFacts(self._database, org_id, by, workflow_id)
        return self._plain.seeing(TableChanges(self._database, org_id, own), facts)

    async def open(
        self,
        org_id: str,
        reference: ConnectorReference | None,
        mask: Mask,
        own: Collection[str] | None = None,
        by: Principal | None = None,
        workflow_id: str | None = None,
        *,
        reads: bool = False,
    ) -> LiveContext:
        """The context of one look; `mask` learns the secrets, `own` are the workflows of a limited key. Raises
        `DustrunError` if the connector is missing, of another type, or adds no credential, unless the trigger `reads`
        the connector's data itself: a node that names one never asks without it."""
        plain = self.plain(org_id, own, by, workflow_id)
        if reference is None:
            return plain
        opened = await self._connections.open(org_id, reference, mask)
        if not opened.type.attaches and not reads:
            raise Invalid(f'A connector of type "{opened.row.type}" adds no credential to requests.')
        return plain.with_connector(opened)


class ConnectedHttp:
    """The guarded client, with a connector's credential on each request and its secrets masked in each response."""

    def __init__(self, http: StreamingHttp, opened: OpenConnector) -> None:
        self._http = http
        self._opened = opened
        self._masked = MaskedHttp(http, opened.mask, opened)

    async def request(self, request: HttpRequest) -> HttpResponse:
        """Sends a request with the credential; raises like `sdk.context.Http`."""
        return await self._masked.request(request)

    async def check(self, request: HttpRequest) -> None:
        """Raises what `request` would raise before it sends; asks nobody for a token."""
        await self._http.check(replace(request, authorize=self._opened.rehearse))

    @asynccontextmanager
    async def stream(self, request: HttpRequest) -> AsyncIterator[Incoming]:
        """Opens a stream with the credential; with a fresh token after 401."""
        carried = await self._opened.current_token()
        async with contextlib.AsyncExitStack() as stack:
            asked = replace(request, authorize=self._opened.authorize)
            try:
                incoming = await stack.enter_async_context(self._http.stream(asked))
            except (Temporary, Uncertain):
                await self._opened.heard(request.url, None)
                raise
            if incoming.status == _UNAUTHORIZED and await self._opened.renew(carried):
                incoming = await stack.enter_async_context(self._http.stream(asked))
            await self._opened.heard(request.url, incoming.status)
            yield incoming

    @asynccontextmanager
    async def websocket(
        self, request: HttpRequest, protocols: tuple[str, ...] = (), heartbeat_s: float | None = None
    ) -> AsyncIterator[Socket]:
        """Opens a WebSocket with the credential in its handshake; with a fresh token after 401."""
        carried = await self._opened.current_token()
        asked = replace(request, authorize=self._opened.authorize)
        async with contextlib.AsyncExitStack() as stack:
            try:
                socket = await stack.enter_async_context(self._http.websocket(asked, protocols, heartbeat_s))
            except NoConnection as error:
                if error.status != _UNAUTHORIZED or not await self._opened.renew(carried):
                    await self._opened.connected(error)
                    raise
                socket = await stack.enter_async_context(self._http.websocket(asked, protocols, heartbeat_s))
            await self._opened.connected(None)
            yield socket

    async def addresses(self, host: str, port: int) -> list[str]:
        """The addresses to which a connection of another protocol may be made."""
        return await self._http.addresses(host, port)
