"""A chain that reorganises itself, behind two endpoints that lag, lie and refuse, under triggers whose servers are
killed: no event of the chain is lost, none is run twice, and what was told is what the chain says.

    scripts/soak reorg [--scale REORGS] [--seed S] [--set kills=200] [--set only=sqlite]

Real servers over HTTP: one with SQLite, then two that share PostgreSQL. The node is one of the testkit: a block tree
with two faces, whose log indexes are late, whose receipts are missing, whose heads lag or stay on a branch that was
left, and whose chain changes between two reads of a batch. Reorgs are one to twenty blocks deep; transactions come back
in other blocks, with amounts and an order of logs that depend on what came before them, or with a log more.

Five workflows watch the same contract, without confirmations and with one, three and six, with each `onReorg`; three
more watch its NFTs, its transactions, and calls of it, all of the same transactions. Servers get SIGKILL at random
moments of their start and work. Now and then everything settles: then, for each workflow, the sum of what runs were
told must be what the chain says (`retract`), or each event of the chain must have run once (`ignore`). Now and then an
endpoint stands still: within the time that the server is given it must tell so, and that it goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa

from bench.cluster_callers import AnyApi
from dustrun.core.values.exact_json import loads_own
from dustrun.storage.db.tables import hook_notices
from dustrun.storage.db.trigger_tables import subscriptions, trigger_events
from testkit.chain.anvil import CHAIN_ID
from testkit.chain.hostile_node import COLLECTION, CONTRACT, FUNCTION, SIGNATURE, Face, Tree, serving
from testkit.chain.payments import Payments, calls_on_chain, nfts_on_chain, numbers, on_chain, told
from testkit.chain_watching import definition
from testkit.outbox_world import server_of
from testkit.ports import free_port
from testkit.postgres import Cluster
from testkit.server_process import ServerProcess

_LEFT_S: Final = 240.0
_BLOCK_MS: Final = 150
_STALL_S: Final = 4
_TOLD_WITHIN_S: Final = _STALL_S + 8.0
"""What a look may take until it notices, on a machine that does other things, too."""
_KILLS: Final = 10
_COUNTED_FROM: Final = 100
"""Reorgs; with fewer, chance decides whether one takes back what three confirmations have let run."""
_SEEN: Final = 5
_SEEN_S: Final = 8.0
_WORKFLOWS: Final[dict[str, dict[str, Any]]] = {
    "now": {"confirmations": 0},
    "told": {"confirmations": 0, "onReorg": "retract"},
    "one": {"confirmations": 1, "onReorg": "retract"},
    "three": {"confirmations": 3, "onReorg": "retract"},
    "six": {"confirmations": 6},
    "nft": {"type": "nft-transfer", "contract": COLLECTION, "confirmations": 1, "onReorg": "retract"},
    "sent": {"type": "evm-transaction", "address": CONTRACT, "confirmations": 0},
    "called": {
        "type": "evm-contract-call",
        "contract": CONTRACT,
        "function": FUNCTION,
        "confirmations": 3,
        "onReorg": "retract",
    },
}
_PAID: Final = {"type": "evm-log", "address": CONTRACT, "eventSignature": SIGNATURE}
_ON_CHAIN: Final = {
    "nft-transfer": nfts_on_chain,
    "evm-transaction": calls_on_chain,
    "evm-contract-call": calls_on_chain,
}
Json = dict[str, Any]


@dataclass(slots=True)
class Soak:
    """One soak of one store: what it does it to, and what it counts."""

    payments: Payments
    faces: list[Face]
    servers: list[ServerProcess]
    api: AnyApi
    engine: sa.Engine
    chance: random.Random
    configs: Mapping[str, Json] = field(default_factory=lambda: _WORKFLOWS)
    workflows: dict[str, str] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    until_s: float = float("inf")
    slowest_s: float = 0.0
    failures: list[str] = field(default_factory=list)

    @property
    def tree(self) -> Tree:
        """The blocks."""
        return self.payments.tree

    async def prepare(self) -> None:
        """Publishes the workflows, and a hook that wants to know of stalls."""
        hook = {"name": "stalls", "url": "https://hooks.example.com/x", "subscribedEventTypes": ["trigger.*"]}
        await self.api.call("POST", "/v1/hooks", hook)
        for name, config in self.configs.items():
            payload = {"chainId": CHAIN_ID, **({} if "type" in config else _PAID), **config}
            body = {"name": name, "description": "", "definition": definition(payload.pop("type"), payload)}
            _, made = await self.api.call("POST", "/v1/workflows", body)
            await self.api.call("POST", f"/v1/workflows/{made['id']}/publish", {})
            self.workflows[name] = str(made["id"])
        self.payments.send(3)
        await self.settle()

    # --- what happens to it ---

    async def shake(self, reorgs: int, kills: int) -> None:
        """Reorgs and kills until there were enough of both, with a settled point now and then."""
        turns = max(1, kills // _KILLS)
        while self.payments.counts["reorgs"] < reorgs or self.counts["kills"] < kills:
            if time.monotonic() > self.until_s:
                self.failures.append("the time was over before there were enough reorgs and kills")
                break
            left, done = max(1, turns - self.counts["turns"]), self.payments.counts["reorgs"]
            killing = asyncio.create_task(self._kill_often(min(_KILLS, kills)))
            while not killing.done():  # reorgs of which a server hears late
                await self._round(1.5)
            await killing
            for _ in range(_SEEN):
                await self._seen_round()
            while self.payments.counts["reorgs"] < done + (reorgs - done) // left:
                await self._round(0.3)
            await self.settle()
            if self.counts["turns"] % 3 == 0:
                await self._stall()
            self.counts["turns"] += 1
            print(dict(self.counts), dict(self.payments.counts), self.failures[:3], file=sys.stderr, flush=True)

    async def _round(self, longest_s: float) -> None:
        """A few blocks, endpoints that behave otherwise, and a reorg."""
        for _ in range(self.chance.randint(1, 3)):
            self.payments.send(self.chance.choice((0, 0, 1, 1, 2)))
        self.misbehave()
        await asyncio.sleep(self.chance.uniform(0.0, longest_s))
        deepest = self.chance.choice((2, 3, 4, 6, 20))
        self.payments.reorg(min(self.chance.randint(1, deepest), self.tree.head.number - 1))
        await asyncio.sleep(self.chance.uniform(0.0, longest_s))

    async def _seen_round(self) -> None:
        """A reorg of what has run, also of what had to wait for confirmations."""
        self.payments.send(self.chance.randint(1, 2))
        self.tree.mine(*[()] * self.chance.randint(1, 4))
        await self._until_right(_SEEN_S)
        self.payments.reorg(self.chance.randint(3, min(20, self.tree.head.number - 1)))

    def misbehave(self) -> None:
        """Endpoints lag, lack logs or receipts, and stay on branches that were left, each for a while."""
        for face in self.faces:
            face.lag = self.chance.choice((0, 0, 0, 1, 2))
            face.index_lag = self.chance.choice((0, 0, 0, 1, 3))
            face.no_receipts = {"*"} if self.chance.random() < 0.05 else set()
            face.frozen = self.tree.head.hash if self.chance.random() < 0.1 else None
            face.before = self._fork if self.chance.random() < 0.3 else _nothing

    def _fork(self, _method: str, _params: list[Any]) -> None:
        """Between two reads of a batch the chain is another one."""
        if self.chance.random() < 0.01:
            self.payments.reorg(1)
            self.counts["forksWithinBatches"] += 1

    async def _kill_often(self, kills: int) -> None:
        """Kills servers: often while one starts, else when it has worked for a moment."""
        for _ in range(kills):
            server = self.chance.choice(self.servers)
            if self.chance.random() < 0.7:
                await asyncio.sleep(self.chance.uniform(0.3, 4.0))
            else:
                await server.wait_ready(120)
                await asyncio.sleep(self.chance.uniform(0.0, 2.0))
            server.kill()
            self.counts["kills"] += 1
            server.start()
        for server in self.servers:
            await server.wait_ready(120)

    def _behave(self) -> None:
        for face in self.faces:
            face.lag = face.index_lag = 0
            face.frozen, face.no_receipts, face.before = None, set(), _nothing
            face.refuses = _refuses_nothing

    async def _stall(self) -> None:
        """Endpoints that stand still in one of several ways; it must be told, and that they go on again."""
        kind = self.chance.choice(("lag", "down", "logs"))
        before = {type: await self._count(type) for type in ("trigger.stalled", "trigger.recovered")}
        begun = time.monotonic()
        for face in self.faces:
            face.lag = 7 if kind == "lag" else 0
            face.is_down = kind == "down"
            face.refuses = _refuses_logs if kind == "logs" else _refuses_nothing
            face.no_receipts = {"*"} if kind == "logs" else set()
        if kind == "logs":
            self.payments.send(2)  # one of them has a receipt sooner or later
            self.tree.mine(*[()] * 6)
        await self._told("trigger.stalled", before["trigger.stalled"] + len(self.configs), f"a stall ({kind})")
        self.slowest_s = max(self.slowest_s, time.monotonic() - begun)
        for face in self.faces:
            face.is_down = False
        self._behave()
        await self._told(
            "trigger.recovered", before["trigger.recovered"] + len(self.configs), f"the end of a stall ({kind})"
        )
        self.counts["stalls"] += 1
        await self.settle()

    async def _told(self, type: str, count: int, what: str) -> None:
        limit_s = _TOLD_WITHIN_S if type == "trigger.stalled" else _LEFT_S
        until = time.monotonic() + limit_s
        while await self._count(type) < count:
            if time.monotonic() > until:
                self.failures.append(f"{what} was not told of every trigger within {limit_s} s")
                return
            await asyncio.sleep(0.25)

    # --- what came of it ---

    async def settle(self) -> None:
        """Buries what there is, waits until all is scanned, and compares."""
        self._behave()
        self.tree.mine(*[()] * 2)
        for one in await self._until_right(_LEFT_S):
            self.failures.append(f"at {self.payments.counts['reorgs']} reorgs: {one}")
        self.counts["settled"] += 1

    async def _until_right(self, within_s: float) -> list[str]:
        """What is still wrong after that time."""
        until = time.monotonic() + within_s
        while wrong := await self._differences():
            if time.monotonic() > until:
                return wrong
            await asyncio.sleep(0.5)
        return []

    async def _differences(self) -> list[str]:
        wrong = []
        for name, config in self.configs.items():
            expected = _ON_CHAIN.get(config.get("type", ""), on_chain)(self.tree, config["confirmations"])
            found = await self.events(self.workflows[name])
            have: Counter[Any] = told([body for _, body, has_run in found if has_run])
            must: Counter[Any] = expected
            if "onReorg" not in config:
                have = numbers(told([body for outcome, body, _ in found if outcome == "started"]))
                must = numbers(expected)
            if have != must:
                wrong.append(f"{name}: too much {_some(have - must)}, too little {_some(must - have)}")
        return wrong

    async def check(self) -> None:
        """What no moment may break: no event ran twice, and no trigger stopped."""
        for name, config in self.configs.items():
            found = await self.events(self.workflows[name])
            bodies = [body for _, body, has_run in found if has_run]
            for kind in ("retracted", "restored"):
                self.counts[f"{name}.{kind}"] = sum(body["reorg"] == kind for body in bodies)
            self.counts[f"{name}.runs"] = len(bodies)
            first = numbers(told([body for body in bodies if body["reorg"] is None]))
            equals = 0 if "type" in config else 1
            twice = [
                key
                for key, count in first.items()
                if count > 1 + equals * (key[1] % 10 == 0 and int(key[0], 16) % 4 == 0)
            ]
            if "onReorg" not in config and twice:
                self.failures.append(f"{name}: events with more than one run: {twice[:5]} ({len(twice)})")
            if "onReorg" not in config and self.counts[f"{name}.retracted"]:
                self.failures.append(f"{name}: was told of removed events, which it had not asked for")
        states = await asyncio.to_thread(self.read, sa.select(subscriptions.c.state, subscriptions.c.state_reason))
        self.failures += [f"a trigger is {state}: {reason}" for state, reason in states if state != "armed"]
        self.counts["chainEvents"] = sum(on_chain(self.tree).values())
        for what in ("told.retracted", "one.retracted", "three.retracted", "nft.retracted"):
            if not self.counts[what] and self.payments.counts["reorgs"] >= _COUNTED_FROM:
                self.failures.append(f"{what} is 0: no reorg took back what had run, so this proves little")

    async def events(self, workflow_id: str) -> list[tuple[str, Json, bool]]:
        """Outcome and payload of each event, and whether it started a run."""
        t = trigger_events.c
        query = sa.select(t.outcome, t.payload, t.run_id).where(t.workflow_id == workflow_id).order_by(t.pk)
        found = await asyncio.to_thread(self.read, query)
        return [(outcome, loads_own(payload), run is not None) for outcome, payload, run in found]

    async def _count(self, type: str) -> int:
        query = sa.select(sa.func.count()).select_from(hook_notices).where(hook_notices.c.type == type)
        ((count,),) = await asyncio.to_thread(self.read, query)
        return int(count)

    def read(self, query: sa.Select[Any]) -> list[Any]:
        """Rows of the servers' store."""
        with self.engine.connect() as connection:
            return list(connection.execute(query).all())


