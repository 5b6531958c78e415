"""A stock Firefox for Playwright, so that what is written for Chromium runs in it too. Playwright drives one over
WebDriver BiDi, but opens no page unless it can set the theme, by a command that Firefox 153 has not: this stands
between them, says yes to that one, and hands on the rest.

`python -m testkit.web.firefox_front FIREFOX …` starts a Firefox so that its address is that of the front."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import shlex
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import build_web
from aiohttp import web
from playwright.sync_api import Browser, expect, sync_playwright

from testkit.e2e.guide import ROOT
from testkit.e2e.node import npm_install
from testkit.web.firefox import find_or_install

SHOWN_WITHIN_MS = 60_000
_LISTENS = re.compile(rb"WebDriver BiDi listening on (ws://\S+)")
_UNKNOWN = "emulation.setMediaFeaturesOverride"
_PREFERENCES: dict[str, str | float | bool] = {"ui.systemUsesDarkTheme": 0, "ui.prefersReducedMotion": 1}


@contextlib.contextmanager
def browsing_firefox() -> Iterator[Browser]:
    """A headless Firefox, and an app that is built from these sources."""
    npm_install(build_web.SOURCES)
    build_web.build()
    expect.set_options(timeout=SHOWN_WITHIN_MS)
    with tempfile.TemporaryDirectory(prefix="dustrun-firefox-") as folder, sync_playwright() as playwright:
        program = Path(folder) / "firefox"
        command = shlex.join([sys.executable, "-m", "testkit.web.firefox_front", find_or_install()])
        paths = shlex.quote(f"{ROOT}:{ROOT / 'scripts'}")
        program.write_text(f'#!/bin/sh\nPYTHONPATH={paths} exec {command} "$@"\n')
        program.chmod(0o700)
        browser = playwright.firefox.launch(
            channel="moz-firefox", executable_path=program, firefox_user_prefs=_PREFERENCES, timeout=SHOWN_WITHIN_MS
        )
        yield browser
        browser.close()


async def _front(command: list[str]) -> None:
    firefox = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
    assert firefox.stderr is not None
    address = None
    async for line in firefox.stderr:
        if address := _LISTENS.search(line):
            break
    assert address, "Firefox did not come up"
    reading = asyncio.create_task(firefox.stderr.read())
    app = web.Application()

    async def relay(request: web.Request) -> web.WebSocketResponse:
        return await _hand_on(request, f"{address[1].decode()}/session")

    app.router.add_get("/session", relay)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    print(f"WebDriver BiDi listening on ws://127.0.0.1:{port}", file=sys.stderr, flush=True)
    await firefox.wait()
    await reading


async def _hand_on(request: web.Request, address: str) -> web.WebSocketResponse:
    """Every message both ways, but the one that Firefox does not know."""
    here = web.WebSocketResponse(max_msg_size=0)
    await here.prepare(request)
    async with aiohttp.ClientSession() as session, session.ws_connect(address, max_msg_size=0) as there:

        async def answer() -> None:
            async for message in there:
                await here.send_str(message.data)
            await here.close()

        answering = asyncio.create_task(answer())
        async for message in here:
            asked = json.loads(message.data)
            if asked["method"] == _UNKNOWN:
                await here.send_str(json.dumps({"type": "success", "id": asked["id"], "result": {}}))
            else:
                await there.send_str(message.data)
        answering.cancel()
    return here


if __name__ == "__main__":
    asyncio.run(_front(sys.argv[1:]))
