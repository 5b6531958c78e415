"""Use cases of connectors: create, change, test and delete stored credentials. Secrets are write-only."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pydantic import BaseModel, ValidationError

from dustrun import clock, ids
from dustrun.catalog import Catalog
from dustrun.core.text.hosts import HostRule, is_allowed, parse_rule
from dustrun.core.text.masking import LEAST, Mask
from dustrun.core.values import exact_json
from dustrun.errors import Code, Conflict, DustrunError, Invalid, NotFound, Permanent, Problem, Refused
from dustrun.listeners import Listeners
from dustrun.outbound.resolver import parse
from dustrun.records import dataclass
from dustrun.sdk.connector import MASK, Connector
from dustrun.sdk.context import HttpRequest
from dustrun.sdk.fields import hinted_fields
from dustrun.sdk.mcp.session import command_of
from dustrun.services.access import audit, hands, idempotency
from dustrun.services.access.organizations import used_up
from dustrun.services.access.paging import Page, Paging, page_of
from dustrun.services.access.principal import Principal
from dustrun.services.connectors.connections import Connections, OpenConnector
from dustrun.services.connectors.mcp_probe import list_tools
from dustrun.services.connectors.oauth_tokens import DATA
from dustrun.services.problems import problems_of
from dustrun.storage.access.hands import deleted
from dustrun.storage.data import connectors as rows
from dustrun.storage.data.connectors import ConnectorRow
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Tx
from dustrun.storage.db.writer import Writer
from dustrun.storage.secrets.vault import Vault

MAX_HOSTS = 50
_TEST_TIMEOUT_S = 20.0
_TEST_BYTES = 4_096
_OF_NO_GRANT = {"client_secret", "client_auth", "test_url"}
_PARTS = ("name", "description", "data", "allowed_hosts", "moves_money")


@dataclass(frozen=True, slots=True, kw_only=True)
class NewConnector:
    """The content of a new connector. `data` is not validated yet."""

    type: str
    name: str
    description: str | None
    data: Mapping[str, Any]
    allowed_hosts: Sequence[str]
    moves_money: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectorChange:
    """The fields to change; None keeps the current value, as does omitting a secret field of `data`."""

    name: str | None = None
    description: str | None = None
    data: Mapping[str, Any] | None = None
    allowed_hosts: Sequence[str] | None = None
    moves_money: bool | None = None
    expected_version: int | None = None


@dataclass(frozen=True, slots=True)
class ConnectorTestResult:
    """The result of a test call."""

    ok: bool
    message: str
    status: int | None = None


class Connectors:
    """Use cases of connectors."""

    def __init__(
        self, database: Database, writer: Writer, catalog: Catalog, vault: Vault, connections: Connections, most: int
    ) -> None:
        self._database = database
        self._writer = writer
        self._catalog = catalog
        self._vault = vault
        self._connections = connections
        self._most = most
        self.on_changed: Listeners[[str]] = Listeners()
        """Called with a connector's id after a commit that changed it."""

    async def create(self, principal: Principal, new: NewConnector) -> ConnectorRow:
        """Creates a connector; raises `Invalid` with every problem by field."""
        principal.need_every_connector("make another")
        type_ = self._type(new.type)
        data = _data(type_, new.data)
        _refuse_short(type_, new.data)
        hosts = _hosts(type_, new.allowed_hosts, data)
        self._check(type_, data, hosts)
        await self._vault.prepare()
        now, connector_id = clock.now_ms(), ids.new_id("conn")
        moves_money = type_.moves_money if new.moves_money is None else new.moves_money

        def unit(tx: Tx) -> ConnectorRow:
            if (there := rows.count(tx, principal.org_id)) >= self._most:
                raise Conflict(used_up("connectors", there, self._most, "max_connectors"), code=Code.CONNECTOR_LIMIT)
            row = ConnectorRow(
                id=connector_id,
                org_id=principal.org_id,
                type=type_.type,
                name=new.name,
                description=new.description,
                version=1,
                moves_money=int(moves_money),
                allowed_hosts=exact_json.dumps_text(hosts),
                masked=exact_json.dumps_text(type_.masked(data)),
                sealed=self._vault.seal(tx, principal.org_id, DATA, connector_id, _plain(data)),
                created_at=now,
                updated_at=now,
            )
            rows.insert(tx, row)
            hands.note(tx, principal, "connector", connector_id, is_new=True)
            detail = {"name": new.name, "type": type_.type, "allowedHosts": hosts, "movesMoney": moves_money}
            audit.record(tx, principal, "connector.create", connector_id, **detail)
            return row

        return await idempotency.write(self._writer, unit, creates=("id", connector_id))

    async def get(self, principal: Principal, connector_id: str) -> ConnectorRow:
        """Reads a connector; raises `NotFound`."""
        return await self._database.read(lambda tx: _get(tx, principal, connector_id))

    async def list_page(self, principal: Principal, type_: str | None, paging: Paging) -> Page[ConnectorRow]:
        """Lists the organisation's connectors, newest first; to a limited key those that it is limited to, and that no
        workflow beyond its limits uses."""
        found = await self._database.read(
            lambda tx: rows.list_page(
                tx,
                principal.org_id,
                type_=type_,
                limit=paging.peek,
                offset=paging.offset,
                own=principal.workflow_ids,
                only=principal.connector_ids,
            )
        )
        return page_of(found, paging)

    async def update(self, principal: Principal, connector_id: str, change: ConnectorChange) -> ConnectorRow:
        """Changes a connector. Allowing new destinations requires the credential itself, so that nobody can send a
        secret that they do not know to a host of their own."""
        old = await self.get(principal, connector_id)
        _check_version(old, change.expected_version)
        type_ = self._type(old.type)
        stored: BaseModel | None = None
        if change.data is None:
            data = stored = await self._open_data(old)
        else:
            stored = await self._find_data(old)
            data = _data(type_, _with_kept_secrets(type_, change.data, stored))
            _refuse_short(type_, {name: text for name, text in change.data.items() if text != MASK})
        old_hosts = exact_json.loads(old.allowed_hosts)
        hosts = old_hosts if change.allowed_hosts is None else _hosts(type_, change.allowed_hosts, data)
        self._check(type_, data, hosts)
        if stored is None or _goes_further(type_, stored, data, old_hosts, hosts):
            _need_secrets(type_, data, change.data)
        # what people have consented to is for this client, and these hosts; another token is asked for anew
        keeps_grant = type_.needs_consent and stored is not None and _is_same_client(stored, data, old_hosts, hosts)
        fresh = replace(
            old,
            name=old.name if change.name is None else change.name,
            description=old.description if change.description is None else change.description,
            version=old.version + 1,
            moves_money=old.moves_money if change.moves_money is None else int(change.moves_money),
            allowed_hosts=exact_json.dumps_text(hosts),
            masked=exact_json.dumps_text(type_.masked(data)),
            failing_since=None,
            failure=None,
            updated_at=clock.now_ms(),
            tools=old.tools if stored is not None and _is_same_place(type_, stored, data) else None,
        )
        await self._vault.prepare()

        def unit(tx: Tx) -> ConnectorRow:
            current = _get(tx, principal, connector_id)
            _check_version(current, old.version)
            # unchanged data is read again here: a refresh token may have been replaced meanwhile
            sealed = current.sealed
            if change.data is not None:
                sealed = self._vault.seal(tx, old.org_id, DATA, old.id, _plain(data))
            kept: dict[str, Any] = {name: getattr(current, name) if keeps_grant else None for name in rows.GRANT}
            row = replace(fresh, sealed=sealed, **kept)
            rows.update(tx, row)
            hands.note(tx, principal, "connector", connector_id)
            changed = [name for name in _PARTS if getattr(change, name) is not None]
            audit.record(
                tx,
                principal,
                "connector.update",
                old.id,
                changed=changed,
                allowedHosts=hosts,
                movesMoney=bool(row.moves_money),
            )
            return row

        row = await idempotency.write(self._writer, unit)
        self._connections.tokens.forget(connector_id)
        self.on_changed(connector_id)
        return row

    async def delete(self, principal: Principal, connector_id: str, *, force: bool) -> ConnectorRow:
        """Deletes a connector; raises `Conflict` with the workflows that use it, unless `force`."""

        def query(tx: Tx) -> list[tuple[str, str]]:
            _get(tx, principal, connector_id)
            return rows.list_users(tx, principal.org_id, connector_id)

        users = await self._database.read(query)
        if users and not force:
            details = [
                {"field": "force", "message": f'used by the workflow "{name}"', "workflowId": workflow_id}
                for workflow_id, name in users
                if principal.may_read_workflow(workflow_id)
            ]
            raise Conflict(
                f"{len(users)} workflow{'s use' if len(users) > 1 else ' uses'} this connector; force=true deletes it "
                "anyway, and their nodes will fail.",
                code=Code.CONNECTOR_IN_USE,
                details=details,
            )

        def unit(tx: Tx) -> ConnectorRow:
            row = _get(tx, principal, connector_id)
            rows.delete(tx, connector_id)
            hands.note(tx, principal, "connector", deleted(connector_id), is_new=True)
            audit.record(
                tx,
                principal,
                "connector.delete",
                connector_id,
                name=row.name,
                type=row.type,
                usedBy=[u for u, _ in users],
            )
            return row

        row = await self._writer.write(unit)
        self._connections.tokens.forget(connector_id)
        return row

    async def test(self, principal: Principal, connector_id: str, url: str | None) -> ConnectorTestResult:
        """Tests the credential: sends a GET to `url` or the connector's testUrl; an OAuth 2 connector without either
        requests a token."""
        row = await self.get(principal, connector_id)
        mask = Mask()
        opened = self._connections.opened(row, exact_json.loads(_plain(await self._open_data(row))), mask)
        if opened.type.kind == "secret":
            if url is not None:
                raise _invalid(
                    "url", f'a connector of type "{row.type}" is not used in HTTP requests, so it has no test URL'
                )
            opened.type.run(opened.connection.data)
            return ConnectorTestResult(True, "The data is well-formed; no request was sent.")
        url = url or getattr(opened.connection.data, "test_url", None)
        if url is None and row.type == "mcp":
            return await self._ask_for_tools(opened)
        if url is None and opened.type.kind != "token":
            raise _invalid("url", "give a URL to test, here or as data.testUrl of the connector")
        try:
            return await self._ask(opened, url)
        except DustrunError as error:
            return ConnectorTestResult(False, mask.text(error.message))

    async def _ask_for_tools(self, opened: OpenConnector) -> ConnectorTestResult:
        try:
            found = await list_tools(self._connections, opened)
        except DustrunError as error:
            return ConnectorTestResult(False, error.message)
        return ConnectorTestResult(
            True, f"The MCP server answers; it has {len(found)} tool{'' if len(found) == 1 else 's'}."
        )

    def _check(self, type_: Connector, data: BaseModel, hosts: Sequence[str]) -> None:
        _check(type_, data, hosts)
        if _command_of(data) is not None:
            try:
                self._connections.commands.check(command_of(data))
            except Refused as error:
                raise _invalid("data.command", error.message) from None

    async def _ask(self, opened: OpenConnector, url: str | None) -> ConnectorTestResult:
        if url is None:
            await opened.current_token()
            return ConnectorTestResult(True, "The provider issued an access token.")
        request = HttpRequest(
            "GET",
            url,
            timeout_s=_TEST_TIMEOUT_S,
            max_bytes=_TEST_BYTES,
            cuts=True,
            safe=True,
            authorize=opened.authorize,
        )
        answer = await opened.send(self._connections.http, request)
        ok = 200 <= answer.status < 300
        said = "accepted the credential" if ok else "did not accept it"
        return ConnectorTestResult(ok, f"The server {said}; status {answer.status}.", answer.status)

    async def _find_data(self, row: ConnectorRow) -> BaseModel | None:
        """The decrypted data; None if no key decrypts it any more, as after `dustrun vault reset`."""
        try:
            return await self._open_data(row)
        except Permanent as error:
            if error.code != Code.SECRET_UNREADABLE:
                raise
            return None

    async def _open_data(self, row: ConnectorRow) -> BaseModel:
        plain = await self._vault.read(self._database, row.org_id, DATA, row.id, row.sealed)
        return self._type(row.type).data.model_validate(exact_json.loads(plain))

    def _type(self, name: str) -> Connector:
        known = self._catalog.connectors
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f' Did you mean "{close[0]}"?' if close else ""
            raise _invalid(
                "type", f'there is no connector type "{name[:100]}".{hint} GET /v1/connector-types lists them'
            )
        return known[name]


