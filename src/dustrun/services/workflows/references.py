"""Checks that the wallets and connectors that a definition refers to exist."""

from __future__ import annotations

from collections.abc import Iterator

from dustrun.core.workflow.definition import UNBOUND, ConnectorReference, Definition
from dustrun.errors import Problem
from dustrun.services.connectors.connections import WALLET
from dustrun.storage.data import connectors
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Tx
from dustrun.storage.money import wallets


async def find_problems(database: Database, org_id: str, definition: Definition) -> list[Problem]:
    """Returns a problem for every node whose wallet or connector is missing, archived or of another type."""
    named = any(node.connector for node in definition.nodes.values())
    return await database.read(lambda tx: list(_check(tx, org_id, definition))) if named else []


def _check(tx: Tx, org_id: str, definition: Definition) -> Iterator[Problem]:
    for node_id, node in definition.nodes.items():
        reference = node.connector
        if reference is None or reference.id.startswith(UNBOUND):
            continue
        check = _check_wallet if reference.type == WALLET else _check_connector
        yield from check(tx, org_id, node_id, reference)


def _check_wallet(tx: Tx, org_id: str, node_id: str, reference: ConnectorReference) -> Iterator[Problem]:
    row = wallets.find(tx, org_id, reference.id)
    field = f"nodes.{node_id}.connector.id"
    if row is None:
        message = f'There is no wallet "{reference.id}" in this organisation; use an id from GET /v1/wallets.'
        yield Problem(field, message, "unknown_wallet", node_id)
    elif row.archived_at is not None:
        message = f'The wallet "{reference.id}" is archived and cannot sign; use another one from GET /v1/wallets.'
        yield Problem(field, message, "archived_wallet", node_id)


def _check_connector(tx: Tx, org_id: str, node_id: str, reference: ConnectorReference) -> Iterator[Problem]:
    row = connectors.find(tx, org_id, reference.id)
    field = f"nodes.{node_id}.connector"
    if row is None:
        message = f'There is no connector "{reference.id}" in this organisation. See GET /v1/connectors.'
        yield Problem(f"{field}.id", message, "unknown_connector", node_id)
    elif row.type != reference.type:
        message = f'The connector "{row.name}" is of type "{row.type}".'
        yield Problem(f"{field}.type", message, "connector_type", node_id)
