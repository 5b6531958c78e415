"""A storm of reorgs: every 0.8 seconds a hostile node replaces its newest one to three blocks, for minutes, while
payments arrive. Triggers must keep up with what has become final.

    scripts/soak storm [--scale SECONDS] [--seed S] [--set only=sqlite] [--set latency=0.1]

Real servers over HTTP: one with SQLite, then two that share PostgreSQL. The node has two faces, which misbehave as in
`scripts/soak reorg`: they lag, answer without logs or receipts, stay on branches that were left, and change between two
reads of a batch; each exchange takes `latency` seconds. Four workflows watch it: without confirmations and with three,
each with both `onReorg`.

An event is final once three blocks are on top of it: no reorg of the storm reaches it then. Its lag is how long after
that it was told in its final form. While the storm lasts, the slowest event may lag `_MOST_LAG_S`, and of those that
were final, `_LEAST_TOLD` must have been told when it ends; after it, `_MOST_AFTER_S` are left for the rest. In the end,
what was told is what the chain says. The result has a curve: how many were final and how many of these were told.
"""

from __future__ import annotations

import asyncio
import random
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa

from bench.cluster_callers import AnyApi
from bench.soak_reorg import Soak, serving_on
from dustrun.core.values.exact_json import loads_own
from dustrun.storage.db.trigger_tables import trigger_events
from testkit.chain.hostile_node import Face, Tree, serving
from testkit.chain.payments import Event, Payments, paid_in

_EVERY_S: Final = 0.8
_DEEPEST: Final = 3
_BLOCK_MS: Final = 267
_MOST_LAG_S: Final = 15.0
_LEAST_TOLD: Final = 0.95
_MOST_AFTER_S: Final = 10.0
_POINTS: Final = 12
_WORKFLOWS: Final[dict[str, dict[str, Any]]] = {
    "now": {"confirmations": 0},
    "nowRetract": {"confirmations": 0, "onReorg": "retract"},
    "three": {"confirmations": 3},
    "threeRetract": {"confirmations": 3, "onReorg": "retract"},
}
Json = dict[str, Any]


