"""The process that collects: it forks the others, gives them files, and reports as if the tests had run in it."""

from __future__ import annotations

import contextlib
import gc
import itertools
import multiprocessing
import os
import signal
import sys
from collections import deque
from collections.abc import Iterator
from multiprocessing.connection import Connection, wait
from types import SimpleNamespace
from typing import Any

import pytest

from testkit.workers import worker

_END_WITHIN_S = 20


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds `--processes`."""
    parser.addoption("--processes", type=int, default=1, help="how many processes run the tests, whole files in each")


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """Runs the tests in processes, if there are to be several; else pytest does."""
    count = session.config.getoption("--processes")
    if count < 2 or session.config.option.collectonly or session.testsfailed:
        return None
    session.config._tmp_path_factory.getbasetemp()  # type: ignore[attr-defined]  # one for all, before they part
    gc.collect()
    gc.freeze()  # what was collected stays; no process looks at it again, nor copies it
    with _crew(session, count) as crew:
        _lead(session, crew)
    return True


class _Worker:
    """One of the processes, as the leading one knows it."""

    def __init__(self, session: pytest.Session, name: str) -> None:
        self.name = name
        version = (sys.platform, sys.version_info, sys.executable)
        info = dict(zip(("id", "sysplatform", "version_info", "executable"), (name, *version), strict=True))
        self.shown = SimpleNamespace(gateway=SimpleNamespace(id=name), workerinfo=info)
        """As pytest wants to have the process of a report, to name it."""
        self.connection, others = multiprocessing.Pipe()
        forking = multiprocessing.get_context("fork")
        self.process = forking.Process(target=_begin, args=(session, self.connection, others, name), name=name)
        self.process.start()
        others.close()
        self.left: deque[int] = deque()
        """The tests that it was given and has not ended."""

    def interrupt(self) -> None:
        """Lets it end what its fixtures have started; ends it if that takes long."""
        if self.process.is_alive():
            assert self.process.pid is not None
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process.pid, signal.SIGINT)
            self.process.join(_END_WITHIN_S)
            self.process.kill()
        self.process.join()
        self.connection.close()


def _begin(session: pytest.Session, leading: Connection, own: Connection, name: str) -> None:
    leading.close()
    with contextlib.suppress(KeyboardInterrupt, BrokenPipeError):
        worker.work(session, own, name)


@contextlib.contextmanager
def _crew(session: pytest.Session, count: int) -> Iterator[list[_Worker]]:
    """So many processes; all have ended afterwards."""
    crew: list[_Worker] = []
    try:
        for number in range(count):
            crew.append(_Worker(session, f"gw{number}"))
        yield crew
    finally:
        for one in crew:
            one.interrupt()


def _lead(session: pytest.Session, crew: list[_Worker]) -> None:
    """Hears all until every test has ended. A process that dies fails its test; the others take over the rest."""
    numbered = itertools.groupby(enumerate(session.items), key=lambda pair: pair[1].path)
    files = deque([index for index, _ in group] for _, group in numbered)
    busy = {one.connection: one for one in crew}
    while busy or files:
        if not busy:  # the last has died, or those that were left had ended
            crew.append(_Worker(session, f"gw{len(crew)}"))
            busy[crew[-1].connection] = crew[-1]
        for connection in wait(list(busy)):
            assert isinstance(connection, Connection)
            one = busy[connection]
            try:
                kind, told = connection.recv()
            except (EOFError, ConnectionResetError):
                del busy[connection]
                _bury(session, one, files)
                continue
            if kind == worker.DONE:
                del busy[connection]
            else:
                _heed(session, one, kind, told, files)
            if session.shouldfail:
                raise session.Failed(session.shouldfail)
            if session.shouldstop:
                raise session.Interrupted(session.shouldstop)


def _heed(session: pytest.Session, one: _Worker, kind: str, told: Any, files: deque[list[int]]) -> None:
    """Does what a message is for."""
    config = session.config
    if kind == worker.NEXT_FILE:
        indices = files.popleft() if files else None
        one.left.extend(indices or ())
        one.connection.send(indices)
    elif kind == worker.BEGINS:
        while one.left[0] != told:
            one.left.popleft()
    elif kind == worker.REPORT:
        report = config.hook.pytest_report_from_serializable(config=config, data=told)
        report.node = one.shown
        config.hook.pytest_runtest_logreport(report=report)
    elif kind == worker.ENDS:
        config.hook.pytest_runtest_logfinish(**told)
    elif kind == worker.WARNING:
        config.hook.pytest_warning_recorded.call_historic(kwargs=told)


def _bury(session: pytest.Session, one: _Worker, files: deque[list[int]]) -> None:
    """Reports the test in which a process died; what else it was given is given to others."""
    one.process.join()
    if not one.left:
        return
    item = session.items[one.left.popleft()]
    said = f"The process {one.name} of the tests died in {item.nodeid} (exit status {one.process.exitcode})."
    report = pytest.TestReport(item.nodeid, item.location, {}, "failed", said, "call", start=0, stop=0)
    session.config.hook.pytest_runtest_logreport(report=report)
    if one.left:
        files.appendleft(list(one.left))
