"""Kills, freezes and cuts off the processes of a cluster under load, and holds what is left against what it promised.

    scripts/soak chaos [--scale FAULTS] [--seed S] [--set users=12]

Two API processes, two engines and two for triggers, on PostgreSQL and Temporal, both reached through proxies. At the
end: no run that was accepted is missing, none ended twice, no event of any stream is missing, doubled or changed,
though each connection goes to another API process; no write went out more often than its attempts allow. Meanwhile one
wallet pays, through either API process, on a chain that loses answers, forgets and takes back: each transfer arrives
once. A webhook, a schedule and a watch for the ends of runs are armed: none of their events is missing or taken twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import random
import signal
import statistics
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import sqlalchemy as sa

from bench.cluster_callers import AnyApi, MovingApi, create_workflows
from bench.cluster_load import PER_BLOCK, Armed, Payments, chain_settings, open_rows
from bench.crash_check import Store, check, check_activity
from bench.crash_load import ActivityReader, Findings, User
from testkit.chain.anvil import Anvil
from testkit.chain.faulty_node import ChainProxy
from testkit.machines import Machines
from testkit.postgres import Cluster
from testkit.sink import SinkProcess
from testkit.tcp_proxy import TcpProxy
from testkit.temporal import TemporalServer

ROLES = {
    **dict.fromkeys(("api-1", "api-2"), "api"),
    **dict.fromkeys(("engine-1", "engine-2"), "engine"),
    **dict.fromkeys(("triggers-1", "triggers-2"), "triggers"),
}
TAKE_OVER_S = 15.0
"""How long after a process is lost others must have its runs; while PostgreSQL or Temporal is away for any of them, how
long after the end of that."""
_FULL = 100
_JUDGED = 20
"""From so many faults on, take-overs are held against their limit: smaller runs share the machine with tests."""
_LEFT_S = 240.0
_STARTS = 20
_OF_FROZEN = ("was resolved truthfully and was still sent", "attempts and the sink saw")


class ChaosFindings(Findings):
    """A frozen process may still send what it had begun when it wakes up: told apart from what must not happen."""

    freezes = 0

    def fail(self, what: str) -> None:
        """Something that must not happen did, unless a frozen process may do it."""
        if self.freezes and any(text in what for text in _OF_FROZEN):
            self.counts["late_requests_of_frozen_processes"] += 1
        elif "/stream was answered 503" in what:  # the store is away: the reader comes again
            self.counts["streams_answered_503"] += 1
        else:
            super().fail(what)


class Chaos:
    """The cluster, and what can be done to it."""

    def __init__(self, machines: Machines, database: Cluster, temporal: TemporalServer, seed: int) -> None:
        self.machines = machines
        self.faults: Counter[str] = Counter()
        self.take_overs: list[float] = []
        self.disturbed_take_overs: list[float] = []
        """Those during which the store or Temporal was away too."""
        self.late: list[float] = []
        """Those that took longer than they may: seconds since the loss, or since what was away was back."""
        self.proxies: dict[str, TcpProxy] = {}
        self.freezes = 0
        self._under_way = 0
        self._last_disturbed = -math.inf
        self._database = database
        self._temporal = temporal
        self._chance = random.Random(seed)

    async def work(self, count: int) -> None:
        """So many faults: one process after the other is killed or frozen, and meanwhile the rest is disturbed."""
        of_processes: list[Callable[[], Awaitable[None]]] = [self._kill, self._freeze]
        of_the_rest: list[Callable[[], Awaitable[None]]] = [
            self._cut,
            self._restart_database,
            self._cut,
            self._restart_temporal,
        ]
        half = count // 2
        await asyncio.gather(
            self._one_after_the_other(of_processes, count - half, 0.1, 1.0),
            self._one_after_the_other(of_the_rest, half, 1.0, 8.0),
        )

    async def _one_after_the_other(
        self, kinds: list[Callable[[], Awaitable[None]]], count: int, least_s: float, most_s: float
    ) -> None:
        for number in range(count):
            await kinds[number % len(kinds)]()
            await asyncio.sleep(self._chance.uniform(least_s, most_s))

    def _choose(self) -> str:
        return self._chance.choice([*ROLES, "engine-1", "engine-2"])

    async def _kill(self) -> None:
        name = self._choose()
        self.faults[f"kill {name.partition('-')[0]}"] += 1
        left, lost_at = await self._claimed(name), time.monotonic()
        self.machines.servers[name].kill()
        if name.startswith("engine"):
            await self._wait_taken_over(left, lost_at)
        await self._start(name)

    async def _start(self, name: str) -> None:
        """Starts a server, again when it has ended because the store was away, as a service manager does."""
        server = self.machines.servers[name]
        for left in range(_STARTS - 1, -1, -1):
            if not server.is_alive:
                server.start()
            try:
                await server.wait_ready(60)
                return
            except RuntimeError:
                if not left:
                    raise
                await asyncio.sleep(1)

    async def _freeze(self) -> None:
        name = self._choose()
        self.faults[f"freeze {name.partition('-')[0]}"] += 1
        self.freezes += 1
        left, pid = await self._claimed(name), self.machines.servers[name].server_pid
        lost_at = time.monotonic()
        os.kill(pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(self._chance.uniform(1, 8))
            if name.startswith("engine"):
                await self._wait_taken_over(left, lost_at)
        finally:
            os.kill(pid, signal.SIGCONT)

    async def _cut(self) -> None:
        name = self._chance.choice(list(self.proxies))
        self.faults[f"cut {name}"] += 1
        with self._disturbing():
            await self.proxies[name].cut(self._chance.choice((0.0, 0.5, 3.0)))

    @contextlib.contextmanager
    def _disturbing(self) -> Iterator[None]:
        """While the store or Temporal is away for some or all."""
        self._under_way += 1
        try:
            yield
        finally:
            self._under_way -= 1
            self._last_disturbed = time.monotonic()

    def _last_away(self) -> float:
        """When the store or Temporal was last away for anybody."""
        return time.monotonic() if self._under_way else self._last_disturbed

    async def _restart_database(self) -> None:
        self.faults["restart PostgreSQL"] += 1
        with self._disturbing():
            await asyncio.to_thread(self._database.stop, self._chance.choice(("immediate", "fast")))
            await asyncio.sleep(self._chance.uniform(0, 2))
            for left in range(_STARTS - 1, -1, -1):
                try:
                    await asyncio.to_thread(self._database.start)
                    return
                except (subprocess.SubprocessError, psycopg.Error, AssertionError):  # its package does not wait long
                    if not left:
                        raise
                    await asyncio.sleep(2)

    async def _restart_temporal(self) -> None:
        is_wiped = self._chance.random() < 0.3
        self.faults["wipe Temporal" if is_wiped else "restart Temporal"] += 1
        with self._disturbing():
            await asyncio.to_thread(self._temporal.wipe if is_wiped else self._temporal.end)
            await asyncio.sleep(self._chance.uniform(0, 2))
            await asyncio.to_thread(self._temporal.start)

    async def _claimed(self, name: str) -> set[str]:
        """The runs that a process advances, `id` and fence."""
        return await asyncio.to_thread(self.machines.advanced_by, self.machines.servers[name])

    async def _wait_taken_over(self, left: set[str], lost_at: float) -> None:
        """Waits until others have taken up, or ended, all runs of a process that is gone."""
        if not left:
            return
        while left and time.monotonic() - max(lost_at, self._last_away()) < 4 * TAKE_OVER_S:
            left = await asyncio.to_thread(self.machines.unchanged, left)
            await asyncio.sleep(0.2)
        taken_at, away_at = time.monotonic(), self._last_away()
        found = self.disturbed_take_overs if away_at > lost_at else self.take_overs
        found.append(taken_at - lost_at)
        if (seconds := taken_at - max(lost_at, away_at)) > TAKE_OVER_S:
            self.late.append(seconds)


def run(scale: int | None, seed: int, users: str = "12") -> dict[str, Any]:
    """`scale` faults (default 100) under the load of `users` concurrent users."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dustrun-chaos-")))
        database = Cluster(durable=True)
        stack.callback(database.end)
        temporal = TemporalServer(folder, store=True)
        temporal.start()
        stack.callback(temporal.end, kill=True)
        return asyncio.run(_run(folder, database, temporal, scale or _FULL, seed, int(users)))


