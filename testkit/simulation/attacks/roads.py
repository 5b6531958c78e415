"""People who may not spend, and try to have the owner's workflows pay: the roads that outsiders once found.

Each road is a workflow of the owner that pays one unit to a shop of its own, and something that shapes what it pays.
The owner runs it, somebody without `wallet:spend` changes that something, and the owner runs it again: that must ask.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

from testkit.simulation import flows
from testkit.simulation.people import People

Json = dict[str, Any]
MUCH: Final = 10**15
"""What an attack would have a road pay; honest runs pay 1, and few of them."""
THIEF: Final = f"0x{0x7_41EF:040x}"
NEEDS_ACCEPTANCE: Final = 409011
_FORBIDDEN: Final = (403,)
EDITOR: Final = (
    *("workflow:create", "workflow:read", "workflow:update", "workflow:publish", "workflow:execute", "run:read"),
    *("table:write", "table:read", "connector:write", "connector:read", "workflow:delete"),
)
SPENDER: Final = ("workflow:execute", "workflow:read", "run:read", "wallet:spend", "approval:decide", "key:write")
SIBLING: Final = ("approval:decide", "run:read")
SAYS: Final = "{{ask.result.result.message}}"
DEFS: Final = ({"name": "v", "type": "any", "default": "1", "lifetime": "persist"},)
ROADS: Final = (
    "a called workflow gives the amount",
    "a called workflow gives the recipient",
    "a called workflow decides whether",
    "a row is written",
    "a variable is written",
    "the workflow is renamed",
    "a connector is moved",
    "a draft is published",
    "a workflow is archived and restored",
    "a wait is resumed",
    "a paused workflow is resumed",
    "four eyes of one key",
)
REFUSED: Final = frozenset(["a wait is resumed", "a paused workflow is resumed"])
"""Where the attack itself is refused; elsewhere it is let through, and the spend asks."""


def shop_of(road: str) -> str:
    """Whom a road pays."""
    return f"0x{0xA77AC0 + ROADS.index(road):040x}"


def name_of(road: str) -> str:
    """The name of a road's workflow."""
    return f"road: {road}"


@dataclass(slots=True)
class Seen:
    """What became of the attacks: of each road, how many honest runs the owner began, and starts that were refused."""

    began: dict[str, int] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)
    unasked: list[str] = field(default_factory=list)
    """What went unasked that must not."""


def define(nodes: Json, *, root: Json | None = None, defs: tuple[Json, ...] = ()) -> Json:
    """A definition whose root leads to the nodes that nobody names."""
    named = {child for one in nodes.values() for child in one.get("children", ())}
    first = [one for one in nodes if one not in named]
    start = {"type": "manual", **(root or {}), "children": first}
    return {"nodes": {"root": start, **nodes}, "triggerNodeIds": ["root"], "variableDefs": [*defs]}


def _say(text: str) -> Json:
    return {"type": "log", "payload": {"message": text}}


