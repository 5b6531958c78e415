"""What a server with a million stored runs takes longer for than one with a few: nothing by more than 1.15 times.

    scripts/bench stored [--quick] [--scale runs] [--only sqlite] [--postgresql-runs 300000]

Two servers of each store: one that has made 200 runs, and one in which these were then copied, with executions, events
and activity, until there were a million. The requests alternate between the two; those for one run ask for any of the
stored ones. A start is one after a SIGKILL with 50 open runs, until every one of them has ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

from bench import bench_run_call, load
from bench.stored_fill import fill

AIM = 1.15
_MADE = 200
_OPEN = 50
_STARTS = 5
_TRIES = 400
_WARM_S = 10.0
_WARM_SHARE = 10  # of each kind this part more, not counted
_NODES = {
    "root": {"type": "manual", "children": ["n1"]},
    "n1": {"type": "log", "payload": {"message": "x"}, "children": ["n2"]},
    "n2": {"type": "bench-write", "payload": {"value": 1}, "children": ["n3"]},
    "n3": {"type": "log", "payload": {"message": "y"}},
}
_WAITING = {
    "root": {"type": "manual", "children": ["n1"]},
    "n1": {"type": "delay", "payload": {"delayMs": 1000}},
}
Ask = Callable[["Side", load.Connection, int], Awaitable[None]]


def run(
    scale: int | None = None,
    seed: int = 0,
    *,
    quick: bool = False,
    only: str = "",
    postgresql_runs: str = "300000",
) -> dict[str, Any]:
    """`scale` = stored runs; PostgreSQL gets fewer by default, for it takes three times as long to fill."""
    count = scale or (20_000 if quick else 1_000_000)
    tries = 20 if quick else _TRIES
    stores: dict[str, Any] = {}
    for store in ("sqlite", "postgresql"):
        if only in ("", store):
            runs = count if store == "sqlite" else min(count, int(postgresql_runs))
            with tempfile.TemporaryDirectory(prefix="dustrun-stored-") as folder, _urls(store) as url:
                stores[store] = Stores(Path(folder), url, random.Random(seed)).measure(
                    runs, tries, 1 if quick else _STARTS, 0 if quick else _WARM_S
                )
    failures = [
        f"{store}, {name}: {figures['ratio']} times as long"
        for store, found in stores.items()
        for name, figures in found["figures"].items()
        if figures["ratio"] > AIM and not quick
    ]
    return {"aim": AIM, "stores": stores, "failures": failures}


@contextlib.contextmanager
def _urls(store: str) -> Iterator[Callable[[Path], str]]:
    """Gives the URL of a server's database, by its folder."""
    if store == "sqlite":
        yield lambda folder: f"sqlite:///{folder / 'dustrun.db'}"
        return
    from testkit.postgres import Cluster  # slow import: only for this store

    cluster = Cluster(durable=True)
    try:
        yield lambda _folder: cluster.fresh()
    finally:
        cluster.end()


class Side:
    """One server, and the ids of runs to ask for."""

    def __init__(self, folder: Path, url: str) -> None:
        self.url = url
        self.process = load.Process(folder, DUSTRUN_DATABASE_URL=url, DUSTRUN_REQUEST_AUDIT_ROWS="0")
        self.workflow_id = ""
        self.waiting_id = ""
        self.ids: list[str] = []

    async def prepare(self) -> None:
        """Makes the runs that the others are copied from."""
        connection = load.Connection(self.process)
        self.workflow_id = await load.create(connection, "stored", {"nodes": _NODES})
        self.waiting_id = await load.create(connection, "waiting", {"nodes": _WAITING})
        connection.close()
        await bench_run_call.rate(self.process, self.workflow_id, _MADE, "made")
        self.ids = [f"run_made-{number}" for number in range(_MADE)]

    async def start_again(self, number: int) -> float:
        """Seconds from a start over open runs until these have ended; they waited for half a second more or less."""
        connection = load.Connection(self.process)
        path = f"/v1/workflows/{self.waiting_id}/run"
        names = [f"run_open-{number}-{place}" for place in range(_OPEN)]
        for name in names:
            status, answer = await connection.call("POST", path, {"runId": name})
            assert status == 200, answer
        connection.close()
        await asyncio.to_thread(self.process.kill)
        await asyncio.sleep(1)  # all of them are due
        begun = time.perf_counter()
        await asyncio.to_thread(self.process.start)
        connection = load.Connection(self.process)
        for name in names:
            while (await connection.call("GET", f"/v1/runs/{name}?summary=true"))[1]["data"]["status"] != "success":
                await asyncio.sleep(0.005)
        connection.close()
        return time.perf_counter() - begun


