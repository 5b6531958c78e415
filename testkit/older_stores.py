"""Stores of older versions as files, with runs that wait: recorded once from a server of an old commit, and put into a
store of either kind at the schema that they had.

    git worktree add --detach OLDER COMMIT
    .venv/bin/python -m testkit.older_stores OLDER    # writes tests/storage/older/SCHEMA.json

The keys in them open nothing else. Files are never recorded again: what an old version wrote is what must be read.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import datetime
import json
import re
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import sqlalchemy as sa

from dustrun import clock
from dustrun.storage.db import migrate
from dustrun.storage.db.database import Database
from testkit.chain.hostile_node import CONTRACT, SIGNATURE, Face, Included, Tree, paid
from testkit.chain.hostile_node import serving as serving_chain
from testkit.news import News
from testkit.news import serving as serving_news
from testkit.ports import free_port
from testkit.server_process import ServerProcess
from testkit.streaming import Source, streaming

FOLDER = Path(__file__).resolve().parent.parent / "tests" / "storage" / "older"
_FILES = ("owner.key", "link.key", "master.key")
_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
_NEAR_MS = 100 * 86_400_000
_HASHED = frozenset({"audit"})
"""Tables whose rows are chained by hash: their times stay."""
Json = dict[str, Any]
_ROOT: Json = {"type": "manual", "children": ["hold"]}
_SAY: Json = {"type": "log", "payload": {"message": "went on"}}
_WORKFLOWS: dict[str, Json] = {
    "delayed": {"hold": {"type": "delay", "payload": {"delayMs": 2000}, "children": ["say"]}},
    "asked": {
        "hold": {
            **{"type": "approve", "children": ["say"]},
            "payload": {"message": "May it?", "timeoutMs": 86_400_000, "allowStarter": True},
        }
    },
    "held": {"hold": {"type": "wait", "payload": {"timeoutMs": 86_400_000}, "children": ["say"]}},
}
_BRANCHES = {"asked": "approved", "held": "resumed"}
_TRIGGERED: dict[str, Json] = {
    "each second": {"type": "cronjob", "payload": {"schedule": "* * * * * *"}, "children": ["say"]},
    "after delayed": {"type": "workflow-finished", "children": ["say"]},
}


_CHAIN_ID = 31_337
_BEFORE = 3
"""What the outside world has told before a store was recorded."""


@dataclass(slots=True)
class Outside:
    """What the triggers of a recorded store watch; the same blocks, items and messages each time. `settings`: with
    which a server reaches it."""

    tree: Tree
    news: News
    source: Source
    face: Face

    def say(self, number: int) -> None:
        """Tells one thing more on each of the three: a payment, an item, a message."""
        self.tree.mine([Included(f"0x{number:064x}", (paid(number),))], *[[]] * 8)
        self.news.content = [*(self.news.content or []), number]
        self.source.emit()

    @property
    def settings(self) -> Json:
        """Of the server that is to see it."""
        return {"outbound_allow": ("127.0.0.1",), "chain_endpoints": {_CHAIN_ID: (self.face.url,)}}

    @property
    def places(self) -> dict[str, str]:
        """Where things are, by what stands for that in a file."""
        return {"http://news.example": self.news.url, "http://stream.example": f"{self.source.url}/sse"}

    def triggers(self) -> dict[str, Json]:
        """Triggers that watch it, by name; each has the number in its event."""
        chain = {"chainId": _CHAIN_ID, "address": CONTRACT, "eventSignature": SIGNATURE, "confirmations": 1}
        news = {"url": self.news.url, "items": "body", "itemKey": "item", "pollMs": 1000}
        return {
            "on a chain": {"type": "evm-log", "payload": chain, "children": ["say"]},
            "polled": {"type": "http-poll", "payload": news, "children": ["say"]},
            "streamed": {"type": "sse", "payload": {"url": f"{self.source.url}/sse"}, "children": ["say"]},
        }


NUMBER_IN = {
    "on a chain": "{{$trigger.body.args.number}}",
    "polled": "{{$trigger.body.item}}",
    "streamed": "{{$trigger.body.message.n}}",
}
"""What a run of each trigger says: the number of what it is about."""


@contextlib.asynccontextmanager
async def outside() -> AsyncIterator[Outside]:
    """The world as it was when a store was recorded."""
    tree = Tree()
    face = Face(tree, chain_id=_CHAIN_ID)
    async with serving_news() as news, streaming() as source, serving_chain(face):
        found = Outside(tree, news, source, face)
        for number in range(1, _BEFORE + 1):
            found.say(number)
        yield found


def schemas() -> list[str]:
    """Of which schemas there are stores."""
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def put(schema: str, database: Database, folder: Path, world: Outside | None = None) -> Json:
    """Makes the store as the old version left it, with its times moved to today, and its files in the folder; gives the
    ids of its runs and workflows. `world`: what its triggers watch."""
    text = (FOLDER / f"{schema}.json").read_text()
    for name, place in (world.places if world is not None else {}).items():
        text = text.replace(name, place)
    document: Json = json.loads(text)
    migrate.upgrade(database, schema)
    moved = _mover(clock.now_ms() - document["recordedAt"], document["recordedAt"])
    with database.engine.connect() as connection:
        connection.exec_driver_sql("BEGIN IMMEDIATE" if database.is_sqlite else "BEGIN")
        found = sa.MetaData()
        found.reflect(connection)
        for name, rows in document["tables"].items():
            table = found.tables[name]
            for row in rows:
                kept = row if name in _HASHED else {key: moved(value) for key, value in row.items()}
                values = {key: _typed(value, table.c[key]) for key, value in kept.items()}
                connection.execute(sa.insert(table).values(values))
            if not database.is_sqlite and rows:
                _set_sequences(connection, table)
        connection.commit()
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in document["files"].items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o600)
    named: Json = document["named"]
    return named


_KILLED = """
import os, signal, sqlalchemy as sa
from dustrun.storage.db import database, migrate
store, left = database.Database({url!r}), [{after}]
def count(*_):
    left[0] -= 1
    if left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)
