"""Every client sees every event exactly once and in order, although the server dies in the middle of the run."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest

from testkit.e2e.browser import Page, opened
from testkit.e2e.clients import Events, Program, Source, Start, places, token_url, until
from testkit.e2e.flows import chain
from testkit.e2e.server import Server, new_run_id

PAGE = "/healthz"  # any page of the same origin
STEPS = 5
EVENTS = 37


@pytest.mark.parametrize(
    "how",
    [pytest.param(signal.SIGKILL, id="SIGKILL"), pytest.param(signal.SIGTERM, id="SIGTERM", marks=pytest.mark.long)],
)
async def test_every_client_sees_every_event_once_across_a_restart(
    how: signal.Signals, fragile: Server, devtools: str, start: Start, tmp_path: Path
) -> None:
    workflow = fragile.create_workflow(chain(STEPS, 600))
    async with opened(devtools, fragile.url + PAGE) as page:
        run = new_run_id()
        sources, programs = await _listen(run, fragile, page, start, tmp_path)
        assert fragile.start_run(workflow, runId=run) == run
        programs += [start(name, fragile, WORKFLOW=workflow) for name in ("fetch", "requests")]

        async def is_under_way() -> bool:
            followed = [program.events() for program in programs] + [await source.events() for source in sources]
            return all(len(events) > 6 for events in followed)

        await until(is_under_way, what="all are in the middle of their run")
        assert await asyncio.to_thread(fragile.end, how) < 3
        await asyncio.to_thread(fragile.start)
        seen: dict[str, Events] = {}
        for program in programs:
            seen[program.name] = (await asyncio.to_thread(program.finish)).events()
        for source in sources:
            await until(source.is_closed, what=f"{source.name} closes")
            seen[source.name] = await source.events()

        assert {name: places(events) for name, events in seen.items()} == {
            name: list(range(1, EVENTS + 1)) for name in ("bare", "guided", "eventsource", "fetch", "requests")
        }
        for events in seen.values():
            assert events == fragile.events_of(events[0]["runId"])
        await _check_that_it_is_over(sources, fragile, run)


async def _listen(
    run: str, server: Server, page: Page, start: Start, folder: Path
) -> tuple[list[Source], list[Program]]:
    """Those that listen before the run exists."""
    sources = [await Source(page, name, token_url(server, run, folder)).begin() for name in ("bare", "guided")]
    program = start("eventsource", server, RUN=run)
    await until(lambda: "connected" in program.complaints, what="eventsource connects")
    await until(lambda: [source.statuses for source in sources] == [[200], [200]], what="the browser connects")
    return sources, [program]


async def _check_that_it_is_over(sources: list[Source], server: Server, run: str) -> None:
    """The bare EventSource came back once after the end, got 204, and nobody ever asks again."""
    bare, guided = sources
    assert [await bare.ends(), await guided.ends()] == [1, 1]
    assert bare.statuses[-2:] == [200, 204]
    assert 204 not in guided.statuses
    path = f"/v1/runs/{run}/stream"
    await asyncio.to_thread(server.call, "GET", f"/v1/runs/{run}")
    await until(lambda: server.requests_of(f"/v1/runs/{run}"), what="the log is written, in order, after the requests")
    asked = server.requests_of(path)
    assert asked.count(204) == 1
    counts = [len(source.statuses) for source in sources]
    await asyncio.sleep(2.5)
    assert server.requests_of(path) == asked
    assert [len(source.statuses) for source in sources] == counts
    log = server.log_text()
    assert [source.url.partition("token=")[2] in log for source in sources] == [False, False]
    assert server.key not in log


async def test_browser_with_a_token_of_another_stream_is_refused_once(
    server: Server, devtools: str, tmp_path: Path
) -> None:
    token = token_url(server, "run_mine", tmp_path).partition("?")[2]
    async with opened(devtools, server.url + PAGE) as page:
        source = await Source(page, "bare", f"/v1/runs/run_other/stream?{token}").begin()
        await until(source.is_closed, what="the EventSource gives up")
        await asyncio.sleep(1.5)
        assert source.statuses == [401]
