"""Callers, approvers, editors, senders and readers: what they do, and what they were told.

All of them go on over the server's deaths, and repeat what got no answer, as careful clients do.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from dustrun import clock
from testkit.simulation import flows
from testkit.simulation.server import LostAnswer, Server

Json = dict[str, Any]
_LATER: Final = (429, 503)
_PENDING: Final = 409
_ITEM = re.compile(r"\[(\d+)\]")


@dataclass(slots=True)
class Facts:
    """What the world is made of before anything happens: ids, keys and addresses."""

    owner: str = ""
    keys: list[str] = field(default_factory=list)
    workflows: dict[str, str] = field(default_factory=dict)
    hook_path: str = ""
    secrets: list[str] = field(default_factory=list)
    attacked: dict[str, str] = field(default_factory=dict)
    """In a world with attacks: ids and keys by their names in `attacks`."""

    one_hand: list[str] = field(default_factory=list)
    """Ids of keys that one key has made, and that are one hand with it."""


@dataclass(slots=True)
class Told:
    """What the server acknowledged to people, and what streams showed to readers."""

    runs: dict[str, str] = field(default_factory=dict)
    """By the caller's tag, the run that it got."""

    hooks: set[str] = field(default_factory=set)
    decisions: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    payments: dict[str, tuple[str, int]] = field(default_factory=dict)
    """By the caller's tag, whom a payment goes to, and how much it is."""

    versions: list[int] = field(default_factory=list)
    stories: list[tuple[str, list[tuple[int, str]]]] = field(default_factory=list)
    """Of each reader the run, and the number and data of each event."""