def _nothing(_method: str, _params: list[Any]) -> None:
    return None


def _refuses_nothing(_method: str, _params: list[Any]) -> bool:
    return False


def _refuses_logs(method: str, _params: list[Any]) -> bool:
    return method in ("eth_getLogs", "eth_getBlockReceipts")


def _some(events: Mapping[Any, int]) -> str:
    return f"{list(events.items())[:3]} ({len(events)})"


def run(scale: int | None, seed: int, kills: str = "200", only: str = "", minutes: str = "") -> dict[str, Any]:
    """At least `scale` reorgs (default 1,040) and so many kills, half of each with either store; after so many
    `minutes` with one, it ends all the same, and that counts as a failure."""
    stores = [only] if only else ["sqlite", "postgresql"]
    found: dict[str, Any] = {}
    for store in stores:
        with tempfile.TemporaryDirectory(prefix="dustrun-reorg-") as folder:
            share = (scale or 1_040) // len(stores), int(kills) // len(stores)
            found[store] = asyncio.run(_run(Path(folder), store, share, random.Random(seed), minutes))
    failures = [f"{store}: {one}" for store, result in found.items() for one in result.pop("failures")]
    totals = {
        name: sum(one["counts"][name] for one in found.values()) for name in ("reorgs", "kills", "settled", "stalls")
    }
    return {"stores": found, "totals": totals, "failures": failures}


