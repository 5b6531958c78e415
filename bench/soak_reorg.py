"""A chain that reorganises itself under triggers whose server is killed: no event of the final chain is lost, none is
run twice.

    scripts/soak reorg [--scale ROUNDS] [--seed S] [--set kills=206]

The real server over HTTP on a real anvil, with four workflows that watch the same contract, whose transactions have two
events each: without confirmations (`onReorg` ignore and retract), with three, and with six. In each round transactions
come, blocks are taken back and replaced by others (up to three deep, and every fifth time up to eight: beyond the
confirmations), where a transaction comes back in the same or another block, or is replaced, or is lost. In every fourth
round the chain waits until each workflow has run what it confirms, and takes back just that, up to eight deep.
Meanwhile the server is killed with SIGKILL again and again, at random moments of its start and of its work. At the end,
what each workflow ran is compared with the events of the final chain, which are read past the product.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import sqlite3
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from dustrun.core.values.exact_json import loads_own
from testkit.chain.anvil import CHAIN_ID, Anvil
from testkit.chain.pings import CONTRACT, SIGNATURE, WORDS, Pings
from testkit.chain_watching import definition
from testkit.outbox_world import Api, server_of
from testkit.server_process import ServerProcess

_LEFT_S: Final = 120.0
_BLOCK_MS: Final = 150
_DEEPEST: Final = 8
_SEEN_S: Final = 60.0
_ENOUGH: Final = 30
_WORKFLOWS: Final[dict[str, dict[str, Any]]] = {
    "now": {"confirmations": 0},
    "told": {"confirmations": 0, "onReorg": "retract"},
    "three": {"confirmations": 3, "onReorg": "retract"},
    "six": {"confirmations": 6},
}
Json = dict[str, Any]


@dataclass(slots=True)
class Soak:
    """One soak: what it does it to, and what it counts."""

    pings: Pings
    server: ServerProcess
    api: Api
    chance: random.Random
    workflows: dict[str, str] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    async def prepare(self) -> None:
        """Publishes the workflows, and waits until each of their triggers watches."""
        for name, config in _WORKFLOWS.items():
            payload = {"chainId": CHAIN_ID, "address": CONTRACT, "eventSignature": SIGNATURE, **config}
            body = {"name": name, "description": "", "definition": definition("evm-log", payload)}
            _, made = await self.api.call("POST", "/v1/workflows", body)
            await self.api.call("POST", f"/v1/workflows/{made['id']}/publish", {})
            self.workflows[name] = str(made["id"])
        await self._until_watched()
        first = await asyncio.to_thread(self._ping, 1)
        await self._until_all(first)

    async def _until_watched(self) -> None:
        """Waits until each trigger has its place: on a development chain it begins at the head that it finds first."""
        query = "SELECT count(*) FROM subscriptions WHERE cursor IS NOT NULL"
        async with asyncio.timeout(_LEFT_S):
            while await asyncio.to_thread(self._count, query) < len(_WORKFLOWS):
                await asyncio.sleep(0.05)

    def _count(self, query: str) -> int:
        with contextlib.closing(sqlite3.connect(f"file:{self.server.database_path}?mode=ro", uri=True)) as store:
            return int(store.execute(query).fetchone()[0])

    def _ping(self, count: int) -> dict[tuple[str, int], int]:
        self.pings.send(count)
        self.pings.node.mine(_DEEPEST)
        return self.pings.final()

    async def round(self, number: int) -> None:
        """Transactions, and a reorg."""
        for _ in range(self.chance.randint(1, 3)):
            await asyncio.to_thread(self.pings.send, self.chance.randint(0, 3))
            await asyncio.sleep(self.chance.uniform(0.0, 0.3))
        is_deep = number % 5 == 4
        await self._reorg(self.chance.randint(4, _DEEPEST) if is_deep else self.chance.randint(1, 3))

    async def seen_round(self) -> None:
        """Transactions, and a reorg of what has run."""
        await asyncio.to_thread(self.pings.send, self.chance.randint(1, 3))
        await asyncio.to_thread(self.pings.node.mine, self.chance.randint(3, _DEEPEST - 2))
        await asyncio.to_thread(self.pings.send, self.chance.randint(0, 2))
        until = time.monotonic() + _SEEN_S
        while not await self._has_seen():
            if time.monotonic() > until:
                self.counts["unseen"] += 1
                break
            await asyncio.sleep(0.2)
        await self._reorg(self.chance.randint(1, _DEEPEST))

    async def _has_seen(self) -> bool:
        """Whether each workflow has run what has as many blocks on top as it waits for."""
        for name, config in _WORKFLOWS.items():
            expected = await asyncio.to_thread(self.pings.final, config["confirmations"])
            balance = _balance(await self._runs(self.workflows[name]))
            if any(balance[key] < 1 for key in expected):
                return False
        return True

    async def _reorg(self, depth: int) -> None:
        self.counts["reorgsUpTo3" if depth <= 3 else "reorgsUpTo6" if depth <= 6 else "reorgsDeeper"] += 1
        await asyncio.to_thread(self.pings.reorg, depth)

    async def shake(self, rounds: int, kills: int) -> None:
        """Reorgs until there were enough of them, and of kills."""
        killing = asyncio.create_task(self._kill_often(kills))
        number = 0
        while number < rounds or not killing.done():
            await (self.seen_round() if number % 4 == 3 else self.round(number))
            number += 1
            if killing.done():
                await killing
            else:
                await asyncio.sleep(self.chance.uniform(0.0, 1.0))
        await killing

    async def _kill_often(self, kills: int) -> None:
        """Kills the server: half of the times while it starts, else when it has worked for a moment."""
        for _ in range(kills):
            if self.chance.random() < 0.5:
                await asyncio.sleep(self.chance.uniform(0.3, 3.0))
            else:
                await self.server.wait_ready(120)
                await asyncio.sleep(self.chance.uniform(0.0, 2.0))
            self.server.kill()
            self.counts["kills"] += 1
            self.server.start()
        await self.server.wait_ready(120)

    # --- the end ---

    async def finish(self) -> None:
        """Buries what there is, waits until all is scanned, and compares."""
        await asyncio.to_thread(self.pings.node.mine, _DEEPEST)
        final = await asyncio.to_thread(self.pings.final)
        self.counts["finalEvents"] = len(final)
        await self._until_all(final)
        for name, config in _WORKFLOWS.items():
            await self._compare(name, config, final)
        if self.counts["reorgsDeeper"] >= _ENOUGH:
            for what in ("told.retracted", "three.retracted", "six.ofOrphans"):
                if not self.counts[what]:
                    self.failures.append(f"{what} is 0: no reorg took back what had run, so this proves little")

    async def _until_all(self, expected: dict[tuple[str, int], int]) -> None:
        until = time.monotonic() + _LEFT_S
        while time.monotonic() < until:
            states = [_balance(await self._runs(id)) for id in self.workflows.values()]
            if all(set(expected) <= {key for key, count in state.items() if count > 0} for state in states):
                return
            await asyncio.sleep(0.2)

    async def _runs(self, workflow_id: str) -> list[Json]:
        """What each run of a workflow was told, as it is stored: every run that there is, joined with its event."""
        runs = "SELECT id FROM runs WHERE workflow_id = ? ORDER BY pk"
        events = "SELECT run_id, payload FROM trigger_events WHERE workflow_id = ? AND run_id IS NOT NULL ORDER BY pk"

        def read() -> list[Json]:
            told: dict[str, list[Any]] = {}
            with contextlib.closing(sqlite3.connect(f"file:{self.server.database_path}?mode=ro", uri=True)) as store:
                found = [run for (run,) in store.execute(runs, [workflow_id])]
                for run, payload in store.execute(events, [workflow_id]):  # read later, so of every run above
                    told.setdefault(run, []).append(loads_own(payload))
            return [{"runId": run, "payload": payload} for run in found for payload in told.get(run, [None])]

        return await asyncio.to_thread(read)

    async def _compare(self, name: str, config: Json, final: dict[tuple[str, int], int]) -> None:
        events = await self._runs(self.workflows[name])
        runs = [one["runId"] for one in events]
        if len(set(runs)) != len(runs):
            self.failures.append(f"{name}: two events share a run")
        if any(one["payload"] is None for one in events):
            self.failures.append(f"{name}: runs without an event")
            return
        told = config.get("onReorg") == "retract"
        balance = _balance(events)
        kinds = Counter(str(one["payload"]["reorg"]) for one in events)
        self.counts[f"{name}.runs"] = len(runs)
        for kind in ("retracted", "restored"):
            self.counts[f"{name}.{kind}"] = kinds[kind]
        lost = [key for key in final if balance[key] < 1]
        twice = [key for key, count in balance.items() if count > 1]
        if lost:
            self.failures.append(f"{name}: events of the final chain without a run: {lost[:5]} ({len(lost)})")
        if twice:
            self.failures.append(f"{name}: events with more than one run: {twice[:5]} ({len(twice)})")
        wrong = [one["runId"] for one in events if not _is_true(one, final)]
        if wrong:
            self.failures.append(f"{name}: runs that were told other values than the chain's: {wrong[:5]}")
        gone = [key for key, count in balance.items() if count > 0 and key not in final]
        self.counts[f"{name}.ofOrphans"] = len(gone)
        if told and gone:
            self.failures.append(f"{name}: runs of removed events that were not told: {gone[:5]} ({len(gone)})")
        if not told and kinds["retracted"]:
            self.failures.append(f"{name}: was told of removed events, which it had not asked for")


def _key(event: Json) -> tuple[str, int]:
    return event["payload"]["transactionHash"], event["payload"]["position"]


def _balance(events: list[Json]) -> Counter[tuple[str, int]]:
    """How often each event stands in the end: its runs, less the runs that took it back."""
    found: Counter[tuple[str, int]] = Counter()
    for event in events:
        found[_key(event)] += -1 if event["payload"]["reorg"] == "retracted" else 1
    return found


def _is_true(event: Json, final: dict[tuple[str, int], int]) -> bool:
    number = final.get(_key(event))
    return number is None or int(event["payload"]["args"]["number"]) == number


def run(scale: int | None, seed: int, kills: str = "206") -> dict[str, Any]:
    """At least `scale` reorgs (default 310), and so many kills at the same time."""
    with tempfile.TemporaryDirectory(prefix="dustrun-reorg-") as folder:
        return asyncio.run(_run(Path(folder), scale or 310, seed, int(kills)))


async def _run(folder: Path, rounds: int, seed: int, kills: int) -> dict[str, Any]:
    begun = time.monotonic()
    chance = random.Random(seed)
    with Anvil(*WORDS) as node:
        pings = Pings(node, chance)
        pings.install()
        node.mine(20)
        server = server_of(folder, node.url, 2, _BLOCK_MS)
        server.start()
        try:
            await server.wait_ready(60)
            soak = Soak(pings, server, Api(server), chance)
            try:
                await soak.prepare()
                await soak.shake(rounds, kills)
                await soak.finish()
            finally:
                await soak.api.close()
        finally:
            await server.stop()
    counts = soak.counts + pings.counts
    return {
        "rounds": rounds,
        "counts": dict(sorted(counts.items())),
        "seconds": round(time.monotonic() - begun, 1),
        "failures": soak.failures,
    }
