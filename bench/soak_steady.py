"""A cluster under mixed load with triggers armed, for half an hour: no event is lost, none comes twice, and the memory
of its processes stays flat.

    scripts/soak steady [--scale SECONDS] [--seed S] [--users 6]

The processes of `scripts/cluster`. Users start runs of sixteen kinds through either API process and follow each on
streams that move to the other process after some events. Meanwhile a wallet pays; and armed are a webhook whose
deliveries come twice, a schedule, a watch for the ends of runs, a watch for what the wallet sends, a poll of a list and
one of a feed. Nothing is killed: what a call or a stream meets here is no excuse. At the end everything is held against
the tables, the chain, the sources, and what was seen. Memory is read all the time; the line through the last two thirds
must not rise faster than `MOST_MIB_PER_HOUR` in any process of ours.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from bench.cluster_callers import AnyApi, MovingApi, create_workflows
from bench.cluster_load import CONFIRMATIONS, Armed, Payments, chain_settings, read_rows
from bench.crash_check import Store, check, check_activity
from bench.crash_load import ActivityReader, Findings, User
from bench.memory_watch import MemoryWatch
from bench.soak_polls import Watch
from testkit.chain.anvil import CHAIN_ID, Anvil
from testkit.machines import CLUSTER, Machines
from testkit.news import serving
from testkit.outbox_world import SENDER, recipient
from testkit.postgres import Cluster
from testkit.sink import SinkProcess
from testkit.temporal import TemporalServer

DEFAULT_S = 1800
MOST_MIB_PER_HOUR = 12.0
_SAMPLES = 360
_LEFT_S = 120.0
_POLL_MS = 1000
_MOST_ITEMS = 3
_FRAMES = (1, 12)
_TROUBLE = ("connections_died", "posts_died", "answered_503", "streams_died", "activity_streams_died")
_ACTIVITY = "SELECT count(*) FROM activity"
Json = dict[str, Any]


class RestlessApi(MovingApi):
    """Its streams move to the other process after some events."""

    def __init__(self, bases: list[str], key: str, findings: Findings, chance: random.Random) -> None:
        super().__init__(bases, key, findings)
        self._chance = chance

    async def frames(self, path: str, last_id: str | None) -> AsyncIterator[tuple[str, str | None, str]]:
        """One connection, which ends after some events."""
        left = self._chance.randint(*_FRAMES)
        async with contextlib.aclosing(super().frames(path, last_id)) as found:  # type: ignore[type-var]
            async for frame in found:
                yield frame
                left -= 1
                if not left:
                    return


class CalmPayments(Payments):
    """Transfers on a chain that makes blocks and takes none back."""

    async def shake_chain(self) -> None:
        """A block."""
        await self._ask("anvil_mine", "0x1", "0x1")

    async def bury(self) -> None:
        """As many blocks as the watch for transfers waits for."""
        await self._ask("anvil_mine", hex(CONFIRMATIONS + 1), "0x1")


class Load:
    """Those who use the cluster, and what they find."""

    def __init__(self, machines: Machines, sink: SinkProcess, node: Anvil, seed: int, users: int) -> None:
        self._machines = machines
        self._sink = sink
        self.findings = Findings()
        bases = [machines.servers[name].base for name in ("api-1", "api-2")]
        chance = random.Random(seed)
        self._api = RestlessApi(bases, machines.owner_key, self.findings, chance)
        self._any = AnyApi(bases, machines.owner_key, chance)
        self._payments = CalmPayments(node, machines.servers["api-1"], self._any, chance, 0)
        self._activity = ActivityReader(self._api, self.findings)
        self._names = [f"{seed}-{number}" for number in range(users)]
        self._chance = chance

    async def work(self, seconds: float, memory: MemoryWatch) -> Json:
        """Works for so long; then holds everything against everything else."""
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(self._api.close)
            stack.push_async_callback(self._any.close)
            workflows = await create_workflows(self._api)
            armed = Armed(self._any, workflows)
            await armed.prepare()
            watch = {"chainId": CHAIN_ID, "address": SENDER, "confirmations": CONFIRMATIONS}
            await armed.publish("transfers", {"type": "eth-send", "payload": watch})
            polls = [
                Watch(kind, False, await stack.enter_async_context(serving()), self._any, self._chance,
                      poll_ms=_POLL_MS, most_items=_MOST_ITEMS)
                for kind in ("http-poll", "rss")
            ]  # fmt: skip
            for poll in polls:
                await poll.publish()
            await armed.wait_watching(self._machines.direct)
            users = await self._use(workflows, armed, polls, seconds, memory)
            await self._settle(armed)
            judged = {poll.name: await poll.judge() for poll in polls}
        await self._machines.stop()
        return await self._check(users, armed, judged)

    async def _use(
        self, workflows: dict[str, str], armed: Armed, polls: list[Watch], seconds: float, memory: MemoryWatch
    ) -> list[User]:
        enough = asyncio.Event()
        users = [User(self._api, self._sink, workflows, self.findings, name) for name in self._names]
        until_enough = [itertools.takewhile(lambda _: not enough.is_set(), itertools.count()) for _ in polls]
        tasks = [asyncio.create_task(user.work(enough)) for user in users]
        tasks += [asyncio.create_task(poll.show(left)) for poll, left in zip(polls, until_enough, strict=True)]
        tasks += [asyncio.create_task(self._payments.work(enough)), asyncio.create_task(armed.work(enough))]
        self._activity.start()
        looking = asyncio.create_task(memory.work(seconds / _SAMPLES))
        await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
        enough.set()
        looking.cancel()
        _, late = await asyncio.wait(tasks, timeout=_LEFT_S)
        for task in late:
            self.findings.fail(f"somebody still waits after {_LEFT_S:g} s")
            task.cancel()
        for error in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(error, Exception):
                self.findings.fail(f"somebody broke: {error!r}")
        return users

    async def _settle(self, armed: Armed) -> None:
        """Waits for what is still under way."""
        await self._payments.finish()
        await self._payments.bury()
        await self._payments.check()
        await armed.settle(self._machines.direct)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LEFT_S):
                while len(self._transfers_seen(armed)) < self._payments.transfers:
                    await asyncio.sleep(0.5)
        await asyncio.sleep(6)  # the activity's reader looks in the table
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LEFT_S):  # it opens a stream for every few entries, and may be behind
                while len(self._activity.entries) < read_rows(self._machines.direct, _ACTIVITY)[0][0]:
                    await asyncio.sleep(0.5)
        await self._activity.stop()

    def _transfers_seen(self, armed: Armed) -> Counter[str]:
        """Whom the watch for transfers saw paid, and how often."""
        query = "SELECT payload FROM trigger_events WHERE workflow_id = %s"
        rows = read_rows(self._machines.direct, query, armed.ids["transfers"])
        return Counter(json.loads(row[0])["recipient"].lower() for row in rows)

    async def _check(self, users: list[User], armed: Armed, judged: dict[str, tuple[Json, list[str]]]) -> Json:
        findings, payments = self.findings, self._payments
        store, (records, effects) = Store(self._machines.direct), await self._sink.records()
        check(store, [seen for user in users for seen in user.seen], records, findings)
        check_activity(store, self._activity.entries, findings)
        for failure in (*payments.failures, *(failure for _, failures in judged.values() for failure in failures)):
            findings.fail(failure)
        due = Counter(recipient(number).lower() for number in range(payments.transfers))
        if (seen := self._transfers_seen(armed)) != due:
            findings.fail(f"transfers that the watch missed: {due - seen}; that it saw twice: {seen - due}")
        events = armed.check(self._machines.direct, findings)
        for name in _TROUBLE:
            if findings.counts[name]:
                findings.fail(f"{name}: {findings.counts[name]}, though nothing was killed")
        for name, server in self._machines.servers.items():
            if wrong := [line for line in server.log_tail(5000).splitlines() if '"level":"error"' in line]:
                findings.fail(f"{name} logged {len(wrong)} errors: {wrong[:2]}")
        return {
            "users": len(users),
            "runs": len(store.runs),
            "byStatus": dict(Counter(stored.status for stored in store.runs.values())),
            "events": sum(len(stored.events) for stored in store.runs.values()),
            "activityEntries": len(self._activity.entries),
            "sink": {"requests": len(records), "effectsByKey": effects},
            "transfers": {"all": payments.transfers, **dict(sorted(payments.counts.items()))},
            "triggerEvents": {**events, **{name: counts["events"] for name, (counts, _) in judged.items()}},
            "polls": {name: counts for name, (counts, _) in judged.items()},
            "counts": dict(sorted(findings.counts.items())),
        }


def run(scale: int | None, seed: int, users: str = "6") -> Json:
    """`scale` seconds (default 1800) under the load of `users` concurrent users."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dustrun-cluster-")))
        database = Cluster(durable=True)
        stack.callback(database.end)
        temporal = TemporalServer(folder)
        temporal.start()
        stack.callback(temporal.end, kill=True)
        return asyncio.run(_run(folder, database, temporal, scale or DEFAULT_S, seed, int(users)))


