"""Opens connectors for runs and test calls: decrypted, typed, and restricted to their allowed hosts.

`Health` notes when the calls with a connector fail for good.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from dustrun import clock, log
from dustrun.catalog import Catalog
from dustrun.core.hooks import CONNECTOR_FAILED, CONNECTOR_RECOVERED
from dustrun.core.text.hosts import HostRule, is_allowed, parse_rule
from dustrun.core.text.masking import Mask
from dustrun.core.values import exact_json
from dustrun.core.values.exact_json import dumps_text, loads_own
from dustrun.core.workflow.definition import ConnectorReference
from dustrun.errors import Code, Invalid, Permanent, Refused, Temporary, Uncertain
from dustrun.records import dataclass
from dustrun.sdk.connector import Connector, with_header
from dustrun.sdk.context import CheckingHttp, Connection, Http, HttpRequest, HttpResponse, NoConnection
from dustrun.sdk.programs import Commands
from dustrun.services.connectors.oauth_tokens import DATA, Tokens
from dustrun.services.sharing.election import Leases
from dustrun.storage.data import connectors as rows
from dustrun.storage.data.connectors import ConnectorRow
from dustrun.storage.db import facts
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Tx
from dustrun.storage.db.writer import Writer
from dustrun.storage.hooks import reading
from dustrun.storage.secrets.vault import Vault

# Whether what connectors are used for succeeds: when it begins to fail for good, and when it works again, is written
# once, as a fact and for hooks.
#
# A connector begins to fail when its credential is refused (401; 403 three times in a row, since one resource may be
# forbidden to it; by a broker, a mailbox or a database, once), when its provider issues no token for it any more, or
# when its host does not answer, or answers with 5xx, five times in a row. It works again with the first answer that is
# none of these. A change of the connector begins anew.


_logger = log.get(__name__)
What = Literal["refused", "reconnect", "unreachable"]
_UNAUTHORIZED, _FORBIDDEN, _TOO_MANY = 401, 403, 429
_MOST_FORBIDDEN: Final = 3
_MOST_UNREACHABLE: Final = 5


class Health:
    """Hears how the calls of all connectors end. The count in a row is of this process; what it led to is stored."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._in_row: dict[str, tuple[int, What, int]] = {}
        """By connector: its version, how its calls fail, and how many in a row."""

    async def heard(self, row: ConnectorRow, message: str, status: int | None, run_pk: int | None) -> None:
        """A call was answered with a status; None: by nobody. `message` says what failed, without a full stop, `run_pk`
        is the run that made it."""
        if status == _TOO_MANY:
            return
        if status in (_UNAUTHORIZED, _FORBIDDEN) or status is None or status >= 500:
            what: What = "refused" if status in (_UNAUTHORIZED, _FORBIDDEN) else "unreachable"
            count = self._count(row, what)
            most = _MOST_UNREACHABLE if what == "unreachable" else 1 if status == _UNAUTHORIZED else _MOST_FORBIDDEN
            if count >= most:
                times = f", {count} times in a row" if count > 1 else ""
                await self.failed(row, what, f"{message}{times}.", run_pk)
            return
        self._in_row.pop(row.id, None)
        if row.failing_since is not None:
            await self._recovered(row, run_pk)

    async def failed(self, row: ConnectorRow, what: What, message: str, run_pk: int | None) -> None:
        """It fails for good: writes it, unless it is known."""
        if row.failing_since is not None:
            return
        now = clock.now_ms()

        def unit(tx: Tx) -> None:
            if rows.begin_failing(tx, row, now, dumps_text({"what": what, "message": message})):
                told = {**_about(row), "message": message}
                _tell(tx, row, what, now, told, run_pk)
                reading.add(tx, org_id=row.org_id, type_=CONNECTOR_FAILED, at=now, data={**told, "reason": what})

        await self._write(row, unit)

    async def _recovered(self, row: ConnectorRow, run_pk: int | None) -> None:
        now = clock.now_ms()

        def unit(tx: Tx) -> None:
            if rows.end_failing(tx, row):
                was = None if row.failure is None else loads_own(row.failure).get("message")
                _tell(tx, row, "recovered", now, {**_about(row), "message": was}, run_pk)
                reading.add(tx, org_id=row.org_id, type_=CONNECTOR_RECOVERED, at=now, data=_about(row))

        await self._write(row, unit)

    def _count(self, row: ConnectorRow, what: What) -> int:
        before = self._in_row.get(row.id)
        count = before[2] + 1 if before is not None and before[:2] == (row.version, what) else 1
        self._in_row[row.id] = (row.version, what, count)
        return count

    async def _write(self, row: ConnectorRow, unit: Callable[[Tx], None]) -> None:
        """Whoever made the call gets its answer, whether or not this can be written; the next call tells it again."""
        try:
            await self._writer.write(unit)
        except (Temporary, Uncertain) as error:
            _logger.failed("how a connector's calls go could not be written", error, connector=row.id)


