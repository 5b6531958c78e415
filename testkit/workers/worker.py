"""A process that runs the tests of the files that it is given, and tells all reports to the one that forked it."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import Any

import pytest

from testkit.workers import SHARED_FOLDER

NEXT_FILE, BEGINS, REPORT, ENDS, WARNING, DONE = "next file", "begins", "report", "ends", "warning", "done"
"""What a process tells: it wants the indices of more tests, or None; which test begins; what came of it."""


def work(session: pytest.Session, connection: Connection, name: str) -> None:
    """Runs files until there are no more."""
    _become(session.config, name)
    session.config.pluginmanager.register(_Reporter(session.config, connection))
    given = _given(connection)
    try:
        index = next(given, None)
        while index is not None:
            after = next(given, None)  # its fixtures may live on for that one
            connection.send((BEGINS, index))
            following = None if after is None else session.items[after]
            session.config.hook.pytest_runtest_protocol(item=session.items[index], nextitem=following)
            index = after
        connection.send((DONE, None))
    finally:
        session._setupstate.teardown_exact(None)  # after an interrupt: what fixtures have started is ended


def _given(connection: Connection) -> Iterator[int]:
    while True:
        connection.send((NEXT_FILE, None))
        indices = connection.recv()
        if indices is None:
            return
        yield from indices


def _become(config: pytest.Config, name: str) -> None:
    """Nothing that a process writes to is shared with the others, who got it from the same process."""
    _capture_apart(config)
    config.pluginmanager.unregister(name="terminalreporter")
    factory: Any = config._tmp_path_factory  # type: ignore[attr-defined]
    config.stash[SHARED_FOLDER] = factory.getbasetemp()
    factory._basetemp = factory.getbasetemp() / name
    factory._basetemp.mkdir(mode=0o700)


def _capture_apart(config: pytest.Config) -> None:
    """Captured output goes to files of this process. The streams remain, since imported modules may have kept them."""
    manager: Any = config.pluginmanager.getplugin("capturemanager")
    manager.suspend_global_capture()
    for captured in (manager._global_capturing.out, manager._global_capturing.err):
        if hasattr(captured, "targetfd"):  # it is captured by the file, not in memory
            with tempfile.TemporaryFile() as own:
                os.dup2(own.fileno(), captured.tmpfile.fileno())


class _Reporter:
    """Hands on what the process that writes the summary must know."""

    def __init__(self, config: pytest.Config, connection: Connection) -> None:
        self._config = config
        self._connection = connection

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """One phase of a test."""
        data = self._config.hook.pytest_report_to_serializable(config=self._config, report=report)
        self._connection.send((REPORT, data))

    def pytest_runtest_logfinish(self, nodeid: str, location: tuple[str, int | None, str]) -> None:
        """The end of a test."""
        self._connection.send((ENDS, {"nodeid": nodeid, "location": location}))

    def pytest_warning_recorded(
        self,
        warning_message: warnings.WarningMessage,
        when: str,
        nodeid: str,
        location: tuple[str, int, str] | None,
    ) -> None:
        """A warning that is no error; of its kind only the base class, which every process can read."""
        said = warning_message
        plain = warnings.WarningMessage(str(said.message), UserWarning, said.filename, said.lineno)
        told = {"warning_message": plain, "when": when, "nodeid": nodeid, "location": location}
        self._connection.send((WARNING, told))
