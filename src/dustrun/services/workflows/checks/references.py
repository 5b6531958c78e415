"""Checks that the wallets, connectors and workflows that a definition refers to exist and may be used as it uses
them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from pydantic import ValidationError

from dustrun.core.text.hosts import is_allowed, parse_rule
from dustrun.core.values import exact_json
from dustrun.core.workflow.definition import ANY_WALLET, UNBOUND, WALLET, ConnectorReference, Definition, Node
from dustrun.core.workflow.model_tools import LLM, tool_nodes
from dustrun.core.workflow.specs import NodeSpec, Specs
from dustrun.errors import Invalid, Problem
from dustrun.outbound.guard import Guard
from dustrun.outbound.resolver import parse
from dustrun.services.access.principal import Principal
from dustrun.services.workflows import calls
from dustrun.storage.data import connectors
from dustrun.storage.data.connectors import ConnectorRow
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Tx
from dustrun.storage.money import wallets

_OF_ANOTHER_TYPE: Final = 'The connector "{}" is of another type; a key with "connector:read" sees which.'
_NOT_ALLOWED: Final = 'that is none of its allowedHosts, which a key with "connector:read" sees'
# The part of a URL before its path, without a template: what says where a request goes.
_ORIGIN: Final = re.compile(r"https?://[^/?#{]+(?=[/?#]|\Z)", re.I)


async def find_problems(
    database: Database, principal: Principal, definition: Definition, specs: Specs
) -> list[Problem]:
    """Returns a problem for every node whose wallet, connector or called workflow is missing, archived or of another
    type, or whose constant address is none to which the connector's credential may be sent. What is judged is the
    organisation's; the words are those that the caller may read."""
    named = any(node.connector or node.type in (calls.CALL, LLM) for node in definition.nodes.values())
    return await database.read(lambda tx: list(_check(tx, principal, definition, specs))) if named else []


def find_address_problems(definition: Definition, specs: Specs, guard: Guard) -> list[Problem]:
    """Returns a problem for every constant address that is malformed, or that the guard certainly refuses. Names are
    not resolved. A refusal is a warning, since a setting of this server decides it."""
    return [
        problem
        for node_id, node in definition.nodes.items()
        for place, part in ((f"nodes.{node_id}", node), *_tools(node_id, node))
        for field, origin in _origins(part, specs.get(part.type))
        if (problem := _check_address(f"{place}.payload.{field}", origin, node_id, guard)) is not None
    ]


def _tools(node_id: str, node: Node) -> Iterator[tuple[str, Node]]:
    """The tools of a model, each with its place."""
    for place, tool in tool_nodes(node):
        yield f"nodes.{node_id}.{place}", tool


def _check_address(field: str, origin: str, node_id: str, guard: Guard) -> Problem | None:
    try:
        target = parse(origin)
    except Invalid as error:
        return Problem(field, error.message, "url_invalid", node_id)
    refusal = guard.find_refusal(target.host, target.address, target.port)
    return None if refusal is None else Problem(field, refusal, "url_refused", node_id, "warning")


def _origins(node: Node, spec: NodeSpec | None) -> Iterator[tuple[str, str]]:
    """The fields of a node that say where it leads to, if that is constant, each with its origin."""
    if spec is None:
        return
    for field in sorted(spec.url_fields):
        value: Any = node.payload.get(field)
        found = _ORIGIN.match(value) if isinstance(value, str) else None
        if found is not None:
            yield field, found[0]
    given = [field for field in sorted(spec.server_fields) if node.payload.get(field) is not None]
    try:
        config: Any = spec.payload.model_validate(node.payload) if given else None
    except ValidationError:
        return  # told already
    for field in given:
        yield field, getattr(config, field).origin


class _Connectors:
    """The organisation's connectors as the caller may read them."""

    def __init__(self, tx: Tx, principal: Principal) -> None:
        self._tx, self._principal = tx, principal
        self._read: dict[str, bool] = {}

    def find(self, connector_id: str) -> ConnectorRow | None:
        """A connector, also one that the caller may use and not read."""
        is_reached = self._principal.may_use_connector(connector_id)
        return connectors.find(self._tx, self._principal.org_id, connector_id) if is_reached else None

    def may_read(self, row: ConnectorRow) -> bool:
        """Whether its name and hosts may be told. Those that other workflows use do not exist for a limited key."""
        if row.id not in self._read:
            self._read[row.id] = self._principal.may("connector:read") and not self._is_of_others(row)
        return self._read[row.id]

    def _is_of_others(self, row: ConnectorRow) -> bool:
        own, org_id = self._principal.workflow_ids, self._principal.org_id
        return own is not None and connectors.is_used_by_others(self._tx, org_id, row.id, own)


