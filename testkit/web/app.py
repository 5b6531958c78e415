"""One page of the app as a person has it before them, and what is true of every page."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import build_web
from playwright.sync_api import Browser, BrowserContext, Locator, Page, ViewportSize, expect, sync_playwright

from testkit.e2e.browser import OWN_PAGES, find_or_install
from testkit.e2e.guide import ROOT
from testkit.e2e.node import npm_install
from testkit.e2e.server import Server

WIDE, NARROW = (1440, 900), (390, 844)
NOTHING = "/nothing"
"""A page that the app has not."""
SHOWN_WITHIN_MS = 60_000
_WATCH = """
window.__violations = []
addEventListener('securitypolicyviolation', (e) => window.__violations.push(e.violatedDirective + ' ' + e.blockedURI))
"""
_LEAVE = """() => {
  const found = window.__violations ?? []
  if (location.protocol.startsWith('http')) localStorage.clear()
  return found
}"""
_TURN = """(to) => {
  document.title = ''
  history.pushState(null, '', to)
}"""
_AXE = ROOT / "web" / "node_modules" / "axe-core" / "axe.min.js"
_FAULTS = """async (only) => {
  const options = {resultTypes: ['violations'], preload: false, ...(only && {runOnly: only})}
  return (await axe.run(document, options)).violations
  .map((v) => v.id + ': ' + v.nodes.map((n) => n.target.join(' ')).join(', '))
}"""
# Chromium heeds the last such flag alone, so that what Playwright turns off stands here again
_FEATURES_OFF = (
    *OWN_PAGES,
    *("AvoidUnnecessaryBeforeUnloadCheckSync", "DestroyProfileOnBrowserClose", "HttpsUpgrades"),
    *("HttpsFirstBalancedModeAutoEnable", "LensOverlay", "MediaRouter", "PaintHolding"),
    *("ThirdPartyStoragePartitioning", "AvoidCorsURLLoaderRestartOnRedirect", "OptimizationHints"),
    *("NetworkTimeServiceQuerying", "AimEnabled", "PreconnectToSearch"),
)
UNOPTIMIZED = "--js-flags=--no-opt --no-maglev"
"""For pages that live for seconds: V8's optimising compilers take more processor time than their code gives back."""
_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-dev-shm-usage",
    f"--disable-features={','.join(_FEATURES_OFF)}",
    "--process-per-site",  # a renderer that is new parses and compiles the whole app anew
)


@contextlib.contextmanager
def browsing(*flags: str) -> Iterator[Browser]:
    """A headless Chromium with more flags, and an app that is built from these sources."""
    npm_install(build_web.SOURCES)
    build_web.build()
    chromium = find_or_install()
    expect.set_options(timeout=SHOWN_WITHIN_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium.path, args=[*_FLAGS, *flags], env={**chromium.environment}
        )
        yield browser
        browser.close()


