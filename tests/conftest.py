"""Which store a test runs on: a SQLite file, or both that and a database of a real PostgreSQL."""

from __future__ import annotations

import functools
import gc
import os
import signal
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import hypothesis
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck

from dustrun import log
from testkit import processes
from testkit.composition import SharedStore
from testkit.examples import ALL, CHANGE
from testkit.postgres import Cluster, in_memory
from testkit.processes import workers
from testkit.temporal import TemporalServer

if TYPE_CHECKING:
    from testkit.chain.anvil import Anvil
    from testkit.chain.contracts import World

_LEFT_OUT = pytest.StashKey[int]()
_ROOM = 3 * 2**30  # bytes; PostgreSQL wants some too
_RECURSION = sys.getrecursionlimit()
_TESTS = Path(__file__).parent
# What must behave the same on both stores; the rest of the tests does not come near the dialect. Every change runs on
# both what writes statements and what moves money, and of the others those marked `both_stores`; `--all` runs all.
_OF_MONEY = ("outbox", "preview", "wallets/test_budget.py")
_ON_BOTH = (
    *("storage", "engine/test_signatures.py", "trigger_host/test_table_rows.py"),
    *(f"services/{name}" for name in _OF_MONEY),
)
_OF_API = ("run_call", "idempotency", "import_export", "connectors", "key_limits", "workflows", "apply")
_TURNS = (
    *("api/test_conversation_turns.py", "api/test_conversation_launches.py"),
    *("assistant/test_day_budget.py", "assistant/test_stopping.py"),
)
_LONG_ON_BOTH = (
    "services",
    "engine",
    "secrecy",
    "replay",
    "trigger_host/test_streams.py",
    "api/mcp",
    *(f"api/test_{name}.py" for name in _OF_API),
    *_TURNS,
)
# The contract of an engine: it holds for the engine of many machines too, which needs PostgreSQL and Temporal. A test
# marked `of_one_process` says why it cannot.
_OF_ENGINES = "engine/"
# What takes longest, a file at a time: it begins first, in this order, else one process ends alone.
_FIRST = (
    *("simulation/test_worlds.py", "test_up.py", "crash/test_chain_triggers.py", "engine/test_database_trouble.py"),
    *("engine/spend/test_store_trouble.py", "crash", "trigger_host/test_connector_failed.py"),
    *("web", "engine/test_mcp_tools.py", "secrecy", "engine", "storage/db/pipeline", "cli", "e2e", "contract"),
    *("storage/backup", "services/outbox", "trigger_host", "test_docs.py", "outbound/test_notifier.py", "storage"),
    *("sandbox", "services", "core/money", "test_examples.py", "test_chain_examples.py", "test_slow_imports.py"),
    *("wallets", "properties", "api"),
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds `--all` and `--numprocesses`."""
    parser.addoption("--all", action="store_true", help="run the tests marked `long` too")
    text = "run the tests in so many processes, a file in one; 0: in this one"
    parser.getgroup("dustrun")._addoption("-n", "--numprocesses", type=int, default=0, help=text)


def pytest_configure(config: pytest.Config) -> None:
    """Sets up a process of tests. It heeds an interrupt, which what a shell starts in the background does not: programs
    of tests inherit it. The folders of tests are in memory if there is room: a disk is waited for at every commit.
    """
    if "PYTEST_DEBUG_TEMPROOT" not in os.environ and (folder := in_memory(_ROOM)):
        os.environ["PYTEST_DEBUG_TEMPROOT"] = str(folder)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    processes.share_imports()
    if config.getoption("numprocesses"):
        processes.start_fork_server()
    # how long examples take says nothing here: several processes share the processors
    for profile in (ALL, CHANGE):
        hypothesis.settings.register_profile(profile, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    hypothesis.settings.load_profile(ALL if config.getoption("--all") else CHANGE)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The files that take longest come first; tests that need a node of a chain are marked. Deselects what is marked
    `long` unless `--all` is given."""
    for item in items:
        if "world" in getattr(item, "fixturenames", ()):
            item.add_marker("chain")
    items.sort(key=lambda item: _rank(item.path))
    if config.getoption("--all"):
        return
    left_out = [item for item in items if item.get_closest_marker("long")]
    items[:] = [item for item in items if not item.get_closest_marker("long")]
    config.stash[_LEFT_OUT] = len(left_out)
    config.hook.pytest_deselected(items=left_out)


@functools.cache
def _rank(path: Path) -> int:
    name = path.relative_to(_TESTS).as_posix()
    return next((rank for rank, first in enumerate(_FIRST) if name.startswith(first)), len(_FIRST))


def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """Runs the tests in several processes, if that was asked for and nothing is wrong with them."""
    count = session.config.getoption("numprocesses")
    if not count or session.testsfailed or session.config.option.collectonly:
        return None
    workers.run(session, count)
    return True


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Says how many tests were left out."""
    count = config.stash.get(_LEFT_OUT, 0)
    if count:
        terminalreporter.write_line(f"{count} long tests were not run; scripts/test --all runs them too")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Runs the tests of `_ON_BOTH` and `_LONG_ON_BOTH` that touch a store once for each dialect, and those of
    `_OF_ENGINES` also with Temporal."""
    named = [mark.args[0] for mark in metafunc.definition.iter_markers("parametrize")]
    if "store_url" not in metafunc.fixturenames or any("store_url" in names for names in named):
        return
    path = metafunc.definition.path.relative_to(_TESTS).as_posix()
    always = path.startswith(_ON_BOTH) or metafunc.definition.get_closest_marker("both_stores")
    if not always and not path.startswith(_LONG_ON_BOTH):
        return
    second = "postgresql" if always else pytest.param("postgresql", marks=pytest.mark.long)
    stores: list[Any] = ["sqlite", second]
    if path.startswith(_OF_ENGINES) and not metafunc.definition.get_closest_marker("of_one_process"):
        always = metafunc.definition.get_closest_marker("every_engine")
        stores.append("temporal" if always else pytest.param("temporal", marks=pytest.mark.long))
    metafunc.parametrize("store_url", stores, indirect=True)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Lets the garbage collector rest meanwhile, and spares it what was collected, since all of it stays."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.set_threshold(20_000, 20, 20)  # as a server has it
        gc.enable()


def pytest_collection_finish() -> None:
    """Undoes what a library does that only tests import: so deep a recursion that nested JSON ends the process."""
    sys.setrecursionlimit(_RECURSION)


@pytest.fixture(scope="session", autouse=True)
def _quiet() -> Iterator[None]:
    """Only errors are logged. Ends the nodes of chains that tests have lent each other."""
    log.set_up(as_json=True, level="error")
    yield
    if "testkit.chain.lent" in sys.modules:  # slow import
        sys.modules["testkit.chain.lent"].end()
    gc.collect()  # what was left open is told while a test can still fail for it; afterwards it may be lost


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """The PostgreSQL of this test session, started by the first test that wants it."""
    cluster = Cluster()
    yield cluster
    cluster.end()


def _as_long_as_it_pays(fixture_name: str, config: pytest.Config) -> Literal["module", "session"]:
    """A Temporal that nobody asks takes in three minutes what a start takes; few files want it unless all run."""
    return "session" if config.getoption("--all") else "module"


@pytest.fixture(scope=_as_long_as_it_pays)
def temporal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TemporalServer]:
    """The Temporal of this file or session, started by the first test that wants it."""
    server = TemporalServer(tmp_path_factory.mktemp("temporal"))
    server.start()
    yield server
    server.end()


@pytest.fixture
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a fresh store of the asked dialect: a file that does not exist yet, or a migrated database. That of
    `temporal` is one whose servers leave it to Temporal which of them advances a run."""
    kind = getattr(request, "param", "sqlite")
    if kind == "sqlite":
        yield f"sqlite:///{tmp_path / 'dustrun.db'}"
        return
    cluster: Cluster = request.getfixturevalue("cluster")
    url = cluster.fresh()
    if kind == "temporal":
        temporal: TemporalServer = request.getfixturevalue("temporal")
        yield SharedStore(url, temporal_address=temporal.address, temporal_queue=sa.make_url(url).database)
    else:
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
    """Tokens, feeds and Uniswap, deployed once a run by the first test that wants them."""
    from testkit.chain.contracts import shared  # slow import: web3.py

    return shared(workers.common_folder(tmp_path_factory, "world"))


@pytest.fixture
def anvil(world: World) -> Iterator[Anvil]:
    """An EVM node as fresh as from a start, with the contracts of `world` on it."""
    with world.node() as node:
        yield node