def _check(tx: Tx, principal: Principal, definition: Definition, specs: Specs) -> Iterator[Problem]:
    known = _Connectors(tx, principal)
    yield from calls.find_problems(tx, principal, definition)
    for node_id, node in definition.nodes.items():
        for place, tool in _tools(node_id, node):
            if tool.connector is not None and tool.connector.type != WALLET:
                yield from _check_connector(known, node_id, place, tool, specs)
        reference = node.connector
        if reference is not None and not reference.id.startswith(UNBOUND) and reference.type == WALLET:
            yield from _check_wallet(tx, principal, node_id, reference)
        else:
            yield from _check_connector(known, node_id, f"nodes.{node_id}", node, specs)


def _check_wallet(tx: Tx, principal: Principal, node_id: str, reference: ConnectorReference) -> Iterator[Problem]:
    for index, wallet_id in enumerate(reference.wallets):
        if wallet_id == ANY_WALLET or wallet_id.startswith(UNBOUND):
            continue
        row = wallets.find(tx, principal.org_id, wallet_id)
        field = f"nodes.{node_id}.connector.{f'oneOf[{index}]' if reference.is_expression else 'id'}"
        is_archived = row is not None and row.archived_at is not None
        if row is None or (is_archived and not principal.may_use_wallet(wallet_id)):
            message = f'There is no wallet "{wallet_id}" in this organisation; use an id from GET /v1/wallets.'
            yield Problem(field, message, "unknown_wallet", node_id)
        elif is_archived:
            message = f'The wallet "{wallet_id}" is archived and cannot sign; use another one from GET /v1/wallets.'
            yield Problem(field, message, "archived_wallet", node_id)


def _check_connector(known: _Connectors, node_id: str, place: str, node: Node, specs: Specs) -> Iterator[Problem]:
    """`place`: where the node or the tool is."""
    reference = node.connector
    if reference is None or reference.id.startswith(UNBOUND):
        return
    row = known.find(reference.id)
    field = f"{place}.connector"
    if row is None:
        message = f'There is no connector "{reference.id}" in this organisation. See GET /v1/connectors.'
        yield Problem(f"{field}.id", message, "unknown_connector", node_id)
    elif row.type != reference.type:
        own_type = f'The connector "{row.name}" is of type "{row.type}".'
        message = own_type if known.may_read(row) else _OF_ANOTHER_TYPE.format(row.id)
        yield Problem(f"{field}.type", message, "connector_type", node_id)
    else:
        yield from _check_hosts(known, row, node_id, place, node, specs)


def _check_hosts(
    known: _Connectors, row: ConnectorRow, node_id: str, place: str, node: Node, specs: Specs
) -> Iterator[Problem]:
    """A type that puts nothing on requests has no allowedHosts, and says itself where its server is."""
    hosts = exact_json.loads(row.allowed_hosts)
    spec = specs.get(node.type)
    for field in sorted(spec.server_fields) if spec is not None else ():
        if (node.payload.get(field) is not None) is not bool(hosts):
            mend = f"give `{field}`, which says where it is used" if hosts else f"leave `{field}` out: it says where"
            message = f'With a connector of the type "{row.type}", {mend}.'
            yield Problem(f"{place}.payload.{field}", message, "connector_server", node_id)
    for field, origin in _origins(node, spec) if hosts else ():
        try:
            target = parse(origin)
        except Invalid:
            continue  # told already
        if not is_allowed([parse_rule(entry) for entry in hosts], target.url.scheme, target.host, target.port):
            is_shown = known.may_read(row)
            told = f"its allowedHosts are {', '.join(hosts)}" if is_shown else _NOT_ALLOWED
            name = row.name if is_shown else row.id
            message = f'The credential of connector "{name}" may not be sent to {origin}: {told}.'
            yield Problem(f"{place}.payload.{field}", message, "connector_host", node_id)