class Roads:
    """Makes the workflows of all roads, as the owner, before the world begins."""

    def __init__(self, made: Callable[[str, Any], Awaitable[Any]], facts: Any) -> None:
        self._made = made
        self._facts = facts
        self.ids: dict[str, str] = facts.attacked

    async def make(self, wallet_id: str) -> None:
        """All of them, and the keys of those who attack."""
        made, ids = self._made, self.ids
        ids["wallet"] = wallet_id
        for name, permissions in (("editor", EDITOR), ("spender", SPENDER)):
            key = await made("/v1/api-keys", {"name": name, "permissions": [*permissions]})
            ids[name] = key["key"]
        columns = [{"name": "id", "type": "text"}, {"name": "n", "type": "text"}]
        await made("/v1/tables", {"name": "prices", "primaryKey": "id", "columns": columns})
        await made("/v1/tables/prices/rows", {"mode": "upsert", "rows": [{"id": "a", "n": "1"}]})
        for road in ROADS[:3]:
            await self._make_called(road)
        read = {"type": "read-table", "payload": {"table": "prices"}, "children": ["pay"]}
        await self._add(
            "a row is written", {"read": read, "pay": self._pay("a row is written", "{{read.result.first.n}}")}
        )
        await self._add("a variable is written", {"pay": self._pay("a variable is written", "{{$vars.v}}")}, defs=DEFS)
        await self._make_renamed()
        await self._make_asking_outside()
        for road in ("a draft is published", "a workflow is archived and restored"):
            await self._make_published(road)
        wait = {"type": "wait", "payload": {"timeoutMs": 900_000}, "children": ["pay"]}
        resumed = self._pay("a wait is resumed", "{{string(wait.result.n ?? 1)}}")
        await self._add("a wait is resumed", {"wait": wait, "pay": resumed})
        await self._add("a paused workflow is resumed", {"pay": self._pay("a paused workflow is resumed", "1")})
        await self._publish("a paused workflow is resumed")
        await made(f"/v1/workflows/{ids['a paused workflow is resumed']}/pause", {})
        much = str(flows.MUCH_UNITS + 1)
        await self._add("four eyes of one key", {"pay": self._pay("four eyes of one key", much)})

    def _pay(self, road: str, amount: str, to: str = "", **more: Any) -> Json:
        payload = {"chainId": flows.CHAIN_ID, "recipient": to or shop_of(road), "amount": amount}
        retry = {"maxAttempts": 6, "backoffMs": 5000}
        wallet = {"type": "wallet", "id": self.ids["wallet"]}
        return {"type": "send-native", "payload": payload, "connector": wallet, "retry": retry, **more}

    async def _workflow(self, name: str, definition: Json) -> str:
        workflow = await self._made("/v1/workflows", {"name": name, "description": "", "definition": definition})
        return str(workflow["id"])

    async def _add(self, road: str, nodes: Json, **more: Any) -> None:
        self.ids[road] = await self._workflow(name_of(road), define(nodes, **more))

    async def _publish(self, road: str) -> None:
        await self._made(f"/v1/workflows/{self.ids[road]}/publish", {})

    async def _make_called(self, road: str) -> None:
        says = {ROADS[0]: "1", ROADS[1]: shop_of(road), ROADS[2]: "no"}[road]
        helper = self.ids[f"{road}: called"] = await self._workflow("helper", define({"say": _say(says)}))
        ask: Json = {"type": "call-workflow", "payload": {"workflowId": helper}, "children": ["pay"]}
        nodes: Json = {"ask": ask, "pay": self._pay(road, SAYS)}
        if road == ROADS[1]:
            nodes["pay"] = self._pay(road, "1", to=SAYS)
        if road == ROADS[2]:
            test = {"type": "if", "payload": {"expression": "ask.result.result.message == 'yes'"}, "children": ["pay"]}
            nodes = {"ask": {**ask, "children": ["test"]}, "test": test}
            nodes["pay"] = self._pay(road, str(MUCH), branch="then")
        await self._add(road, nodes)

    async def _make_published(self, road: str) -> None:
        """What is called is live, and the owner's draft of it pays more than it shall yet."""
        helper = self.ids[f"{road}: called"] = await self._workflow("helper", define({"say": _say("1")}))
        await self._made(f"/v1/workflows/{helper}/publish", {})
        self.ids[f"{road}: draft"] = str(MUCH)
        ask: Json = {"type": "call-workflow", "payload": {"workflowId": helper}, "children": ["pay"]}
        await self._add(road, {"ask": ask, "pay": self._pay(road, SAYS)})

    async def _make_renamed(self) -> None:
        road = "the workflow is renamed"
        named = "{{$workflow.name == '" + name_of(road) + "' ? '1' : '" + str(MUCH) + "'}}"
        await self._add(road, {"pay": self._pay(road, named)})

    async def _make_asking_outside(self) -> None:
        road, data = "a connector is moved", {"token": flows.SECRET}
        body = {"type": "http-bearer", "name": "prices", "data": data, "allowedHosts": ["http://price.example"]}
        connector = self.ids[f"{road}: connector"] = (await self._made("/v1/connectors", body))["id"]
        payload = {"method": "GET", "url": "http://price.example/n", "timeoutMs": 20_000}
        ask = {
            **{"type": "http-request", "payload": payload, "children": ["pay"]},
            **{"connector": {"type": "http-bearer", "id": connector}, "retry": {"maxAttempts": 6, "backoffMs": 1000}},
        }
        await self._add(road, {"ask": ask, "pay": self._pay(road, "{{string(ask.result.body.n)}}")})