def said_by(url: str, status: int | None) -> str:
    """A host's answer, or its absence, as a sentence without its end."""
    said = "does not answer" if status is None else f"answers with status {status}"
    return f"{urlsplit(url).hostname} {said}"


def _about(row: ConnectorRow) -> dict[str, str | None]:
    return {"connectorId": row.id, "name": row.name, "connectorType": row.type}


def _tell(tx: Tx, row: ConnectorRow, what: str, at: int, told: dict[str, str | None], run_pk: int | None) -> None:
    facts.add(tx, row.org_id, "connector", row.id, what, at, place=str(at), run_pk=run_pk, data=dumps_text(told))


_PLACEHOLDER = "rehearsal"


@dataclass(slots=True)
class OpenConnector:
    """A decrypted connector. Every secret that it hands out is registered with `mask`."""

    row: ConnectorRow
    type: Connector
    connection: Connection
    mask: Mask
    rules: tuple[HostRule, ...]
    tokens: Tokens = field(repr=False)
    health: Health = field(repr=False)
    run_pk: int | None = None
    """The run that uses it."""

    async def authorize(self, request: HttpRequest) -> HttpRequest:
        """Adds the credential to a request; raises `Refused` for a host outside allowedHosts."""
        self._check_host(request.url)
        if self.type.kind == "token":
            return self._marked(request, _bearer(request, await self._token()))
        return self._marked(request, self.type.run(self.connection.data, request))

    async def rehearse(self, request: HttpRequest) -> HttpRequest:
        """As `authorize`, but asks nobody for a token: it only checks that one could be asked for."""
        if self.type.kind != "token":
            return await self.authorize(request)
        self._check_host(request.url)
        await self.tokens.check(self.row, self.type)
        return _bearer(request, _PLACEHOLDER)

    def _marked(self, request: HttpRequest, sent: HttpRequest) -> HttpRequest:
        if self.type.signs:  # the mask of a trigger that asks for weeks would only grow
            return sent
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
        return await self._token(not_this=refused) != refused

    async def bearer(self, url: str, not_this: str | None) -> str | None:
        """The token, to be sent to a server of another protocol; None if the connector has none. Raises `Refused` for
        one outside allowedHosts."""
        if self.type.kind != "token":
            return None
        self._check_host(url)
        token = await self._token(not_this=not_this)
        self.mask.add([token])
        return token

    async def current_token(self) -> str | None:
        """The token that a request would use now."""
        return await self._token() if self.type.kind == "token" else None

    async def send(self, http: Http, request: HttpRequest) -> HttpResponse:
        """Sends a request that has the credential, and notes how it ends."""
        try:
            answer = await http.request(request)
        except (Temporary, Uncertain):
            await self.heard(request.url, None)
            raise
        await self.heard(request.url, answer.status)
        return answer

    async def heard(self, url: str, status: int | None) -> None:
        """A request with the credential was answered with a status; None: by nobody."""
        await self.health.heard(self.row, said_by(url, status), status, self.run_pk)

    async def connected(self, error: NoConnection | None) -> None:
        """A connection with the credential was made, or why none was."""
        message, status = ("", 200) if error is None else (self.mask.text(error.message), error.status)
        await self.health.heard(self.row, message.removesuffix("."), status, self.run_pk)

    async def _token(self, *, not_this: str | None = None) -> str:
        try:
            return await self.tokens.get(self.row, self.type, not_this=not_this)
        except Permanent as error:
            await self.health.failed(self.row, "reconnect", error.message, self.run_pk)
            raise


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
        leases: Leases | None = None,
    ) -> None:
        self._database = database
        self._vault = vault
        self.catalog = catalog
        self.http = http
        self.commands = commands
        self.tokens = Tokens(database, writer, vault, http, leases)
        self._health = Health(writer)

    async def open(
        self, org_id: str, reference: ConnectorReference, mask: Mask, *, run_pk: int | None = None
    ) -> OpenConnector:
        """Opens the connector that a node refers to, in a run if one uses it; raises `Invalid` if it is missing or of
        another type."""

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
        return self.opened(row, exact_json.loads(plain), mask, run_pk=run_pk)

    def opened(self, row: ConnectorRow, data: Any, mask: Mask, *, run_pk: int | None = None) -> OpenConnector:
        """Opens the connector of a row with its decrypted data."""
        type_ = self.catalog.connector(row.type)
        model = type_.data.model_validate(data)
        mask.add(type_.secrets(model))
        tools = exact_json.loads(row.tools) if row.tools is not None else {}
        connection = Connection(row.id, row.type, row.name, model, bool(row.moves_money), tools)
        rules = tuple(parse_rule(entry) for entry in exact_json.loads(row.allowed_hosts))
        return OpenConnector(row, type_, connection, mask, rules, self.tokens, self._health, run_pk)
