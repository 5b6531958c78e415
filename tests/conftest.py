"""Which store a test runs on: a SQLite file, or both that and a database of a real PostgreSQL."""

from __future__ import annotations

import gc
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest
from hypothesis import HealthCheck

from dustrun import log
from testkit.postgres import Cluster

if TYPE_CHECKING:
    from testkit.chain.anvil import Anvil
    from testkit.chain.contracts import World

_RECURSION = sys.getrecursionlimit()
_TESTS = Path(__file__).parent
# What must behave the same on both; the rest of the tests does not come near the dialect.
_OF_API = ("run_call", "idempotency", "portable", "connectors")
_ON_BOTH = ("engine", "services", "secrecy", "storage", "replay", *(f"api/test_{name}.py" for name in _OF_API))
# Servers that are killed, shows that are watched: long, and few a file. They begin first, else one process ends alone.
_FIRST = ("crash", "secrecy", "contract", "e2e", "cli", "test_up.py", "test_examples.py", "engine", "properties")


def pytest_configure() -> None:
    """Sets up a process of tests. It heeds an interrupt, which what a shell starts in the background does not: programs
    of tests inherit it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # how long examples take says nothing here: several processes share the processors
    hypothesis.settings.register_profile("shared", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    hypothesis.settings.load_profile("shared")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The long tests first; those that need a node of a chain are marked."""
    for item in items:
        if "world" in getattr(item, "fixturenames", ()):
            item.add_marker("chain")
    items.sort(key=lambda item: not item.path.relative_to(_TESTS).as_posix().startswith(_FIRST))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Runs the tests of `_ON_BOTH` that touch a store once for each dialect."""
    path = metafunc.definition.path.relative_to(_TESTS).as_posix()
    if "store_url" in metafunc.fixturenames and path.startswith(_ON_BOTH):
        metafunc.parametrize("store_url", ["sqlite", "postgresql"], indirect=True)


def pytest_collection_finish() -> None:
    """Undoes what a library does that only tests import: so deep a recursion that nested JSON ends the process."""
    sys.setrecursionlimit(_RECURSION)


@pytest.fixture(scope="session", autouse=True)
def _quiet() -> Iterator[None]:
    """Only errors are logged."""
    log.set_up(as_json=True, level="error")
    yield
    gc.collect()  # what was left open is told while a test can still fail for it; a process of xdist tells it nobody


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """The PostgreSQL of this test session, started by the first test that wants it."""
    cluster = Cluster()
    yield cluster
    cluster.end()


@pytest.fixture
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a fresh store of the asked dialect: a file that does not exist yet, or a migrated database."""
    if getattr(request, "param", "sqlite") == "sqlite":
        yield f"sqlite:///{tmp_path / 'dustrun.db'}"
        return
    cluster: Cluster = request.getfixturevalue("cluster")
    url = cluster.fresh()
    yield url
    cluster.drop(url)


@pytest.fixture(params=["to sqlite", "to postgresql"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """An empty store of either dialect to restore into, and a data folder for it."""
    folder = tmp_path / "restored"
    folder.mkdir(mode=0o700)
    if request.param == "to sqlite":
        yield f"sqlite:///{folder / 'dustrun.db'}", folder
        return
    cluster = request.getfixturevalue("cluster")
    url = cluster.empty()
    yield url, folder
    cluster.drop(url)


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Tokens, feeds and Uniswap, deployed once a session by the first test that wants them."""
    from testkit.chain.contracts import build  # slow import: web3.py

    return build(tmp_path_factory.mktemp("chain"))


@pytest.fixture
def anvil(world: World) -> Iterator[Anvil]:
    """A fresh EVM node with the contracts of `world` on it."""
    with world.node() as node:
        yield node