async def _run(
    folder: Path, database: Cluster, temporal: TemporalServer, scale: int, seed: int, users: int
) -> dict[str, Any]:
    direct = database.fresh()
    url = sa.make_url(direct)
    socket = f"{url.query['host']}/.s.PGSQL.5432"
    to_database = TcpProxy(lambda: asyncio.open_unix_connection(socket))
    to_temporal = TcpProxy(lambda: asyncio.open_connection("127.0.0.1", temporal.port))
    await to_database.start()
    await to_temporal.start()
    through = f"postgresql+psycopg://postgres@127.0.0.1:{to_database.port}/{url.database}"
    sink, findings = SinkProcess(seed), ChaosFindings()
    begun = time.monotonic()
    with Anvil("--no-mining", "--gas-limit", str(PER_BLOCK * 21_000), "--slots-in-an-epoch", "1") as node:
        async with ChainProxy(node.url) as chain:
            machines = _machines(folder, through, f"127.0.0.1:{to_temporal.port}", chain.url)
            machines.direct = direct
            try:
                await machines.start()
                chaos = Chaos(machines, database, temporal, seed)
                chaos.proxies = {"PostgreSQL": to_database, "Temporal": to_temporal}
                load = Load(chaos, sink, findings, seed, users)
                found = await load.work(node, chain, scale)
            finally:
                await machines.stop()
                sink.stop()
                await to_database.stop()
                await to_temporal.stop()
    return {**found, "seconds": round(time.monotonic() - begun, 1), "failures": findings.failures}


