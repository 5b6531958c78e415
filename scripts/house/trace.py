"""How many files a call enters, how many functions, and how often it goes into another room: `scripts/trace`.

A room is a folder of src/dustrun. What a thread enters is counted in the order in which it does, without what it
resumes. Every call is made several times and the smallest figures count, since a timer may tick meanwhile.
"""

from __future__ import annotations

import asyncio
import json
import random
import sqlite3
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from threading import get_ident
from types import CodeType
from typing import Any

import httpx

import dustrun
from dustrun import log
from testkit.chain.anvil import ACCOUNTS, CHAIN_ID, KEYS, Anvil
from testkit.chain.pings import CONTRACT, SIGNATURE, Pings
from testkit.composition import Composition, composed

TIMES = 3
_SOURCE = f"{Path(dustrun.__file__).parent}/"
_MONITORING: Any = getattr(sys, "monitoring", None)  # since Python 3.12


@dataclass(frozen=True, slots=True)
class Figures:
    """Files entered, functions entered, and changes of room."""

    files: int
    functions: int
    moves: int

    def __str__(self) -> str:
        return f"{self.files:>5} files {self.functions:>5} functions {self.moves:>5} changes of room"


RECORDED = {
    "run call": Figures(62, 274, 225),
    "read run": Figures(28, 92, 107),
    "stream": Figures(22, 73, 69),
    "spend": Figures(149, 1011, 1737),
    "chain event": Figures(81, 433, 607),
}
"""What each call took at last. `tests/test_house_trace.py` holds it to that: write less when it takes less.
When the aim was set (40 files, 90 changes of room), another script counted 72 files, 290 functions, 217 changes."""
STEADY = ("run call", "read run", "stream")
"""The others look at a chain as time passes, and vary; no test holds them to anything."""


def excess(name: str, found: Figures) -> list[str]:
    """What a call takes more of than it is recorded with."""
    most = RECORDED[name]
    pairs = [(one, getattr(found, one), getattr(most, one)) for one in ("files", "functions", "moves")]
    return [f"{name}: {now} {one}, recorded are {then}" for one, now, then in pairs if now > then]


@dataclass(slots=True)
class Entered:
    """The functions of this package that were entered, in order, by thread."""

    by_thread: dict[int, list[CodeType]] = field(default_factory=dict)

    def note(self, code: CodeType, _offset: int) -> Any:
        """Takes note of a function that begins."""
        if not code.co_filename.startswith(_SOURCE):
            return _MONITORING.DISABLE
        if code.co_name not in ("<genexpr>", "<module>"):
            self.by_thread.setdefault(get_ident(), []).append(code)
        return None

    def figures(self) -> Figures:
        """What they add up to."""
        codes = {code for entered in self.by_thread.values() for code in entered}
        moves = sum(
            _room(before) != _room(after) for entered in self.by_thread.values() for before, after in pairwise(entered)
        )
        return Figures(len({code.co_filename for code in codes}), len(codes), moves)

    def files(self) -> Counter[str]:
        """How often each file was entered from another, below src/dustrun."""
        found: Counter[str] = Counter()
        for entered in self.by_thread.values():
            last = ""
            for code in entered:
                if code.co_filename != last:
                    found[_path(code)] += 1
                last = code.co_filename
        return found

    def lines(self) -> list[str]:
        """Every entrance, as a reader follows it."""
        return [f"{_path(code)}:{code.co_qualname}" for entered in self.by_thread.values() for code in entered]


def _path(code: CodeType) -> str:
    return code.co_filename.removeprefix(_SOURCE)


def _room(code: CodeType) -> str:
    return _path(code).rpartition("/")[0]


async def entered_by(call: Callable[[], Awaitable[Any]]) -> Entered:
    """What this process enters during a call."""
    entered = Entered()
    tool = _MONITORING.PROFILER_ID
    _MONITORING.use_tool_id(tool, "house")
    try:
        _MONITORING.register_callback(tool, _MONITORING.events.PY_START, entered.note)
        _MONITORING.set_events(tool, _MONITORING.events.PY_START)
        _MONITORING.restart_events()
        await call()
    finally:
        _MONITORING.set_events(tool, 0)
        _MONITORING.free_tool_id(tool)
    return entered


def _flow(kind: str, *nodes: tuple[str, dict[str, Any]], **config: Any) -> dict[str, Any]:
    """A workflow of nodes one after another."""
    names = [f"n{place}" for place in range(len(nodes))]
    found: dict[str, Any] = {"root": {"type": kind, "payload": config, "children": names[:1]}}
    for place, (type, payload) in enumerate(nodes):
        found[names[place]] = {"type": type, "payload": payload, "children": names[place + 1 : place + 2]}
    return {"nodes": found, "triggerNodeIds": ["root"]}


