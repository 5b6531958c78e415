"""What a definition names outside of itself: whether the organisation has it."""

from __future__ import annotations

from collections.abc import Iterator

from dustrun.core.definition import UNBOUND, Definition
from dustrun.errors import Problem
from dustrun.services.connections import WALLET
from dustrun.storage import connectors
from dustrun.storage.database import Database
from dustrun.storage.statement import Tx


async def find_problems(database: Database, org_id: str, definition: Definition) -> list[Problem]:
    """A problem for every node whose connector the organisation does not have, or has under another type."""
    named = [node for node in definition.nodes.values() if node.connector and node.connector.type != WALLET]
    return await database.read(lambda tx: list(_check(tx, org_id, definition))) if named else []


def _check(tx: Tx, org_id: str, definition: Definition) -> Iterator[Problem]:
    for node_id, node in definition.nodes.items():
        reference = node.connector
        if reference is None or reference.type == WALLET or reference.id.startswith(UNBOUND):
            continue
        row = connectors.find(tx, org_id, reference.id)
        field = f"nodes.{node_id}.connector"
        if row is None:
            message = f'There is no connector "{reference.id}" in this organisation. See GET /v1/connectors.'
            yield Problem(f"{field}.id", message, "unknown_connector", node_id)
        elif row.type != reference.type:
            message = f'The connector "{row.name}" is of type "{row.type}".'
            yield Problem(f"{field}.type", message, "connector_type", node_id)