class Attackers:
    """Carries out attacks while everything else goes wrong too."""

    def __init__(self, people: People, facts: Any, chance: random.Random) -> None:
        self.seen = Seen()
        self._people = people
        self._facts = facts
        self._ids: dict[str, str] = facts.attacked
        self._chance = chance
        self._is_attacked = set[str]()

    def begin(self, until_s: float) -> None:
        """Each road at a time of its own, if it is not left out."""
        for road in ROADS:
            at = self._chance.random() * until_s * 0.7
            if self._people.does(f"attack: {road}"):
                self._people.server.loop.outside(self._attack_at(at, road))

    async def _attack_at(self, at: float, road: str) -> None:
        await asyncio.sleep(at)
        if road == "four eyes of one key":
            return await self._make_hands(road)
        if road not in ("a paused workflow is resumed", ROADS[2]):
            await self._run(road, "before")
        await asyncio.sleep(self._chance.choice((0.0, 0.5, 5.0, 600.0)))
        await self._change(road)
        for number in range(2):
            await asyncio.sleep(self._chance.choice((0.0, 0.1, 30.0, 300.0)))
            if road not in REFUSED:
                await self._run(road, f"after-{number}")

    async def _run(self, road: str, when: str, key: str = "", amount: int = 1) -> str:
        """The owner, or another key, starts a road's workflow; the run's id if it began."""
        path, tag = f"/v1/workflows/{self._ids[road]}/run", f"{road} {when}"
        body = {"payload": {"tag": tag, "amount": str(amount)}}
        is_after = road in self._is_attacked
        while True:
            status, answer = await self._people.insist(
                "POST", path, body, key=key or self._facts.owner, once=f"key-{tag}".replace(" ", "-")
            )
            if status != 409 or answer["code"] == NEEDS_ACCEPTANCE:
                break
            await asyncio.sleep(1)
        if status == 200:
            self.seen.began[road] = self.seen.began.get(road, 0) + 1
            if is_after:
                self.seen.unasked.append(f"{road}: a run began after the attack, and nobody was asked")
            return str(answer["data"]["runId"])
        self.seen.refused[road] = self.seen.refused.get(road, 0) + 1
        if not is_after and road not in self._is_attacked:
            self._people.server.troubles.append(f"{tag} was answered {status}: {answer}")
        return ""

    async def _change(self, road: str) -> None:
        """The attack itself, as whoever may not spend."""
        ids, mine = self._ids, self._ids["editor"]
        if road in ROADS[:3]:
            says = {ROADS[0]: str(MUCH), ROADS[1]: THIEF, ROADS[2]: "yes"}[road]
            body = {"definition": define({"say": _say(says)})}
            return await self._done(road, "PUT", f"/v1/workflows/{ids[f'{road}: called']}", body)
        if road == "a row is written":
            rows = {"mode": "upsert", "rows": [{"id": "a", "n": str(MUCH)}]}
            return await self._done(road, "POST", "/v1/tables/prices/rows", rows)
        if road == "a variable is written":
            path = f"/v1/workflows/{ids[road]}/variables/v/value"
            return await self._done(road, "POST", path, {"value": str(MUCH)})
        if road == "the workflow is renamed":
            return await self._done(road, "PUT", f"/v1/workflows/{ids[road]}", {"name": "seven"})
        if road == "a connector is moved":
            change = {"data": {"token": "a-token-of-the-editor"}, "allowedHosts": ["http://price.example"]}
            return await self._done(road, "PUT", f"/v1/connectors/{ids[f'{road}: connector']}", change)
        if f"{road}: draft" in ids:
            return await self._publish_draft(road)
        if road == "a wait is resumed":
            return await self._resume_wait(road)
        status, answer = await self._people.insist("POST", f"/v1/workflows/{ids[road]}/resume", None, key=mine)
        if status not in _FORBIDDEN:
            self.seen.unasked.append(f"{road}: that was answered {status}: {answer}")

    async def _done(self, road: str, method: str, path: str, body: Any) -> None:
        """A change that is let through, and from which on the spend must ask."""
        status, answer = await self._people.insist(method, path, body, key=self._ids["editor"])
        if status in (200, 409):  # 409: it was done before, and the answer was lost
            self._is_attacked.add(road)
        else:
            self._people.server.troubles.append(f"{road}: the attack was answered {status}: {answer}")

    async def _publish_draft(self, road: str) -> None:
        path = f"/v1/workflows/{self._ids[f'{road}: called']}"
        draft = {"definition": define({"say": _say(str(MUCH))})}
        await self._people.insist("PUT", path, draft, key=self._facts.owner)
        if "archived" not in road:
            return await self._done(road, "POST", f"{path}/publish", {})
        await self._people.insist("DELETE", path, None, key=self._ids["editor"])
        await self._done(road, "POST", f"{path}/unarchive", None)

    async def _resume_wait(self, road: str) -> None:
        """A run of the owner waits, and somebody else says how much it pays."""
        run_id = await self._run(road, "waiting")
        path = f"/v1/runs/{run_id}/nodes/wait/resume"
        for _ in range(3):
            await asyncio.sleep(5)
            status, answer = await self._people.insist("POST", path, {"data": {"n": MUCH}}, key=self._ids["editor"])
            if status not in (*_FORBIDDEN, 404, 409):
                self.seen.unasked.append(f"{road}: that was answered {status}: {answer}")

    async def _make_hands(self, road: str) -> None:
        """A key makes two others, and all three are one hand."""
        people, mine = self._people, self._ids["spender"]
        siblings = []
        for number in range(2):
            body = {"name": f"sibling {number}", "permissions": [*SIBLING]}
            status, answer = await people.insist("POST", "/v1/api-keys", body, key=mine)  # a lost one makes no harm
            if status != 200:
                people.server.troubles.append(f"{road}: a key was answered {status}: {answer}")
                return
            siblings.append(answer["data"]["key"])
            self._facts.one_hand.append(answer["data"]["id"])
        run_id = await self._run(road, "above", key=mine, amount=flows.MUCH_UNITS + 1)
        for _ in range(40):
            await asyncio.sleep(10)
            _, found = await people.insist("GET", "/v1/approvals?status=pending&limit=100", key=siblings[0])
            for one in found["data"]["items"]:
                if one["runId"] == run_id:
                    for sibling in siblings:
                        await people.insist("POST", f"/v1/approvals/{one['id']}/approve", None, key=sibling)
                    return
