"""What a trigger may use when it is checked or polled."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from dustrun import clock
from dustrun.chain.chains import Chains
from dustrun.core.text.masking import Mask
from dustrun.core.workflow.definition import ConnectorReference
from dustrun.errors import Invalid
from dustrun.sdk.chain import Prices
from dustrun.sdk.context import CheckingHttp, HttpRequest, HttpResponse
from dustrun.sdk.tables import WatchedTables
from dustrun.sdk.trigger import Credential, TriggerContext, WatchedChain
from dustrun.services.connectors.connections import Connections, Opened
from dustrun.services.connectors.masked_http import MaskedHttp
from dustrun.services.triggers.table_changes import TableChanges
from dustrun.storage.db.database import Database


class LiveContext:
    """The `TriggerContext` of the server."""

    def __init__(
        self,
        http: CheckingHttp,
        chains: Chains,
        prices: Prices,
        min_interval_ms: int,
        tables: WatchedTables,
        credential: Credential | None = None,
    ) -> None:
        self._http = http
        self._chains = chains
        self._prices = prices
        self._min_interval_ms = min_interval_ms
        self._tables = tables
        self._credential = credential

    def connected(self, opened: Opened) -> LiveContext:
        """The same context, whose requests carry a connector's credential."""
        http = ConnectedHttp(self._http, opened)
        credential = Credential(opened.row.id, opened.row.version)
        return LiveContext(http, self._chains, self._prices, self._min_interval_ms, self._tables, credential)

    def seeing(self, tables: WatchedTables) -> LiveContext:
        """The same context for one organisation, whose tables these are."""
        return LiveContext(self._http, self._chains, self._prices, self._min_interval_ms, tables, self._credential)

    @property
    def now_ms(self) -> int:
        """The current time."""
        return clock.now_ms()

    @property
    def http(self) -> CheckingHttp:
        """The guarded HTTP client; its `check` says what it would refuse."""
        return self._http

    @property
    def credential(self) -> Credential | None:
        """What `http` authenticates with."""
        return self._credential

    @property
    def prices(self) -> Prices:
        """Token prices in US dollars."""
        return self._prices

    @property
    def tables(self) -> WatchedTables:
        """The managed tables of the organisation."""
        return self._tables

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

    def plain(self, org_id: str, own: Collection[str] | None = None) -> LiveContext:
        """A context without credential; `own` are the workflows of a limited key."""
        return self._plain.seeing(TableChanges(self._database, org_id, own))

    async def open(
        self, org_id: str, reference: ConnectorReference | None, mask: Mask, own: Collection[str] | None = None
    ) -> TriggerContext:
        """The context of one look; `mask` learns the secrets, `own` are the workflows of a limited key. Raises
        `DustrunError` if the connector is missing, of another type, or adds no credential: a node that names one never
        asks without it."""
        plain = self.plain(org_id, own)
        if reference is None:
            return plain
        opened = await self._connections.open(org_id, reference, mask)
        if not opened.type.attaches:
            raise Invalid(f'A connector of type "{opened.row.type}" adds no credential to requests.')
        return plain.connected(opened)


class ConnectedHttp:
    """The guarded client, with a connector's credential on each request and its secrets masked in each response."""

    def __init__(self, http: CheckingHttp, opened: Opened) -> None:
        self._http = http
        self._opened = opened
        self._masked = MaskedHttp(http, opened.mask, opened)

    async def request(self, request: HttpRequest) -> HttpResponse:
        """Sends a request with the credential; raises like `sdk.context.Http`."""
        return await self._masked.request(request)

    async def check(self, request: HttpRequest) -> None:
        """Raises what `request` would raise before it sends; asks nobody for a token."""
        await self._http.check(replace(request, authorize=self._opened.rehearse))
