"""Grants that people have consented to: their refresh tokens, each of which may work once.

Using one twice can revoke the whole grant. So it is written down that a refresh token goes out before it does, and what
comes of it before that is used. Whoever finds that one went out, without what came of it, never sends it again: the
connector needs reconnecting. `Tokens` sees to it that one process at a time renews a connector's grant.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final, Literal

from dustrun import clock
from dustrun.core.text.masking import Mask
from dustrun.errors import DustrunError, Permanent, Temporary, Uncertain
from dustrun.records import dataclass
from dustrun.sdk.connector import CONSENT, Connector
from dustrun.sdk.context import CheckingHttp, HttpRequest, HttpResponse
from dustrun.services.connectors.token_answers import Granted, is_revocation, read_answer
from dustrun.storage.data import consents as rows
from dustrun.storage.data.connectors import ConnectorRow
from dustrun.storage.data.consents import SealedGrant
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Tx
from dustrun.storage.db.writer import Writer
from dustrun.storage.secrets.vault import Vault

TOKEN, REFRESH = "connector-token", "connector-refresh"
"""The vault's record kinds for a connector's tokens."""
_NEVER_MS: Final = 253_402_300_799_000
"""When a token ends of which the provider does not say it, and which cannot be renewed."""
_IN_FLIGHT_MS: Final = 60_000
"""Longer than the answer to a refresh token takes."""
_REWRITE_S: Final = 1.0
GrantState = Literal["notConnected", "connected", "needsReconnecting"]


@dataclass(frozen=True, slots=True)
class Token:
    """An access token; `renew_at` (ms) is when to request the next one. `version` is the connector's."""

    version: int
    value: str
    renew_at: int


def state_of(row: ConnectorRow) -> GrantState | None:
    """Whether the provider has given this connector a grant that works; None: its type needs none."""
    if row.type != CONSENT:
        return None
    if row.connected_at is None:
        return "notConnected"
    now, since = clock.now_ms(), row.renewing_since
    is_lost = since is not None and row.rotates != 0 and since < now - _IN_FLIGHT_MS
    is_over = row.sealed_refresh is None and (row.token_expires_at or 0) <= now
    is_refused = row.failure is not None and '"reconnect"' in row.failure
    return "needsReconnecting" if is_lost or is_over or is_refused else "connected"


def not_connected(row: ConnectorRow) -> Permanent:
    """The error of a connector that nobody has consented to yet."""
    return Permanent(f'The connector "{row.name}" is not connected yet; {_mend(row)}.')


def _reconnect(row: ConnectorRow, why: str) -> Permanent:
    return Permanent(f'The connector "{row.name}" needs reconnecting: {why}. To mend it, {_mend(row)}.')


def _mend(row: ConnectorRow) -> str:
    return f"run `dustrun connector connect {row.id}` and consent at its provider"


class Grants:
    """Renews grants, and seals them."""

    def __init__(self, database: Database, writer: Writer, vault: Vault, http: CheckingHttp) -> None:
        self._database = database
        self._writer = writer
        self._vault = vault
        self._http = http

    def seal(
        self, tx: Tx, org_id: str, connector_id: str, granted: Granted, before: ConnectorRow | None
    ) -> SealedGrant:
        """Seals what a provider has granted. `before`: the connector whose refresh token it answers."""
        fresh, refresh = granted.refresh_token, None if before is None else before.sealed_refresh
        if fresh is not None:
            refresh = self._vault.seal(tx, org_id, REFRESH, connector_id, fresh.encode())
        ends = granted.expires_at if granted.is_timed or refresh is not None else _NEVER_MS
        return SealedGrant(
            token=self._vault.seal(tx, org_id, TOKEN, connector_id, granted.token.encode()),
            expires_at=ends,
            refresh=refresh,
            rotates=None if before is None else fresh is not None,
        )

    async def renew(self, row: ConnectorRow, type_: Connector, data: Any, current: Token | None) -> Token:
        """A new access token for the grant; the current one, if it has not ended and there is no refresh token. Raises
        `Permanent` if the connector must be connected first, or again."""
        if row.connected_at is None:
            raise not_connected(row)
        if row.sealed_refresh is None:
            if current is not None and current.renew_at > clock.now_ms():
                return current
            raise _reconnect(row, "its access token has ended, and there is no refresh token that works")
        if row.renewing_since is not None and row.rotates != 0:
            raise _reconnect(
                row, "its refresh token was sent, and the answer was lost; sending it again could revoke everything"
            )
        refresh = await self._vault.read(self._database, row.org_id, REFRESH, row.id, row.sealed_refresh)
        since = await self._intend(row)
        return await self._ask(row, type_, data, refresh.decode(), since)

    async def _intend(self, row: ConnectorRow) -> int:
        """Writes down that the refresh token goes out."""
        since = clock.now_ms()
        if not await self._writer.write(lambda tx: rows.send_refresh(tx, row, since)):
            raise Temporary(f'The connector "{row.name}" was changed in the meantime; try again.')
        return since

    async def _ask(self, row: ConnectorRow, type_: Connector, data: Any, refresh: str, since: int) -> Token:
        request: HttpRequest = type_.run(data, grant_type="refresh_token", refresh_token=refresh)
        mask = Mask([refresh, *type_.secrets(data), *(text.rpartition(" ")[2] for text in request.headers.values())])
        try:
            response = await self._http.request(request)
        except Uncertain:
            if row.rotates == 0:
                raise
            raise _reconnect(row, "its refresh token was sent, and no answer came") from None
        except DustrunError:
            await self._writer.write(lambda tx: rows.was_not_taken(tx, row, since))
            raise
        granted = await self._read(row, response, mask, since)
        await self._vault.prepare()
        return await asyncio.shield(asyncio.ensure_future(self._store(row, granted, since)))

    async def _read(self, row: ConnectorRow, response: HttpResponse, mask: Mask, since: int) -> Granted:
        """What the provider grants. A refusal leaves the refresh token as it was, unless it says that the grant is no
        more; an answer that cannot be read does not: the token may be used up."""
        try:
            return read_answer(row.name, response, mask)
        except DustrunError as error:
            if is_revocation(response):
                await self._writer.write(lambda tx: rows.was_revoked(tx, row, since))
                said = error.message.removesuffix(".").partition(";")[0]
                raise _reconnect(row, f"{said[0].lower()}{said[1:]}") from None
            if response.status >= 300:
                await self._writer.write(lambda tx: rows.was_not_taken(tx, row, since))
            raise

    async def _store(self, row: ConnectorRow, granted: Granted, since: int) -> Token:
        """Stores what was granted before it is used, however long the store takes."""

        def unit(tx: Tx) -> bool:
            return rows.renew(tx, row, since, self.seal(tx, row.org_id, row.id, granted, row))

        is_repeated = False
        while True:
            try:
                if not await self._writer.write(unit) and not is_repeated:
                    raise _reconnect(row, "it was changed while its token was renewed")
                return Token(row.version, granted.token, granted.expires_at)
            except (Uncertain, Temporary):
                is_repeated = True
                await asyncio.sleep(_REWRITE_S)
