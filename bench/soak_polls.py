"""Polled triggers whose server is killed and whose sources fail: nothing found is lost, nothing is run twice.

    scripts/soak polls [--scale PORTIONS] [--seed S] [--kills 30]

On SQLite and on PostgreSQL, the real server over HTTP with seven workflows: of `http-poll` and of `rss`, with and
without a connector, of `balance-level` and of `evm-call-level` over a real node, whose values cross the level and come
back as often as there are portions, and of a `calendar` with portions of events that begin soon
(`bench/level_kills.py`). Each of the first four has a source that shows a portion of items; as soon as one item of it
has become an event, the source shows the next portion and never the old one again, so what was found and not yet run is
known to the server alone. Meanwhile the server is killed with SIGKILL at random moments,
and the sources answer 500, broken content or nothing new; those that want a token want another one from time to time,
and the connector has it a moment later. At the end each item has one event and one run, and no source that wants a
token was asked without one.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.level_kills import Dates, Levels
from testkit.chain.anvil import Anvil
from testkit.news import News, serving
from testkit.outbox_world import Api, server_of
from testkit.postgres import Cluster
from testkit.server_process import ServerProcess

_SETTINGS = {"outbound_allow": "127.0.0.1", "min_trigger_interval_ms": "100", "rate_limit_per_second": "0"}
_MOST_ITEMS = 45
_LONGEST_S = 1500.0  # on a busy machine most of the time of the kills goes into starting
_CONFIGS: dict[str, dict[str, Any]] = {
    "http-poll": {"items": "body", "itemKey": "item"},
    "rss": {},
}
_WATCHES = (("http-poll", False), ("rss", False), ("http-poll", True), ("rss", True))
_KEY_OF = {"http-poll": "{{$trigger.body.item}}", "rss": "{{$trigger.body.item.id}}"}
Json = dict[str, Any]


def _shown(kind: str, names: list[str]) -> Any:
    """What a source of the kind shows for these items, newest last in a list, newest first in a feed."""
    if kind == "http-poll":
        return names
    items = "".join(f"<item><guid>{name}</guid><title>{name}</title></item>" for name in reversed(names))
    return f'<?xml version="1.0"?><rss version="2.0"><channel><title>news</title>{items}</channel></rss>'


def _item_of(kind: str, event: Json) -> str:
    item = event["body"]["item"]
    return str(item if kind == "http-poll" else item["id"])


@dataclass(slots=True)
class Watch:
    """One workflow and its source."""

    kind: str
    has_connector: bool
    news: News
    api: Api
    chance: random.Random
    poll_ms: int = 100
    most_items: int = _MOST_ITEMS
    workflow_id: str = ""
    connector_id: str = ""
    tokens: list[str] = field(default_factory=list)
    wanted: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    @property
    def name(self) -> str:
        """What the result calls it."""
        return f"{self.kind} with connector" if self.has_connector else self.kind

    async def _change_token(self) -> None:
        """The source wants another token; a moment later the connector has it."""
        self.tokens.append(f"token-{len(self.tokens)}-{self.chance.getrandbits(64):016x}")
        self.news.needs = f"Bearer {self.tokens[-1]}"
        data = {"data": {"token": self.tokens[-1]}}
        if self.connector_id:
            await asyncio.sleep(self.chance.uniform(0.0, 0.4))
            await self.api.call("PUT", f"/v1/connectors/{self.connector_id}", data)
            self.counts["rotations"] += 1
            return
        host = self.news.url.removesuffix("/news")
        body = {"type": "http-bearer", "name": self.kind, "allowedHosts": [host], **data}
        _, made = await self.api.call("POST", "/v1/connectors", body)
        self.connector_id = str(made["id"])

    async def publish(self) -> None:
        """Publishes the workflow, and waits for its first look."""
        self.news.content = _shown(self.kind, ["before"])
        say = {"type": "log", "payload": {"message": _KEY_OF[self.kind]}}
        payload = {"url": self.news.url, "pollMs": self.poll_ms, **_CONFIGS[self.kind]}
        root: Json = {"type": self.kind, "payload": payload, "children": ["say"]}
        if self.has_connector:
            await self._change_token()
            root["connector"] = {"type": "http-bearer", "id": self.connector_id}
        body = {"name": self.name, "description": "", "definition": {"nodes": {"root": root, "say": say}}}
        _, made = await self.api.call("POST", "/v1/workflows", body)
        self.workflow_id = str(made["id"])
        await self.api.call("POST", f"/v1/workflows/{self.workflow_id}/publish", {})
        while not self.news.unchanged:  # the baseline is stored once the source is asked with its tag
            await asyncio.sleep(0.05)

    async def show(self, portions: Iterable[int]) -> None:
        """Shows portion after portion, each under its number."""
        for portion in portions:
            if self.chance.random() < 0.3:
                await self._fail()
            is_rotated = self.has_connector and self.chance.random() < 0.3
            names = [f"{portion}-{number}" for number in range(self.chance.randint(1, self.most_items))]
            self.wanted += names
            self.news.content = _shown(self.kind, names)
            if is_rotated:
                await self._change_token()
            until = time.monotonic() + _LONGEST_S
            while not await self._is_taken(portion):
                if time.monotonic() > until:
                    _, info = await self.api.call("GET", f"/v1/workflows/{self.workflow_id}/trigger-info")
                    raise RuntimeError(f"{self.name}: portion {portion} was shown and never taken: {info}")
                await asyncio.sleep(0.02)

    async def _fail(self) -> None:
        """The source fails for a moment; once it is well again it shows what it showed before."""
        before, self.counts["troubles"] = self.news.content, self.counts["troubles"] + 1
        if self.chance.random() < 0.5:
            self.news.status = self.chance.choice((500, 503, 404))
        else:
            self.news.content = "<rss><channel><item>" if self.kind == "rss" else {"not": "a list"}
        await asyncio.sleep(self.chance.uniform(0.1, 0.6))
        self.news.status, self.news.content = 200, before

    async def _is_taken(self, portion: int) -> bool:
        _, page = await self.api.call("GET", f"/v1/workflows/{self.workflow_id}/trigger-events?limit=1")
        return bool(page["items"]) and _item_of(self.kind, page["items"][0]).startswith(f"{portion}-")

    async def _all(self, path: str) -> list[Json]:
        found: list[Json] = []
        while True:
            _, page = await self.api.call("GET", f"{path}?limit=100&offset={len(found)}")
            found += page["items"]
            if not page["hasMore"]:
                return found

    async def judge(self) -> tuple[Json, list[str]]:
        """Waits for the last events, and compares."""
        events: list[Json] = []
        until = time.monotonic() + _LONGEST_S
        while len(events) < len(self.wanted) and time.monotonic() < until:
            await asyncio.sleep(0.5)
            events = await self._all(f"/v1/workflows/{self.workflow_id}/trigger-events")
        await asyncio.sleep(2)  # whatever would come twice
        events = await self._all(f"/v1/workflows/{self.workflow_id}/trigger-events")
        runs = await self._all(f"/v1/workflows/{self.workflow_id}/runs")
        found = Counter(_item_of(self.kind, event) for event in events)
        failures = []
        if lost := set(self.wanted) - found.keys():
            failures.append(f"{self.name}: found and lost: {sorted(lost)[:5]} ({len(lost)})")
        if twice := [name for name, count in found.items() if count > 1]:
            failures.append(f"{self.name}: more than one event: {twice[:5]} ({len(twice)})")
        if more := found.keys() - set(self.wanted):
            failures.append(f"{self.name}: events of nothing that was shown: {sorted(more)[:5]}")
        if Counter(event["runId"] for event in events) != Counter(run["id"] for run in runs):
            failures.append(f"{self.name}: {len(events)} events and {len(runs)} runs do not match one to one")
        if self.has_connector:
            known = {f"Bearer {token}" for token in self.tokens}
            if strange := [asked for asked in self.news.asked if asked.get("authorization") not in known]:
                failures.append(f"{self.name}: {len(strange)} looks without the credential")
        counts = {"items": len(self.wanted), "events": len(events), "runs": len(runs), "looks": len(self.news.asked)}
        return {**counts, "unchanged": self.news.unchanged, **self.counts}, failures


def run(scale: int | None = None, seed: int = 0, *, kills: str = "30", stores: str = "sqlite,postgresql") -> Json:
    """`scale` portions (default 60) of each source, at least, and so many kills, on each of the `stores`."""
    found: Json = {"portions": scale or 60, "kills": int(kills), "failures": []}
    for store in stores.split(","):
        with tempfile.TemporaryDirectory(prefix="dustrun-polls-") as folder:
            found[store] = asyncio.run(_run(Path(folder), store, scale or 60, random.Random(seed), int(kills)))
        found["failures"] += [f"{store}: {failure}" for failure in found[store].pop("failures")]
    return found


async def _run(folder: Path, store: str, portions: int, chance: random.Random, kills: int) -> Json:
    begun = time.monotonic()
    async with AsyncExitStack() as stack:
        node = stack.enter_context(Anvil())
        settings = dict(_SETTINGS)
        if store == "postgresql":
            cluster = Cluster()
            stack.callback(cluster.end)
            settings["database_url"] = cluster.fresh()
        server = server_of(folder, node.url, 1, 1000, **settings)
        store_url = settings.get("database_url", f"sqlite:///{server.database_path}")
        stack.push_async_callback(server.stop)
        server.start()
        await server.wait_ready(120)
        api = Api(server)
        stack.push_async_callback(api.close)
        watches: list[Watch | Levels | Dates] = [
            Watch(kind, connected, await stack.enter_async_context(serving()), api, random.Random(chance.random()))
            for kind, connected in _WATCHES
        ]
        watches += [
            Levels(kind, node, api, store_url, random.Random(chance.random()))
            for kind in ("balance-level", "evm-call-level")
        ]
        watches.append(Dates(await stack.enter_async_context(serving()), api, random.Random(chance.random())))
        for watch in watches:
            await watch.publish()
        killing = asyncio.create_task(_kill(server, kills, chance))
        await asyncio.gather(*(watch.show(range(portions)) for watch in watches))
        await killing
        judged = [(watch.name, *await watch.judge()) for watch in watches]
    found = {name: counts for name, counts, _ in judged}
    seconds = round(time.monotonic() - begun, 1)
    failures = [failure for _, _, failures in judged for failure in failures]
    return {**found, "seconds": seconds, "failures": failures}


async def _kill(server: ServerProcess, kills: int, chance: random.Random) -> None:
    """Half of the kills come while the server starts."""
    for _ in range(kills):
        if chance.random() < 0.5:
            await asyncio.sleep(chance.uniform(0.3, 3.0))
        else:
            await server.wait_ready(120)
            await asyncio.sleep(chance.uniform(0.0, 2.5))
        server.kill()
        server.start()
    await server.wait_ready(120)
