"""Runs tests in processes beside each other. Each is a fork of the process that has collected the tests, so nothing is
imported or collected twice; it asks for one file of tests after the other, and tells what became of each test.

    pytest --numprocesses 6
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path
from typing import Any

import pytest
from _pytest.capture import FDCapture

from dustrun import log
from testkit.composition import composed
from testkit.processes import fork_server

_FOLDER = "process-"
_HOOKS = {"logstart": "pytest_runtest_logstart", "logfinish": "pytest_runtest_logfinish"}
_SLOW_IMPORTS = ("testkit.chain.contracts", "dustrun.sdk.llm.protocol", "openai.resources.chat", *fork_server.AT_FIRST)


@dataclass
class _Worker:
    """A process of tests as the one that collected them sees it."""

    pid: int
    test: str = "no test"
    """What it runs."""
    has_ended: bool = False
    """Whether it said that it is through."""


def common_folder(factory: pytest.TempPathFactory, name: str) -> Path:
    """A folder that all processes of this run share."""
    own = factory.getbasetemp()
    folder = (own.parent if own.name.startswith(_FOLDER) else own) / name
    folder.mkdir(exist_ok=True)
    return folder


def run(session: pytest.Session, count: int) -> None:
    """Runs all tests of the session in `count` processes. A file is one process's; the first files begin first."""
    by_path: dict[Path, list[pytest.Item]] = {}
    for item in session.items:
        by_path.setdefault(item.path, []).append(item)
    files = list(by_path.values())
    _warm_up()
    base = session.config._tmp_path_factory.getbasetemp()  # type: ignore[attr-defined]
    workers: dict[Connection, _Worker] = {}
    for number in range(min(count, len(files))):
        ours, theirs = Pipe()
        if (pid := os.fork()) == 0:
            for other in (*workers, ours):
                other.close()
            _work(session, files, theirs, base / f"{_FOLDER}{number}")
        theirs.close()
        workers[ours] = _Worker(pid)
    _hand_out(session, range(len(files)), workers)
    if session.shouldfail:
        raise session.Failed(session.shouldfail)
    if session.shouldstop:
        raise session.Interrupted(session.shouldstop)


def _warm_up() -> None:
    """Does the slow first-time work of most tests before the processes are forked: the models and the document of a
    server, and the imports of web3.py and of the SDKs of models."""

    async def serve_once(folder: Path) -> None:
        async with composed(folder) as server:
            await server.owner.create_workflow()

    recursion = sys.getrecursionlimit()
    log.set_up(as_json=True, level="error")  # as in tests: what logs has a thread, which no fork has
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(serve_once(Path(folder)))
    for name in _SLOW_IMPORTS:
        importlib.import_module(name)
    fork_server.prepare()
    sys.setrecursionlimit(recursion)  # web3.py imports a library that makes it larger
    gc.collect()
    gc.freeze()


def _hand_out(session: pytest.Session, files: Sequence[int], workers: dict[Connection, _Worker]) -> None:
    """Gives each process a file when it asks for one, and reports what they tell, until all have ended."""
    left = iter(files)
    try:
        open_ones = list(workers)
        while open_ones:
            for connection in wait(open_ones):
                assert isinstance(connection, Connection)
                try:
                    kind, told = connection.recv()
                except (EOFError, ConnectionResetError):
                    open_ones.remove(connection)
                    continue
                if kind == "next":
                    is_over = session.shouldfail or session.shouldstop
                    connection.send(None if is_over else next(left, None))
                else:
                    _report(session, workers[connection], kind, told)
    finally:
        for connection, worker in workers.items():
            connection.close()
            _, status = os.waitpid(worker.pid, 0)
            if not worker.has_ended:
                how = f"The process ended with {os.waitstatus_to_exitcode(status)}."
                lost = pytest.TestReport(worker.test, ("", None, worker.test), {}, "failed", how, "call")
                session.config.hook.pytest_runtest_logreport(report=lost)


def _report(session: pytest.Session, worker: _Worker, kind: str, told: Any) -> None:
    hook = session.config.hook
    if kind == "end":
        worker.has_ended = True
    elif kind == "report":
        report = hook.pytest_report_from_serializable(config=session.config, data=told)
        hook.pytest_runtest_logreport(report=report)
    else:
        worker.test = told["nodeid"]
        getattr(hook, _HOOKS[kind])(**told)


class _Publisher:
    """Tells the other side what the hooks of a test are called with."""

    def __init__(self, config: pytest.Config, connection: Connection) -> None:
        self._config = config
        self._connection = connection

    def pytest_runtest_logstart(self, nodeid: str, location: tuple[str, int | None, str]) -> None:
        """Tells that a test begins."""
        self._connection.send(("logstart", {"nodeid": nodeid, "location": location}))

    def pytest_runtest_logfinish(self, nodeid: str, location: tuple[str, int | None, str]) -> None:
        """Tells that a test is over."""
        self._connection.send(("logfinish", {"nodeid": nodeid, "location": location}))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Tells how one of the three steps of a test went."""
        data = self._config.hook.pytest_report_to_serializable(config=self._config, report=report)
        self._connection.send(("report", data))


def _work(session: pytest.Session, files: list[list[pytest.Item]], connection: Connection, folder: Path) -> None:
    """Runs the files that it gets, and ends this process."""
    status = 1
    try:
        _be_apart(session.config, connection, folder)
        tests = _tests(files, connection)
        item = next(tests, None)
        try:
            while item is not None:
                following = next(tests, None)
                session.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
                item = following
        finally:
            session._setupstate.teardown_exact(None)
        connection.send(("end", None))
        status = 0
    except (BrokenPipeError, ConnectionResetError, EOFError, KeyboardInterrupt):
        pass  # the other side has ended, or is about to
    except BaseException:
        traceback.print_exc(file=sys.__stderr__)
    finally:
        connection.close()
        fork_server.end_with(status)


def _tests(files: list[list[pytest.Item]], connection: Connection) -> Iterator[pytest.Item]:
    while True:
        connection.send(("next", None))
        number = connection.recv()
        if number is None:
            return
        yield from files[number]


def _be_apart(config: pytest.Config, connection: Connection, folder: Path) -> None:
    """Gives this process folders and captured streams of its own, and what it reports to the other side."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    folder.mkdir(mode=0o700)
    config._tmp_path_factory._basetemp = folder  # type: ignore[attr-defined]
    capture = config.pluginmanager.get_plugin("capturemanager")
    assert capture is not None
    capturing = capture._global_capturing
    for stream in (capturing.out, capturing.err):
        if isinstance(stream, FDCapture):  # the stream itself stays, since modules keep the one that they found
            with tempfile.TemporaryFile() as own:
                os.dup2(own.fileno(), stream.tmpfile.fileno(), inheritable=False)
    config.pluginmanager.unregister(name="terminalreporter")
    config.pluginmanager.register(_Publisher(config, connection))
