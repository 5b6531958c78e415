"""Real clients follow a run each through pauses of over a minute, crashes, stops, and a minute without a server.

They are those of `docs/guides/clients.md`: a headless Chromium (an EventSource that is closed at the end, and one that
only the server's 204 stops), the npm package `eventsource`, `fetch` and `requests`. `scale` is the number of pauses: in
the first nothing happens, in the second the server is gone for as long, in the others it ends at random moments.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from testkit.e2e.browser import Page, find_or_install, opened, running
from testkit.e2e.clients import Events, Program, Source, places, token_url, until
from testkit.e2e.flows import chain
from testkit.e2e.server import Server, new_run_id

PAUSE_S = 65.0
SETTLE_S = 5.0


@dataclass
class Story:
    """What happened to the server, and what was wrong with what the clients saw."""

    happened: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    stop_s: list[float] = field(default_factory=list)


def run(scale: int | None, seed: int, pause_s: str = str(PAUSE_S)) -> dict[str, Any]:
    """Follows the runs to their end; about `scale` × `pause_s` seconds."""
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="dustrun-soak-") as folder, running(find_or_install()) as devtools:
        server = Server(Path(folder)).start()
        try:
            return asyncio.run(_follow(server, devtools, scale or 3, chance, float(pause_s)))
        finally:
            server.close()


async def _follow(server: Server, devtools: str, pauses: int, chance: random.Random, pause_s: float) -> dict[str, Any]:
    story, started = Story(), time.monotonic()
    workflow = server.create_workflow(chain(pauses + 1, round(pause_s * 1000)))
    async with opened(devtools, server.url + "/healthz") as page:
        run = new_run_id()
        sources, programs = await _listen(run, server, page)
        server.start_run(workflow, runId=run)
        programs += [Program(name, server, server.folder, WORKFLOW=workflow) for name in ("fetch", "requests")]
        try:
            for pause in range(pauses):
                await _disturb(server, story, pause, chance, pause_s)
            seen = await _collect(sources, programs, story, 2 * pause_s + 30)  # outages made the runs late
        finally:
            for program in programs:
                program.close()
        _compare(server, seen, story)
        requests = await _requests(server, run, sources, story)
    return {
        "failures": story.failures,
        "happened": story.happened,
        "slowestStopS": max(story.stop_s, default=None),
        "followedS": round(time.monotonic() - started, 1),
        "events": {name: len(events) for name, events in seen.items()},
        "requests": requests,
    }


async def _listen(run: str, server: Server, page: Page) -> tuple[list[Source], list[Program]]:
    sources = [await Source(page, name, token_url(server, run, server.folder)).begin() for name in ("bare", "guided")]
    program = Program("eventsource", server, server.folder, RUN=run)
    await until(lambda: "connected" in program.complaints, what="eventsource connects")
    return sources, [program]


async def _disturb(server: Server, story: Story, pause: int, chance: random.Random, pause_s: float) -> None:
    """What happens in one pause of the runs; returns about when the pause is over."""
    ends_at = time.monotonic() + pause_s
    if pause == 0:
        story.happened.append(f"{pause_s} s of silence")
    elif pause == 1:
        await _restart(server, story, signal.SIGKILL, down_s=pause_s)
    else:
        while (left := ends_at - time.monotonic()) > 10:
            await asyncio.sleep(chance.uniform(1, min(left - 8, 20)))
            await _restart(server, story, chance.choice([signal.SIGKILL, signal.SIGTERM]), chance.uniform(0, 3))
    await asyncio.sleep(max(0.0, ends_at - time.monotonic()))


async def _restart(server: Server, story: Story, how: signal.Signals, down_s: float) -> None:
    took_s = await asyncio.to_thread(server.end, how)
    story.stop_s.append(round(took_s, 2))
    story.happened.append(f"{how.name}, gone for {down_s:.1f} s")
    await asyncio.sleep(down_s)
    await asyncio.to_thread(server.start)


async def _collect(sources: list[Source], programs: list[Program], story: Story, within_s: float) -> dict[str, Events]:
    seen: dict[str, Events] = {}
    for program in programs:
        with _noting(story):
            await asyncio.to_thread(program.finish, within_s)
        seen[program.name] = program.events()
    for source in sources:
        with _noting(story):
            await until(source.is_closed, within_s, f"{source.name} closes")
        seen[source.name] = await source.events()
    return seen


@contextlib.contextmanager
def _noting(story: Story) -> Iterator[None]:
    """A client that does not come to its end is a failure, and no reason not to look at the others."""
    try:
        yield
    except AssertionError as error:
        story.failures.append(str(error))


def _compare(server: Server, seen: dict[str, Events], story: Story) -> None:
    for name, events in seen.items():
        expected = server.events_of(events[0]["runId"]) if events else []
        if not events or events != expected:
            story.failures.append(f"{name} saw {places(events)} of {len(expected)} events")


async def _requests(server: Server, run: str, sources: list[Source], story: Story) -> dict[str, list[int]]:
    """The answers that each EventSource got; more of them after the end are a failure."""
    found = {source.name: list(source.statuses) for source in sources}
    await asyncio.sleep(SETTLE_S)
    if {source.name: source.statuses for source in sources} != found:
        story.failures.append("an EventSource goes on after the end")
    if found["bare"][-1:] != [204] or server.requests_of(f"/v1/runs/{run}/stream").count(204) != 1:
        story.failures.append(f"204 was not sent exactly once: {found}")
    return found