def _machines(folder: Path, database_url: str, temporal_address: str, chain_url: str) -> Machines:
    machines = Machines(
        folder,
        database_url,
        temporal_address,
        outbound_allow="127.0.0.1",
        rate_limit_per_second="0",
        max_waiting_streams="1000",
        **chain_settings(folder, chain_url),
    )
    for name, roles in ROLES.items():
        machines.add(name, roles)
    return machines


class Load:
    """Those who use the cluster meanwhile, and what they find."""

    def __init__(self, chaos: Chaos, sink: SinkProcess, findings: ChaosFindings, seed: int, users: int) -> None:
        self._chaos = chaos
        self._sink = sink
        self._findings = findings
        self._seed = seed
        bases = [chaos.machines.servers[name].base for name in ("api-1", "api-2")]
        key = chaos.machines.owner_key
        self._api = MovingApi(bases, key, findings)
        self._any = AnyApi(bases, key, random.Random(seed))
        self._activity = ActivityReader(self._api, findings)
        self._count = users
        self._users: list[User] = []
        self._open: list[dict[str, Any]] = []

    async def work(self, node: Anvil, chain: ChainProxy, scale: int) -> dict[str, Any]:
        """Works until there were so many faults; then holds everything against everything else."""
        machines = self._chaos.machines
        payments = Payments(node, machines.servers["api-1"], self._any, random.Random(self._seed), 0)
        chain.rule = payments.lie
        try:
            workflows = await create_workflows(self._api)
            armed = Armed(self._any, workflows)
            await armed.prepare()
            await self._disturb(workflows, payments, armed, scale)
            await payments.finish()
            await payments.check()
            if payments.failures:
                self._open = await asyncio.to_thread(open_rows, machines.direct)
            await armed.settle(machines.direct)
            await asyncio.sleep(6)  # the activity's reader looks in the table
        finally:
            await self._api.close()
            await self._any.close()
        await machines.stop()
        return await self._check(payments, armed, scale)

    async def _disturb(self, workflows: dict[str, str], payments: Payments, armed: Armed, scale: int) -> None:
        enough = asyncio.Event()
        self._users = [
            User(self._api, self._sink, workflows, self._findings, f"{self._seed}-{number}")
            for number in range(self._count)
        ]
        self._activity.start()
        working = [asyncio.create_task(user.work(enough)) for user in self._users]
        working += [asyncio.create_task(payments.work(enough)), asyncio.create_task(armed.work(enough))]
        await asyncio.sleep(3)
        await self._chaos.work(scale)
        enough.set()
        ended, late = await asyncio.wait(working, timeout=_LEFT_S)
        self._findings.freezes = self._chaos.freezes
        for task in late:
            self._findings.fail(f"a user still waits after {_LEFT_S:g} s")
            task.cancel()
        for task in ended:
            if (error := task.exception()) is not None:
                self._findings.fail(f"a user broke: {error!r}")
        await asyncio.gather(*working, return_exceptions=True)

    async def _check(self, payments: Payments, armed: Armed, scale: int) -> dict[str, Any]:
        chaos, findings = self._chaos, self._findings
        await self._activity.stop()
        store, (records, effects) = Store(chaos.machines.direct), await self._sink.records()
        check(store, [seen for user in self._users for seen in user.seen], records, findings)
        check_activity(store, self._activity.entries, findings)
        for failure in payments.failures:
            findings.fail(failure)
        events = armed.check(chaos.machines.direct, findings)
        if chaos.late and scale >= _JUDGED:
            findings.fail(f"{len(chaos.late)} take-overs took longer than {TAKE_OVER_S:g} s: {max(chaos.late):.1f} s")
        return {
            "users": self._count,
            "faults": {"all": sum(chaos.faults.values()), **dict(sorted(chaos.faults.items()))},
            "runs": len(store.runs),
            "byStatus": dict(Counter(stored.status for stored in store.runs.values())),
            "events": sum(len(stored.events) for stored in store.runs.values()),
            "takeOverS": _spread(chaos.take_overs),
            "takeOverWhileDisturbedS": _spread(chaos.disturbed_take_overs),
            "sink": {"requests": len(records), "effectsByKey": effects},
            "transfers": {"all": payments.transfers, **dict(sorted(payments.counts.items()))},
            "triggerEvents": events,
            "counts": dict(sorted(findings.counts.items())),
            **({"open": self._open} if self._open else {}),
        }


def _spread(seconds: list[float]) -> dict[str, float]:
    if not seconds:
        return {}
    return {"n": len(seconds), "median": round(statistics.median(seconds), 1), "most": round(max(seconds), 1)}
