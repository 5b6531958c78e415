"""One browser and one server for the tests of a file; a window of its own for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from testkit.e2e.server import Server
from testkit.web.app import App, Open, browsing


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Closed with its file: while it is open, no other event loop can run in this process."""
    with browsing() as browser:
        yield browser


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that stays up."""
    server = Server(tmp_path_factory.mktemp("server"))
    try:
        yield server.start()
    finally:
        server.close()


@pytest.fixture
def window(browser: Browser, server: Server) -> Iterator[Open]:
    """Opens windows; each is checked when the test is over."""
    opened: list[App] = []

    def open_window(**look: bool) -> App:
        opened.append(App(browser, server, **look))
        return opened[-1]

    yield open_window
    for app in opened:
        app.close()


@pytest.fixture
def app(window: Open) -> App:
    """A window that is signed in."""
    return window().sign_in()