def find_seen(tx: Tx, principal: Principal, connector_id: str) -> ConnectorRow | None:
    """A connector, if the caller may know of it: those beyond a key's limits, and those that workflows beyond its
    limits use, do not exist for it."""
    row, own = rows.find(tx, principal.org_id, connector_id), principal.workflow_ids
    if row is None or not principal.may_use_connector(row.id):
        return None
    is_of_others = own is not None and rows.is_used_by_others(tx, principal.org_id, row.id, own)
    return None if is_of_others else row


def _get(tx: Tx, principal: Principal, connector_id: str) -> ConnectorRow:
    row = find_seen(tx, principal, connector_id)
    if row is None:
        raise NotFound(f'There is no connector "{connector_id}".', code=Code.CONNECTOR_UNKNOWN)
    return row


def _check_version(row: ConnectorRow, expected: int | None) -> None:
    if expected is not None and row.version != expected:
        raise Conflict(
            f"The connector is at version {row.version}, not {expected}; read it again.", code=Code.VERSION_MOVED
        )


def _invalid(field: str, message: str) -> Invalid:
    return Invalid("The request body is not valid.", details=[Problem(field, message)])


def _plain(data: BaseModel) -> bytes:
    return exact_json.dumps(data.model_dump(by_alias=True, exclude_none=True))


