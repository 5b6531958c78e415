"""Kills a real server in the middle of turns of the assistant, again and again, and holds what is left against what was
shown.

    scripts/soak turns [--scale KILLS] [--seed S] [--store postgresql]

Each turn simulates a workflow, proposes to launch it, and waits for a person, who approves; a quarter is stopped at a
random moment instead. The kill comes at a random moment, too. At the end of each turn: no part and no event that was
seen is missing or changed, no model was asked the same twice or after a stop, and a proposal started one run if it was
approved, and none otherwise.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp

from testkit.composition import DEFINITION
from testkit.model_server import Asked, ModelServer, Reply, serving_model
from testkit.postgres import Cluster
from testkit.server_process import ServerProcess
from testkit.turn_scripts import launching, results_in

Json = dict[str, Any]
_SETTINGS: Final = {
    "outbound_allow": "127.0.0.1",
    "rate_limit_per_second": "0",
    "assistant_day_usd": "1000",
    "stream_heartbeat_s": "0.2",
}
_READY_S: Final = 180.0
_TURN_S: Final = 600.0  # a start among others on a busy machine
_MOST_PARTS: Final = 12
_STOPS: Final = 0.25
_WORDS: Final = "Word by word, so that a kill can come in the middle of it. " * 6


@dataclass(slots=True)
class World:
    """A server that is killed, its model, and what went wrong."""

    server: ServerProcess
    models: ModelServer
    chance: random.Random
    http: aiohttp.ClientSession
    workflow: str = ""
    asked: Counter[tuple[str, int]] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    approved: int = 0
    stopped: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    stages: Counter[str] = field(default_factory=Counter)

    def script(self, asked: Asked) -> Reply:
        """Simulates, proposes, and tells; counts what it was asked."""
        said = [one["content"] for one in asked.messages if one["role"] == "user"][-1]
        self.asked[said, len(results_in(asked))] += 1
        reply = launching(self.workflow)(asked)
        return Reply(_WORDS + reply.text, reply.calls, pause_s=0.002, delay_s=self.chance.uniform(0, 0.05))

    def asked_in(self, turn: str) -> int:
        """How often its model was asked."""
        return sum(count for (said, _), count in self.asked.items() if said == turn)

    async def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """One call of the owner, repeated while nobody answers."""
        headers = {"Authorization": f"Bearer {self.server.owner_key}"}
        while True:
            try:
                url = f"{self.server.base}{path}"
                async with self.http.request(method, url, json=body, headers=headers) as answer:
                    if answer.status != 503:
                        return answer.status, (await answer.json()).get("data")
            except (aiohttp.ClientError, TimeoutError, OSError):
                pass
            await asyncio.sleep(0.02)


def run(scale: int | None, seed: int, store: str = "sqlite") -> Json:
    """`scale` turns (default 100) with a kill each, when the message has a random number of parts."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dustrun-turns-")))
        settings = dict(_SETTINGS)
        if store != "sqlite":
            cluster = Cluster()
            stack.callback(cluster.end)
            settings["database_url"] = cluster.fresh()
        return asyncio.run(_run(folder, settings, scale or 100, seed))


async def _run(folder: Path, settings: dict[str, str], turns: int, seed: int) -> Json:
    server = ServerProcess(folder / "data", settings)
    timeout = aiohttp.ClientTimeout(total=30)
    async with serving_model(Reply("x")) as models, aiohttp.ClientSession(timeout=timeout) as http:
        world = World(server, models, random.Random(seed), http)
        models.script = world.script
        try:
            server.start()
            await server.wait_ready(_READY_S)
            await world.call("POST", "/v1/connectors", models.connector())
            made = {"name": "flow", "description": "", "definition": DEFINITION}
            world.workflow = (await world.call("POST", "/v1/workflows", made))[1]["id"]
            for number in range(turns):
                async with asyncio.timeout(_TURN_S):
                    await _turn(world, f"turn {number}")
            started = await _live_runs(world)
            if started != world.approved:
                world.failures.append(f"{started} live runs after {world.approved} approvals")
        finally:
            await server.stop()
    world.failures += [
        f"{said} was asked {n} times with {at} results" for (said, at), n in world.asked.items() if n > 1
    ]
    return {
        "turns": turns,
        "kills": server.lives - 1,
        "approved": world.approved,
        "stopped": world.stopped,
        "ends": dict(world.ends),
        "killed after": dict(world.stages),
        "failures": world.failures[:20],
    }


