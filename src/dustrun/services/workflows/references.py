"""Checks that the wallets, connectors and workflows that a definition refers to exist and may be used as it uses
them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from dustrun.core.text.hosts import is_allowed, parse_rule
from dustrun.core.values import exact_json
from dustrun.core.workflow.definition import ANY_WALLET, UNBOUND, WALLET, ConnectorReference, Definition, Node
from dustrun.core.workflow.model_tools import LLM, tool_nodes
from dustrun.core.workflow.specs import NodeSpec, Specs
from dustrun.errors import Invalid, Problem
from dustrun.outbound.guard import Guard
from dustrun.outbound.target import parse
from dustrun.services.workflows import calls
from dustrun.storage.data import connectors
from dustrun.storage.data.connectors import ConnectorRow
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Tx
from dustrun.storage.money import wallets

# The part of a URL before its path, without a template: what says where a request goes.
_ORIGIN: Final = re.compile(r"https?://[^/?#{]+(?=[/?#]|\Z)", re.I)


async def find_problems(database: Database, org_id: str, definition: Definition, specs: Specs) -> list[Problem]:
    """Returns a problem for every node whose wallet, connector or called workflow is missing, archived or of another
    type, or whose constant address is none to which the connector's credential may be sent."""
    named = any(node.connector or node.type in (calls.CALL, LLM) for node in definition.nodes.values())
    return await database.read(lambda tx: list(_check(tx, org_id, definition, specs))) if named else []


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
    """The URL fields of a node whose origin is constant, each with its origin."""
    for field in sorted(spec.url_fields) if spec is not None else ():
        value: Any = node.payload.get(field)
        found = _ORIGIN.match(value) if isinstance(value, str) else None
        if found is not None:
            yield field, found[0]


def _check(tx: Tx, org_id: str, definition: Definition, specs: Specs) -> Iterator[Problem]:
    yield from calls.find_problems(tx, org_id, definition)
    for node_id, node in definition.nodes.items():
        for place, tool in _tools(node_id, node):
            if tool.connector is not None and tool.connector.type != WALLET:
                yield from _check_connector(tx, org_id, node_id, place, tool, specs)
        reference = node.connector
        if reference is not None and not reference.id.startswith(UNBOUND) and reference.type == WALLET:
            yield from _check_wallet(tx, org_id, node_id, reference)
        else:
            yield from _check_connector(tx, org_id, node_id, f"nodes.{node_id}", node, specs)


def _check_wallet(tx: Tx, org_id: str, node_id: str, reference: ConnectorReference) -> Iterator[Problem]:
    for index, wallet_id in enumerate(reference.wallets):
        if wallet_id == ANY_WALLET or wallet_id.startswith(UNBOUND):
            continue
        row = wallets.find(tx, org_id, wallet_id)
        field = f"nodes.{node_id}.connector.{f'oneOf[{index}]' if reference.is_expression else 'id'}"
        if row is None:
            message = f'There is no wallet "{wallet_id}" in this organisation; use an id from GET /v1/wallets.'
            yield Problem(field, message, "unknown_wallet", node_id)
        elif row.archived_at is not None:
            message = f'The wallet "{wallet_id}" is archived and cannot sign; use another one from GET /v1/wallets.'
            yield Problem(field, message, "archived_wallet", node_id)


def _check_connector(tx: Tx, org_id: str, node_id: str, place: str, node: Node, specs: Specs) -> Iterator[Problem]:
    """`place`: where the node or the tool is."""
    reference = node.connector
    if reference is None or reference.id.startswith(UNBOUND):
        return
    row = connectors.find(tx, org_id, reference.id)
    field = f"{place}.connector"
    if row is None:
        message = f'There is no connector "{reference.id}" in this organisation. See GET /v1/connectors.'
        yield Problem(f"{field}.id", message, "unknown_connector", node_id)
    elif row.type != reference.type:
        message = f'The connector "{row.name}" is of type "{row.type}".'
        yield Problem(f"{field}.type", message, "connector_type", node_id)
    else:
        yield from _check_hosts(row, node_id, place, node, specs)


def _check_hosts(row: ConnectorRow, node_id: str, place: str, node: Node, specs: Specs) -> Iterator[Problem]:
    """A type that puts nothing on requests has no allowedHosts."""
    hosts = exact_json.loads(row.allowed_hosts)
    for field, origin in _origins(node, specs.get(node.type)) if hosts else ():
        try:
            target = parse(origin)
        except Invalid:
            continue  # told already
        if not is_allowed([parse_rule(entry) for entry in hosts], target.url.scheme, target.host, target.port):
            message = (
                f'The credential of connector "{row.name}" may not be sent to {origin}: its allowedHosts are '
                f"{', '.join(hosts)}."
            )
            yield Problem(f"{place}.payload.{field}", message, "connector_host", node_id)
