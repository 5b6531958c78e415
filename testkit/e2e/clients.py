"""The clients of the guide as processes, and the recorders that run inside a browser's page."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from testkit.e2e.browser import Page
from testkit.e2e.guide import snippet
from testkit.e2e.node import FOLDER, npm_install
from testkit.e2e.server import Server

Events = list[dict[str, Any]]
Start = Callable[..., "Program"]

# an EventSource left to itself: it is never closed, so only the server's 204 can stop it
BARE = """
window.bare = {events: [], ends: 0, source: new EventSource(%(url)s)};
for (const type of TYPES) bare.source.addEventListener(type, (message) => bare.events.push(JSON.parse(message.data)));
bare.source.addEventListener("end", () => bare.ends++);
"""
# the function of the guide, as a page would use it
GUIDED = """
window.guided = {events: [], ends: 0};
guided.source = follow(%(url)s, (event) => guided.events.push(event), () => guided.ends++);
"""


def command_of(name: str) -> list[str]:
    """How a program of the guide is started."""
    code = snippet(name)
    if name in ("fetch", "eventsource"):
        return ["node", "--input-type=module", "--eval", code]
    if name in ("requests", "idempotent"):
        return [sys.executable, "-c", code]
    return ["bash", "-euo", "pipefail", "-c", code]


class Program:
    """One program of the guide at work; what it prints goes to a file."""

    def __init__(self, name: str, server: Server, folder: Path, **variables: str) -> None:
        self.name = name
        self._output = folder / f"{name}-{time.monotonic_ns()}.txt"
        self._complaints = self._output.with_suffix(".err")
        base = npm_install() if name in ("fetch", "eventsource") else dict(os.environ)
        with self._output.open("wb") as output, self._complaints.open("wb") as complaints:
            self._process = subprocess.Popen(
                command_of(name),
                cwd=FOLDER,
                env={**base, **server.environment, **variables},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=complaints,
                start_new_session=True,
            )

    @property
    def output(self) -> str:
        """What it has printed."""
        return self._output.read_text()

    @property
    def complaints(self) -> str:
        """What it has printed to its standard error."""
        return self._complaints.read_text()

    def events(self) -> Events:
        """The events that it printed, one JSON object a line."""
        return [json.loads(line) for line in self.output.split("\n")[:-1]]

    def finish(self, within_s: float = 60.0) -> Program:
        """Waits until it ends by itself."""
        try:
            status = self._process.wait(within_s)
        except subprocess.TimeoutExpired:
            self.close()
            raise AssertionError(f"{self.name} goes on: {self.output[-500:]}\n{self.complaints[-1000:]}") from None
        assert status == 0, self.complaints
        return self

    def close(self) -> None:
        """Ends it if it still runs."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)  # `node` may be a script that starts the real one
            self._process.wait()


def token_url(server: Server, run: str, folder: Path) -> str:
    """The path of a run's stream with a token in it, from the guide's own call."""
    answer = json.loads(Program("token", server, folder, RUN=run).finish().output)
    return str(answer["data"]["url"])


@dataclass
class Source:
    """An EventSource in a page: `name` is that of its recorder."""

    page: Page
    name: str
    url: str

    async def begin(self) -> Source:
        """Opens it."""
        await self.page.evaluate(snippet("browser").replace("const TYPES", "var TYPES"))
        script = BARE if self.name == "bare" else GUIDED
        await self.page.evaluate(script % {"url": json.dumps(self.url)})
        return self

    @property
    def statuses(self) -> list[int]:
        """The status of each answer that it got."""
        return [status for status, url in self.page.responses if url.endswith(self.url)]

    async def events(self) -> Events:
        """What it has seen."""
        events: Events = await self.page.evaluate(f"{self.name}.events")
        return events

    async def ends(self) -> int:
        """How often it was told that the run has ended."""
        ends: int = await self.page.evaluate(f"{self.name}.ends")
        return ends

    async def is_closed(self) -> bool:
        """Whether it has stopped for good."""
        return bool(await self.page.evaluate(f"{self.name}.source.readyState === EventSource.CLOSED"))


async def until(condition: Callable[[], Any], within_s: float = 60.0, what: str = "") -> None:
    """Waits for something to become true; the condition may be a coroutine function."""
    deadline = time.monotonic() + within_s
    while True:
        found = condition()
        if await found if asyncio.iscoroutine(found) else found:
            return
        assert time.monotonic() < deadline, f"not within {within_s} s: {what}"
        await asyncio.sleep(0.05)


def places(events: Events) -> list[int]:
    """The sequence numbers as they came."""
    return [event["seq"] for event in events]
