"""What moves money and what fires on a cluster, and what must have come of it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import psycopg
import sqlalchemy as sa

from bench import soak_outbox
from bench.cluster_callers import AnyApi
from testkit.chain.anvil import CHAIN_ID

CONFIRMATIONS = 3
PER_BLOCK = 10
TICK_MS = 5_000
_BLOCK_MS = 500
_SETTLES_S = 90.0
_LATEST_S = 60.0
"""How late a schedule may fire while its host, the store and Temporal are lost one after the other. Without such a
limit nobody would notice a host that watches nothing, as the next one catches up."""
_SAY = {"type": "log", "payload": {"message": "{{$trigger.body}}"}}
_SHOWN = 5
_WATCHED = ("chain", "calls", "cancelled", "waits")
Json = dict[str, Any]


class Told(Protocol):
    """Where what did not hold is told."""

    def fail(self, what: str) -> None:
        """Something that must not happen did."""


def chain_settings(folder: Path, url: str) -> dict[str, str]:
    """The settings of servers that send on the chain behind `url`."""
    networks = folder / "networks"
    networks.mkdir()
    fields = {"chainId": CHAIN_ID, "blockTimeMs": _BLOCK_MS, "confirmations": CONFIRMATIONS}
    (networks / "local.json").write_text(json.dumps(fields))
    return {
        "networks_dir": str(networks),
        "chain_endpoints": json.dumps({str(CHAIN_ID): [url]}),
        "transaction_stuck_s": "3",
        "chain_timeout_ms": "2000",
    }


class Payments(soak_outbox.Soak):
    """Transfers of one wallet, one after the other, on a chain that forgets and takes back."""

    async def work(self, enough: asyncio.Event) -> None:
        """Begins a transfer every few seconds, cancels some, and retries what came to nothing, until it is enough."""
        self.workflow_id = await self.api.prepare()
        for round in itertools.count(1):
            if enough.is_set():
                return
            await asyncio.sleep(1)
            await self.shake_chain()
            if round % 3 == 0:
                self.newest[self.transfers] = await self.api.start(self.workflow_id, self.transfers)
                self.transfers += 1
            if round % 20 == 0:
                await self.meddle()


@dataclass(slots=True)
class Armed:
    """A webhook, a schedule, and a watch for the ends of other workflows' runs; and what they must have fired."""

    api: AnyApi
    workflows: dict[str, str]
    """Those whose ends are watched are among them."""

    ids: dict[str, str] = field(default_factory=dict)
    accepted: dict[str, str] = field(default_factory=dict)
    """The event of each delivery that was accepted."""

    _path: str = ""

    async def prepare(self) -> None:
        """Publishes the three workflows."""
        watched = [self.workflows[name] for name in _WATCHED]
        hook = {"type": "webhook", "payload": {"dedupe": {"header": "X-Delivery"}}}
        schedule = {"schedule": f"*/{TICK_MS // 1000} * * * * *", "onMissed": "all", "missedCap": 100}
        roots: dict[str, Json] = {
            "webhook": hook,
            "schedule": {"type": "cronjob", "payload": {**schedule, "overlap": "allow"}},
            "ends": {"type": "workflow-finished", "payload": {"workflowIds": watched}},
        }
        for name, root in roots.items():
            await self.publish(name, root)
        _, address = await self.api.call("POST", f"/v1/workflows/{self.ids['webhook']}/webhooks/root/rotate", {})
        self._path = urlsplit(address["url"]).path

    async def publish(self, name: str, root: Json) -> None:
        """Publishes one more workflow, which says what its trigger tells it."""
        nodes = {"root": {**root, "children": ["say"]}, "say": _SAY}
        body = {"name": name, "description": "", "definition": {"nodes": nodes, "triggerNodeIds": ["root"]}}
        _, made = await self.api.call("POST", "/v1/workflows", body)
        await self.api.call("POST", f"/v1/workflows/{made['id']}/publish", {})
        self.ids[name] = made["id"]

    async def wait_watching(self, store_url: str) -> None:
        """Waits until each trigger that begins where the chain is has found that out."""
        query = "SELECT 1 FROM subscriptions WHERE type LIKE 'eth-%%' AND cursor IS NULL AND workflow_id = ANY(%s)"
        async with asyncio.timeout(_SETTLES_S):
            while await asyncio.to_thread(read_rows, store_url, query, list(self.ids.values())):
                await asyncio.sleep(0.1)

    async def work(self, enough: asyncio.Event) -> None:
        """Delivers to the webhook, sometimes the same twice."""
        for number in itertools.count():
            if enough.is_set():
                return
            name = f"delivery-{number}"
            self.accepted[name] = (await self.api.deliver(self._path, name))["eventId"]
            if number % 5 == 0 and (again := (await self.api.deliver(self._path, name))["eventId"]) != (
                first := self.accepted[name]
            ):
                raise RuntimeError(f"{name} is the event {first}, and delivered again {again}")
            await asyncio.sleep(2)

    async def settle(self, store_url: str) -> None:
        """Pauses the schedule, and waits until every end has been noticed and what came of it has ended, or for a
        while: what is missing then is told by `check`."""
        await self.api.call("POST", f"/v1/workflows/{self.ids['schedule']}/pause", {})
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_SETTLES_S):
                while await asyncio.to_thread(lambda: self._is_open(store_url)):
                    await asyncio.sleep(0.5)

    def _is_open(self, store_url: str) -> bool:
        lost = _unnoticed(store_url, self.ids["ends"], self._watched())
        return bool(lost or read_rows(store_url, "SELECT 1 FROM runs WHERE finished_at IS NULL LIMIT 1"))

    def _watched(self) -> list[str]:
        return [self.workflows[name] for name in _WATCHED]

    def check(self, store_url: str, told: Told) -> Json:
        """Holds the events against what happened, and the runs against the events."""
        lost = _unnoticed(store_url, self.ids["ends"], self._watched())
        if lost:
            told.fail(f"{len(lost)} ends of runs fired nothing: {lost[:5]}")
        counts: Json = {}
        for name, workflow_id in self.ids.items():
            events = read_rows(store_url, _EVENTS, workflow_id)
            counts[name] = len(events)
            runs = sorted(
                row[0] for row in read_rows(store_url, "SELECT id FROM runs WHERE workflow_id = %s", workflow_id)
            )
            started = sorted(run_id for _, outcome, run_id, _ in events if outcome == "started")
            if runs != started:
                told.fail(f"{name}: {len(started)} events have started runs, {len(runs)} runs are stored")
            others = {outcome for _, outcome, _, _ in events} - {"started"}
            if others:
                told.fail(f"{name}: events came to {others}")
        self._check_deliveries(store_url, told)
        self._check_ticks(store_url, told)
        counts["latestTickS"] = self._check_delays(store_url, told)
        return counts

    def _check_deliveries(self, store_url: str, told: Told) -> None:
        stored = {row[0] for row in read_rows(store_url, _EVENTS, self.ids["webhook"])}
        lost = [name for name, event in self.accepted.items() if event not in stored]
        if lost:
            told.fail(f"{len(lost)} deliveries were accepted and are not stored: {lost[:5]}")
        if len(set(self.accepted.values())) != len(self.accepted) or len(stored) > len(self.accepted) + 1:
            told.fail(f"{len(self.accepted)} deliveries have become {len(stored)} events")

    def _check_ticks(self, store_url: str, told: Told) -> None:
        """The schedule fired at each of its times once, from its first to its last."""
        times = sorted(row[3] for row in read_rows(store_url, _EVENTS, self.ids["schedule"]))
        wrong = [(a, b) for a, b in itertools.pairwise(times) if b - a != TICK_MS]
        if wrong:
            told.fail(f"the schedule fired at times that are not {TICK_MS} ms apart: {wrong[:5]}")

    def _check_delays(self, store_url: str, told: Told) -> float:
        """How many seconds after its time the schedule fired at the latest."""
        query = "SELECT max(received_at - occurred_at) FROM trigger_events WHERE workflow_id = %s"
        latest_s = round((read_rows(store_url, query, self.ids["schedule"])[0][0] or 0) / 1000, 1)
        if latest_s > _LATEST_S:
            told.fail(f"the schedule fired {latest_s} s after its time")
        return latest_s


