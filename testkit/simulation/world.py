"""One world: a server that is killed and started again, people, a sink, a network that loses things; from one seed."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import json
import os
import random
import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

from eth_account import Account

from dustrun import clock, ids
from dustrun.storage.db import group_commit
from testkit.simulation import flows
from testkit.simulation.attacks.roads import Attackers, Roads
from testkit.simulation.chain import BLOCK_S, GAS, GWEI, Chain
from testkit.simulation.commits import KINDS, SLOW, SLOW_S, Commits, Store
from testkit.simulation.loop import Loop, SimulatedJobs, no_threads
from testkit.simulation.network import Host, Network, Request, virtual_cache_of_names
from testkit.simulation.nodes import Node, past_http
from testkit.simulation.people import Facts, People
from testkit.simulation.server import Server
from testkit.simulation.shared.crowd import Crowd
from testkit.simulation.shared.loop import SharedLoop

EPOCH_MS: Final = 1_767_225_600_000  # 2026-01-01
HOUR: Final = 3600.0
_BEGIN_S: Final = 60.0
_STOPS_WITHIN_S: Final = 1800.0
"""How long the orderly end of a server may take after all else."""
_MOMENTS: Final = 3
"""Times around which much happens at once: what comes together is what hurts."""
ROOM: Final = Path("/dev/shm" if os.path.isdir("/dev/shm") else tempfile.gettempdir())
_DIGESTED: Final = (
    "runs",
    "executions",
    "run_values",
    "events",
    "trigger_events",
    "approvals",
    "transactions",
    "transaction_attempts",
)
_OF_SINK: Final = {"lost": 15, "reset": 15, "cut": 5, "silent": 5, "drip": 10, "refused": 10, "twice": 10}
_OF_NODES: Final = {"lost": 10, "reset": 15, "cut": 5, "silent": 3, "refused": 10, "twice": 10}
_NODES: Final = ("first-node.example", "second-node.example")
_PLACES: Final = ("", "commit", "commit", "commit", "sink.example", "sink.example", *_NODES)
CONFIRMATIONS: Final = 4
_NETWORK: Final = {"chainId": flows.CHAIN_ID, "blockTimeMs": BLOCK_S * 1000, "confirmations": CONFIRMATIONS}
_OF_CALLERS: Final = {"lost": 20, "reset": 20, "refused": 20, "twice": 20}


@dataclass(frozen=True, slots=True)
class Plan:
    """What a world has. `hours` of which people act in the first two thirds; then nothing goes wrong any more."""

    hours: float = 6.0
    calls: int = 12
    hooks: int = 6
    pays: int = 8
    strangers: int = 6
    kills: int = 4
    restarts: int = 1
    faults: bool = True
    disk: int = 0
    attacks: bool = False
    servers: int = 1
    freezes: int = 0
    cuts: int = 0
    without: tuple[str, ...] = ()
    """What is left out of all that, by its names in `World.deeds`."""


@dataclass(slots=True)
class Sink:
    """Whom the workflows write to: what it got, by path, and how often."""

    posts: Counter[str] = field(default_factory=Counter)
    bearers: set[str] = field(default_factory=set)

    def answer(self, request: Request) -> tuple[int, bytes]:
        """Takes one write, not those that the network itself repeats, and tells what credential it saw."""
        self.posts[request.path.strip("/")] += not request.is_again and request.method == "POST"
        self.bearers.add(request.headers.get("authorization", ""))
        saw = request.headers.get("authorization", "")
        if request.method == "GET":  # it sends whoever asks on to a name that is made of the credential
            return 302, f"http://{saw.removeprefix('Bearer ')}.sink.example/".encode()
        return 200, json.dumps({"ok": True, "saw": saw}).encode()

    def has(self, run_id: str, item: str) -> bool:
        """Whether it has what a run, or an item of its loop, writes."""
        return any(run_id in path.split("/") and (not item or path.endswith(f"/{item}")) for path in self.posts)


def paid_by_stranger(nonce: int, units: int, key: str = flows.STRANGER_KEY) -> bytes:
    """A signed transaction to the watched address."""
    fields = {
        **{"chainId": flows.CHAIN_ID, "nonce": nonce, "to": flows.WATCHED, "value": units, "gas": GAS, "data": "0x"},
        **{"type": 2, "maxFeePerGas": 100 * GWEI, "maxPriorityFeePerGas": GWEI},
    }
    return bytes(Account.sign_transaction(fields, key).raw_transaction)


class World:
    """Everything that happens in it comes from `seed` and `plan`."""

    def __init__(self, seed: int, plan: Plan, template: Path | None = None) -> None:
        self.seed = seed
        self.plan = plan
        self.folder = Path(tempfile.mkdtemp(prefix="simulated", dir=ROOM))
        chance = random.Random(f"{seed}:world")
        is_shared = plan.servers > 1 and template is not None
        self.loop: Loop = (SharedLoop if is_shared else Loop)(seed, shuffles=chance.random() < 0.25)
        self.network = Network(self.loop, random.Random(f"{seed}:network"))
        endpoints = {flows.CHAIN_ID: tuple(f"http://{name}" for name in _NODES)}
        self.server = self._servers_of(plan)(
            *(self.loop, self.network, self.folder, chance),
            outbound_allow=("sink.example", *(["price.example"] if plan.attacks else [])),
            networks_dir=self.folder / "networks",
            chain_endpoints=endpoints,
            transaction_stuck_s=4.0 * BLOCK_S,
        )
        self.sink = Sink()
        self.chain = Chain(self.loop.time, EPOCH_MS // 1000, random.Random(f"{seed}:chain"))
        self.chain.fund(flows.WALLET)
        self.chain.fund(flows.STRANGER)
        self.chain.fund(flows.RIVAL)
        self.nodes = [Node(self.chain, random.Random(f"{seed}:{name}"), say=self.loop.say) for name in _NODES]
        self._to_nodes = [
            self.network.add(Host(name, node.answer)) for name, node in zip(_NODES, self.nodes, strict=True)
        ]
        self._to_sink = self.network.add(Host("sink.example", self.sink.answer))
        if plan.attacks:
            self.network.add(Host("price.example", lambda _request: (200, b'{"n": "1"}')))
        (self.folder / "networks").mkdir()
        (self.folder / "networks" / "local.json").write_text(json.dumps(_NETWORK))
        self.facts = Facts()
        self.deeds: list[str] = []
        """What happened of all that `Plan.without` can leave out; most of the rest stays as it was."""

        self.is_past_http = chance.random() < 0.75
        self.commits = Commits(random.Random(f"{seed}:disk"), self.loop.say)
        if plan.disk:
            self.server.open_store = partial(Store, self.commits)
            self.server.is_in_trouble = lambda: bool(self.commits.kind)
        self._chance = chance
        self._template = template
        self.people: People | None = None
        self.attackers: Attackers | None = None

    def _servers_of(self, plan: Plan) -> Callable[..., Server]:
        """What makes the server, or the crowd of them."""
        if not isinstance(self.loop, SharedLoop):
            return Server
        return partial(Crowd, plan.servers, lambda: EPOCH_MS + int(self.loop.now * 1000))

    @property
    def skew_ms(self) -> int:
        """By how much the clocks of two servers may differ."""
        skews = self.loop.skews.values() if isinstance(self.loop, SharedLoop) else [0.0]
        return int(1000 * (max(skews) - min(skews))) + (len(skews) > 1)

    @contextmanager
    def _replaced(self) -> Iterator[None]:
        with ExitStack() as stack:
            skew_s = self.loop.skew_s if isinstance(self.loop, SharedLoop) else float
            stack.enter_context(clock.virtual(self.loop.time, EPOCH_MS, skew_s))
            stack.enter_context(ids.seeded(random.Random(f"{self.seed}:ids").randbytes))
            stack.enter_context(group_commit.jobs_made_by(SimulatedJobs))
            stack.enter_context(no_threads())
            stack.enter_context(virtual_cache_of_names(self.loop))
            if self.is_past_http:
                nodes = zip(_NODES, self.nodes, self._to_nodes, strict=True)
                stack.enter_context(past_http(self.network, {name: (node, host) for name, node, host in nodes}))
            yield

    def prepare(self) -> Path:
        """A stopped store with keys and published workflows, from which every world starts; its folder."""
        self._turn(self._set_up())
        (self.folder / "facts.json").write_text(json.dumps(asdict(self.facts)))
        return self.folder

    def run(self) -> World:
        """Lives through the plan."""
        assert self._template is not None
        shutil.copytree(self._template / "data", self.server.data)
        shutil.copy(self._template / "key", self.folder / "key")
        self.facts = Facts(**json.loads((self._template / "facts.json").read_text()))
        self.loop.now, self.loop.ends_by_s = _BEGIN_S, self.plan.hours * HOUR + _STOPS_WITHIN_S
        self._turn(self._live())
        return self

    def _turn(self, work: Any) -> None:
        random.seed(self.seed)  # aiohttp draws from it which waiting request goes first
        with self._replaced():
            done = self.loop.outside(work)
            done.add_done_callback(lambda _done: self.loop.stop())
            self.loop.run_forever()
            done.result()

    async def _live(self) -> None:
        plan, end = self.plan, self.plan.hours * HOUR
        acted = end * 2 / 3
        self.people = People(self.server, self.facts, random.Random(f"{self.seed}:people"), self.sink.has, acted)
        self.people.does = self._does
        self.people.moments = moments = [self._chance.random() * acted for _ in range(_MOMENTS)]
        if plan.faults:
            self._spoil_nodes()
            self.loop.slow_s = self._chance.choice((0.0, 0.0, 0.1, 1.0))
            self._to_sink.faults = self._chosen("sink", _OF_SINK)
            self.server.front.faults = self._chosen("callers", _OF_CALLERS)
        self.server.start()
        for number in range(plan.strangers):
            self._begin(f"stranger-{number}", self._pay_watched_at(self._chance.random() * acted))
        if plan.faults and plan.strangers and self._chance.random() < 0.5:
            self._begin("swap", self._swap_watched_at(self._chance.random() * acted))
        for number in range(plan.kills):
            self._aim_kill(f"kill-{number}", moments, acted)
        if plan.faults and plan.pays and self._chance.random() < 0.5:
            self._begin("deep reorg", self._reorg_deeply_at(self._chance.choice(moments) + self._chance.random() * 600))
        for number in range(plan.restarts):
            self._begin(f"restart-{number}", self._restart_at(self._chance.random() * acted))
        for number in range(plan.disk):
            self._begin(f"disk-{number}", self._spoil_disk(number, acted))
        if isinstance(self.server, Crowd):
            self._trouble(self.server, moments, acted)
        self.people.begin(plan.calls, plan.hooks, plan.pays)
        if plan.attacks:
            self.attackers = Attackers(self.people, self.facts, random.Random(f"{self.seed}:attacks"))
            self.attackers.begin(acted)
        if plan.faults and self._chance.random() < 0.3:
            begin = self._chance.random() * acted
            self._to_sink.away = (begin, begin + self._chance.choice((30.0, 600.0)))
        await asyncio.sleep(acted)
        self._to_sink.faults, self.server.front.faults, self.loop.slow_s = {}, {}, 0.0
        self._mend_nodes()
        await asyncio.sleep(end - acted)
        self.loop.spare()
        await self.server.stop()

    def _trouble(self, crowd: Crowd, moments: list[float], acted: float) -> None:
        """Servers stand still, and are cut off from the store; what they tell each other gets lost."""
        crowd.notifications.is_faulty = self.plan.faults
        for kind, count, work in (
            ("freeze", self.plan.freezes, crowd.freeze),
            ("cut", self.plan.cuts, crowd.cut_off),
        ):
            for number in range(count):
                near = self._chance.choice(moments) + self._chance.random() * 60
                self._begin(
                    f"{kind}-{number}", work(near if self._chance.random() < 0.5 else self._chance.random() * acted)
                )

    def _does(self, deed: str) -> bool:
        """Whether that happens, or is left out."""
        happens = deed not in self.plan.without
        self.deeds += [deed] if happens else []
        return happens

    def _begin(self, deed: str, work: Any) -> None:
        if self._does(deed):
            self.loop.outside(work)
        else:
            work.close()

    def _chosen(self, link: str, faults: dict[str, int]) -> dict[str, int]:
        """The faults of a link, without what is left out."""
        return {kind: share for kind, share in faults.items() if self._does(f"{link} {kind}")}

    def _spoil_nodes(self) -> None:
        """The chain reorganises itself, and each endpoint gets a face of its own."""
        chance, self.chain.reorgs = self._chance, self._chance.choice((0, 10, 40))
        self.chain.deepest, self.chain.forgets = chance.choice((1, 2, 3)), chance.choice((0, 100))
        self.chain.holds, self.chain.deaf = chance.choice((0, 500)), chance.choice((0, 500))
        for node, host in zip(self.nodes, self._to_nodes, strict=True):
            node.lag, node.busy = chance.choice((0, 0, 1, 2)), chance.choice((0, 20, 100))
            node.lies, node.hides = chance.choice((0, 0, 300)), chance.choice((0, 0, 200))
            host.faults = self._chosen(host.name, _OF_NODES)

    async def _spoil_disk(self, number: int, acted: float) -> None:
        """The store's disk is in trouble for a while."""
        chance, disk = random.Random(f"{self.seed}:disk {number}"), self.commits
        begin, lasts_s = chance.random() * acted, chance.choice((2.0, 30.0, 600.0))
        kind, share = chance.choice(KINDS), chance.choice((100, 500, 1000))
        await asyncio.sleep(begin)
        if disk.kind or begin + lasts_s > acted:
            return
        self.loop.say(f"the disk is in trouble for {lasts_s:g} s: {kind}")
        disk.kind, disk.share, before_s = kind, share, self.loop.slow_s
        disk.counts[f"disk: {kind}"] += 1
        if kind == SLOW:
            self.loop.slow_s = SLOW_S
        await asyncio.sleep(lasts_s)
        disk.kind, self.loop.slow_s = "", before_s
        self.loop.say("the disk is well again")

    def _mend_nodes(self) -> None:
        self.chain.reorgs = self.chain.forgets = self.chain.holds = self.chain.deaf = 0
        for node, host in zip(self.nodes, self._to_nodes, strict=True):
            node.lag = node.busy = node.lies = node.hides = 0
            host.faults = {}

    def _aim_kill(self, name: str, moments: list[float], acted: float) -> None:
        """A kill where much happens, at a call or a payment, or at any time."""
        assert self.people is not None
        aim, chance, plan = self._chance.random(), self._chance, self.plan
        if aim < 0.25 and plan.calls:
            points = chance.randint(1, 6)
            self._aim_at(name, f"call-{chance.randrange(plan.calls)}", points)
        elif aim < 0.5 and plan.pays:
            points = chance.randint(1, 12)
            self._aim_at(name, f"pay-{chance.randrange(plan.pays)}", points)
        elif aim < 0.8:
            self._begin(name, self._kill_at(chance.choice(moments) + chance.random() * 60))
        else:
            self._begin(name, self._kill_at(chance.random() * acted))

    def _aim_at(self, name: str, what: str, points: int) -> None:
        assert self.people is not None
        if self._does(name):
            self.people.deadly[what] = points

    async def _kill_at(self, at: float) -> None:
        """Most kills are where something leaves the process: at a commit, or on the way to a host and back."""
        points, place = self._chance.choice((0, 1, 2, 2, 3, 4)), self._chance.choice(_PLACES)
        await asyncio.sleep(at)
        self.loop.kill_after(points, place)

    async def _pay_watched_at(self, at: float) -> None:
        """A stranger pays the watched address."""
        await asyncio.sleep(at)
        self.chain.send(paid_by_stranger(self.chain.pending_nonce(flows.STRANGER), int(at)))
        if self.plan.faults and self._chance.random() < 0.4:  # the block that it is in by then goes
            await asyncio.sleep(self._chance.choice((45, 75, 100)))
            self.chain.catch_up()
            self.chain.reorg(self._chance.randint(1, self.chain.deepest))

    async def _swap_watched_at(self, at: float) -> None:
        """A deep reorg brings one stranger's payment to the place where another's was, which comes back later."""
        await asyncio.sleep(at)
        hash = self.chain.send(paid_by_stranger(self.chain.pending_nonce(flows.RIVAL), int(at) + 1, flows.RIVAL_KEY))
        for _ in range(60):
            await asyncio.sleep(BLOCK_S)
            found = self.chain.place_of(hash)
            if found is not None and (depth := self.chain.head.number - found[0].number + 1) > CONFIRMATIONS + 3:
                self.chain.send(paid_by_stranger(self.chain.pending_nonce(flows.STRANGER), int(at) + 2))
                self.loop.say("a deep reorg puts one stranger's payment in another's place")
                self.chain.counts["deep reorgs"] += 1
                return self.chain.reorg(depth, held=flows.RIVAL)

    async def _reorg_deeply_at(self, at: float) -> None:
        """Final blocks go, and miners have never heard of what the wallet has paid in them."""
        await asyncio.sleep(at)
        depth = CONFIRMATIONS + self._chance.randint(2, 4)
        while self._chance.random() < 0.99:  # until the wallet has paid in them
            await asyncio.sleep(BLOCK_S)
            self.chain.catch_up()
            final = self.chain.branch[-depth : -CONFIRMATIONS - 1]
            if any(one.sender == flows.WALLET for block in final for one in block.body):
                self.loop.say("a reorg goes deeper than the confirmations")
                self.chain.counts["deep reorgs"] += 1
                return self.chain.reorg(depth, flows.WALLET)

    async def _restart_at(self, at: float) -> None:
        await asyncio.sleep(at)
        await self.server.restart()

    async def _set_up(self) -> None:
        self.server.start()
        await self.server.is_up.wait()
        facts, people = self.facts, People(self.server, self.facts, self._chance, self.sink.has, 0)
        facts.owner = (self.server.data / "owner.key").read_text().strip()

        async def made(path: str, body: Any) -> Any:
            status, answer = await people.insist("POST", path, body, key=facts.owner)
            assert status == 200, (path, answer)
            return answer["data"]

        permissions = ["workflow:execute", "workflow:read", "run:read", "run:stream", "approval:decide"]
        for name in ("first", "second", "third"):
            key = await made("/v1/api-keys", {"name": name, "permissions": permissions})
            facts.keys.append(key["key"])
        token = {
            "type": "http-bearer",
            "name": "sink",
            "data": {"token": flows.SECRET},
            "allowedHosts": ["http://sink.example"],
        }
        connector = await made("/v1/connectors", token)
        for name, definition in flows.flows(connector["id"]).items():
            await self._publish(made, name, definition)
        body = {"name": "payer", "privateKey": flows.WALLET_KEY, "isDefault": True}
        wallet = await made("/v1/wallets/import", body)
        path = f"/v1/wallets/{wallet['id']}/policy"
        await people.insist("PUT", path, {"policy": flows.POLICY}, key=facts.owner)
        await self._publish(made, "pay", flows.paying())
        await self._publish(made, "calling", flows.calling(facts.workflows["call"]))
        await self._publish(made, "soon", flows.watching(confirmations=1, onReorg="retract"))
        await self._publish(made, "sure", flows.watching())
        if self.plan.attacks:
            await Roads(made, facts).make(wallet["id"])
        shown = await made(f"/v1/workflows/{facts.workflows['hook']}/webhooks/root/rotate", {})
        facts.hook_path = "/" + shown["url"].split("/", 3)[3]
        facts.secrets = [facts.owner, *facts.keys, flows.SECRET, flows.WALLET_KEY.removeprefix("0x")]
        await self.server.stop()

    async def _publish(self, made: Any, name: str, definition: Any) -> None:
        workflow = await made("/v1/workflows", {"name": name, "description": "", "definition": definition})
        self.facts.workflows[name] = workflow["id"]
        await made(f"/v1/workflows/{workflow['id']}/publish", {})

    # --- afterwards ---
    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """What the store holds."""
        connection = sqlite3.connect(self.server.data / "dustrun.db")
        try:
            return connection.execute(query).fetchall()
        finally:
            connection.close()

    def digest(self) -> str:
        """A hash over the tables of what happened."""
        found = [self.rows(f"SELECT * FROM {table} ORDER BY 1, 2, 3") for table in _DIGESTED]
        return hashlib.sha256(repr(found).encode()).hexdigest()[:16]

    def counts(self) -> dict[str, int]:
        """Faults and events by kind."""
        return {
            **self.network.counts,
            **self.server.counts,
            **self.chain.counts,
            **self.commits.counts,
            "runs": self.rows("SELECT count(*) FROM runs")[0][0],
        }

    def told(self) -> list[str]:
        """What happened, in plain words, oldest first."""
        return self.loop.told()

    def close(self) -> None:
        """Removes its files."""
        shutil.rmtree(self.folder, ignore_errors=True)


def keep_the_dead() -> None:
    """To collect what a dead server left would run its cleaning up; a world has a process of its own."""
    gc.disable()