async def _run(folder: Path, store: str, share: tuple[int, int], chance: random.Random, minutes: str) -> dict[str, Any]:
    begun = time.monotonic()
    payments = Payments(Tree(), chance, lacks_receipts=True, moves_nfts=True)
    payments.tree.mine(*[()] * 20)
    faces = [Face(payments.tree), Face(payments.tree)]
    async with serving(*faces) as urls, serving_on(folder, store, urls, _BLOCK_MS) as (servers, engine):
        for server in servers:
            server.start()
            await server.wait_ready(120)
        api = AnyApi([one.base for one in servers], servers[0].owner_key, chance, timeout_s=20)
        soak = Soak(payments, faces, servers, api, engine, chance)
        soak.until_s = begun + 60 * float(minutes or "inf")
        try:
            await soak.prepare()
            await soak.shake(*share)
            await soak.check()
        finally:
            await api.close()
    counts = soak.counts + payments.counts
    counts["settled"], counts["stalls"] = soak.counts["settled"], soak.counts["stalls"]
    return {
        "servers": len(servers),
        "counts": dict(sorted(counts.items())),
        "slowestStallToldS": round(soak.slowest_s, 1),
        "seconds": round(time.monotonic() - begun, 1),
        "failures": soak.failures,
    }


@contextlib.asynccontextmanager
async def serving_on(
    folder: Path, store: str, urls: list[str], block_ms: int
) -> AsyncIterator[tuple[list[ServerProcess], sa.Engine]]:
    """One server with SQLite, or two that share PostgreSQL."""
    ends: list[Callable[[], Any]] = []
    given = {"trigger_stall_s": str(_STALL_S), "chain_timeout_ms": "2000"}
    if store == "sqlite":
        servers = [server_of(folder, urls, 2, block_ms, **given)]
        engine = sa.create_engine(f"sqlite:///file:{servers[0].database_path}?mode=ro&uri=true")
    else:
        cluster = Cluster()
        ends.append(cluster.end)
        url = cluster.fresh()
        first = server_of(folder, urls, 2, block_ms, database_url=url, shared="1", **given)
        servers = [first, ServerProcess(first.data_dir, first.settings, port=free_port(), log_path=folder / "b.log")]
        engine = sa.create_engine(url)
    try:
        yield servers, engine
    finally:
        for server in servers:
            await server.stop()
        engine.dispose()
        for end in ends:
            end()