sa.event.listen(store.engine, "after_cursor_execute", count)
migrate.upgrade(store)
"""


def kill_in_update(url: str, after: int) -> None:
    """Begins the update of a store in a process, and kills that after so many statements."""
    program = _KILLED.format(url=url, after=after)
    done = subprocess.run([sys.executable, "-c", program], check=False, timeout=120)
    if done.returncode != -signal.SIGKILL:
        raise RuntimeError(f"the update ended before {after} statements, with {done.returncode}")


def _mover(by: int, recorded_at: int) -> Callable[[Any], Any]:
    def moved(value: Any) -> Any:
        if isinstance(value, int) and not isinstance(value, bool) and abs(value - recorded_at) < _NEAR_MS:
            return value + by
        if isinstance(value, str):
            return _INSTANT.sub(lambda found: clock.to_rfc3339(_ms(found[0]) + by), value)
        return value

    return moved


def _ms(instant: str) -> int:
    return int(datetime.datetime.fromisoformat(instant).timestamp() * 1000)


def _typed(value: Any, column: sa.Column[Any]) -> Any:
    if isinstance(value, dict):
        return base64.b64decode(value["base64"])
    if isinstance(column.type, sa.Boolean) and value is not None:
        return bool(value)
    return value


def _set_sequences(connection: sa.Connection, table: sa.Table) -> None:
    for column in table.columns:
        if column.identity is not None or column.autoincrement is True:
            connection.execute(
                sa.text(
                    f"SELECT setval(pg_get_serial_sequence('{table.name}', '{column.name}'), "
                    f"(SELECT coalesce(max({column.name}), 0) + 1 FROM {table.name}), false)"
                )
            )


class _OlderServer(ServerProcess):
    source = Path()

    def _environment(self) -> dict[str, str]:
        return {**super()._environment(), "PYTHONPATH": str(self.source / "src")}


async def record(source: Path) -> Path:
    """Starts the old server, lets runs wait, kills it, and writes what is on the disk."""
    async with contextlib.AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="dustrun-older-"))
        world = await stack.enter_async_context(outside())
        settings = {"rate_limit_per_second": "0", "outbound_allow": "127.0.0.1"}
        settings["chain_endpoints"] = json.dumps({_CHAIN_ID: [world.face.url]})
        server = _OlderServer(Path(folder) / "data", settings, port=free_port())
        server.source = source
        server.start()
        try:
            await server.wait_ready(60)
            headers = {"Authorization": f"Bearer {server.owner_key}"}
            async with aiohttp.ClientSession(server.base, headers=headers) as session:
                named = await _let_wait(session, world)
            server.kill()
        finally:
            await server.stop()
        return _write(server.data_dir, named, world)


async def _let_wait(session: aiohttp.ClientSession, world: Outside) -> Json:
    async def call(method: str, path: str, body: Any = None) -> Any:
        async with session.request(method, path, json=body) as answer:
            told = await answer.json()
            if answer.status != 200:
                raise RuntimeError(f"{method} {path}: {told}")
            return told["data"]

    async def create(name: str, nodes: Json) -> str:
        definition = {"nodes": nodes, "triggerNodeIds": ["root"]}
        made = await call("POST", "/v1/workflows", {"name": name, "description": "", "definition": definition})
        return str(made["id"])

    workflows = {}
    for name, nodes in _WORKFLOWS.items():
        say = {**_SAY, "branch": _BRANCHES[name]} if name in _BRANCHES else _SAY
        workflows[name] = await create(name, {"root": _ROOT, **nodes, "say": say})
    kinds = {one.get("type") or one["kind"] for one in await call("GET", "/v1/triggers")}
    for name, root in _TRIGGERED.items():
        if root["type"] in kinds:
            of = {"payload": {"workflowIds": [workflows["delayed"]]}} if root["type"] == "workflow-finished" else {}
            workflows[name] = await create(name, {"root": {**root, **of}, "say": _SAY})
            await call("POST", f"/v1/workflows/{workflows[name]}/publish", {})
    for name, root in world.triggers().items():
        if root["type"] in kinds:
            say = {"type": "log", "payload": {"message": NUMBER_IN[name]}}
            workflows[name] = await create(name, {"root": root, "say": say})
            await call("POST", f"/v1/workflows/{workflows[name]}/publish", {})
    # each has seen one thing more, which the next version must not take for new
    await asyncio.sleep(3)
    world.say(_BEFORE + 1)
    await _until_seen(call, [one for name, one in workflows.items() if name in NUMBER_IN])
    runs = {name: f"run_{name}" for name in _WORKFLOWS}
    for name, run_id in runs.items():
        await call("POST", f"/v1/workflows/{workflows[name]}/run", {"runId": run_id, "payload": {}})
    until = time.monotonic() + 30
    for run_id in runs.values():
        while (await call("GET", f"/v1/runs/{run_id}"))["status"] != "waiting":
            if time.monotonic() > until:
                raise RuntimeError(f"{run_id} does not wait")
            await asyncio.sleep(0.02)
    return {"workflows": workflows, "runs": runs}


async def _until_seen(call: Callable[..., Any], workflows: list[str]) -> None:
    until = time.monotonic() + 60
    for workflow_id in workflows:
        while not (await call("GET", f"/v1/runs?workflowId={workflow_id}&status=success"))["items"]:
            if time.monotonic() > until:
                raise RuntimeError(f"{workflow_id} was not started")
            await asyncio.sleep(0.1)


def _write(data: Path, named: Json, world: Outside) -> Path:
    connection = sqlite3.connect(data / "dustrun.db")
    connection.row_factory = sqlite3.Row
    (schema,) = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    names = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY rowid")]
    kept = [name for name in names if name not in migrate.OF_THE_SCHEMA and not name.startswith("sqlite_")]
    document = {
        "recordedAt": clock.now_ms(),
        "named": named,
        "files": {name: (data / name).read_text() for name in _FILES if (data / name).is_file()},
        "tables": {name: rows for name in kept if (rows := list(_rows(connection, name)))},
    }
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / f"{schema}.json"
    text = json.dumps(document, indent=1, ensure_ascii=False) + "\n"
    for name, place in world.places.items():
        text = text.replace(place, name)
    path.write_text(text)
    return path


def _rows(connection: sqlite3.Connection, table: str) -> Iterator[Json]:
    for row in connection.execute(f"SELECT * FROM {table}"):
        yield {
            key: {"base64": base64.b64encode(row[key]).decode()} if isinstance(row[key], bytes) else row[key]
            for key in row.keys()  # noqa: SIM118 - a row is no mapping
            if row[key] is not None
        }


if __name__ == "__main__":
    sys.stdout.write(f"{asyncio.run(record(Path(sys.argv[1]).resolve()))}\n")
