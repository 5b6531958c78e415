"""One browser for as long as tests want one; one server and one session for a file; a window for each test."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator
from decimal import Decimal
from pathlib import Path

import pytest
from devchain import chain as devchain
from playwright.sync_api import Browser, BrowserContext
from price_source import PRICES, PriceSource

from testkit.e2e.server import Server
from testkit.ports import free_port
from testkit.web.app import UNOPTIMIZED, App, Open, browsing, new_session
from testkit.web.firefox_front import browsing_firefox

_FOLDER = Path(__file__).parent
_OPEN = contextlib.ExitStack()
_BROWSERS: dict[str, Browser] = {}


@pytest.fixture(scope="module")
def browser(request: pytest.FixtureRequest) -> Browser:
    """Chromium, unless a test asks for Firefox. That of the file before, if it had one: to start it takes three seconds
    of processor time."""
    name = getattr(request, "param", "chromium")
    if name not in _BROWSERS:
        _close_browser()
        _BROWSERS[name] = _OPEN.enter_context(browsing_firefox() if name == "firefox" else browsing(UNOPTIMIZED))
    return _BROWSERS[name]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Generator[None]:
    """Closes the browser after a file unless the next one wants it: while it is open, no other event loop can run."""
    try:
        return (yield)
    finally:
        is_same_file = nextitem is not None and nextitem.path == item.path
        if not is_same_file and not _wants_browser(nextitem):
            _close_browser()


def _wants_browser(item: pytest.Item | None) -> bool:
    """Whether a test has this browser; elsewhere a fixture of that name is something else."""
    if item is None or not item.path.is_relative_to(_FOLDER):
        return False
    return "browser" in getattr(item, "fixturenames", ())


def pytest_sessionfinish() -> None:
    """Closes the browser of tests that were broken off."""
    _close_browser()


def _close_browser() -> None:
    _BROWSERS.clear()
    _OPEN.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that stays up."""
    server = Server(tmp_path_factory.mktemp("server"))
    try:
        yield server.start()
    finally:
        server.close()


@pytest.fixture(scope="module")
def source() -> PriceSource:
    """Tells prices and takes notices."""
    source = PriceSource()
    source.start()
    return source


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[devchain.DevChain]:
    """The bundled chain."""
    folder = tmp_path_factory.mktemp("chain")
    with devchain.opened(folder, free_port(), Decimal(PRICES["ETH"])) as chain:
        yield chain


@pytest.fixture(scope="module")
def server_with_chain(
    tmp_path_factory: pytest.TempPathFactory, chain: devchain.DevChain, source: PriceSource
) -> Iterator[Server]:
    """A server that knows the chain."""
    folder = tmp_path_factory.mktemp("server_with_chain")
    server = Server(folder, networks_dir=str(chain.networks_dir), outbound_allow=source.address)
    try:
        yield server.start()
    finally:
        server.close()


@pytest.fixture(scope="module")
def session(browser: Browser, server: Server) -> Iterator[BrowserContext]:
    """Signed in, once for all windows of a file: a session that is new parses the whole app anew."""
    session = new_session(browser, server)
    yield session
    session.close()


@pytest.fixture
def window(browser: Browser, server: Server) -> Iterator[Open]:
    """Opens windows of strangers; each is checked when the test is over."""
    yield from _windows(browser, server)


@pytest.fixture
def member(browser: Browser, server: Server, session: BrowserContext) -> Iterator[Open]:
    """Opens windows that are signed in; each is checked when the test is over."""
    yield from _windows(browser, server, session)


@pytest.fixture
def app(member: Open) -> App:
    """A window that is signed in."""
    return member()


@pytest.fixture(scope="module")
def lasting(browser: Browser, server: Server, session: BrowserContext) -> Iterator[App]:
    """A window that is signed in, for a file of tests."""
    app = App(browser, server, session=session)
    yield app
    app.close()


@pytest.fixture
def shared_app(lasting: App) -> Iterator[App]:
    """The file's window, cleared after each test: for tests that begin with `turn_to`, since to start the app in a
    window of their own takes longer than most of them."""
    yield lasting
    lasting.clear()


def _windows(browser: Browser, server: Server, session: BrowserContext | None = None) -> Iterator[Open]:
    opened: list[App] = []

    def open_window(**look: bool) -> App:
        opened.append(App(browser, server, session=session, **look))
        return opened[-1]

    yield open_window
    for app in opened:
        app.close()
