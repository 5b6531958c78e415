"""A process that has imported Dustrun, with its routes, commands and types of nodes, and forks a process for each
command line: a second of processor time less for each server.

    python -m testkit.processes.fork_server FD

FD is a socket of `testkit.processes`, which many may share. A request is one JSON document with four file descriptors:
the command's standard streams, and a socket for the one who asked. That gets the id of the new process, and at its end
its status, as four bytes each. The process is one like any other: with its own arguments, environment, folder and
streams, killed by its id; its id is not given to another before the one who asked has closed that socket.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import resource
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Iterable
from typing import Any

import dustrun.app.composition
import dustrun.app.process
from dustrun import catalog
from dustrun.api import server
from dustrun.cli import main as command_line
from dustrun.cli.commands import serve
from dustrun.core.expression import parse_template

MOST_BYTES = 1 << 20
_LOADED = (dustrun.app.composition, dustrun.app.process, serve)
AT_FIRST = (
    *("anyio._backends._asyncio", "typer._adapters", "typer._click.decorators", "typer.rich_utils"),
    *("uvicorn.lifespan.off", "aiohttp", "dustrun.outbound.exchange", "coincurve", "regex", "lark", "encodings.idna"),
    *("dustrun.storage.db.pipeline.groups", "sqlalchemy.dialects.postgresql.psycopg"),
)
"""What else most of them import with their first steps, and those on PostgreSQL."""


def main() -> None:
    """Answers until the other side is gone; a new process ends with its command."""
    asked = socket.socket(fileno=int(sys.argv[1]))
    command_line.commands()
    prepare()
    _load(AT_FIRST)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is for those who ask
    while True:
        text, descriptors, _, _ = socket.recv_fds(asked, MOST_BYTES, 4)
        if not text:
            return
        request = json.loads(text)
        _load(request["modules"])
        _reap()
        if os.fork() == 0:
            asked.close()
            _parent(request, descriptors)
        for descriptor in descriptors:
            os.close(descriptor)


def _reap() -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _parent(request: dict[str, Any], descriptors: list[int]) -> None:
    """Starts the command, and waits for its end in place of the one who asked; ends this process."""
    *streams, told = descriptors
    child = os.fork()
    if child == 0:
        os.close(told)
        _become(request, streams)
        end_with(_status_of(command_line.main))
    for stream in streams:
        os.close(stream)
    with socket.socket(fileno=told) as asker, contextlib.suppress(BrokenPipeError, ConnectionResetError):
        asker.send(child.to_bytes(4))
        end = os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
        assert end is not None
        status = end.si_status << 8 if end.si_code == os.CLD_EXITED else end.si_status  # as waitpid(2) has it
        asker.send(status.to_bytes(4))
        asker.recv(1)
    os.waitpid(child, 0)
    os._exit(0)


def prepare() -> None:
    """Makes what a server makes when it has started, or with its first requests: schemas, models, the parser."""
    found = catalog.load()
    for public in (found.public_actions, found.public_triggers, found.public_connectors):
        public()
    declared, _ = server.discover()
    for operation in (one.operation for one in declared):
        if operation.input_model is not None:
            operation.input_model.model_rebuild()
        if operation.body is not None:
            operation.body_adapter.rebuild()
        for made in (operation.encode, operation.size):
            assert made
    parse_template("{{1 + 1}}")


def _load(modules: Iterable[str]) -> None:
    """Imports what it has not; its garbage collector leaves all of it alone, so that processes go on sharing it."""
    if new := [name for name in modules if name not in sys.modules]:
        for name in new:
            importlib.import_module(name)
        gc.freeze()


def _status_of(work: Callable[[], None]) -> int:
    """The exit status of a program, as the interpreter makes it (`sys.exit`)."""
    try:
        work()
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        print(end.code, file=sys.stderr)
        return 1
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def end_with(status: int) -> None:
    """Ends this process as the interpreter does, but leaves its memory to the system instead of tidying all of it."""
    threading._shutdown()  # type: ignore[attr-defined]  # waits for the other threads
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    os._exit(status)


def take_streams(streams: list[int]) -> None:
    """Makes these the standard streams of this process."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    sys.stdin, sys.stdout = open(0, closefd=False), open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115


def _become(request: dict[str, Any], streams: list[int]) -> None:
    """Makes this process the one that was asked for."""
    if request["is_session"]:
        os.setsid()
    take_streams(streams)
    sys.argv = request["argv"]
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    for limit, values in request["limits"].items():
        resource.setrlimit(int(limit), values)
    signal.signal(signal.SIGINT, signal.default_int_handler)


if __name__ == "__main__":
    main()
