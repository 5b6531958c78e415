"""How late schedules fire when there are very many of them in one process, and how fast webhooks are answered there.

    scripts/soak scale [--scale 10000] [--seconds 120] [--minutes 5] [--chain 1000] [--deliveries 500] [--quick]

`scale`: how many schedules, 10,000 by default. They are spread over workflows of 50 triggers each; each fires once
every `minutes`, at a second of its own. A schedule's lag is from its time to when its event is received, in the
server's own rows. Beside them `chain` subscriptions watch one contract, of which a few see an event in each block.
What is measured: `seconds` with a block each second, `seconds` of schedules alone, half of them with `deliveries` to a
webhook each second, and as many again of schedules alone after a kill, which the deliveries have to survive.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import sqlite3
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from bench import webhook_deliveries
from bench.load import cpu_s_of
from testkit.chain.anvil import CHAIN_ID, Anvil
from testkit.chain.pings import CONTRACT, SIGNATURE, WORDS, Pings
from testkit.chain.rpc_proxy import Proxy, proxy
from testkit.outbox_world import server_of
from testkit.server_process import ServerProcess

Json = dict[str, Any]
_TRIGGERS_EACH = 50
_PUBLISHERS = 4
_MOST_LAG_MS = 1000
_MOST_ANSWER_MS = 50
_QUICK_SCALE = 100
_NOISY = 10
_LONGEST_ARMING_S = 600.0


@dataclass(frozen=True, slots=True)
class Options:
    """How long to watch, how often each schedule fires, how many chain subscriptions there are, and how many deliveries
    come to a webhook each second."""

    seconds: int
    minutes: int
    chain: int
    deliveries: int


_QUICK = Options(seconds=8, minutes=1, chain=20, deliveries=20)


def _definition(configs: list[Json], node_type: str = "cronjob") -> Json:
    nodes: Json = {
        f"t{n}": {"type": node_type, "payload": config, "children": ["say"]} for n, config in enumerate(configs)
    }
    say = {"type": "log", "payload": {"message": "{{$trigger.body}}"}}
    return {"nodes": {**nodes, "say": say}, "triggerNodeIds": list(nodes)}


def _workflows(count: int, minutes: int, chosen: random.Random) -> Iterator[Json]:
    schedules = [
        {
            "schedule": f"{chosen.randrange(60)} {chosen.randrange(minutes)}/{minutes} * * * *",
            "timezone": chosen.choice(["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata"]),
        }
        for _ in range(count)
    ]
    for start in range(0, count, _TRIGGERS_EACH):
        yield _definition(schedules[start : start + _TRIGGERS_EACH])


async def _publish(server: ServerProcess, definitions: Iterator[Json]) -> float:
    """Publishes a workflow of each definition; the seconds that it took."""
    begun = time.monotonic()
    headers = {"Authorization": f"Bearer {server.owner_key}"}
    async with aiohttp.ClientSession(server.base, headers=headers) as session:

        async def publish_all() -> None:
            for definition in definitions:
                body = {"name": "scheduled", "description": "", "definition": definition}
                async with session.post("/v1/workflows", json=body) as made:
                    made.raise_for_status()
                    workflow_id = (await made.json())["data"]["id"]
                async with session.post(f"/v1/workflows/{workflow_id}/publish") as published:
                    published.raise_for_status()

        await asyncio.gather(*(publish_all() for _ in range(_PUBLISHERS)))
    return time.monotonic() - begun


def _memory_mib(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) // 1024 for line in lines if line.startswith("VmRSS:"))


def _percentile(sorted_values: list[int], part: float) -> int | None:
    return sorted_values[min(int(len(sorted_values) * part), len(sorted_values) - 1)] if sorted_values else None


def _lags(database: Path, since: int, until: int) -> tuple[list[int], int, int]:
    """The lags of times between two moments, how many started no run, and how many runs there are."""
    with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as rows:
        found = rows.execute(
            "SELECT received_at - occurred_at, outcome FROM trigger_events"
            " WHERE type = 'cronjob' AND occurred_at BETWEEN ? AND ?",
            (since, until),
        ).fetchall()
        runs = rows.execute(
            "SELECT count(*) FROM trigger_events e JOIN runs r ON r.id = e.run_id"
            " WHERE e.type = 'cronjob' AND e.occurred_at BETWEEN ? AND ?",
            (since, until),
        ).fetchone()[0]
    return sorted(row[0] for row in found), sum(row[1] != "started" for row in found), runs


async def _measure(server: ServerProcess, options: Options, count: int) -> Json:
    """Watches a running server: lags, processor time and memory."""
    seconds, minutes = options.seconds, options.minutes
    cpu, since = cpu_s_of(server.server_pid), int(time.time() * 1000)
    await asyncio.sleep(seconds)
    until, used = int(time.time() * 1000), cpu_s_of(server.server_pid) - cpu
    await asyncio.sleep(5)  # what was due at the end is recorded by then, unless it is late
    lags, not_started, runs = _lags(server.database_path, since, until)
    return {
        "seconds": seconds,
        "times expected": round(count * seconds / (minutes * 60)),
        "events": len(lags),
        "events without a run": not_started,
        "runs": runs,
        "lag ms p50": _percentile(lags, 0.5),
        "lag ms p99": _percentile(lags, 0.99),
        "lag ms most": _percentile(lags, 1.0),
        "processor share": round(used / seconds, 3),
        "memory MiB": _memory_mib(server.server_pid),
    }


async def _deliver(server: ServerProcess, options: Options) -> Json:
    """Deliveries to a webhook, how late schedules are meanwhile, and a kill."""
    since = int(time.time() * 1000)
    found = await webhook_deliveries.measure(server, options.deliveries, max(5, options.seconds // 2))
    lags, _, _ = _lags(server.database_path, since, int(time.time() * 1000) - 2000)
    return {**found, "lag ms p99 of schedules": _percentile(lags, 0.99)}


async def _publish_chain(server: ServerProcess, count: int) -> None:
    """Publishes subscriptions of one contract: `_NOISY` see each event, the others wait for events that never come."""
    configs = [
        {
            "chainId": CHAIN_ID,
            "address": CONTRACT,
            "eventSignature": SIGNATURE if n < _NOISY else f"event Quiet{n}(uint256 number)",
            "confirmations": 0,
        }
        for n in range(count)
    ]
    starts = range(0, count, _TRIGGERS_EACH)
    await _publish(server, (_definition(configs[n : n + _TRIGGERS_EACH], "evm-log") for n in starts))


async def _blocks(pings: Pings, seconds: int) -> int:
    """One block a second, each with an event; how many there were."""
    until, count = time.monotonic() + seconds, 0
    while time.monotonic() < until:
        begun = time.monotonic()
        await asyncio.to_thread(pings.send, 1)
        count += 1
        await asyncio.sleep(max(0.0, 1.0 - (time.monotonic() - begun)))
    return count


async def _until_armed(database: Path, count: int) -> float:
    """Waits until each subscription of the chain has its place; the seconds that it took."""
    begun = time.monotonic()
    while time.monotonic() - begun < _LONGEST_ARMING_S:
        with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as rows:
            query = "SELECT count(*) FROM subscriptions WHERE type = 'evm-log' AND cursor IS NOT NULL"
            if rows.execute(query).fetchone()[0] == count:
                break
        await asyncio.sleep(0.5)
    return round(time.monotonic() - begun, 1)


async def _watch_chain(asked: Proxy, server: ServerProcess, pings: Pings, seconds: int, count: int) -> Json:
    """What the server asks its node while there are many subscriptions."""
    armed = await _until_armed(server.database_path, count)
    first, since, before = len(asked.methods), int(time.time() * 1000), len(pings.final())
    mined = await _blocks(pings, seconds)
    await asyncio.sleep(5)
    methods = Counter(asked.methods[first:])
    with contextlib.closing(sqlite3.connect(f"file:{server.database_path}?mode=ro", uri=True)) as rows:
        found = rows.execute(
            "SELECT count(*) FROM trigger_events WHERE type = 'evm-log' AND received_at >= ?", (since,)
        ).fetchone()[0]
    return {
        "subscriptions": count,
        "arming s": armed,
        "blocks": mined,
        "getLogs": methods["eth_getLogs"],
        "events": found,
        "events expected": (len(pings.final()) - before) * min(_NOISY, count),
        "calls": dict(methods.most_common()),
    }


async def _all(count: int, seed: int, options: Options) -> Json:
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        chance = random.Random(seed)
        node = stack.enter_context(Anvil(*WORDS)) if options.chain else None
        async with contextlib.AsyncExitStack() as served:
            asked = await served.enter_async_context(proxy(node.url)) if node is not None else None
            server = server_of(Path(folder), asked.url if asked else "http://127.0.0.1:1", 2, 1000)
            server.start()
            try:
                return await _both(server, count, chance, options, node, asked)
            finally:
                if server.is_alive:
                    server.kill()


async def _both(
    server: ServerProcess, count: int, chance: random.Random, options: Options, node: Anvil | None, asked: Proxy | None
) -> Json:
    ready = round(await server.wait_ready(120), 2)
    found: Json = {
        "first start s": ready,
        "schedules": count,
        "every minutes": options.minutes,
        "idle memory MiB": _memory_mib(server.server_pid),
    }
    found["publishing s"] = round(await _publish(server, _workflows(count, options.minutes, chance)), 1)
    if node is not None and asked is not None:
        pings = Pings(node, chance)
        pings.install()
        await _publish_chain(server, options.chain)
        found["chain"] = await _watch_chain(asked, server, pings, options.seconds, options.chain)
    found["running"] = await _measure(server, options, count)
    found["webhooks"] = await _deliver(server, options)
    server.start()
    found["restart s"] = round(await server.wait_ready(120), 2)
    await asyncio.sleep(10)
    found["after a kill"] = await _measure(server, options, count)
    return found


def _failures(found: Json, most_lag_ms: int, most_answer_ms: int) -> list[str]:
    failures = webhook_deliveries.failures_of(found["webhooks"], most_answer_ms)
    for name in ("running", "after a kill"):
        one = found[name]
        if one["lag ms p99"] is None or one["lag ms p99"] > most_lag_ms:
            failures.append(f"{name}: the lag's p99 is {one['lag ms p99']} ms, more than {most_lag_ms} ms")
        if one["events without a run"]:
            failures.append(f"{name}: {one['events without a run']} events started no run")
        if one["times expected"] >= 200 and one["events"] < 0.8 * one["times expected"]:  # few times are chance
            failures.append(f"{name}: {one['events']} events, where about {one['times expected']} were due")
    lag = found["webhooks"]["lag ms p99 of schedules"]
    if lag is not None and lag > most_lag_ms:
        failures.append(f"beside the webhooks: the lag's p99 is {lag} ms, more than {most_lag_ms} ms")
    chain = found.get("chain")
    if chain is not None and chain["getLogs"] > chain["blocks"] + 5:
        failures.append(f"{chain['getLogs']} eth_getLogs for {chain['blocks']} blocks")
    if chain is not None and chain["events"] != chain["events expected"]:
        failures.append(f"{chain['events']} events of the chain, not {chain['events expected']}")
    return failures


def run(
    scale: int | None = None,
    seed: int = 0,
    *,
    seconds: str = "120",
    minutes: str = "5",
    chain: str = "1000",
    deliveries: str = "500",
    quick: bool = False,
) -> dict[str, Any]:
    """Schedules, chain subscriptions and a webhook in one process: how late and how fast they are, and what that costs.
    `quick` says nothing about speed: it is too small for that."""
    options = _QUICK if quick else Options(int(seconds), int(minutes), int(chain), int(deliveries))
    found = asyncio.run(_all(scale or (_QUICK_SCALE if quick else 10_000), seed, options))
    limits = (10_000, 10_000) if quick else (_MOST_LAG_MS, _MOST_ANSWER_MS)
    return {**found, "failures": _failures(found, *limits)}