async def _turn(world: World, name: str) -> None:
    """One turn with one kill."""
    chat = (await world.call("POST", "/v1/conversations", {}))[1]["id"]
    begun = (await world.call("POST", f"/v1/conversations/{chat}/turns", {"text": name}))[1]["messageId"]
    place = f"/v1/conversations/{chat}/messages/{begun}"
    seen: list[Json] = []
    target = world.chance.randint(0, _MOST_PARTS)
    stop_at = world.chance.randint(0, _MOST_PARTS) if world.chance.random() < _STOPS else None
    asked_before_stop: int | None = None
    killed = approved = False
    message_status = "streaming"
    while True:
        if not killed and (len(seen) >= target):
            await asyncio.sleep(world.chance.uniform(0, 0.15))
            shown = await _events(world, chat, at_once=True)
            world.stages[f"{message_status} {shown[-1]['type'] if shown else 'nothing'}"] += 1
            world.server.kill()
            world.server.start()
            killed = True
            later = await _events(world, chat)
            if later[: len(shown)] != shown:
                world.failures.append(f"{name}: events that were shown are missing or changed")
        message = (await world.call("GET", place))[1]
        if not _grown(seen, message["parts"]):
            world.failures.append(f"{name}: parts that were shown are missing or changed")
        seen, message_status = message["parts"], message["status"]
        if message["status"] in ("complete", "failed"):
            if killed:
                break
            target = 0
        elif stop_at is not None and len(seen) >= stop_at and asked_before_stop is None and not approved:
            await world.call("POST", f"/v1/conversations/{chat}/turns/{begun}/stop")
            asked_before_stop = world.asked_in(name)
            continue
        is_open = message["status"] == "waiting" and asked_before_stop is None
        if is_open and (killed or target > len(seen)) and world.chance.random() < 0.3:
            approved = await _approve(world, seen) or approved
        await asyncio.sleep(0.01)
    asked = [part["runId"] for part in seen if part["type"] == "approval"]
    live, asks = 0, bool(asked)
    for run_id in asked:
        live += (await world.call("GET", f"/v1/runs/{run_id}"))[0] == 200
    world.approved += approved
    world.stopped += message["failure"] == "STOPPED"
    if asked_before_stop not in (None, world.asked_in(name)):
        world.failures.append(f"{name}: its model was asked after it was stopped")
    if live != approved or (message["status"] == "complete") > approved or (approved and not asks):
        world.failures.append(f"{name}: {live} runs after {'an' if approved else 'no'} approval ({message['status']})")
    world.ends[message["failure"] or message["status"]] += 1


async def _live_runs(world: World) -> int:
    found, has_more = 0, True
    while has_more:
        page = (await world.call("GET", f"/v1/runs?mode=live&limit=50&offset={found}"))[1]
        found, has_more = found + len(page["items"]), page["hasMore"]
    return found


async def _approve(world: World, parts: list[Json]) -> bool:
    question = next(part for part in parts if part["type"] == "approval")
    path = f"/v1/approvals/{question['approvalId']}/approve"
    status, _ = await world.call("POST", path, {"binding": question["binding"]})
    return status in (200, 409)  # 409: an earlier click arrived, and its answer did not


async def _line(answer: aiohttp.ClientResponse, *, at_once: bool) -> bytes:
    try:
        async with asyncio.timeout(0.05 if at_once else None):
            return await answer.content.readline()
    except TimeoutError:
        return b""


async def _events(world: World, chat: str, *, at_once: bool = False) -> list[Json]:
    """The conversation's events so far, up to the first heartbeat: the server sends one when there is nothing more.
    `at_once`: those that come without a pause, so that the answer still goes on."""
    headers = {"Authorization": f"Bearer {world.server.owner_key}"}
    url = f"{world.server.base}/v1/conversations/{chat}/stream"
    while True:
        found: list[Json] = []
        try:
            async with world.http.get(url, headers=headers) as answer:
                while line := await _line(answer, at_once=at_once and bool(found)):
                    if line.startswith(b"data: "):
                        found.append(json.loads(line[6:]))
                    elif line.startswith(b": heartbeat"):
                        break
                else:
                    if not at_once:
                        continue  # it was cut off
        except (aiohttp.ClientError, TimeoutError, OSError):
            await asyncio.sleep(0.02)
            continue
        if [one["seq"] for one in found] != list(range(1, len(found) + 1)):
            world.failures.append(f"{chat}: the numbers of its events have a gap")
        return found


def _grown(old: list[Json], new: list[Json]) -> bool:
    """Whether parts were only added; the last text may have grown, and a question may have been decided."""
    if len(new) < len(old):
        return False
    for before, after in zip(old, new, strict=False):
        if before["type"] == after["type"] == "text" and after["text"].startswith(before["text"]):
            continue
        if before["type"] == after["type"] == "approval":
            before, after = ({**one, "decision": None} for one in (before, after))
        if before != after:
            return False
    return True