class People:
    """Everybody outside. `posted` says whether the sink has what a run, or an item of it, sends."""

    def __init__(
        self, server: Server, facts: Facts, chance: random.Random, posted: Callable[[str, str], Any], until_s: float
    ) -> None:
        self.server = server
        self.facts = facts
        self.told = Told()
        self.moments: list[float] = []
        """Times at which many do something at once."""

        self.deadly: dict[str, int] = {}
        """After which call or payment the server dies, and with which commit from then on."""

        self.does: Callable[[str], bool] = lambda _deed: True
        """Whether somebody does what they would, or it is left out."""

        self._chance = chance
        self._posted = posted
        self._until_s = until_s

    def begin(self, calls: int, hooks: int, pays: int) -> None:
        """Everybody gets up."""
        loop = self.server.loop
        for number in range(calls):
            loop.outside(self._later(self._call, "call", number))
        for number in range(hooks):
            loop.outside(self._later(self._deliver, "hook", number))
        for key in self.facts.keys[:2]:
            loop.outside(self._approve(key))
        loop.outside(self._approve_late(self.facts.keys[2]))
        for number in range(pays):
            loop.outside(self._later(self._pay, "pay", number))
        loop.outside(self._edit())
        loop.outside(self._settle())

    async def _later(self, work: Callable[[int], Awaitable[None]], what: str, number: int) -> None:
        at = self._chance.random() * self._until_s
        if self._chance.random() < 0.5:
            at = self._chance.choice(self.moments) + self._chance.random() * 30
        await asyncio.sleep(at)
        if self.does(f"{what}-{number}"):
            await work(number)

    async def insist(self, method: str, path: str, body: Any = None, *, key: str, once: str = "") -> tuple[int, Json]:
        """Repeats until there is an answer that is no refusal for now; `once`: the idempotency key."""
        headers = {"authorization": f"Bearer {key}"} | ({"idempotency-key": once} if once else {})
        while True:
            try:
                status, answer = await self.server.ask(method, path, body, headers)
            except LostAnswer:
                await asyncio.sleep(1 + self._chance.random() * 3)
                continue
            if status not in _LATER:
                return status, answer
            await asyncio.sleep(2)

    async def _call(self, number: int) -> None:
        flow = self._chance.choice(("call", "call", "calling", "calling", "ask", "hurry", "loop", "lured"))
        if is_deadly := f"call-{number}" in self.deadly:
            flow = self._chance.choice(("call", "calling"))
        tag, key = f"{flow}-{number}", self._chance.choice(self.facts.keys)
        payload: Json = {"tag": tag, "delayMs": self._chance.choice((0, 5_000, 600_000, 3_600_000))}
        payload["briefMs"] = payload["delayMs"] // 3
        payload["items"] = list(range(self._chance.randrange(1, 5)))
        body: Json = {"payload": payload}
        if is_deadly:  # where a call or a reader is in the middle of something
            payload["delayMs"] = 5_000
            after_s = self._chance.random() * 8 if flow == "call" else 0.0
            self.server.loop.outside(self._kill(f"call-{number}", after_s))
        if reads := is_deadly or self._chance.random() < 0.4:
            body["runId"] = f"run_{tag}"
            for _ in range(2):
                self.server.loop.outside(self._read(f"run_{tag}", key))
        path = f"/v1/workflows/{self.facts.workflows[flow]}/run"
        while True:
            status, answer = await self.insist("POST", path, body, key=key, once=f"key-{tag}")
            if status == 200:
                self.told.runs[tag] = answer["data"]["runId"]
                return
            if status != _PENDING:
                self.server.troubles.append(f"the call of {tag} ({reads=}) was answered {status}: {answer}")
                return
            await asyncio.sleep(1)

    async def _kill(self, what: str, after_s: float) -> None:
        await asyncio.sleep(after_s)
        self.server.loop.kill_after(self.deadly[what], "commit")

    async def _pay(self, number: int) -> None:
        """Pays some tenths of what the wallet may spend in an hour to an address of its own."""
        if f"pay-{number}" in self.deadly:
            self.server.loop.outside(self._kill(f"pay-{number}", 0.0))
        tag, units = f"pay-{number}", self._chance.randrange(1, 5) * flows.LIMIT_UNITS // 10 + number
        self.told.payments[tag] = (f"0x{0xD0_0000 + number:040x}", units)
        payload = {"tag": tag, "to": self.told.payments[tag][0], "amount": str(units)}
        path = f"/v1/workflows/{self.facts.workflows['pay']}/run"
        status = _PENDING
        while status == _PENDING:
            status, answer = await self.insist(
                "POST", path, {"payload": payload}, key=self.facts.owner, once=f"key-{tag}"
            )
            await asyncio.sleep(1)
        if status == 200:
            self.told.runs[tag] = answer["data"]["runId"]
        else:
            self.server.troubles.append(f"{tag} was answered {status}: {answer}")

    async def _deliver(self, number: int) -> None:
        """A sender repeats until it is told 2xx, and sometimes afterwards."""
        again = self._chance.randrange(3)
        while again >= 0:
            try:
                headers = {"x-event": f"event-{number}"}
                status, _ = await self.server.ask("POST", self.facts.hook_path, {"tag": f"hook-{number}"}, headers)
            except LostAnswer:
                await asyncio.sleep(5)
                continue
            if status in (200, 202):
                self.told.hooks.add(f"hook-{number}")
                again -= 1
            await asyncio.sleep(1 + self._chance.random() * 30)

    async def _approve(self, key: str) -> None:
        """Decides what is open, one way and sometimes the other way too."""
        while True:
            await asyncio.sleep(200 + self._chance.random() * 800)
            _, found = await self.insist("GET", "/v1/approvals?status=pending", key=key)
            for one in found["data"]["items"]:
                verbs = self._chance.sample(("approve", "reject"), self._chance.choice((1, 1, 2)))
                if len(verbs) == 2 and self._chance.random() < 0.5:  # from two windows at once
                    self.server.loop.outside(self._decide(one["id"], verbs.pop(), key))
                for verb in verbs:
                    await self._decide(one["id"], verb, key)
                if self._chance.random() < 0.3:  # minutes later, from a list that is old
                    self.server.loop.outside(self._decide(one["id"], "approve", key, 30 + self._chance.random() * 200))

    async def _decide(self, approval_id: str, verb: str, key: str, after_s: float = 0.0) -> None:
        await asyncio.sleep(after_s)
        status, answer = await self.insist("POST", f"/v1/approvals/{approval_id}/{verb}", key=key)
        if status == 200 and answer["data"]["status"] != "pending":  # else it is one of several votes
            self.told.decisions[approval_id].add(answer["data"]["status"])

    async def _approve_late(self, key: str) -> None:
        """Decides in the moment in which a question expires."""
        done = set[str]()
        while True:
            await asyncio.sleep(100)
            _, found = await self.insist("GET", "/v1/approvals?status=pending", key=key)
            for one in found["data"]["items"]:
                left_s = datetime.fromisoformat(one["expiresAt"]).timestamp() - clock.now_ms() / 1000
                if left_s < 120 and one["id"] not in done:
                    done.add(one["id"])
                    after_s = max(0.0, left_s - self._chance.choice((0.1, 0.06, 0.04, 0.02, 0.0)))
                    verb = self._chance.choice(("approve", "reject"))
                    self.server.loop.outside(self._decide(one["id"], verb, key, after_s))

    async def _edit(self) -> None:
        """Publishes the called workflow again while runs of it are open."""
        version = 1
        workflow = self.facts.workflows["call"]
        while True:
            await asyncio.sleep(600 + self._chance.random() * 3000)
            version += 1
            body = {"definition": flows.calls(version)}
            status, _ = await self.insist("PUT", f"/v1/workflows/{workflow}", body, key=self.facts.owner)
            if status == 200:
                await self.insist("POST", f"/v1/workflows/{workflow}/publish", {}, key=self.facts.owner)
                self.told.versions.append(version)

    async def _settle(self) -> None:
        """Looks up at the sink what became of uncertain writes, and says so."""
        while True:
            await asyncio.sleep(300 + self._chance.random() * 900)
            _, found = await self.insist("GET", "/v1/runs?status=waiting&limit=100", key=self.facts.owner)
            for run in found["data"]["items"]:
                await self._settle_run(run["id"])

    async def _settle_run(self, run_id: str) -> None:
        _, answer = await self.insist("GET", f"/v1/runs/{run_id}", key=self.facts.owner)
        for path, state in uncertain_in(answer["data"]["executionState"]):
            item = _ITEM.search(path)
            happened = bool(self._posted(run_id, item.group(1) if item else ""))
            body: Json = {"outcome": "happened" if happened else "notHappened", "attempt": state["attempt"]}
            if happened:
                body["result"] = {"status": 200}
            await self.insist("POST", f"/v1/runs/{run_id}/nodes/{path}/resolve", body, key=self.facts.owner)

    async def _read(self, run_id: str, key: str) -> None:
        """Reads a run's stream to its end, whatever breaks in between."""
        story: list[tuple[int, str]] = []
        self.told.stories.append((run_id, story))
        rest = b""

        def heard(part: bytes) -> None:
            nonlocal rest
            *whole, rest = (rest + part).split(b"\n\n")
            for text in whole:
                fields = dict(line.split(": ", 1) for line in text.decode().splitlines() if ": " in line)
                if "id" in fields:
                    story.append((int(fields["id"]), fields["data"]))

        status = 0
        while status != 204:
            rest = b""
            last = {"last-event-id": str(story[-1][0])} if story else {}
            try:
                given = {"authorization": f"Bearer {key}", **last}
                status, _ = await self.server.ask("GET", f"/v1/runs/{run_id}/stream", None, given, heard)
            except LostAnswer:
                status = 0
            await asyncio.sleep(1)


def uncertain_in(state: Json, frame: str = "") -> list[tuple[str, Json]]:
    """Paths and states of the uncertain nodes of a run, those of loop items too."""
    found = [(frame + node_id, one) for node_id, one in state.items() if one["status"] == "uncertain"]
    for node_id, one in state.items():
        for index, item in enumerate(one.get("iterations", ())):
            found += uncertain_in(item, f"{frame}{node_id}[{index}].")
    return found
