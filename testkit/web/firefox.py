"""Firefox: finds or installs it, starts it headless, and talks to it over WebDriver BiDi, which a stock Firefox has.

Playwright drives only a Firefox of its own build, which is no package; Debian's and everybody else's speak BiDi.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import itertools
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp

from testkit.e2e.browser import TOOLS, NoBrowser

NAMES = ("firefox-esr", "firefox")
UP_WITHIN_S = 60.0
SHOWN_WITHIN_S = 60.0
_LISTENS = re.compile(r"WebDriver BiDi listening on (ws://\S+)")
_HOW = (
    "These tests need a Firefox. None of {names} is installed, and {apt}.\nInstall one (on Debian: apt-get install "
    "firefox-esr) or set FIREFOX=/path/to/firefox."
)
_WATCH = """() => {
  window.__violations = []
  addEventListener('securitypolicyviolation', (e) => window.__violations.push(e.violatedDirective))
}"""
_PREFERENCES = """
user_pref("app.update.enabled", false);
user_pref("browser.shell.checkDefaultBrowser", false);
user_pref("datareporting.policy.dataSubmissionEnabled", false);
user_pref("network.captive-portal-service.enabled", false);
user_pref("network.connectivity-service.enabled", false);
user_pref("remote.active-protocols", 1);
user_pref("toolkit.telemetry.enabled", false);
user_pref("ui.prefersReducedMotion", 1);
"""


def find_or_install() -> str:
    """The path of a Firefox: `FIREFOX`, an installed one, or Debian's package."""
    TOOLS.mkdir(exist_ok=True)
    with (TOOLS / "firefox.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = _installed()
        if found is None:
            apt = _apt_install()
            found = _installed()
        if found is None:
            raise NoBrowser(_HOW.format(names=", ".join(NAMES), apt=apt))
        return found


def _installed() -> str | None:
    given = os.environ.get("FIREFOX")
    return next((path for name in ((given,) if given else NAMES) if (path := shutil.which(name))), None)


def _apt_install() -> str:
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        return "only root may apt-get install it"
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (
        ["apt-get", "update", "-q"],
        ["apt-get", "install", "-y", "-q", "--no-install-recommends", "firefox-esr"],
    ):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return "apt-get installed it" if done.returncode == 0 else f"apt-get says {done.stderr.strip()[-300:]!r}"


@contextlib.contextmanager
def running() -> Iterator[str]:
    """A Firefox with a profile of its own; gives the address at which it takes commands."""
    path = find_or_install()
    with tempfile.TemporaryDirectory(prefix="dustrun-firefox-", ignore_cleanup_errors=True) as folder:
        (Path(folder) / "user.js").write_text(_PREFERENCES)
        log_path = Path(folder) / "log.txt"
        command = [
            path,
            "--headless",
            "--no-remote",
            "--remote-debugging-port",
            "0",
            "--profile",
            folder,
            "about:blank",
        ]
        environment = {**os.environ, "HOME": folder, "MOZ_DISABLE_CONTENT_SANDBOX": "1"}
        with log_path.open("wb") as log:
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            yield _address(process, log_path)
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _address(process: subprocess.Popen[bytes], log_path: Path) -> str:
    deadline = time.monotonic() + UP_WITHIN_S
    while process.poll() is None and time.monotonic() < deadline:
        if found := _LISTENS.search(log_path.read_text(errors="replace")):
            return found[1]
        time.sleep(0.05)
    raise NoBrowser(f"Firefox did not come up:\n{log_path.read_text(errors='replace')[-2000:]}")


class Window:
    """One page. `errors`: what it told the console as an error."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._ids = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._context = ""
        self.errors: list[str] = []

    async def read(self) -> None:
        """Takes in what the browser says, until it hangs up."""
        async for message in self._socket:
            told = json.loads(message.data)
            if told.get("id") in self._answers:
                self._answers.pop(told["id"]).set_result(told)
            elif told.get("method") == "log.entryAdded" and told["params"]["level"] == "error":
                self.errors.append(str(told["params"].get("text")))

    async def send(self, method: str, **params: Any) -> dict[str, Any]:
        """One command and its result."""
        number = next(self._ids)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": params})
        told = await asyncio.wait_for(answer, SHOWN_WITHIN_S)
        assert told.get("type") == "success", told
        result: dict[str, Any] = told["result"]
        return result

    async def begin(self) -> None:
        """Opens a session and a page that is as wide as a desktop's."""
        await self.send("session.new", capabilities={})
        await self.send("session.subscribe", events=["log.entryAdded"])
        await self.send("script.addPreloadScript", functionDeclaration=_WATCH)
        self._context = str((await self.send("browsingContext.create", type="tab"))["context"])
        await self.send("browsingContext.setViewport", context=self._context, viewport={"width": 1440, "height": 900})

    async def open(self, url: str) -> None:
        """Goes to an address."""
        await self.send("browsingContext.navigate", context=self._context, url=url, wait="complete")

    async def evaluate(self, script: str) -> Any:
        """The value of a script, as JSON."""
        wrapped = f"Promise.resolve({script}).then((value) => JSON.stringify(value ?? null))"
        target = {"context": self._context}
        told = await self.send("script.evaluate", expression=wrapped, target=target, awaitPromise=True)
        assert told["type"] == "success", told
        return json.loads(told["result"]["value"])

    async def until(self, script: str, holds: Callable[[Any], Any] = bool) -> Any:
        """The value of a script, as soon as it is as it should be."""
        deadline = time.monotonic() + SHOWN_WITHIN_S
        while not holds(found := await self.evaluate(script)):
            assert time.monotonic() < deadline, (script, found)
            await asyncio.sleep(0.05)
        return found

    async def click(self, selector: str, text: str = "") -> None:
        """Clicks the first element of a selector that has the text, once one takes clicks and no longer moves."""
        which = f"(e) => e.textContent.includes({json.dumps(text)}) && !e.disabled"
        one = f"[...document.querySelectorAll({json.dumps(selector)})].find({which})"
        await self.until(f"Boolean({one})")
        await self.evaluate(f"{one}.scrollIntoView({{block: 'nearest'}})")
        middle = "({x, y, width, height}) => [Math.round(x + width / 2), Math.round(y + height / 2)]"
        x, y = await self._resting(f"({middle})({one}.getBoundingClientRect())")
        press = [
            {"type": "pointerMove", "x": x, "y": y},
            *({"type": t, "button": 0} for t in ("pointerDown", "pointerUp")),
        ]
        actions = [{"type": "pointer", "id": "mouse", "actions": press}]
        await self.send("input.performActions", context=self._context, actions=actions)

    async def _resting(self, place: str) -> Any:
        """Where something is, as soon as that is the same twice in a row."""
        seen: list[Any] = []

        def rests(found: Any) -> bool:
            seen.append(found)
            return seen[-2:] == [found] * 2

        return await self.until(place, rests)

    async def type(self, text: str) -> None:
        """Types into what has the focus; a character of the private use area is a key, as WebDriver has it."""
        keys = [{"type": kind, "value": character} for character in text for kind in ("keyDown", "keyUp")]
        actions = [{"type": "key", "id": "keyboard", "actions": keys}]
        await self.send("input.performActions", context=self._context, actions=actions)

    async def chord(self, *keys: str) -> None:
        """Presses keys together."""
        press = [{"type": "keyDown", "value": key} for key in keys]
        release = [{"type": "keyUp", "value": key} for key in reversed(keys)]
        actions = [{"type": "key", "id": "keyboard", "actions": press + release}]
        await self.send("input.performActions", context=self._context, actions=actions)

    async def resize(self, width: int, height: int) -> None:
        """Makes the page as large as a phone's, or a desktop's."""
        viewport = {"width": width, "height": height}
        await self.send("browsingContext.setViewport", context=self._context, viewport=viewport)


@contextlib.asynccontextmanager
async def opened(address: str) -> AsyncIterator[Window]:
    """A window of a running Firefox."""
    async with aiohttp.ClientSession() as session, session.ws_connect(f"{address}/session", max_msg_size=0) as socket:
        window = Window(socket)
        reading = asyncio.create_task(window.read())
        try:
            await window.begin()
            yield window
        finally:
            reading.cancel()
