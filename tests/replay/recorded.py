"""Journals as files: plain JSON of a run in the middle of things, taken out of one store and put into another.

Instants are kept as they were, with the moment of the recording beside them; loading moves them all to today.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from dustrun import clock
from dustrun.core.values import exact_json
from dustrun.services.access.api_keys import ensure_owner
from dustrun.storage.db import migrate, tables
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Statement, Tx
from dustrun.storage.db.writer import Writer
from engine.conftest import Bench
from testkit.composition import Composition

Document = dict[str, Any]
FOLDER = Path(__file__).with_name("journals")
_CHILDREN = {"executions": tables.executions, "events": tables.events, "signals": tables.run_signals}
_JSON = frozenset({"definition", "payload", "prop_values", "callers", "error", "input", "result", "facts", "data"})
_INSTANTS = frozenset({"started_at", "finished_at", "wake_at", "cancel_requested_at", "at"})
# how often a run waits in between depends on how fast the answers from outside come
_BETWEEN = frozenset({"run_waiting", "run_resumed"})
_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
_NEAR_MS = 100 * 86_400_000


async def take(composition: Composition, run_id: str) -> Document:
    """The run as it stands on disk, as plain data."""
    run = (await _rows(composition, tables.runs, tables.runs.c.id == run_id))[0]
    pk = run.pop("pk")
    taken: Document = {"recordedAt": clock.now_ms(), "run": run}
    for name, table in _CHILDREN.items():
        rows = await _rows(composition, table, table.c.run_pk == pk)
        taken[name] = [{key: value for key, value in row.items() if key not in ("run_pk", "id")} for row in rows]
    return taken


async def _rows(composition: Composition, table: sa.Table, condition: Any) -> list[Document]:
    query = sa.select(table).where(sa.text(str(condition.compile(compile_kwargs={"literal_binds": True}))))
    found: Sequence[tuple[Any, ...]] = await composition.rows(query)
    return [
        {
            str(column.name): exact_json.loads(value) if column.name in _JSON and value is not None else value
            for column, value in zip(table.columns, row, strict=True)
            if value is not None
        }
        for row in found
    ]


async def put(document: Document, database_url: str, folder: Path) -> None:
    """Makes a fresh store at the newest schema with an owner, and the run in it."""
    database = Database(database_url, synchronous="NORMAL")
    migrate.upgrade(database)
    writer = Writer(database)
    writer.start()
    await ensure_owner(database, writer, folder)
    await writer.write(lambda tx: _insert(tx, document))
    await writer.stop()
    database.close()


def _insert(tx: Tx, document: Document) -> None:
    later_by = clock.now_ms() - document["recordedAt"]
    owner = tx.one(Statement(sa.select(tables.organizations.c.id)))
    assert owner is not None
    run = {**_row(document["run"], later_by), "org_id": owner[0]}
    inserted = tx.one(Statement(sa.insert(tables.runs).values(_binds(run)).returning(tables.runs.c.pk)), **run)
    assert inserted is not None
    for name, table in _CHILDREN.items():
        for one in document[name]:
            row = {**_row(one, later_by), "run_pk": inserted[0]}
            tx.run(Statement(sa.insert(table).values(_binds(row))), **row)


def _binds(row: Document) -> Document:
    return {name: sa.bindparam(name) for name in row}


def _row(stored: Document, later_by: int) -> Document:
    return {
        name: exact_json.dumps_text(_moved(value, later_by, name == "facts"))
        if name in _JSON
        else value + later_by
        if name in _INSTANTS
        else value
        for name, value in stored.items()
    }


def _moved(value: Any, later_by: int, is_ours: bool) -> Any:
    """Facts hold instants too: whatever number there is near the day of the recording."""
    if not is_ours:
        return value
    if isinstance(value, dict):
        return {key: _moved(item, later_by, True) for key, item in value.items()}
    if isinstance(value, list):
        return [_moved(item, later_by, True) for item in value]
    is_instant = isinstance(value, int) and abs(value - (clock.now_ms() - later_by)) < _NEAR_MS
    return value + later_by if is_instant else value


async def end_of(bench: Bench, document: Document) -> Document:
    """Does what the recording says has to be done from outside, waits for the end, and tells it."""
    run_id = document["run"]["id"]
    before = len(document["events"])
    for path, body in document.get("do", {}).items():
        async with asyncio.timeout(60):
            while (await bench.api.post(f"/v1/runs/{run_id}{path}", body)).status != 200:
                await asyncio.sleep(0.05)
    await bench.ended(run_id)
    found = await take(bench.composition, run_id)
    kinds = [event["type"] for event in found["events"][before:]]
    return {
        "status": found["run"]["status"],
        "executions": {f"{one['path']}#{one['attempt']}": one["status"] for one in found["executions"]},
        "results": _without_instants({one["path"]: one.get("result") for one in found["executions"]}),
        "events": sorted(kind for kind in kinds if kind not in _BETWEEN),
    }


def _without_instants(results: Document) -> Document:
    """Results may tell when something was; that differs each time."""
    kept: Document = exact_json.loads(_INSTANT.sub("<instant>", exact_json.dumps_text(results)))
    return kept