_PURE = _flow("manual", *[("format", {"template": "one {{1 + 1}}"})] * 3)
_PAYS = _flow("manual", ("send-native", {"chainId": CHAIN_ID, "recipient": ACCOUNTS[2], "amount": "7"}))
_HEARS = _flow(
    "evm-log",
    ("log", {"message": "{{$trigger.body.args.number}}"}),
    **{"chainId": CHAIN_ID, "address": CONTRACT, "eventSignature": SIGNATURE, "confirmations": 0},
)
_ANYTHING: dict[str, Any] = {
    **{name: ["*"] for name in ("chains", "assets", "recipients", "contracts", "methods")},
    **{"allowUnverifiedCalldata": True, "outflow": None, "sources": None},
}


@dataclass(slots=True)
class Calls:
    """A server on a chain, and the calls that are traced."""

    server: Composition
    pings: Pings
    store: Path
    flows: dict[str, str] = field(default_factory=dict)
    last_run: str = ""

    async def prepare(self) -> None:
        """A workflow for each call, a wallet, and a run that has ended."""
        owner = self.server.owner
        wallet = {"name": "a", "privateKey": KEYS[1], "isDefault": True}
        wallet_id = (await owner.post("/v1/wallets/import", wallet)).data["id"]
        assert (await owner.put(f"/v1/wallets/{wallet_id}/policy", {"policy": _ANYTHING})).status == 200
        for name, definition in (("pure", _PURE), ("pays", _PAYS), ("hears", _HEARS)):
            self.flows[name] = (await owner.create_workflow(definition))["id"]
        assert (await owner.post(f"/v1/workflows/{self.flows['hears']}/publish")).status == 200
        await self._until("SELECT 1 FROM subscriptions WHERE cursor LIKE '%hash%'")

    async def _until(self, query: str, *values: Any) -> None:
        """Waits until the store has a row, which enters nothing of this package."""
        with closing(sqlite3.connect(self.store)) as connection:
            async with asyncio.timeout(60):
                while connection.execute(query, values).fetchone() is None:
                    await asyncio.sleep(0.01)

    async def _start(self, flow: str) -> None:
        reply = await self._call("POST", f"/v1/workflows/{self.flows[flow]}/run")
        self.last_run = json.loads(reply.content)["data"]["runId"]
        await self._until("SELECT 1 FROM runs WHERE id = ? AND status = 'success'", self.last_run)

    async def _call(self, method: str, path: str) -> httpx.Response:
        reply = await self.server.owner.http.request(method, path)
        assert reply.status_code == 200, reply.text
        return reply

    async def run_call(self) -> None:
        """Three nodes without effects, from the request until the run has ended."""
        await self._start("pure")

    async def read_run(self) -> None:
        """`GET /v1/runs/{id}` of a run that has ended."""
        await self._call("GET", f"/v1/runs/{self.last_run}")

    async def stream(self) -> None:
        """The stream of a run that has ended, from its first event."""
        await self._call("GET", f"/v1/runs/{self.last_run}/stream")

    async def spend(self) -> None:
        """One payment, from the request until its run has ended with a final receipt."""
        await self._start("pays")

    async def chain_event(self) -> None:
        """A block with one event, from its mining until its run has ended."""
        ended = "SELECT count(*) FROM runs WHERE workflow_id = ? AND status = 'success'"
        with closing(sqlite3.connect(self.store)) as connection:
            (before,) = connection.execute(ended, (self.flows["hears"],)).fetchone()
        self.pings.send(1)
        await self._until(f"SELECT 1 WHERE ({ended}) > ?", self.flows["hears"], before + 1)  # two events a ping


@asynccontextmanager
async def served(folder: Path) -> AsyncIterator[Calls]:
    """The calls on a server with a store and a chain of its own."""
    networks = folder / "networks"
    networks.mkdir()
    described = {"chainId": CHAIN_ID, "blockTimeMs": 200, "confirmations": 1}
    (networks / "local.json").write_text(json.dumps(described))
    with Anvil("--base-fee", "0", "--gas-price", "0") as node:
        pings = Pings(node, random.Random(5))
        pings.install()
        chain = {"networks_dir": networks, "chain_endpoints": {CHAIN_ID: [node.url]}}
        async with composed(folder, **chain) as server:
            calls = Calls(server, pings, next(folder.glob("*.db")))
            await calls.prepare()
            yield calls


async def measure(folder: Path, names: Iterable[str] = tuple(RECORDED), times: int = TIMES) -> dict[str, Entered]:
    """Every call in its best passage, after one that warms up caches."""
    found: dict[str, Entered] = {}
    async with served(folder) as calls:
        for name in names:
            call = getattr(calls, name.replace(" ", "_"))
            await call()
            passages = [await entered_by(call) for _ in range(times)]
            found[name] = min(passages, key=lambda one: one.figures().moves)
    return found


def main(words: list[str]) -> int:
    """Prints the figures; with the name of a call also every function that it enters."""
    log.set_up(as_json=True, level="error")  # as in tests
    with tempfile.TemporaryDirectory() as folder:
        found = asyncio.run(measure(Path(folder)))
    for name, entered in found.items():
        print(f"{name:<12} {entered.figures()}   recorded {RECORDED[name]}")
    if words:
        print(*found[" ".join(words)].lines(), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