@dataclass(slots=True)
class Storm:
    """The storm over one store, and when each event became final, in seconds since the epoch."""

    soak: Soak
    final: dict[Event, float] = field(default_factory=dict)
    marked: int = 0
    begun_s: float = 0.0
    ended_s: float = 0.0

    async def blow(self, seconds: float) -> None:
        """Reorgs for so long."""
        payments, chance = self.soak.payments, self.soak.chance
        self.begun_s, next_s = time.time(), time.monotonic()
        until = next_s + seconds
        while next_s < until:
            next_s += _EVERY_S
            payments.send(1)
            self._mark_final()
            await asyncio.sleep(max(0.0, next_s - _EVERY_S / 2 - time.monotonic()))
            payments.send(chance.choice((0, 1, 1)))
            self.soak.misbehave()
            self._mark_final()
            await asyncio.sleep(max(0.0, next_s - time.monotonic()))
            payments.reorg(chance.randint(1, _DEEPEST))
            self._mark_final()
        self.ended_s = time.time()

    def _mark_final(self) -> None:
        now_s, tree = time.time(), self.soak.tree
        while self.marked < tree.head.number - _DEEPEST:
            self.marked += 1
            for event in paid_in(tree.at(self.marked).logs()):
                self.final.setdefault(event, now_s)

    async def judge(self) -> Json:
        """How each trigger kept up; adds what it did not to the failures."""
        during = {event: at for event, at in self.final.items() if at <= self.ended_s}
        return {name: self._judge(name, during, await self._told(name)) for name in _WORKFLOWS}

    def _judge(self, name: str, final: dict[Event, float], told: dict[Any, float]) -> Json:
        must_match = "onReorg" in _WORKFLOWS[name]
        pairs = [(at, told.get(event if must_match else event[:2])) for event, at in final.items()]
        lags = sorted(max(0.0, (self.ended_s + 600 if when is None else when) - at) for at, when in pairs)
        known = [when for _, when in pairs if when is not None]
        share = sum(when <= self.ended_s for when in known) / len(pairs)
        after_s = max(0.0, max(known) - self.ended_s)
        for is_broken, what in (
            (lags[-1] > _MOST_LAG_S, f"an event was told {lags[-1]:.1f} s after it was final"),
            (share < _LEAST_TOLD, f"at the end of the storm {share:.0%} of the final events were told"),
            (after_s > _MOST_AFTER_S, f"it caught up {after_s:.1f} s after the storm"),
        ):
            if is_broken:
                self.soak.failures.append(f"{name}: {what}")
        return {
            "final": len(pairs),
            "toldInStorm": round(share, 4),
            "lagS": {"median": round(lags[len(lags) // 2], 2), "p99": _at(lags, 0.99), "longest": _at(lags, 1.0)},
            "caughtUpAfterS": round(after_s, 1),
            "curve": [self._point(number, pairs) for number in range(1, _POINTS + 1)],
        }

    def _point(self, number: int, pairs: list[tuple[float, float | None]]) -> str:
        at_s = self.begun_s + (self.ended_s - self.begun_s) * number / _POINTS
        final = [(at, when) for at, when in pairs if at <= at_s]
        waiting = [at for at, when in final if when is None or when > at_s]
        oldest_s = at_s - min(waiting, default=at_s)
        told = len(final) - len(waiting)
        return f"{at_s - self.begun_s:.0f} s: {told} of {len(final)} told, the oldest waits {oldest_s:.1f} s"

    async def _told(self, name: str) -> dict[Any, float]:
        """When each event was last told, as it is in the end; of one that reorgs are ignored for, without amount."""
        t = trigger_events.c
        query = sa.select(t.outcome, t.payload, t.run_id, t.received_at)
        query = query.where(t.workflow_id == self.soak.workflows[name]).order_by(t.pk)
        found: dict[Any, float] = {}
        for outcome, payload, run, received_ms in await asyncio.to_thread(self.soak.read, query):
            body = loads_own(payload)
            if run is None or body["reorg"] == "retracted":
                continue
            event = body["transactionHash"], int(body["args"]["number"]), int(body["args"]["amount"])
            if "onReorg" in _WORKFLOWS[name]:
                found[event] = received_ms / 1000
            elif outcome == "started":
                found[event[:2]] = received_ms / 1000
        return found


def _at(values: list[float], share: float) -> float:
    return round(values[min(len(values) - 1, int(share * len(values)))], 2)


def run(scale: int | None, seed: int, only: str = "", latency: str = "0.1") -> Json:
    """A storm of `scale` seconds (default 300) over each store."""
    found: Json = {}
    for store in [only] if only else ["sqlite", "postgresql"]:
        with tempfile.TemporaryDirectory(prefix="dustrun-storm-") as folder:
            found[store] = asyncio.run(_run(Path(folder), store, scale or 300, float(latency), random.Random(seed)))
    failures = [f"{store}: {one}" for store, result in found.items() for one in result.pop("failures")]
    bounds = {"lagS": _MOST_LAG_S, "toldInStorm": _LEAST_TOLD, "caughtUpAfterS": _MOST_AFTER_S}
    return {"bounds": bounds, "stores": found, "failures": failures}


async def _run(folder: Path, store: str, seconds: int, latency_s: float, chance: random.Random) -> Json:
    payments = Payments(Tree(), chance, lacks_receipts=True)
    payments.tree.mine(*[()] * 20)
    faces = [Face(payments.tree, slow_s=latency_s) for _ in range(2)]
    async with serving(*faces) as urls, serving_on(folder, store, urls, _BLOCK_MS) as (servers, engine):
        for server in servers:
            server.start()
            await server.wait_ready(120)
        api = AnyApi([one.base for one in servers], servers[0].owner_key, chance, timeout_s=20)
        soak = Soak(payments, faces, servers, api, engine, chance, configs=_WORKFLOWS)
        storm = Storm(soak)
        try:
            await soak.prepare()
            await storm.blow(seconds)
            print(f"{store}: the storm is over", file=sys.stderr, flush=True)
            await soak.settle()
            triggers = await storm.judge()
        finally:
            await api.close()
    counts: Counter[str] = soak.counts + payments.counts
    counts["blocks"] = payments.tree.head.number
    return {
        "servers": len(servers),
        "seconds": round(storm.ended_s - storm.begun_s, 1),
        "counts": dict(sorted(counts.items())),
        "triggers": triggers,
        "failures": soak.failures,
    }