def _data(type_: Connector, given: Mapping[str, Any]) -> BaseModel:
    """Validates the data against its type's model; problems name the field but never quote a value."""
    try:
        return type_.data.model_validate(dict(given))
    except ValidationError as error:
        errors = error.errors(include_url=False, include_input=False, include_context=False)
        found = problems_of(errors, whole="data", model=type_.data)
        problems = [replace(one, field="data" if one.field == "data" else f"data.{one.field}") for one in found]
        mask = Mask(str(given[name]) for name in type_.secret_fields if given.get(name))
        details = [replace(one, message=mask.text(one.message)) for one in problems]
        raise Invalid(f'The data is not valid for a connector of type "{type_.type}".', details=details) from None


def _refuse_short(type_: Connector, given: Mapping[str, Any]) -> None:
    """Rejects a new secret that is too short to mask in runs; existing ones keep working."""
    short = [name for name in sorted(type_.secret_fields) if 0 < len(str(given.get(name) or "")) < LEAST]
    if short:
        message = (
            f"is too short: a secret needs at least {LEAST} characters, because a shorter one could occur by "
            "chance and cannot be masked reliably; ask the provider for a longer one"
        )
        raise Invalid(
            f'The data is not valid for a connector of type "{type_.type}".',
            details=[Problem(f"data.{name}", message) for name in short],
        )