_EVENTS = (
    "SELECT id, outcome, run_id, occurred_at FROM trigger_events WHERE workflow_id = %s"
    " AND reason IS DISTINCT FROM 'paused'"  # the schedule's last one, when `settle` pauses it
)


def _unnoticed(store_url: str, watcher: str, watched: list[str]) -> list[str]:
    """The runs of watched workflows whose end is no event."""
    query = (
        "SELECT r.id FROM runs r WHERE r.workflow_id = ANY(%s) AND r.finished_at IS NOT NULL"
        " AND NOT EXISTS (SELECT 1 FROM trigger_events e WHERE e.workflow_id = %s AND e.key = r.id)"
    )
    return [str(row[0]) for row in read_rows(store_url, query, watched, watcher)]


_OPEN_RUNS = "SELECT pk FROM runs WHERE finished_at IS NULL ORDER BY pk LIMIT %s"
_OPEN = (
    f"SELECT to_jsonb(r) - 'payload' FROM runs r WHERE pk IN ({_OPEN_RUNS})",
    f"SELECT to_jsonb(e) - 'input' FROM executions e WHERE run_pk IN ({_OPEN_RUNS}) AND finished_at IS NULL",
    f"SELECT to_jsonb(s) FROM run_signals s WHERE run_pk IN ({_OPEN_RUNS})",
    "SELECT to_jsonb(t) FROM transactions t WHERE state NOT IN ('final', 'refused', 'cancelled') ORDER BY id LIMIT %s",
    "SELECT to_jsonb(a) - 'raw' FROM transaction_attempts a JOIN transactions t ON t.id = a.transaction_id"
    " WHERE t.state NOT IN ('final', 'refused', 'cancelled') ORDER BY a.created_at LIMIT %s",
    "SELECT to_jsonb(p) FROM processes p LIMIT %s",
    "SELECT to_jsonb(l) FROM leases l LIMIT 10 * %s",
)


def open_rows(store_url: str) -> list[Json]:
    """What the store holds of the first runs and transactions that have not ended, to find out why."""
    return [row[0] for query in _OPEN for row in read_rows(store_url, query, *[_SHOWN] * query.count("%s"))]


def read_rows(store_url: str, query: str, *values: Any) -> list[tuple[Any, ...]]:
    """What a PostgreSQL store on a socket holds."""
    url = sa.make_url(store_url)
    with psycopg.connect(host=str(url.query["host"]), user="postgres", dbname=url.database) as connection:
        return connection.execute(query.encode(), values).fetchall()