async def _run(folder: Path, database: Cluster, temporal: TemporalServer, seconds: int, seed: int, users: int) -> Json:
    url, sink, begun = database.fresh(), SinkProcess(seed), time.monotonic()
    with Anvil("--no-mining") as node:
        more = {"outbound_allow": "127.0.0.1", "rate_limit_per_second": "0", "max_waiting_streams": "1000"}
        machines = Machines(folder, url, temporal.address, **more, **chain_settings(folder, node.url))
        for name, roles in CLUSTER.items():
            machines.add(name, roles)
        try:
            await machines.start()
            groups = {name: (lambda one=server: [one.server_pid]) for name, server in machines.servers.items()}
            memory = MemoryWatch({**groups, "PostgreSQL": lambda: database.pids, "Temporal": lambda: [temporal.pid]})
            load = Load(machines, sink, node, seed, users)
            found = await load.work(seconds, memory)
        finally:
            await machines.stop()
            sink.stop()
    slopes = {name: memory.mib_per_hour(name) for name in groups}
    steep = {name: round(slope, 1) for name, slope in slopes.items() if slope > MOST_MIB_PER_HOUR}
    if steep and seconds >= DEFAULT_S:
        load.findings.fail(f"memory grows by more than {MOST_MIB_PER_HOUR:g} MiB an hour: {steep}")
    return {
        "loadS": seconds,
        **found,
        "memory": memory.report(),
        "mostMibPerHour": MOST_MIB_PER_HOUR,
        "seconds": round(time.monotonic() - begun, 1),
        "failures": load.findings.failures,
    }
