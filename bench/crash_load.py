"""The users of the server that is killed: they start runs, read streams, cancel, and answer for uncertain nodes.

None of them ever does what a careful client would not: a call whose connection died is looked up, and sent again only
when the server does not know it.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from dustrun.errors import Code
from testkit.crash_workflows import KINDS, Kind
from testkit.sink import SinkProcess

_BROKEN = (aiohttp.ClientError, TimeoutError, OSError)
_WAIT_S = 0.2
_NOTHING_STARTED = "nothing was started"
_SETTLE_S = 1.0


@dataclass(slots=True)
class Seen:
    """What one user saw of one run."""

    kind: Kind
    tag: str
    run_id: str | None = None
    events: list[tuple[int, str, str]] = field(default_factory=list)
    accepted: bool = False
    cancel_answered: bool = False


class Findings:
    """What went wrong, and how often each thing happened."""

    def __init__(self) -> None:
        self.failures: list[str] = []
        self.counts: Counter[str] = Counter()

    def fail(self, what: str) -> None:
        """Something that must not happen did."""
        self.counts["failures"] += 1
        if len(self.failures) < 50:
            self.failures.append(what)


class Api:
    """The server as its users reach it, through all its lives."""

    def __init__(self, base: str, key: str, findings: Findings) -> None:
        self._base = base
        self._findings = findings
        self._session = aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {key}"},
            connector=aiohttp.TCPConnector(limit=0),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=60),
        )

    async def close(self) -> None:
        """Closes every connection."""
        await self._session.close()

    async def once(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """One call; raises what `aiohttp` raises when the connection dies."""
        options = {} if body is None else {"json": body}
        async with self._session.request(method, self._base + path, headers=headers, **options) as answer:
            found = await answer.json()
        if answer.status >= 500 and answer.status != 503:
            self._findings.fail(f"{method} {path} was answered {answer.status}: {found}")
        return answer.status, found

    async def call(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """A call that may be sent again: until it is answered, and not with 503."""
        while True:
            try:
                status, found = await self.once(method, path, body, **headers)
            except _BROKEN:
                self._findings.counts["connections_died"] += 1
            else:
                if status != 503:
                    return status, found
                self._findings.counts["answered_503"] += 1
            await asyncio.sleep(_WAIT_S)

    async def frames(self, path: str, last_id: str | None) -> AsyncIterator[tuple[str, str | None, str]]:
        """(event, id, data) of one connection to a stream. Yields `("204", None, "")` when there is nothing more."""
        headers = {} if last_id is None else {"Last-Event-ID": last_id}
        async with self._session.get(self._base + path, headers=headers) as answer:
            if answer.status == 204:
                yield "204", None, ""
            elif answer.status != 200:
                self._findings.fail(f"GET {path} was answered {answer.status}: {await answer.text()}")
                await asyncio.sleep(1)
            else:
                async for found in _parse(answer.content):
                    yield found


async def _parse(lines: aiohttp.StreamReader) -> AsyncIterator[tuple[str, str | None, str]]:
    event, id_, data = "message", None, ""
    async for raw in lines:
        line = raw.decode().rstrip("\n")
        name, _, value = line.partition(": ")
        if name == "event":
            event = value
        elif name == "id":
            id_ = value
        elif name == "data":
            data = value
        elif not line and data:
            yield event, id_, data
            event, id_, data = "message", None, ""


class User:
    """Starts one run after the other and follows each to its end."""

    def __init__(self, api: Api, sink: SinkProcess, workflows: dict[str, str], findings: Findings, seed: str) -> None:
        self._api = api
        self._sink = sink
        self._workflows = workflows
        self._findings = findings
        self._chance = random.Random(seed)
        self._seed = seed
        self._tasks: set[asyncio.Task[None]] = set()
        self.seen: list[Seen] = []
        self.resolved = 0

    async def work(self, more: asyncio.Event) -> None:
        """Runs of random kinds until `more` is set."""
        number = 0
        while not more.is_set():
            number += 1
            kind = self._chance.choice(KINDS)
            seen = Seen(kind, f"{self._seed}-{number}")
            self.seen.append(seen)
            await self._one(seen)
        await asyncio.gather(*self._tasks)

    async def _one(self, seen: Seen) -> None:
        body = self._body(seen)
        if seen.kind.name == "keyed":
            await self._post_keyed(seen, body)
            await self._follow(seen, asyncio.Event())
            return
        seen.run_id = body["runId"] = f"run_{seen.tag}"
        opened = asyncio.Event()
        reader = asyncio.create_task(self._follow(seen, opened))
        if self._chance.random() < 0.9:
            await opened.wait()
        await self._post(seen, body)
        if seen.kind.cancels:
            self._spawn(self._cancel(seen))
        await reader

    def _body(self, seen: Seen) -> dict[str, Any]:
        payload = {
            "sink": self._sink.base,
            "tag": seen.tag,
            "n": self._chance.randrange(100),
            "items": ["a", "b", "c", "d"],
            "delayMs": self._chance.randrange(50, 800),
        }
        return {"payload": payload}

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._findings.fail(f"a user broke: {error!r}")

    # --- starting ---

    async def _post(self, seen: Seen, body: dict[str, Any]) -> None:
        """A run under an id of the caller's: looked up when the connection died, sent again only when unknown."""
        path, is_unknown, refused = f"/v1/workflows/{self._workflows[seen.kind.name]}/run", False, None
        while True:
            try:
                status, found = await self._api.once("POST", path, body)
                if is_unknown and status == 400 and found["code"] == Code.RUN_ID_USED:
                    self._findings.counts["posts_found_by_their_id"] += 1
                    status = await self._look_up(seen)
            except _BROKEN:
                self._findings.counts["posts_died"] += 1
                is_unknown, status, found = True, await self._look_up(seen), None
            if status == 200:
                seen.accepted = True
                return
            if status not in (404, 503):
                self._findings.fail(f"POST of {seen.run_id} was answered {status}: {found}, after {refused}")
                return
            if status == 503 and found is not None:
                refused = found["message"]
                is_unknown = is_unknown or _NOTHING_STARTED not in refused
            await asyncio.sleep(_WAIT_S)

    async def _look_up(self, seen: Seen) -> int:
        """200 if the run is there. One that is not may still come: a database carries out what it got of a server that
        died."""
        status, _ = await self._api.call("GET", f"/v1/runs/{seen.run_id}?summary=true")
        if status == 200:
            self._findings.counts["posts_found_after_all"] += 1
        return status

    async def _post_keyed(self, seen: Seen, body: dict[str, Any]) -> None:
        """A run under an Idempotency-Key: sent again as it is whenever the connection died."""
        path = f"/v1/workflows/{self._workflows[seen.kind.name]}/run"
        headers = {"Idempotency-Key": f"key-{seen.tag}"}
        status, found = await self._api.call("POST", path, body, **headers)
        if status != 200:
            self._findings.fail(f"POST under {headers} was answered {status}: {found}")
            return
        seen.run_id, seen.accepted = found["data"]["runId"], True
        if self._chance.random() < 0.2:
            again = await self._api.call("POST", path, body, **headers)
            if again[1]["data"]["runId"] != seen.run_id:
                self._findings.fail(f"a replay under {headers} was answered {again}")

    # --- following ---

    async def _follow(self, seen: Seen, opened: asyncio.Event) -> None:
        """Reads the run's stream to its end, over as many connections as it takes."""
        while seen.run_id is not None:
            last = str(seen.events[-1][0]) if seen.events else None
            try:
                if await self._read(seen, last, opened):
                    return
            except _BROKEN:
                self._findings.counts["streams_died"] += 1
            await asyncio.sleep(_WAIT_S)
            opened.set()

    async def _read(self, seen: Seen, last: str | None, opened: asyncio.Event) -> bool:
        """One connection; whether the stream has said that it is over."""
        self._findings.counts["streams_opened"] += 1
        opening = asyncio.get_running_loop().call_later(0.02, opened.set)
        try:
            async for event, id_, data in self._api.frames(f"/v1/runs/{seen.run_id}/stream", last):
                if event in ("end", "204"):
                    self._check_end(seen, event)
                    return True
                self._take(seen, event, id_, data)
        finally:
            opening.cancel()
            opened.set()
        return False

    def _take(self, seen: Seen, event: str, id_: str | None, data: str) -> None:
        seq = int(id_ or 0)
        following = seen.events[-1][0] + 1 if seen.events else 1
        if seq != following:
            self._findings.fail(f"stream of {seen.run_id}: {seq} came where {following} was due")
        seen.events.append((seq, event, data))
        if event == "node_uncertain":
            self._spawn(self._resolve(seen, json.loads(data)))
        elif event == "node_waiting" and seen.kind.name == "waits":
            self._spawn(self._resume(seen))

    def _check_end(self, seen: Seen, event: str) -> None:
        if not seen.events or seen.events[-1][1] != "run_finished":
            self._findings.fail(f"stream of {seen.run_id} said {event!r} without run_finished")

    # --- steering ---

    async def _cancel(self, seen: Seen) -> None:
        await asyncio.sleep(self._chance.uniform(0, 0.8))
        status, found = await self._api.call("POST", f"/v1/runs/{seen.run_id}/cancel")
        seen.cancel_answered = status == 200
        self._findings.counts["cancels" if status == 200 else "cancels_too_late"] += 1
        if status not in (200, 409):
            self._findings.fail(f"cancel of {seen.run_id} was answered {status}: {found}")

    async def _resume(self, seen: Seen) -> None:
        await asyncio.sleep(self._chance.uniform(0, 0.5))
        status, found = await self._api.call("POST", f"/v1/runs/{seen.run_id}/nodes/hold/resume", {"data": {}})
        self._findings.counts["resumes"] += 1
        if status != 200:
            self._findings.fail(f"resume of {seen.run_id} was answered {status}: {found}")

    async def _resolve(self, seen: Seen, event: dict[str, Any]) -> None:
        """Answers for an uncertain node with the truth: what the sink saw."""
        await asyncio.sleep(_SETTLE_S)
        path = event["path"]
        step = path.rpartition(".")[2]
        if path.startswith("each["):
            step += path[len("each[") :].partition("]")[0]
        behaviours = ("ok", "slow", "drop", "flaky")
        counts = [await self._sink.count(f"/{behaviour}/{seen.tag}/{step}") for behaviour in behaviours]
        body: dict[str, Any] = {"outcome": "notHappened"}
        if sum(counts):
            body = {"outcome": "happened", "result": {"status": 200, "headers": {}, "body": {}, "url": ""}}
        # the answer may be lost, and the next attempt begin: sent again without a key, this would speak of that one
        key = {"Idempotency-Key": f"resolve-{seen.run_id}-{event['seq']}"}
        status, found = await self._api.call("POST", f"/v1/runs/{seen.run_id}/nodes/{path}/resolve", body, **key)
        self._findings.counts[f"resolved_{body['outcome']}" if status == 200 else "resolved_by_then"] += 1
        if status not in (200, 409):
            self._findings.fail(f"resolve of {seen.run_id} {path} was answered {status}: {found}")


class ActivityReader:
    """Reads the organisation's stream of starts, waits and ends across all the server's lives."""

    def __init__(self, api: Api, findings: Findings) -> None:
        self._api = api
        self._findings = findings
        self.entries: list[tuple[int, str, int]] = []
        self._reading: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Reads from now on, beside the caller."""
        self._reading = asyncio.create_task(self.work())

    async def stop(self) -> None:
        """Reads no more."""
        assert self._reading is not None
        self._reading.cancel()
        (ended,) = await asyncio.gather(self._reading, return_exceptions=True)
        if not isinstance(ended, asyncio.CancelledError):
            self._findings.fail(f"the reader of the activity broke: {ended!r}")

    async def work(self) -> None:
        """Reads until it is cancelled."""
        while True:
            last = str(self.entries[-1][0]) if self.entries else "0"
            try:
                async for _event, id_, data in self._api.frames("/v1/activity/stream", last):
                    if id_ is None:  # a notice, which is of no run
                        continue
                    found = json.loads(data)
                    self.entries.append((int(id_), found["runId"], found["seq"]))
            except _BROKEN:
                self._findings.counts["activity_streams_died"] += 1
            await asyncio.sleep(_WAIT_S)
