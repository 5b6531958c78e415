"""One server and one browser for the whole session, and servers that a test may end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from testkit.e2e.browser import find_or_install, running
from testkit.e2e.clients import Program, Start
from testkit.e2e.server import Server


@pytest.fixture(scope="session")
def devtools() -> Iterator[str]:
    """The DevTools address of a headless Chromium, installed first when there is none."""
    with running(find_or_install()) as address:
        yield address


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that stays up."""
    server = Server(tmp_path_factory.mktemp("server"), max_result_bytes=str(2**26))
    try:
        yield server.start()
    finally:
        server.close()


@pytest.fixture
def fragile(tmp_path: Path) -> Iterator[Server]:
    """A server of one test, which may end it and start it again."""
    server = Server(tmp_path)
    try:
        yield server.start()
    finally:
        server.close()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts programs of the guide, and ends those that are left."""
    started: list[Program] = []

    def begin(name: str, server: Server, **variables: str) -> Program:
        started.append(Program(name, server, tmp_path, **variables))
        return started[-1]

    yield begin
    for program in started:
        program.close()