class Stores:
    """A server that has stored little, and one that has stored much."""

    def __init__(self, folder: Path, url_of: Callable[[Path], str], chance: random.Random) -> None:
        self._chance = chance
        self._sides = [Side(folder / name, url_of(folder / name)) for name in ("few", "many")]

    def measure(self, count: int, tries: int, begins: int, warm_s: float) -> dict[str, Any]:
        """Fills one of them and compares the two."""
        _, many = self._sides
        for side in self._sides:
            side.process.start()
            asyncio.run(side.prepare())
        many.process.stop()
        begun = time.perf_counter()
        stored = fill(many.url, count)
        filled_s = time.perf_counter() - begun
        many.ids = [f"run_fill-{self._chance.randrange(_MADE + 1, stored + 1)}" for _ in range(2 * tries)]
        many.process.start()
        try:
            figures = asyncio.run(self._compare(tries, begins, warm_s))
        finally:
            for side in self._sides:
                side.process.stop()
        return {"storedRuns": stored, "filledS": round(filled_s, 1), "figures": figures}

    async def _compare(self, tries: int, begins: int, warm_s: float) -> dict[str, Any]:
        kinds = {
            "newest runs": self._get(lambda _side, _n: "/v1/runs?limit=20"),
            "newest runs of a workflow": self._get(lambda side, _n: f"/v1/workflows/{side.workflow_id}/runs?limit=20"),
            "search: successful live runs": self._get(lambda _side, _n: "/v1/runs?status=success&mode=live&limit=20"),
            "one run": self._get(lambda side, n: f"/v1/runs/{side.ids[n % len(side.ids)]}"),
            "summary of one run": self._get(lambda side, n: f"/v1/runs/{side.ids[n % len(side.ids)]}?summary=true"),
            "effects of one run": self._get(lambda side, n: f"/v1/runs/{side.ids[n % len(side.ids)]}/effects"),
            "counts by status": self._get(lambda _side, _n: "/v1/runs/status-counts"),
            "events of an ended run, streamed": self._stream,
            "run call": self._call,
        }
        await self._warm(kinds["newest runs"], warm_s)
        found = {}
        for name, ask in kinds.items():
            connections = [load.Connection(side.process) for side in self._sides]
            times: list[list[float]] = [[], []]
            warm = tries // _WARM_SHARE
            for number in range(tries + warm):
                for side, connection, taken in zip(self._sides, connections, times, strict=True):
                    begun = time.perf_counter()
                    await ask(side, connection, number)
                    taken.append(time.perf_counter() - begun)
            for connection in connections:
                connection.close()
            found[name] = _figures([one[warm:] for one in times])
        starts: list[list[float]] = [[], []]
        for number in range(begins):
            for side, taken in zip(self._sides, starts, strict=True):
                taken.append(await side.start_again(number))
        found["start over 50 open runs"] = _figures(starts)
        return found

    async def _warm(self, ask: Ask, seconds: float) -> None:
        """Asks both servers for some seconds, uncounted: one of them has just started, and PostgreSQL still writes what
        the fill has left, which made the first figure half as large again."""
        connections = [load.Connection(side.process) for side in self._sides]
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            for side, connection in zip(self._sides, connections, strict=True):
                await ask(side, connection, 0)
        for connection in connections:
            connection.close()

    def _get(self, path_of: Callable[[Side, int], str]) -> Ask:
        async def ask(side: Side, connection: load.Connection, number: int) -> None:
            status, answer = await connection.call("GET", path_of(side, number))
            assert status == 200, answer

        return ask

    async def _stream(self, side: Side, _connection: load.Connection, number: int) -> None:
        async with load.stream(side.process, f"/v1/runs/{side.ids[number % len(side.ids)]}/stream") as reader:
            while (line := await reader.readline()) not in (b"", b"event: end\n"):
                pass
            assert line

    async def _call(self, side: Side, connection: load.Connection, number: int) -> None:
        body = {"runId": f"run_call-{number}"}
        status, answer = await connection.call("POST", f"/v1/workflows/{side.workflow_id}/run", body)
        assert status == 200, answer


def _figures(times: list[list[float]]) -> dict[str, float]:
    few, many = (statistics.median(one) * 1000 for one in times)
    return {"fewMs": round(few, 3), "manyMs": round(many, 3), "ratio": round(many / few, 2)}
