"""How a turn reaches its model: the organisation's connector, with every secret of the organisation masked."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from dustrun.core.text.masking import Mask, hide
from dustrun.core.workflow.definition import ConnectorReference
from dustrun.errors import Code, DustrunError, Invalid, Problem
from dustrun.log import mask_text
from dustrun.records import dataclass
from dustrun.sdk.context import Connection, HttpRequest, HttpResponse
from dustrun.sdk.threads import run_sized
from dustrun.services.access.principal import Principal
from dustrun.services.connectors.connections import Connections, OpenConnector
from dustrun.storage.data import connectors as rows
from dustrun.storage.data.connectors import ConnectorRow
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Tx

TYPES: Final = ("llm-openai", "llm-anthropic")
_MOST: Final = 1_000


@dataclass(frozen=True, slots=True)
class ModelAccess:
    """A model that can be asked."""

    connection: Connection
    http: MaskingHttp


class MaskingHttp:
    """Adds the connector's key as a request leaves, and masks every known secret in both directions."""

    def __init__(self, connections: Connections, opened: OpenConnector, mask: Mask) -> None:
        self._http = connections.http
        self._opened = opened
        self._mask = mask

    async def request(self, request: HttpRequest) -> HttpResponse:
        """Sends one request."""
        body = request.body or b""
        shown = await run_sized(body, self._hidden, body)
        answer = await self._http.request(replace(request, body=shown, authorize=self._opened.authorize))
        return replace(answer, body=await run_sized(answer.body, self._mask.bytes, answer.body))

    def masked(self, text: str) -> str:
        """A text of the model without any known secret."""
        return hide(mask_text(self._mask.text(text)))

    def masked_value(self, value: Any) -> Any:
        """A JSON value of the model without any known secret."""
        return self._mask.value(value)

    def _hidden(self, body: bytes) -> bytes:
        """Also API keys, tokens of links, and marks of signatures: an earlier message may have them."""
        return hide(mask_text(self._mask.bytes(body).decode())).encode()


async def find_connector(database: Database, principal: Principal, connector_id: str | None) -> ConnectorRow:
    """The connector that a turn asks; raises `Invalid` if none, or more than one, could be meant."""

    def query(tx: Tx) -> list[ConnectorRow]:
        return [
            row
            for type_ in TYPES
            for row in rows.list_page(
                tx, principal.org_id, type_=type_, limit=_MOST, offset=0, only=principal.connector_ids
            )
            if connector_id in (None, row.id)
        ]

    found = await database.read(query)
    if len(found) == 1:
        return found[0]
    if connector_id is not None:
        message = f'There is no connector "{connector_id}" for models.'
    elif found:
        message = "There are several connectors for models; name the one to ask."
    else:
        message = f"There is no connector for models yet; create one of type {' or '.join(TYPES)}."
    raise Invalid(message, code=Code.BODY_INVALID, details=[Problem("connectorId", message)])


async def open_model(database: Database, connections: Connections, row: ConnectorRow) -> ModelAccess:
    """The opened connector, with the secrets of all connectors of its organisation in the mask."""
    mask = Mask()
    others = await database.read(lambda tx: rows.list_page(tx, row.org_id, type_=None, limit=_MOST, offset=0, own=None))
    for one in others:
        try:
            await connections.open(row.org_id, ConnectorReference(type=one.type, id=one.id), mask)
        except DustrunError:
            continue  # what cannot be opened cannot be shown to a run either
    opened = await connections.open(row.org_id, ConnectorReference(type=row.type, id=row.id), mask)
    return ModelAccess(opened.connection, MaskingHttp(connections, opened, mask))
