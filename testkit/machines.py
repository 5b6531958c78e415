"""Processes that share a store, each with its roles, as on machines of their own: PostgreSQL, Temporal and servers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any, LiteralString

import aiohttp
import psycopg
import sqlalchemy as sa

from testkit.postgres import Cluster
from testkit.server_process import ServerProcess
from testkit.temporal import TemporalServer

Json = dict[str, Any]
ALL_ROLES = "api,engine,triggers"
CLUSTER = {"api-1": "api", "api-2": "api", "engine-1": "engine", "engine-2": "engine", "triggers-1": "triggers"}
"""What `scripts/cluster` starts, and the roles of each."""


class Machines:
    """Server processes on one store. The first that starts gets the owner's key."""

    def __init__(self, folder: Path, database_url: str, temporal_address: str | None, **settings: str) -> None:
        self.folder = folder
        self.servers: dict[str, ServerProcess] = {}
        self.direct = database_url
        """The store past any proxy; on a socket."""
        self._common = {
            "database_url": database_url,
            "master_key_file": str(folder / "master.key"),
            **({"shared": "true"} if temporal_address is None else {"temporal_address": temporal_address}),
            **settings,
        }
        self._session: aiohttp.ClientSession | None = None

    def add(self, name: str, roles: str = ALL_ROLES, **settings: str) -> ServerProcess:
        """A server that is not started yet."""
        given = {**self._common, "roles": roles, **settings}
        self.servers[name] = ServerProcess(self.folder / name, given)
        return self.servers[name]

    async def start(self, *names: str) -> None:
        """Starts servers, and waits until they are ready; the first ever alone, since it makes the owner's key."""
        wanted = [self.servers[name] for name in names] or list(self.servers.values())
        if not any((one.data_dir / "owner.key").exists() for one in self.servers.values()):
            wanted[0].start()
            await wanted[0].wait_ready(240)
        for one in wanted:
            if not one.is_alive:
                one.start()
        await asyncio.gather(*(one.wait_ready(240) for one in wanted))

    @property
    def owner_key(self) -> str:
        """The key of the first start."""
        found = [one for one in self.servers.values() if (one.data_dir / "owner.key").exists()]
        return found[0].owner_key

    @property
    def session(self) -> aiohttp.ClientSession:
        """Calls with the owner's key."""
        if self._session is None:
            headers = {"Authorization": f"Bearer {self.owner_key}"}
            timeout = aiohttp.ClientTimeout(total=60)
            connector = aiohttp.TCPConnector(limit=0)
            self._session = aiohttp.ClientSession(headers=headers, timeout=timeout, connector=connector)
        return self._session

    async def post(self, name: str, path: str, body: Any) -> Json:
        """The data of an answer of a server."""
        async with self.session.post(f"{self.servers[name].base}{path}", json=body) as answer:
            found: Json = await answer.json()
            assert answer.status == 200, found
            return found["data"]  # type: ignore[no-any-return]

    async def get(self, name: str, path: str) -> Json:
        """The data of an answer of a server."""
        async with self.session.get(f"{self.servers[name].base}{path}") as answer:
            found: Json = await answer.json()
            assert answer.status == 200, found
            return found["data"]  # type: ignore[no-any-return]

    def holder(self, run_id: str) -> str:
        """The process that took the run up last."""
        rows = self._rows("SELECT claimed_by FROM runs WHERE id = %s", run_id)
        return str(rows[0][0])

    def name_of(self, process_id: str) -> str:
        """The server with that id among the processes of the store."""
        rows = self._rows("SELECT name FROM processes WHERE id = %s", process_id)
        pid = int(rows[0][0].rpartition(":")[2]) if rows else None
        return next((name for name, one in self.servers.items() if one.server_pid == pid), process_id)

    def give_up(self, server: ServerProcess) -> None:
        """Counts a server that says nothing any more as gone now, not only seconds later."""
        url = sa.make_url(self.direct)
        with psycopg.connect(host=str(url.query["host"]), user="postgres", dbname=url.database) as connection:
            gone = "UPDATE processes SET alive_until = 0 WHERE name LIKE %s"
            connection.execute(gone, (f"%:{server.server_pid}",))

    def advanced_by(self, server: ServerProcess) -> set[str]:
        """The runs that a server advances, with their fences; none while the store cannot be asked."""
        query = (
            "SELECT r.id || ' ' || r.fence FROM runs r JOIN processes p ON p.id = r.claimed_by"
            " WHERE r.status = 'running' AND p.name LIKE %s"
        )
        try:
            return {str(row[0]) for row in self._rows(query, f"%:{server.server_pid}")}
        except psycopg.Error:
            return set()

    def unchanged(self, runs: set[str]) -> set[str]:
        """Those of them that are still under the same fence."""
        try:
            now = {str(row[0]) for row in self._rows("SELECT id || ' ' || fence FROM runs WHERE status = 'running'")}
        except psycopg.Error:
            return runs
        return runs & now

    def _rows(self, query: LiteralString, *values: str) -> list[tuple[Any, ...]]:
        url = sa.make_url(self.direct)
        with psycopg.connect(host=str(url.query["host"]), user="postgres", dbname=url.database) as connection:
            return connection.execute(query, values).fetchall()

    async def ended(self, name: str, run_id: str, timeout_s: float = 60) -> Json:
        """The run once it has ended, as a server tells."""
        async with asyncio.timeout(timeout_s):
            while (run := await self.get(name, f"/v1/runs/{run_id}"))["finishedAt"] is None:
                await asyncio.sleep(0.05)
        return run

    async def stop(self, names: Sequence[str] | None = None) -> None:
        """Ends servers, frozen ones too: in order, else by force."""
        chosen: Mapping[str, ServerProcess] = {name: self.servers[name] for name in names or self.servers}
        for one in chosen.values():
            if one.is_alive:
                one.thaw()
        await asyncio.gather(*(one.stop() for one in chosen.values()))
        if names is None and self._session is not None:
            await self._session.close()
            self._session = None


@contextlib.asynccontextmanager
async def machines_on(
    folder: Path, cluster: Cluster, temporal: TemporalServer | None = None, **settings: str
) -> AsyncIterator[Machines]:
    """Machines on a database of their own, without servers yet; `temporal`: who directs them."""
    url = cluster.fresh()
    more = {"outbound_allow": "127.0.0.1", "shutdown_grace_s": "1", **settings}
    if temporal is not None:
        more["temporal_queue"] = str(sa.make_url(url).database)
    found = Machines(folder, url, temporal.address if temporal is not None else None, **more)
    try:
        yield found
    finally:
        await found.stop()
        cluster.drop(url)
