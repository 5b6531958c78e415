"""Access tokens of OAuth 2 connectors: one request at a time, stored encrypted, renewed before they expire."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from dustrun import clock, log
from dustrun.core.text.masking import Mask
from dustrun.core.values import exact_json
from dustrun.errors import Permanent, Temporary, Uncertain
from dustrun.sdk.connector import Connector
from dustrun.sdk.context import CheckingHttp, HttpRequest
from dustrun.services.connectors.grants import TOKEN, Grants, Token, not_connected
from dustrun.services.connectors.token_answers import Granted, read_answer
from dustrun.services.sharing.election import Leases, alone
from dustrun.storage.data import connectors as rows
from dustrun.storage.data.connectors import ConnectorRow
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Tx
from dustrun.storage.db.writer import Writer
from dustrun.storage.secrets.vault import Vault

_logger = log.get(__name__)
DATA: Final = "connector"
"""The vault's record kind for a connector's data."""
_REWRITE_S: Final = 1.0
_STOP_S: Final = 10.0


class Tokens:
    """The access tokens of all OAuth 2 connectors in this process. `leases`: in a shared store one process at a time
    asks for a connector's token, whose refresh token may work once."""

    def __init__(
        self, database: Database, writer: Writer, vault: Vault, http: CheckingHttp, leases: Leases | None = None
    ) -> None:
        self._database = database
        self._writer = writer
        self._vault = vault
        self._http = http
        self._leases = leases
        self.grants = Grants(database, writer, vault, http)
        self._kept: dict[str, Token] = {}
        self._flights: dict[str, asyncio.Task[Token]] = {}
        self._renewing: set[str] = set()
        """Connectors whose flight sends a refresh token that a person has consented to."""

    async def get(self, row: ConnectorRow, type_: Connector, *, not_this: str | None = None) -> str:
        """Returns a valid token; `not_this` is a token that was just refused. Raises `Temporary` or `Permanent`."""
        kept = self._kept.get(row.id)
        if kept is not None and kept.version == row.version and kept.value != not_this and not _is_due(kept):
            return kept.value
        flight = self._flights.get(row.id)
        if flight is None:
            flight = self._flights[row.id] = asyncio.create_task(self._fetch(row.org_id, row.id, type_, not_this))
            flight.add_done_callback(lambda done: self._landed(row.id, done))
        # a node that times out must not cancel the request for the others, nor lose a refresh token in transit
        return (await asyncio.shield(flight)).value

    async def check(self, row: ConnectorRow, type_: Connector) -> None:
        """Raises if no token is there and the guard refuses the provider that would be asked for one."""
        row, data, stored = await self._database.read(lambda tx: self._read(tx, row.org_id, row.id, type_))
        if type_.needs_consent and stored is None:
            raise not_connected(row)
        if stored is None or _is_due(stored):
            await self._http.check(type_.run(data))

    def _landed(self, connector_id: str, flight: asyncio.Task[Token]) -> None:
        self._flights.pop(connector_id, None)
        self._renewing.discard(connector_id)
        if not flight.cancelled():
            flight.exception()  # waiting callers get the error; if none waits, it can be ignored

    def forget(self, connector_id: str) -> None:
        """Drops the cached token of a changed or deleted connector."""
        self._kept.pop(connector_id, None)

    async def stop(self) -> None:
        """Cancels pending requests, but waits a little for those that send a refresh token; a token that was already
        received is stored first if possible."""
        flights = list(self._flights.values())
        consented = [self._flights[one] for one in self._renewing if one in self._flights]
        if consented:  # a refresh token that works once is lost with its answer
            await asyncio.wait(consented, timeout=_STOP_S)
        for flight in flights:
            flight.cancel()
        await asyncio.gather(*flights, return_exceptions=True)

    async def _fetch(self, org_id: str, connector_id: str, type_: Connector, not_this: str | None) -> Token:
        async with alone(self._leases, f"token:{connector_id}"):
            return await self._fetch_alone(org_id, connector_id, type_, not_this)

    async def _fetch_alone(self, org_id: str, connector_id: str, type_: Connector, not_this: str | None) -> Token:
        row, data, stored = await self._database.read(lambda tx: self._read(tx, org_id, connector_id, type_))
        if stored is None or stored.value == not_this or _is_due(stored):
            is_granted = type_.needs_consent
            stored = await (self._renew(row, type_, data, stored) if is_granted else self._ask(row, type_, data))
        self._kept[connector_id] = stored
        return stored

    async def _renew(self, row: ConnectorRow, type_: Connector, data: Any, current: Token | None) -> Token:
        self._renewing.add(row.id)
        return await self.grants.renew(row, type_, data, current)

    def _read(self, tx: Tx, org_id: str, connector_id: str, type_: Connector) -> tuple[ConnectorRow, Any, Token | None]:
        row = rows.find(tx, org_id, connector_id)
        if row is None:
            raise Permanent(f'The connector "{connector_id}" was deleted in the meantime.')
        data = type_.data.model_validate(exact_json.loads(self._vault.open(tx, org_id, DATA, row.id, row.sealed)))
        if row.sealed_token is None or row.token_expires_at is None:
            return row, data, None
        value = self._vault.open(tx, org_id, TOKEN, row.id, row.sealed_token).decode()
        return row, data, Token(row.version, value, row.token_expires_at)

    async def _ask(self, row: ConnectorRow, type_: Connector, data: Any) -> Token:
        request: HttpRequest = type_.run(data)
        response = await self._http.request(request)
        mask = Mask([*type_.secrets(data), *(value.rpartition(" ")[2] for value in request.headers.values())])
        granted = read_answer(row.name, response, mask)
        if granted.refresh_token is not None and hasattr(data, "refresh_token"):
            data = data.model_copy(update={"refresh_token": granted.refresh_token})
        await self._vault.prepare()
        await asyncio.shield(asyncio.ensure_future(self._store(row, data, granted)))
        return Token(row.version, granted.token, granted.expires_at)

    async def _store(self, row: ConnectorRow, data: Any, granted: Granted) -> None:
        """Stores a token before it is used: its refresh token may be the only one that still works."""
        plain = exact_json.dumps(data.model_dump(by_alias=True, exclude_none=True))

        def unit(tx: Tx) -> bool:
            sealed = self._vault.seal(tx, row.org_id, DATA, row.id, plain)
            token = self._vault.seal(tx, row.org_id, TOKEN, row.id, granted.token.encode())
            return rows.keep_token(tx, row, sealed=sealed, sealed_token=token, expires_at=granted.expires_at)

        while True:
            try:
                if not await self._writer.write(unit):
                    raise Temporary(f'The connector "{row.name}" was changed in the meantime; try again.')
                return
            except Uncertain:
                await asyncio.sleep(_REWRITE_S)  # writing it twice has the same result
            except Temporary:
                if await self._is_stale(row):
                    raise
                _logger.warning("storing an access token failed, retrying", connector=row.id)
                await asyncio.sleep(_REWRITE_S)

    async def _is_stale(self, row: ConnectorRow) -> bool:
        """Whether the connector changed since the token was requested; False while the store is unavailable."""
        try:
            found = await self._database.read(lambda tx: rows.find(tx, row.org_id, row.id))
        except Temporary:
            return False
        return found is None or found.version != row.version


def _is_due(token: Token) -> bool:
    return token.renew_at <= clock.now_ms()
