"""Opens connectors for runs and test calls: decrypted, typed, and restricted to their allowed hosts."""

from __future__ import annotations

from dataclasses import field
from typing import Any
from urllib.parse import urlsplit

from dustrun.catalog import Catalog
from dustrun.core.text.hosts import HostRule, is_allowed, parse_rule
from dustrun.core.text.masking import Mask
from dustrun.core.values import exact_json
from dustrun.core.workflow.definition import ConnectorReference
from dustrun.errors import Code, Invalid, Refused
from dustrun.records import dataclass
from dustrun.sdk.connector import Connector, with_header
from dustrun.sdk.context import CheckingHttp, Connection, HttpRequest
from dustrun.sdk.programs.commands import Commands
from dustrun.services.connectors.oauth_tokens import DATA, Tokens
from dustrun.storage.data import connectors as rows
from dustrun.storage.data.connectors import ConnectorRow
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Tx
from dustrun.storage.db.writer import Writer
from dustrun.storage.secrets.vault import Vault

_PLACEHOLDER = "rehearsal"


@dataclass(slots=True)
class Opened:
    """A decrypted connector. Every secret that it hands out is registered with `mask`."""

    row: ConnectorRow
    type: Connector
    connection: Connection
    mask: Mask
    rules: tuple[HostRule, ...]
    tokens: Tokens = field(repr=False)

    async def authorize(self, request: HttpRequest) -> HttpRequest:
        """Adds the credential to a request; raises `Refused` for a host outside allowedHosts."""
        self._check_host(request.url)
        if self.type.kind == "token":
            return self._marked(request, _bearer(request, await self.tokens.get(self.row, self.type)))
        return self._marked(request, self.type.run(self.connection.data, request))

    async def rehearse(self, request: HttpRequest) -> HttpRequest:
        """As `authorize`, but asks nobody for a token: it only checks that one could be asked for."""
        if self.type.kind != "token":
            return await self.authorize(request)
        self._check_host(request.url)
        await self.tokens.check(self.row, self.type)
        return _bearer(request, _PLACEHOLDER)

    def _marked(self, request: HttpRequest, sent: HttpRequest) -> HttpRequest:
        fresh = [value for name, value in sent.headers.items() if request.headers.get(name) != value]
        self.mask.add(part for value in fresh for part in (value, value.rpartition(" ")[2]))
        return sent

    def _check_host(self, url: str) -> None:
        parts = urlsplit(url)
        scheme, host = parts.scheme, parts.hostname or ""
        port = parts.port or (80 if scheme == "http" else 443)
        if not is_allowed(self.rules, scheme, host, port):
            hosts = ", ".join(exact_json.loads(self.row.allowed_hosts))
            where = f"{scheme}://{host}:{port}"
            raise Refused(
                f'The credential of connector "{self.row.name}" may not be sent to {where}: its allowedHosts are '
                f"{hosts}."
            )

    async def renew(self, refused: str | None) -> bool:
        """Replaces the token after a 401; False if the connector has no token to renew."""
        if self.type.kind != "token" or refused is None:
            return False
        return await self.tokens.get(self.row, self.type, not_this=refused) != refused

    async def current_token(self) -> str | None:
        """The token that a request would use now."""
        return await self.tokens.get(self.row, self.type) if self.type.kind == "token" else None


def _bearer(request: HttpRequest, token: str) -> HttpRequest:
    return with_header(request, "Authorization", f"Bearer {token}")


class Connections:
    """Decrypts and opens stored connectors."""

    def __init__(
        self,
        database: Database,
        writer: Writer,
        vault: Vault,
        catalog: Catalog,
        http: CheckingHttp,
        commands: Commands,
    ) -> None:
        self._database = database
        self._vault = vault
        self._catalog = catalog
        self.http = http
        self.commands = commands
        self.tokens = Tokens(database, writer, vault, http)

    async def open(self, org_id: str, reference: ConnectorReference, mask: Mask) -> Opened:
        """Opens the connector that a node refers to; raises `Invalid` if it is missing or of another type."""

        def query(tx: Tx) -> tuple[ConnectorRow, bytes] | None:
            row = rows.find(tx, org_id, reference.id)
            return None if row is None else (row, self._vault.open(tx, org_id, DATA, row.id, row.sealed))

        found = await self._database.read(query)
        if found is None:
            raise Invalid(
                f'There is no connector "{reference.id}"; it may have been deleted.', code=Code.ACTION_INPUT_INVALID
            )
        row, plain = found
        if row.type != reference.type:
            raise Invalid(
                f'The connector "{row.name}" is of type "{row.type}", but the node expects "{reference.type}".',
                code=Code.ACTION_INPUT_INVALID,
            )
        return self.opened(row, exact_json.loads(plain), mask)

    def opened(self, row: ConnectorRow, data: Any, mask: Mask) -> Opened:
        """Opens the connector of a row with its decrypted data."""
        type_ = self._catalog.connector(row.type)
        model = type_.data.model_validate(data)
        mask.add(type_.secrets(model))
        tools = exact_json.loads(row.tools) if row.tools is not None else {}
        connection = Connection(row.id, row.type, row.name, model, bool(row.moves_money), tools)
        rules = tuple(parse_rule(entry) for entry in exact_json.loads(row.allowed_hosts))
        return Opened(row, type_, connection, mask, rules, self.tokens)