class App:
    """One browser window. `close` fails if the page broke its own rules. Windows of one session share its context, so
    that a browser parses the app once; what else a page keeps is cleared with its window."""

    def __init__(
        self,
        browser: Browser,
        server: Server,
        *,
        dark: bool = False,
        narrow: bool = False,
        session: BrowserContext | None = None,
    ) -> None:
        width, height = NARROW if narrow else WIDE
        self._size: ViewportSize = {"width": width, "height": height}
        self._is_dark = dark
        self.server = server
        self._is_shared = session is not None
        self._context = session or new_context(browser)
        self._pages: list[Page] = []
        self.errors: list[str] = []
        self.foreign: list[str] = []
        self.page = self.tab()

    def tab(self) -> Page:
        """Another tab of the same session."""
        page = self._context.new_page()
        page.set_viewport_size(self._size)
        page.emulate_media(color_scheme="dark" if self._is_dark else "light", reduced_motion="reduce")
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", lambda said: self._hear(said.type, said.text))
        page.on("request", lambda sent: self._note(sent.url))
        self._pages.append(page)
        return page

    def _hear(self, kind: str, text: str) -> None:
        """A defect that a page caught is told on the console; that a request failed is the test's own affair."""
        if kind == "error" and "Failed to load resource" not in text:
            self.errors.append(text)

    def _note(self, url: str) -> None:
        if not url.startswith((self.server.url, "data:", "blob:")):
            self.foreign.append(url)

    def sign_in(self) -> App:
        """By a one-time link, as `scripts/up` prints it."""
        link = self.server.call("POST", "/v1/session/links")["url"]
        self.page.goto(f"{self.server.url}/#{link.partition('#')[2]}")
        self.page.get_by_role("navigation", name="Main").wait_for()
        return self

    def open(self, path: str) -> Page:
        """A page of the app, signed in."""
        self.page.goto(self.server.url + path)
        self.page.get_by_role("navigation", name="Main").wait_for()
        return self.page

    def turn_to(self, path: str) -> Page:
        """A page as the app's own links lead to it, of another kind or thing than the one that is shown. A new document
        parses and starts the whole app, which takes ten times as long; the window's first page has to."""
        if not self.page.url.startswith(self.server.url):
            return self.open(path)
        self.page.evaluate(_TURN, path)
        expect(self.page).not_to_have_title("")  # every page sets it when it comes up
        return self.page

    def faults(self, page: Page | None = None, only: list[str] | None = None) -> list[str]:
        """What axe finds on the page, by all of its rules or some; none is allowed."""
        page = page or self.page
        if not page.evaluate("'axe' in window"):
            page.evaluate(_AXE.read_text())
        found: list[str] = page.evaluate(_FAULTS, only)
        return found

    def until(self, holds: Callable[[], Any], page: Page | None = None) -> Any:
        """Waits for what no locator can say; polls, since the page's policy forbids the browser's own waiting."""
        deadline = time.monotonic() + SHOWN_WITHIN_MS / 1000
        page = page or self.page
        while not (found := holds()):
            if time.monotonic() > deadline:
                raise AssertionError(f"it did not come to hold; the page says {page.inner_text('body')[:1_000]}")
            page.wait_for_timeout(50)
        return found

    def clear(self) -> None:
        """For the next test: one tab, nothing shown, nothing kept or held back. No page broke its policy, failed, or
        asked another host for anything."""
        self.page.unroute_all()
        self.turn_to(NOTHING)
        self.page.evaluate("document.activeElement?.blur()")
        self.page.mouse.move(0, 0)  # Escape would close the tip of what lies under it first
        broken = self._broken()
        for page in self._pages[1:]:
            page.close()
        del self._pages[1:]
        self.errors, self.foreign = [], []
        assert not any(broken.values()), broken

    def close(self) -> None:
        """Closes the window. No page broke its policy, failed, or asked another host for anything."""
        broken = self._broken()
        if self._is_shared:
            for page in self._pages:
                page.close()
        else:
            self._context.close()
        assert not any(broken.values()), broken

    def _broken(self) -> dict[str, list[Any]]:
        """What no page may do; and each forgets what it keeps."""
        pages = [page for page in self._pages if not page.is_closed()]
        violations = [one for page in pages for one in page.evaluate(_LEAVE)]
        return {"policy": violations, "errors": self.errors, "foreign": self.foreign}


def new_context(browser: Browser) -> BrowserContext:
    """Cookies and a cache of its own; each page notes what its policy forbade."""
    context = browser.new_context()
    context.set_default_timeout(SHOWN_WITHIN_MS)
    context.add_init_script(_WATCH)
    return context


def new_session(browser: Browser, server: Server) -> BrowserContext:
    """A context that is signed in."""
    context = new_context(browser)
    answer = context.request.post(f"{server.url}/v1/session", data={"key": server.key})
    assert answer.ok, answer.text()
    context.new_page().goto(f"{server.url}/healthz")  # keeps the renderer of the site
    return context


Open = Callable[..., App]
"""Opens windows; `dark` and `narrow` say how they look."""


def shot(page: Page | Locator, name: str, folder: Path) -> None:
    """A picture to look at; no test compares pixels."""
    page.screenshot(path=folder / f"{name}.png")