def _command_of(data: BaseModel) -> str | None:
    """The program that it starts instead of sending requests."""
    command: str | None = getattr(data, "command", None)
    return command


def _hosts(type_: Connector, given: Sequence[str], data: BaseModel) -> list[str]:
    if _command_of(data) is not None and given:
        raise _invalid("allowedHosts", "a program gets its secrets by `env`, whatever its hosts; leave it empty")
    if not type_.attaches and given:
        raise _invalid(
            "allowedHosts", f'a connector of type "{type_.type}" is not used in HTTP requests; leave it empty'
        )
    if type_.attaches and not given and _command_of(data) is None:
        raise _invalid(
            "allowedHosts", "give at least one host that the credential may be sent to, like api.example.com"
        )
    problems = []
    for index, entry in enumerate(given):
        try:
            parse_rule(entry)
        except ValueError as error:
            problems.append(Problem(f"allowedHosts[{index}]", str(error)))
    if problems:
        raise Invalid("The request body is not valid.", details=problems)
    return list(dict.fromkeys(entry.strip().lower() for entry in given))


def _check(type_: Connector, data: BaseModel, hosts: Sequence[str]) -> None:
    """Checks that the type's model cannot make: hosts, and URLs inside allowedHosts."""
    if type_.kind == "secret":
        type_.run(data)
        return
    for name, shown in (("test_url", "testUrl"), ("token_url", "tokenUrl"), ("base_url", "baseUrl"), ("url", "url")):
        url = getattr(data, name, None)
        if url is None:
            continue
        field = f"data.{shown}"
        try:
            target = parse(url)
        except Invalid as error:
            raise _invalid(field, error.message) from None
        rules = [parse_rule(entry) for entry in hosts]
        if name != "token_url" and not is_allowed(rules, target.url.scheme, target.host, target.port):
            raise _invalid(field, "its host is not in allowedHosts")


