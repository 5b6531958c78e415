"""The bytes that runs store, added up from every text of every run: what the sums that are kept must be."""

from __future__ import annotations

import sqlalchemy as sa

from dustrun.storage.db.tables import events, executions, runs, stored_bytes
from testkit.composition import Composition


async def recount(server: Composition) -> tuple[dict[str, int], dict[str, int]]:
    """The bytes by organisation as the store keeps them, and as they are when all texts of all runs are added up."""
    texts = (
        (runs, runs.c.pk, ("definition", "payload", "prop_values", "error", "summary")),
        (executions, executions.c.run_pk, ("input", "result", "error", "facts")),
        (events, events.c.run_pk, ("data",)),
    )
    counted: dict[str, int] = {}
    owners = dict(await server.rows(sa.select(runs.c.pk, runs.c.org_id)))
    for table, pk, names in texts:
        for row in await server.rows(sa.select(pk, *(table.c[name] for name in names))):
            size = sum(len(text.encode()) for text in row[1:] if text is not None)
            counted[owners[row[0]]] = counted.get(owners[row[0]], 0) + size
    counted.pop("", None)
    kept = dict(await server.rows(sa.select(stored_bytes.c.org_id, stored_bytes.c.bytes)))
    return {org: size for org, size in kept.items() if size}, counted
