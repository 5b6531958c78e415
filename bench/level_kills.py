"""Levels that are crossed, events of a calendar that begin, and times that come, while the server is killed: what
`balance-level`, `evm-call-level`, `calendar` and `interval` must have told."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from testkit.chain.anvil import CHAIN_ID, Anvil
from testkit.news import News
from testkit.outbox_world import Api, recipient

_ETHER = 10**18
_LONGEST_S = 1500.0  # on a busy machine most of the time of the kills goes into starting
_CONTRACT = "0x0000000000000000000000000000000000001234"
_READS_SLOT_0 = "0x5f545f5260205ff3"
Json = dict[str, Any]


@dataclass(slots=True)
class Levels:
    """One workflow that watches a level of 1, and the values on the chain, which go below it and come back. What the
    trigger has stored is read from the table: it sees no change that is undone between two of its looks."""

    kind: str
    node: Anvil
    api: Api
    store_url: str
    chance: random.Random
    workflow_id: str = ""
    values: dict[str, int] = field(default_factory=dict)
    wanted: Counter[str] = field(default_factory=Counter)

    @property
    def name(self) -> str:
        """What the result calls it."""
        return self.kind

    def _set(self, names: Iterable[str], units: int) -> None:
        for name in names:
            self.values[name] = units
            if self.kind == "balance-level":
                self.node.set_balance(name, units)
            else:
                self.node.rpc("anvil_setStorageAt", name, "0x0", f"0x{units:064x}")
        self.node.mine()

    async def publish(self) -> None:
        """Publishes the workflow, and waits for its first look."""
        is_balance = self.kind == "balance-level"
        names = [str(recipient(9000 + n)) for n in range(3)] if is_balance else [_CONTRACT]
        if not is_balance:
            self.node.rpc("anvil_setCode", _CONTRACT, _READS_SLOT_0)
        self._set(names, 2 * _ETHER)
        of: Json = {"address": names} if is_balance else {"contract": _CONTRACT, "decimals": 18}
        if not is_balance:
            of["function"] = "value() view returns (uint256)"
        config = {"chainId": CHAIN_ID, **of, "operation": "below", "level": "1", "pollMs": 100}
        say = {"type": "log", "payload": {"message": "{{$trigger.body}}"}}
        nodes = {"root": {"type": self.kind, "payload": config, "children": ["say"]}, "say": say}
        body = {"name": self.kind, "description": "", "definition": {"nodes": nodes}}
        _, made = await self.api.call("POST", "/v1/workflows", body)
        self.workflow_id = str(made["id"])
        await self.api.call("POST", f"/v1/workflows/{self.workflow_id}/publish", {}, accepts=(409_006,))
        await self._until_stored()

    async def show(self, portions: Iterable[int]) -> None:
        """Lets some values go below the level and come back, again and again."""
        for portion in portions:
            some = self.chance.sample(list(self.values), self.chance.randint(1, len(self.values)))
            self.wanted.update(some)
            self._set(some, _ETHER // 2 + portion)
            await self._until_stored()
            self._set(some, 2 * _ETHER + portion)
            await self._until_stored()

    async def _until_stored(self) -> None:
        until = time.monotonic() + _LONGEST_S
        while await asyncio.to_thread(self._stored) != self.values:
            if time.monotonic() > until:
                raise RuntimeError(f"{self.kind}: {self.values} was never seen, but {self._stored()}")
            await asyncio.sleep(0.02)

    def _stored(self) -> dict[str, int]:
        engine = sa.create_engine(self.store_url, poolclass=sa.NullPool)
        with engine.connect() as connection:
            query = sa.text("SELECT cursor FROM subscriptions WHERE workflow_id = :id")
            text = connection.execute(query, {"id": self.workflow_id}).scalar_one()
        engine.dispose()
        if text is None:
            return {}
        at = json.loads(text)["at"]
        shown = {name: value for name, (_, value) in at["of"].items()} if "of" in at else {_CONTRACT: at["value"]}
        return {name: _units(value) for name, value in shown.items()}

    async def judge(self) -> tuple[Json, list[str]]:
        """Compares."""
        counts, failures = await _judge(self.api, self.workflow_id, self.kind, self.wanted, self._told)
        return {"crossings": self.wanted.total(), **counts}, failures

    def _told(self, body: Json) -> str:
        return str(body.get("address", _CONTRACT))


@dataclass(slots=True)
class Dates:
    """One workflow that watches a calendar, whose events begin within seconds."""

    news: News
    api: Api
    chance: random.Random
    name: str = "calendar"
    workflow_id: str = ""
    wanted: Counter[str] = field(default_factory=Counter)

    async def publish(self) -> None:
        """Publishes the workflow, and waits for its first look."""
        self.news.content = _calendar({})
        say = {"type": "log", "payload": {"message": "{{$trigger.body}}"}}
        root = {"type": "calendar", "payload": {"url": self.news.url, "pollMs": 500}, "children": ["say"]}
        body = {"name": self.name, "description": "", "definition": {"nodes": {"root": root, "say": say}}}
        _, made = await self.api.call("POST", "/v1/workflows", body)
        self.workflow_id = str(made["id"])
        await self.api.call("POST", f"/v1/workflows/{self.workflow_id}/publish", {}, accepts=(409_006,))
        while not self.news.unchanged:
            await asyncio.sleep(0.05)

    async def show(self, portions: Iterable[int]) -> None:
        """Shows portion after portion of events that begin soon; some of them are cancelled before they do."""
        for portion in portions:
            now = int(time.time())
            some = {f"{portion}-{n}": now + self.chance.randint(4, 7) for n in range(self.chance.randint(1, 20))}
            off = {uid for uid in some if self.chance.random() < 0.2}
            self.news.content = _calendar(some)
            await asyncio.sleep(1.0)
            self.news.content = _calendar({uid: at for uid, at in some.items() if uid not in off})
            kept = [uid for uid in some if uid not in off]
            until = time.monotonic() + _LONGEST_S
            self.wanted.update(kept)
            while await self._count() < self.wanted.total():
                if time.monotonic() > until:
                    raise RuntimeError(f"{self.name}: portion {portion} was shown and never taken")
                await asyncio.sleep(0.1)

    async def _count(self) -> int:
        return len(await _events(self.api, self.workflow_id))

    async def judge(self) -> tuple[Json, list[str]]:
        """Compares."""
        named = lambda body: str(body["event"]["uid"])  # noqa: E731
        counts, failures = await _judge(self.api, self.workflow_id, self.name, self.wanted, named)
        return {"begun": self.wanted.total(), **counts}, failures


@dataclass(slots=True)
class Ticks:
    """One workflow that runs every second, and makes up for the seconds in which no server was there."""

    api: Api
    workflow_id: str = ""
    armed_at: float = 0.0

    async def publish(self) -> None:
        """Publishes the workflow."""
        say = {"type": "log", "payload": {"message": "{{$trigger.body}}"}}
        payload = {"everyMs": 1000, "onMissed": "all", "missedCap": 100}
        nodes = {"root": {"type": "interval", "payload": payload, "children": ["say"]}, "say": say}
        body = {"name": "interval", "description": "", "definition": {"nodes": nodes}}
        _, made = await self.api.call("POST", "/v1/workflows", body)
        self.workflow_id = str(made["id"])
        await self.api.call("POST", f"/v1/workflows/{self.workflow_id}/publish", {}, accepts=(409_006,))
        self.armed_at = time.time()

    async def judge(self) -> tuple[Json, list[str]]:
        """Every second from the publishing until now has one event and one run."""
        until, asked_at = time.monotonic() + _LONGEST_S, time.time()
        while True:
            events = await _events(self.api, self.workflow_id)
            seconds = sorted(_second(one["body"]["scheduledAt"]) for one in events)
            if (seconds and seconds[-1] >= asked_at) or time.monotonic() > until:
                break
            await asyncio.sleep(0.5)
        wanted, failures = list(range(int(self.armed_at) + 1, seconds[-1] + 1)) if seconds else [], []
        missing, more = Counter(wanted) - Counter(seconds), Counter(seconds) - Counter(wanted)
        if missing or (more and set(more) != {int(self.armed_at)}) or not wanted:
            failures.append(f"interval: lost {sorted(missing)[:5]} ({len(missing)}), too often {sorted(more)[:5]}")
        if len({one["runId"] for one in events if one["runId"]}) != len(events):
            failures.append(f"interval: {len(events)} events do not have a run each")
        return {"seconds": len(wanted), "events": len(events)}, failures


def _second(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp())


def _calendar(begins: dict[str, int]) -> str:
    lines = ["BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:soak"]
    for uid, at in begins.items():
        lines += [
            "BEGIN:VEVENT",
            f"UID:{uid}",
            f"DTSTART:{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime(at))}",
            "END:VEVENT",
        ]
    return "\r\n".join([*lines, "END:VCALENDAR", ""])


async def _events(api: Api, workflow_id: str) -> list[Json]:
    found: list[Json] = []
    while True:
        _, page = await api.call("GET", f"/v1/workflows/{workflow_id}/trigger-events?limit=100&offset={len(found)}")
        found += page["items"]
        if not page["hasMore"]:
            return found


async def _judge(
    api: Api, workflow_id: str, kind: str, wanted: Counter[str], named: Callable[[Json], str]
) -> tuple[Json, list[str]]:
    await asyncio.sleep(2)  # whatever would come twice
    events = await _events(api, workflow_id)
    _, runs = await api.call("GET", f"/v1/workflows/{workflow_id}/runs/count")
    told, failures = Counter(named(one["body"]) for one in events), []
    if told != wanted:
        failures.append(f"{kind}: lost {list(wanted - told)[:5]}, too often {list(told - wanted)[:5]}")
    if runs["total"] != len({one["runId"] for one in events if one["runId"]}) or runs["total"] != len(events):
        failures.append(f"{kind}: {len(events)} events and {runs['total']} runs do not match one to one")
    return {"events": len(events), "runs": runs["total"]}, failures


def _units(text: str) -> int:
    whole, _, rest = text.partition(".")
    return int(whole) * _ETHER + int(rest.ljust(18, "0") or "0")