def _with_kept_secrets(type_: Connector, given: Mapping[str, Any], stored: BaseModel | None) -> dict[str, Any]:
    """The new data, where a secret that is omitted or sent back masked keeps its stored value."""
    known = {} if stored is None else stored.model_dump(by_alias=True, exclude_none=True)
    kept: dict[str, Any] = {
        name: known[name] for name in type_.secret_fields if name in known and given.get(name, MASK) == MASK
    }
    return {**given, **kept}


def _goes_further(
    type_: Connector, old: BaseModel, new: BaseModel, old_hosts: Sequence[str], hosts: Sequence[str]
) -> bool:
    """Whether the change allows the credential to be sent to a new destination."""
    known: set[HostRule] = {parse_rule(entry) for entry in old_hosts}
    return not _is_same_place(type_, old, new) or not {parse_rule(h) for h in hosts} <= known


def _is_same_place(type_: Connector, old: BaseModel, new: BaseModel) -> bool:
    before, after = old.model_dump(by_alias=True), new.model_dump(by_alias=True)
    return all(before.get(name) == after.get(name) for name in hinted_fields(type_.data, "x-destination"))


def _is_same_client(old: BaseModel, new: BaseModel, old_hosts: Sequence[str], hosts: Sequence[str]) -> bool:
    """Whether a grant is still for what it was given for."""
    before, after = old.model_dump(exclude=_OF_NO_GRANT), new.model_dump(exclude=_OF_NO_GRANT)
    return before == after and {parse_rule(h) for h in hosts} <= {parse_rule(h) for h in old_hosts}


def _need_secrets(type_: Connector, data: BaseModel, given: Mapping[str, Any] | None) -> None:
    held = data.model_dump(by_alias=True)
    missing = [name for name in sorted(type_.secret_fields) if held.get(name) and (given or {}).get(name, MASK) == MASK]
    if missing:
        message = "send it again: the change allows the credential to be sent to a new destination"
        raise Invalid("The secret is required.", details=[Problem(f"data.{name}", message) for name in missing])
